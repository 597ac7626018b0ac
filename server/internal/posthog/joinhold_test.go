package posthog

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// notes is a ledger that keeps everything.
type notes struct {
	mu   sync.Mutex
	left map[string]int
	held []privacy.Withheld
}

func (n *notes) Left(_ string, _ time.Time, properties map[string]json.RawMessage) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name := range properties {
		n.left[name]++
	}
}

func (n *notes) Held(_ string, _ time.Time, held []privacy.Withheld) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = append(n.held, held...)
}

// Withheld properties are recorded once for each event that PostHog accepted, and
// blocked events become dead letters.
func TestHeldBack(t *testing.T) {
	book := &notes{left: make(map[string]int)}
	bubble(t, func(c *Config) {
		c.Ledger = book
		c.Shape = func(_ project.Connection, _ project.Project, e *event.Event) Converted {
			switch e.DistinctID {
			case "user-1":
				return Converted{Block: "distinct_id holds content of the call", Withheld: []privacy.Withheld{{Name: "never", Reason: privacy.ReasonLong}}}
			case "user-2":
				return Converted{Events: []*event.Event{e}, Withheld: []privacy.Withheld{{Name: "label", Reason: privacy.ReasonQuotes}, {Name: "note", Reason: privacy.ReasonLong}}}
			}
			return Converted{Events: []*event.Event{e}}
		}
	}, func(r *rig) {
		r.ph.Fail(simposthog.Fault{Path: aiPath, Status: 503, Times: 2}) // tried again is not noted again
		r.set(connection("c_1"))
		list := events(4)
		list[3].Properties = map[string]json.RawMessage{"plan": json.RawMessage(`"pro"`)}
		r.queue("c_1").put(list...)
		r.wait(3)
		time.Sleep(time.Second)
		reasons := r.queue("c_1").reasons()
		if len(reasons) != 1 || !strings.HasPrefix(reasons[0], withheldReason+"distinct_id") {
			t.Errorf("dead letters: %q", reasons)
		}
		book.mu.Lock()
		defer book.mu.Unlock()
		if book.left["plan"] != 1 || book.left["$lib"] != 3 || len(book.held) != 2 {
			t.Errorf("left %v, held %v", book.left, book.held)
		}
		if st := r.m.Status("c_1"); st.Withheld != 1 || !slices.Equal(st.Quoting, []string{"label"}) {
			t.Errorf("status %+v", st)
		}
	})
}

// An event deleted while it waits for an unavailable PostHog is not sent, and
// one whose deletion cannot be checked waits.
func TestDeletedDoesNotLeave(t *testing.T) {
	var mu sync.Mutex
	asked, down := 0, true
	bubble(t, func(c *Config) {
		c.Deleted = func(e *event.Event) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			if asked > 4 && asked <= 8 {
				return false, errors.New("the disk does not answer")
			}
			return !down && (e.DistinctID == "user-1" || e.DistinctID == "user-2"), nil
		}
	}, func(r *rig) {
		r.ph.Fail(simposthog.Fault{Path: aiPath, Status: 503, Times: 6})
		r.set(connection("c_1"))
		r.queue("c_1").put(events(4)...)
		time.Sleep(2 * time.Second)
		mu.Lock()
		down = false
		mu.Unlock()
		r.wait(2)
		time.Sleep(time.Minute)
		for _, e := range r.ph.Events() {
			if e.DistinctID == "user-1" || e.DistinctID == "user-2" {
				t.Errorf("%s was deleted and left", e.DistinctID)
			}
		}
		if st := r.m.Status("c_1"); st.Sent != 2 || st.Filtered != 2 || st.Dead != 0 {
			t.Errorf("status %+v", st)
		}
	})
}
