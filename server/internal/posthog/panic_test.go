package posthog

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// panics is a queue whose first fetches panic.
type panics struct {
	event.Queue
	left *int
}

func (p panics) Fetch(ctx context.Context, n int, wait time.Duration) ([]event.Delivery, error) {
	if *p.left > 0 {
		*p.left--
		panic("content of a prompt")
	}
	return p.Queue.Fetch(ctx, n, wait)
}

// TestPanic has a connection's goroutine panic. It is started again, and delivers
// everything once; another connection does not notice.
func TestPanic(t *testing.T) {
	left := 3
	var r *rig
	bubble(t, func(c *Config) {
		open := c.OpenQueue
		c.OpenQueue = func(ctx context.Context, conn project.Connection) (event.Queue, error) {
			q, err := open(ctx, conn)
			if conn.ID == "c_1" {
				return panics{q, &left}, err
			}
			return q, err
		}
	}, func(got *rig) {
		r = got
		second := connection("c_2")
		second.ProjectKey = project.NewSecret("phc_second")
		r.set(connection("c_1"), second)
		list := events(20)
		r.queue("c_1").put(list...)
		r.queue("c_2").put(events(20)...)
		start := time.Now()
		r.wait(40)
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("all was delivered after %v", d)
		}
		for _, id := range []string{"c_1", "c_2"} {
			if n := r.queue(id).count("acked"); n != 20 {
				t.Errorf("%s: %d acknowledged, want 20", id, n)
			}
		}
		if n := r.openings("c_2"); n != 1 {
			t.Errorf("the other connection was opened %d times", n)
		}
		if n := strings.Count(r.log(), "a delivery failed and is started again"); n != 3 || strings.Contains(r.log(), "content of a prompt") {
			t.Errorf("%d lines in the log:\n%s", n, r.log())
		}
	})
}
