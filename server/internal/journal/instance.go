package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// instance is one run of the store's server, from start to stop. With NATSURL there
// is only one, and its connections reconnect automatically.
type instance struct {
	j   *Journal
	srv *embedded // nil with NATSURL

	// Two connections, so that a sink catching up through megabytes does not
	// precede the acknowledgements of captures.
	pub, ctl     *nats.Conn
	pubJS, ctlJS jetstream.JetStream
	events, dead jetstream.Stream
	maxFrame     int

	// over ends with the instance, and with it every wait for the server.
	over context.Context
	end  context.CancelFunc

	broken   chan error    // gets the first reason to end it
	salvaged chan struct{} // closed when the readable records of damaged streams are restored
	watch    sync.WaitGroup
}

// up returns the store at work, or why there is none.
func (j *Journal) up() (*instance, error) {
	if l := j.now.Load(); l != nil {
		return l, nil
	}
	return nil, j.down()
}

// waitReady returns the store at work, waiting for it if there is none. When ctx
// or the journal ends first, it returns their error.
func (j *Journal) waitReady(ctx context.Context) (*instance, error) {
	for {
		changed := j.standing.wait()
		l, err := j.up()
		if err == nil {
			return l, nil
		}
		select {
		case <-changed:
		case <-j.closing.Done():
			return nil, errClosing
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// breakOff stops the instance with a reason. The first one counts.
func (l *instance) fail(err error) {
	select {
	case l.broken <- err:
	default:
	}
}

// lost converts an error that is caused by the loss of the server.
func (l *instance) lost(err error) error {
	over := l.over.Err() != nil
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionReconnecting),
		errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, jetstream.ErrJetStreamNotEnabled),
		over && (errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)):
		e := *l.j.down()
		if l.srv == nil {
			e = *event.NewError(event.CodeUnavailable, "the journal's NATS server cannot be reached", "check that it is running; hedgerow reconnects automatically", nil)
		}
		e.Err = err
		return &e
	}
	return err
}

// open connects and makes sure of the streams.
func (l *instance) open(ctx context.Context) error {
	j := l.j
	var err error
	if l.pub, err = l.connect("append"); err != nil {
		return err
	}
	if l.ctl, err = l.connect("queues"); err != nil {
		return err
	}
	// The maximum of frames in flight is j.inFlight's business, in bytes.
	if l.pubJS, err = jetstream.New(l.pub, jetstream.WithPublishAsyncMaxPending(2*maxInFlight/inFlightFloor)); err != nil {
		return err
	}
	if l.ctlJS, err = jetstream.New(l.ctl, jetstream.WithDefaultTimeout(apiTimeout)); err != nil {
		return err
	}
	if l.srv != nil {
		if err := l.srv.checkRecovered(ctx, l.ctlJS); err != nil {
			return err
		}
	}
	l.maxFrame = min(j.c.MaxEventBytes, int(l.pub.MaxPayload())-headerRoom/2)
	if l.maxFrame < j.c.MaxEventBytes {
		j.log.Warn("the NATS server's max_payload is smaller than the maximum event size: raise it", "max_payload", l.pub.MaxPayload(), "max_event_bytes", l.maxFrame)
	}
	if l.events, err = l.ensureStream(ctx, j.c.eventsStream()); err != nil {
		return err
	}
	if l.dead, err = l.ensureStream(ctx, j.c.deadStream()); err != nil {
		return err
	}
	if l.srv != nil {
		l.logLost(ctx)
	}
	if err := j.checkQueues(ctx, l); err != nil {
		return err
	}
	if err := l.loadGaps(ctx); err != nil {
		j.log.Warn("the record of skipped events cannot be read", "err", err)
	}
	return nil
}

func (c Config) eventsStream() jetstream.StreamConfig {
	dedupe := c.DedupeWindow
	if dedupe == 0 {
		// Zero means two minutes to NATS. Events then have no id, so that the
		// window, however long, costs nothing.
		dedupe = time.Second
	}
	return jetstream.StreamConfig{
		Name:        streamEvents,
		Description: "hedgerow: events on their way to the sinks",
		Subjects:    []string{"events.*", "replay.*.*"},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    c.MaxBytes,
		MaxMsgs:     -1,
		Replicas:    c.Replicas,
		Duplicates:  dedupe,
		// No direct reads: in a cluster they may come from a replica that lags,
		// and the janitor must never mistake a pending value for a missing one.
		AllowDirect: false,
	}
}

func (c Config) deadStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        streamDead,
		Description: "hedgerow: events that a sink could not process, with the reason",
		Subjects:    []string{"dead.*.*"},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardOld,
		MaxBytes:    c.DeadMaxBytes,
		MaxAge:      c.DeadMaxAge,
		MaxMsgs:     -1,
		Replicas:    c.Replicas,
		Duplicates:  2 * time.Minute,
	}
}

// logLost logs what could not be read at the start: NATS cuts a block at the first
// record with a wrong checksum, and does not log it. After a crash that is a record
// being written, which was never acknowledged.
func (l *instance) logLost(ctx context.Context) {
	j := l.j
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	for _, stream := range []string{streamEvents, streamDead} {
		// nats.go does not pass the field through.
		m, err := l.ctl.RequestWithContext(ctx, jetstream.DefaultAPIPrefix+"STREAM.INFO."+stream, []byte(`{"deleted_details":true}`))
		if err != nil {
			j.log.Warn("check for unreadable messages", "err", err)
			return
		}
		var info struct {
			State struct {
				Lost struct {
					Bytes uint64 `json:"bytes"`
				} `json:"lost"`
			} `json:"state"`
		}
		if err := json.Unmarshal(m.Data, &info); err == nil && info.State.Lost.Bytes > 0 {
			j.log.Warn("the end of the journal could not be read: after a crash this was never acknowledged; otherwise the disk is failing",
				"dir", j.c.Dir, "stream", stream, "bytes", info.State.Lost.Bytes)
		}
	}
}

func (l *instance) connect(name string) (*nats.Conn, error) {
	j := l.j
	opts := []nats.Option{
		nats.Name("hedgerow " + name),
		nats.ReconnectBufSize(-1), // an append fails immediately instead of waiting unnoticed
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if l.over.Err() == nil {
				j.log.Warn("nats connection", "conn", name, "err", err)
			}
		}),
	}
	if l.srv != nil {
		// The connection ends with the server: there is a new one for the next.
		opts = append(opts, nats.InProcessServer(l.srv.srv), nats.NoReconnect())
	} else {
		opts = append(opts,
			nats.MaxReconnects(-1),
			nats.ReconnectWait(250*time.Millisecond),
			nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
				if err != nil && l.over.Err() == nil && j.standing.fail(j.explain(err), j.c.Now()) {
					j.log.Warn("nats connection lost, reconnecting", "conn", name, "err", err)
				}
			}),
			nats.ReconnectHandler(func(*nats.Conn) {
				if l.over.Err() != nil || !l.pub.IsConnected() || !l.ctl.IsConnected() {
					return
				}
				if _, failed := j.standing.work(j.c.Now(), 0); failed {
					j.log.Info("the NATS server is reachable again")
				}
			}))
	}
	nc, err := nats.Connect(j.c.NATSURL, opts...)
	if err != nil && l.srv == nil {
		return nil, event.NewError(event.CodeUnavailable, "the NATS server could not be reached", "check its address and credentials, and that it runs; hedgerow keeps trying", err)
	}
	return nc, err
}

// ensureStream makes the stream or, where its settings differ, changes them. An
// unchanged stream is left alone, so that a start writes nothing.
func (l *instance) ensureStream(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := l.ctlJS.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if s, err = l.ctlJS.CreateStream(ctx, want); err == nil {
			return s, nil
		}
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return nil, l.streamError(want.Name, err)
		}
		s, err = l.ctlJS.Stream(ctx, want.Name) // another process made it meanwhile
	}
	if err != nil {
		return nil, l.streamError(want.Name, err)
	}
	have := s.CachedInfo().Config
	if have.MaxBytes == want.MaxBytes && have.MaxAge == want.MaxAge && have.Replicas == want.Replicas &&
		have.Duplicates == want.Duplicates && have.Discard == want.Discard && slices.Equal(have.Subjects, want.Subjects) {
		return s, nil
	}
	if s, err = l.ctlJS.UpdateStream(ctx, want); err != nil {
		return nil, l.streamError(want.Name, err)
	}
	return s, nil
}

func (l *instance) streamError(name string, err error) error {
	if l.srv == nil {
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("the NATS server rejected the stream %s", name),
			"check that JetStream is enabled, that the account may create streams, and that its limits allow the journal's size and replicas", err)
	}
	return fmt.Errorf("stream %s: %w", name, err)
}

// stop stops the instance and returns when nothing touches the folder any more.
func (l *instance) stop() {
	l.end()
	for _, nc := range []*nats.Conn{l.pub, l.ctl} {
		if nc != nil {
			nc.Close()
		}
	}
	if l.srv != nil {
		l.srv.stop()
	}
	l.watch.Wait()
}
