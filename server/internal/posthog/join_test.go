package posthog

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// An outcome whose call is not known yet waits for it, for a bounded time, and
// nothing else waits with it.
func TestOutcomesWaitForTheirCall(t *testing.T) {
	for _, tt := range []struct {
		name  string
		known int // the look at which the call is known; 0 is never
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
