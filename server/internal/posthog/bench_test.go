package posthog

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// endless returns n events and reports when all have been acknowledged.
type endless struct {
	mu    sync.Mutex
	list  []*event.Event
	next  int
	acked sync.WaitGroup
}

func (q *endless) Fetch(ctx context.Context, n int, _ time.Duration) ([]event.Delivery, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == len(q.list) {
		q.mu.Unlock()
		<-ctx.Done()
		q.mu.Lock()
		return nil, ctx.Err()
	}
	n = min(n, len(q.list)-q.next)
	out := make([]event.Delivery, n)
	for i := range out {
		out[i] = event.Delivery{Event: q.list[q.next], Bytes: 2048, Acker: q}
		q.next++
	}
	return out, nil
}

func (q *endless) Ack() error                { q.acked.Done(); return nil }
func (q *endless) Retry(time.Duration) error { return nil }
func (q *endless) Extend() error             { return nil }
func (q *endless) Dead(reason string) error  { return fmt.Errorf("dead: %s", reason) }

// BenchmarkDeliver measures events from the queue to a PostHog on the loopback,
// its decoding and storing included, 4 KB of content each.
func BenchmarkDeliver(b *testing.B) {
	for _, c := range []struct {
		flushAt int
		latency time.Duration // of PostHog's answer
	}{{20, 0}, {100, 0}, {20, 100 * time.Millisecond}, {100, 100 * time.Millisecond}} {
		b.Run(fmt.Sprintf("flush_at=%d/latency=%v", c.flushAt, c.latency), func(b *testing.B) {
			ph := simposthog.Run(b, simposthog.Options{Keep: 1000, KeepRequests: -1})
			if c.latency > 0 {
				ph.Fail(simposthog.Fault{Delay: c.latency, Times: -1})
			}
			content := json.RawMessage(`[{"role":"user","content":"` + strings.Repeat("a word and another. ", 200) + `"}]`)
			q := &endless{list: events(b.N)}
			for _, e := range q.list {
				e.Content.Input = content
			}
			q.acked.Add(b.N)
			m := NewManager(Config{
				OpenQueue:          func(context.Context, project.Connection) (event.Queue, error) { return q, nil },
				DropQueue:          func(context.Context, string) error { return nil },
				AllowInsecureHosts: true,
			})
			conn := connection("c_1")
			conn.Host, conn.FlushAt, conn.FlushInterval = ph.URL(), c.flushAt, 100*time.Millisecond
			views := make(chan view, 1)
			views <- view{conns: []project.Connection{conn}}
			m.views = func(context.Context) <-chan view { return views }
			ctx, cancel := context.WithCancel(b.Context())
			b.ReportAllocs()
			b.ResetTimer()
			done := make(chan error, 1)
			go func() { done <- m.Run(ctx) }()
			q.acked.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			cancel()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			if st := m.Status("c_1"); st.Sent != int64(b.N) || st.Failed != 0 {
				b.Fatalf("status %+v", st)
			}
		})
	}
}
