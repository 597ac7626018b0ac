package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// acker ends one delivery.
type acker struct {
	q   *Queue
	msg jetstream.Msg
	key partKey
}

// JetStream's acknowledgment messages of a delivery.
const (
	wordAck  = "+ACK"
	wordNak  = "-NAK"
	wordMore = "+WPI"
)

// respond acknowledges the delivery to the store, even if an earlier instance
// delivered it.
func (a *acker) respond(word string) error {
	l, err := a.q.j.up()
	if err != nil {
		return err
	}
	return l.lost(l.ctl.Publish(a.msg.Reply(), []byte(word)))
}

// unanswered reports whether an answer could not be given since the journal does
// not work at present. The event then is redelivered.
func unanswered(err error) bool {
	return err != nil && event.AsError(err).Code == event.CodeUnavailable
}

func (a *acker) Ack() error {
	switch err := a.respond(wordAck); {
	case unanswered(err) && a.q.j.closing.Err() == nil:
		a.q.j.remember(a.key)
		return nil
	case err != nil:
		return fmt.Errorf("ack: %w", err)
	}
	a.acked()
	return nil
}

func (a *acker) acked() {
	reply := a.msg.Reply()
	a.q.lastAck.Store(&reply)
	a.q.j.acknowledged(a.key)
}

// endAgain acknowledges a delivery that had ended before, because the first
// acknowledgment was lost.
func (a *acker) endAgain() {
	if err := a.respond(wordAck); err != nil {
		if !unanswered(err) {
			a.q.j.log.Warn("acknowledge a message that has ended", "queue", a.q.name, "err", err)
		}
		return
	}
	a.acked()
	a.q.j.forgetParts(a.key)
}

// settleAcks waits until the server has processed all sent acknowledgments: it
// queues them per connection, and a stop drops the queue. It processes them in
// order, and answers "in progress" even for ended messages.
func (j *Journal) flushAcks(ctx context.Context, l *instance) error {
	j.mu.Lock()
	queues := maps.Clone(j.queues)
	j.mu.Unlock()
	for name, q := range queues {
		last := q.lastAck.Load()
		if last == nil {
			continue
		}
		if _, err := l.ctl.RequestWithContext(ctx, *last, []byte(wordMore)); err != nil && !errors.Is(err, nats.ErrNoResponders) { // no reply: the queue was deleted
			return fmt.Errorf("acknowledgements of queue %s: %w", name, err)
		}
	}
	return nil
}

func (a *acker) Retry(after time.Duration) error {
	word := wordNak
	if after > 0 {
		word = fmt.Sprintf(`%s {"delay": %d}`, wordNak, after.Nanoseconds())
	}
	err := a.respond(word)
	a.q.j.handedBack(a.key)
	if err != nil && !unanswered(err) {
		return fmt.Errorf("retry: %w", err)
	}
	return nil
}

func (a *acker) Extend() error {
	if err := a.respond(wordMore); err != nil && !unanswered(err) {
		return fmt.Errorf("extend: %w", err)
	}
	return nil
}

func (a *acker) Dead(reason string) error {
	if err := a.q.j.addDeadLetter(a.q.name, a.msg, a.msg.Data(), "", reason); err != nil {
		return err
	}
	return a.Ack()
}

// unreadable moves a message that cannot be decoded to the dead letters.
func (a *acker) unreadable(why error) { a.logUnreadable(a.Dead(why.Error())) }

func (a *acker) logUnreadable(err error) {
	if err != nil {
		a.q.j.log.Error("dead-letter an unreadable event", "queue", a.q.name, "err", err)
	}
}
