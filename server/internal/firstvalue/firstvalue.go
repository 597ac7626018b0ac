package firstvalue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Claims is where a [Deduplicator] notes which reports are kept: key and value, shared by
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

// Deduplicator tells the report of a milestone that is kept from all others.
type Deduplicator struct{ claims Claims }

// NewDeduplicator returns a keeper over the claims.
func NewDeduplicator(claims Claims) *Deduplicator { return &Deduplicator{claims} }

// claim is what is kept under a key.
type claim struct {
	UUID      string    `json:"uuid"`
	Timestamp time.Time `json:"timestamp"`
	State     string    `json:"state"`            // done, but for those that earlier versions left
	Report    string    `json:"report,omitempty"` // uuid of the report that took over a claim that was not done
}

const done = "done"

// ClaimKey is the key of a user's milestone: the project's id, and a hash of the
// user's.
func ClaimKey(projectID, distinctID string) string {
	sum := sha256.Sum256([]byte(projectID + "\x00" + distinctID))
	return projectID + "." + hex.EncodeToString(sum[:])
}

// Accept reports whether an event of the journal is kept and sent: every event,
// but for reports of a milestone of which another is. The one that is kept gets
// the claim's uuid and time, in place. A milestone without a user is kept: it
// cannot be counted for anyone. After an error the event is to be asked about
// again.
func (k *Deduplicator) Accept(ctx context.Context, e *event.Event) (bool, error) {
	if e.Name != event.FirstValue || e.DistinctID == "" {
		return true, nil
	}
	key := ClaimKey(e.ProjectID, e.DistinctID)
	for {
		mine := claim{UUID: e.UUID, Timestamp: e.Timestamp.UTC(), State: done}
		value, revision, ok, err := k.claims.Get(ctx, key)
		if err != nil {
			return false, unavailable(err)
		}
		if !ok {
			if _, ok, err = k.claims.Create(ctx, key, mine.encode()); err != nil || ok {
				return ok, unavailable(err)
			}
			continue // another reader was quicker
		}
		var have claim
		damaged := json.Unmarshal(value, &have) != nil || have.UUID == "" || have.Timestamp.IsZero()
		if !damaged && have.State == done {
			if e.UUID != have.UUID && e.UUID != have.Report {
				return false, nil
			}
			e.UUID, e.Timestamp = have.UUID, have.Timestamp
			return true, nil
		}
		if !damaged {
			mine.UUID, mine.Timestamp, mine.Report = have.UUID, have.Timestamp, e.UUID
		}
		if _, ok, err = k.claims.Update(ctx, key, mine.encode(), revision); err != nil {
			return false, unavailable(err)
		}
		if ok {
			e.UUID, e.Timestamp = mine.UUID, mine.Timestamp
			return true, nil
		}
	}
}

func (c claim) encode() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		return []byte("{}") // a time beyond year 9999; normalised ones never are
	}
	return b
}

func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return event.NewError(event.CodeUnavailable, "it could not be found out which report of a milestone is kept", "hedgerow retries automatically; see what the journal reports", fmt.Errorf("claims of milestones: %w", err))
}
