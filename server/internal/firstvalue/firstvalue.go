package firstvalue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Claims is where a [Deduplicator] notes what has been kept: key and value, shared by
// every replica. A revision is a value's own, and never comes twice.
type Claims interface {
	// Create stores a value under a key that has none. ok is false where it has
	// one.
	Create(ctx context.Context, key string, value []byte) (revision uint64, ok bool, err error)
	// Get returns the value of a key. ok is false where it has none.
	Get(ctx context.Context, key string) (value []byte, revision uint64, ok bool, err error)
	// Update replaces the value of that revision. ok is false where it is not the
	// present one any more.
	Update(ctx context.Context, key string, value []byte, revision uint64) (next uint64, ok bool, err error)
}

// Appender stores events. nil means that all of them are stored.
type Appender interface {
	Append(ctx context.Context, events ...*event.Event) error
}

// Deduplicator keeps each user's [event.FirstValue] once, however often, through
// whatever receiver, by whatever replica and after whatever crash it is reported.
//
// Who reports it first claims it: project and user are the key, and the claim
// holds the uuid and the time under which the milestone is kept, whoever stores
// it in the end. When the journal has it the claim is marked done, and every
// later report is dropped: it succeeds, and its event takes the uuid and the time
// of the one that is kept.
//
//   - The append fails: the claim is given free, and the caller gets the error.
//     The next report, the caller's retry or any other, takes it over.
//   - A report comes while another holds the claim: it waits for the outcome,
//     because success means that the journal has the milestone.
//   - The holder dies: after Lease the next report takes the claim over. Where the
//     holder had appended already, the journal then has the milestone twice, equal
//     in uuid, time, name and user, by which the store and PostHog count one.
//
// It comes after enrichment: there every user has the one id that is stored,
// trimmed, cut and scrubbed, and a claim follows the append to the journal.
//
// Every other event passes at the price of one comparison. A milestone without a
// user passes too: there is nobody for whom it could be counted.
type Deduplicator struct {
	Claims Claims   // required
	Next   Appender // required: the journal

	Lease  time.Duration    // how long a claim is left to its holder. Defaults to 5 s
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: discards
}

const (
	defaultLease = 5 * time.Second
	settleWait   = 5 * time.Second // for marking a claim after the append
)

// claim is what is kept under a key.
type claim struct {
	UUID      string    `json:"uuid"`
	Timestamp time.Time `json:"timestamp"`
	State     string    `json:"state"`
	At        time.Time `json:"at"` // when it was taken
}

const (
	held = "held" // by someone who is appending the milestone, or died over it
	free = "free" // the append failed
	done = "done" // the journal has it
)

// ClaimKey is the key of a user's milestone: the project's id, and a hash of the
// user's.
func ClaimKey(projectID, distinctID string) string {
	sum := sha256.Sum256([]byte(projectID + "\x00" + distinctID))
	return projectID + "." + hex.EncodeToString(sum[:])
}

// Append appends all events but milestones in one call and in their order, then
// each milestone that is due on its own. Its result is Next's. Where it is an
// error, the events may be sent again.
func (d *Deduplicator) Append(ctx context.Context, events ...*event.Event) error {
	first := -1
	for i, e := range events {
		if isMilestone(e) {
			first = i
			break
		}
	}
	if first < 0 {
		return d.Next.Append(ctx, events...)
	}
	rest := make([]*event.Event, 0, len(events)-1)
	var milestones []*event.Event
	for _, e := range events {
		if isMilestone(e) {
			milestones = append(milestones, e)
		} else {
			rest = append(rest, e)
		}
	}
	if len(rest) > 0 {
		if err := d.Next.Append(ctx, rest...); err != nil {
			return err
		}
	}
	for _, e := range milestones {
		if err := d.append(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

func isMilestone(e *event.Event) bool {
	return e != nil && e.Name == event.FirstValue && e.DistinctID != ""
}

// append stores a milestone that nobody has stored yet.
func (d *Deduplicator) append(ctx context.Context, e *event.Event) error {
	if err := e.Validate(); err != nil {
		return err // a claim must not hold what nobody can store
	}
	key := ClaimKey(e.ProjectID, e.DistinctID)
	c, revision, err := d.claim(ctx, key, e)
	if err != nil {
		return err
	}
	e.UUID, e.Timestamp = c.UUID, c.Timestamp
	if c.State == done {
		return nil
	}
	err = d.Next.Append(ctx, e)
	c.State = done
	if err != nil {
		c.State = free
	}
	d.settle(ctx, key, c, revision)
	return err
}

// claim returns the claim of a milestone: done, or held by the caller.
func (d *Deduplicator) claim(ctx context.Context, key string, e *event.Event) (claim, uint64, error) {
	lease := d.Lease
	if lease <= 0 {
		lease = defaultLease
	}
	waited, pause := time.Duration(0), 2*time.Millisecond
	for {
		c := claim{UUID: e.UUID, Timestamp: e.Timestamp, State: held, At: d.now()}
		revision, ok, err := d.Claims.Create(ctx, key, c.encode())
		if err != nil || ok {
			return c, revision, unavailable(err)
		}
		value, revision, ok, err := d.Claims.Get(ctx, key)
		if err != nil {
			return c, 0, unavailable(err)
		}
		if !ok {
			continue // removed meanwhile
		}
		var have claim
		if json.Unmarshal(value, &have) != nil || have.UUID == "" || have.Timestamp.IsZero() {
			have = claim{UUID: c.UUID, Timestamp: c.Timestamp, State: free} // damaged: begin anew
		}
		if have.State == done {
			return have, revision, nil
		}
		// A clock that is behind the holder's must not make the wait longer.
		if have.State == free || d.now().Sub(have.At) >= lease || waited >= lease {
			have.State, have.At = held, d.now()
			revision, ok, err = d.Claims.Update(ctx, key, have.encode(), revision)
			if err != nil || ok {
				return have, revision, unavailable(err)
			}
			waited = 0 // another was quicker, and has a lease of its own
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return c, 0, unavailable(ctx.Err())
		}
		waited, pause = waited+pause, min(2*pause, 50*time.Millisecond)
	}
}

// settle marks what became of a claim, whether or not the caller still waits. A
// claim that cannot be marked lapses with its lease, and the next report stores
// the milestone again under its uuid.
func (d *Deduplicator) settle(ctx context.Context, key string, c claim, revision uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWait)
	defer cancel()
	_, ok, err := d.Claims.Update(ctx, key, c.encode(), revision)
	if err != nil && d.Logger != nil {
		d.Logger.Warn("it could not be noted whether a milestone has been stored; the next report of it decides", "uuid", c.UUID, "err", err)
	}
	if err == nil && !ok && d.Logger != nil {
		d.Logger.Info("a milestone's claim was taken over meanwhile", "uuid", c.UUID)
	}
}

func (c claim) encode() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		return []byte("{}") // a time beyond year 9999; normalised ones never are
	}
	return b
}

func (d *Deduplicator) now() time.Time {
	if d.Now != nil {
		return d.Now().UTC()
	}
	return time.Now().UTC()
}

func unavailable(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return event.NewError(event.CodeCanceled, "the wait for the milestone's claim was given up", "send the event again: it is counted once", err)
	case errors.Is(err, context.DeadlineExceeded):
		return event.NewError(event.CodeTimeout, "it could not be found out in time whether the milestone has been stored", "send the event again: it is counted once", err)
	}
	return event.NewError(event.CodeUnavailable, "it could not be found out whether the milestone has been stored", "send the event again: it is counted once", err)
}
