package posthog

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// An outcome waits for its call, for a limited time, and other events do not
// wait.
func TestOutcomesWaitForTheirCall(t *testing.T) {
	for _, tt := range []struct {
		name  string
		known int // the attempt at which the call is known; 0 is never
		err   error
		age   time.Duration // of the outcome
		after time.Duration // when it leaves
		looks int64
	}{
		{"known at once", 1, nil, 0, 0, 1},
		{"known at the second look", 2, nil, 0, time.Second, 2},
		{"never known", 0, nil, 0, 10 * time.Second, 4},
		{"of an old outcome", 0, nil, time.Hour, 0, 1},
		{"the store is away", 0, errors.New("away"), time.Hour, time.Minute, 13},
		{"the store was away", 3, errors.New("away"), time.Hour, 10 * time.Second, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var looks atomic.Int64
			bubble(t, func(c *Config) {
				c.Join = func(_ context.Context, list []*event.Event) (unknown []*event.Event, err error) {
					for _, e := range list {
						if e.Name != "llm_task_completed" {
							continue
						}
						if looks.Add(1) == int64(tt.known) {
							e.PromptVersionID = "pv_1"
							continue
						}
						unknown, err = append(unknown, e), tt.err
					}
					return unknown, err
				}
			}, func(r *rig) {
				conn := connection("c_1")
				conn.FlushInterval = 10 * time.Millisecond
				r.set(conn)
				task := named("llm_task_completed", 1)
				task[0].Timestamp = time.Now().Add(-tt.age)
				began := time.Now()
				r.queue("c_1").put(append(task, events(3)...)...)
				if tt.after > 0 {
					r.wait(3)
					if d := time.Since(began); d > 500*time.Millisecond {
						t.Errorf("the others waited for %v", d)
					}
				}
				r.wait(4)
				if d := time.Since(began); d < tt.after || d > tt.after+time.Second {
					t.Errorf("it left after %v, want %v", d, tt.after)
				}
				left := r.ph.Named("llm_task_completed")
				if n := looks.Load(); n != tt.looks || len(left) != 1 || (left[0].Text("$ai_prompt_version_id") == "pv_1") != (tt.known > 0) {
					t.Errorf("%d looks, want %d; %v", n, tt.looks, left)
				}
			})
		})
	}
}

// Events rejected by Wanted are acknowledged and not sent; those for which it
// fails are retried, and other events do not wait.
func TestOnlyWhatIsKeptLeaves(t *testing.T) {
	var looks atomic.Int64
	bubble(t, func(c *Config) {
		c.Wanted = func(_ context.Context, e *event.Event) (bool, error) {
			if e.Name == "unknown" && looks.Add(1) < 3 {
				return false, errors.New("not now")
			}
			return e.Name != "refused", nil
		}
	}, func(r *rig) {
		conn := connection("c_1")
		conn.FlushInterval = 10 * time.Millisecond
		r.set(conn)
		began := time.Now()
		r.queue("c_1").put(append(append(named("refused", 1), named("unknown", 1)...), events(2)...)...)
		r.wait(2)
		if d := time.Since(began); d > 500*time.Millisecond {
			t.Errorf("the others waited for %v", d)
		}
		r.wait(3)
		if d := time.Since(began); d < 2*storeWait || d > 2*storeWait+time.Second || looks.Load() != 3 {
			t.Errorf("the last one left after %v and %d looks", d, looks.Load())
		}
		if n := len(r.ph.Named("refused")); n != 0 || len(r.ph.Named("unknown")) != 1 {
			t.Errorf("%d left that were refused, %d of the others", n, len(r.ph.Named("unknown")))
		}
	})
}
