package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// journal is an Appender with scripted results.
type journal struct {
	mu     sync.Mutex
	events []*event.Event
	tries  int
	do     func(ctx context.Context, try int, events []*event.Event) error
}

func (j *journal) Append(ctx context.Context, events ...*event.Event) error {
	j.mu.Lock()
	j.tries++
	try := j.tries
	j.mu.Unlock()
	if j.do != nil {
		if err := j.do(ctx, try, events); err != nil {
			return err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, events...)
	return nil
}

type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logged) WithGroup(string) slog.Handler            { return l }
func (l *logged) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := r.Message
	r.Attrs(func(a slog.Attr) bool { s += " " + a.String(); return true })
	l.lines = append(l.lines, s)
	return nil
}

func (l *logged) get() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

type captureRig struct {
	*capture
	j    *journal
	logs *logged
}

func newCaptureRig(queue int, bytes int64, workers int, do func(ctx context.Context, try int, events []*event.Event) error) *captureRig {
	r := &captureRig{j: &journal{do: do}, logs: new(logged)}
	r.capture = newCapture(r.j, newMetrics(), slog.New(r.logs), queue, bytes, 1<<20, workers)
	return r
}

func finished(n int) *record {
	return &record{projectID: "p1", header: http.Header{}, call: provider.Call{Provider: "openai", Dialect: provider.OpenAI, Method: "GET", Path: fmt.Sprintf("/v1/models/%d", n), Status: 200, Start: time.Now()}}
}

// TestBlockedAppendDelaysNothing has an Append that never returns.
func TestBlockedAppendDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := newCaptureRig(3, 1<<20, 1, func(context.Context, int, []*event.Event) error { <-release; return nil })
		start := time.Now()
		r.offer(finished(0))
		synctest.Wait() // the only worker is blocked in Append now
		for n := range 8 {
			r.offer(finished(n + 1))
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("offering took %v", d)
		}
		s := r.stats()
		if s.Dropped[dropQueueFull] != 5 || s.QueueDepth != 4 || s.LastDrop != time.Now() {
			t.Errorf("stats: %+v, want 5 dropped and 4 waiting", s)
		}
		if got := r.logs.get(); len(got) != 1 || !strings.Contains(got[0], "reason=queue_full calls=1") {
			t.Errorf("logged %q, want the first drop immediately", got)
		}
		time.Sleep(dropLogEvery)
		synctest.Wait()
		if got := r.logs.get(); len(got) != 2 || !strings.Contains(got[1], "reason=queue_full calls=4") {
			t.Errorf("logged %q, want the other drops in one line", got)
		}
		close(release)
		if err := r.close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(r.j.events) != 4 || r.stats().QueueDepth != 0 || r.stats().QueueBytes != 0 {
			t.Errorf("%d recorded, %+v", len(r.j.events), r.stats())
		}
		if len(r.logs.get()) != 2 {
			t.Errorf("logged %q", r.logs.get())
		}
	})
}

func TestQueueBoundInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := newCaptureRig(100, 1000, 1, func(context.Context, int, []*event.Event) error { <-release; return nil })
		for range 3 {
			f := finished(0)
			f.call.Response = make([]byte, 400)
			r.offer(f)
			synctest.Wait()
		}
		if s := r.stats(); s.Dropped[dropQueueBytes] != 1 || s.QueueBytes != 800 {
			t.Errorf("%+v", s)
		}
		close(release)
		if err := r.close(t.Context()); err != nil || len(r.j.events) != 2 {
			t.Errorf("%d recorded: %v", len(r.j.events), err)
		}
	})
}

// TestAppendFails checks what happens to events that the journal rejects.
func TestAppendFails(t *testing.T) {
	full := event.NewError(event.CodeFull, "full", "", nil)
	big := event.NewError(event.CodeTooLarge, "too large", "", nil)
	bad := event.Invalid("bad", "")
	for _, c := range []struct {
		name     string
		do       func(ctx context.Context, try int, events []*event.Event) error
		recorded int
		dropped  map[string]int64
		tries    int
	}{
		{"succeeds on the second attempt", func(_ context.Context, try int, _ []*event.Event) error {
			if try == 1 {
				return errors.New("hiccup")
			}
			return nil
		}, 3, map[string]int64{}, 4},
		{"always fails", func(context.Context, int, []*event.Event) error { return errors.New("broken") }, 0, map[string]int64{dropAppend: 3}, 10},
		{"is full for a while", func(_ context.Context, try int, _ []*event.Event) error {
			if try < 5 {
				return full
			}
			return nil
		}, 3, map[string]int64{}, 5},
		{"rejects one", func(_ context.Context, _ int, events []*event.Event) error {
			for _, e := range events {
				if strings.HasSuffix(e.RequestURL, "/1") {
					return bad
				}
			}
			return nil
		}, 2, map[string]int64{dropAppend: 1}, 4},
		{"rejects content", func(_ context.Context, _ int, events []*event.Event) error {
			for _, e := range events {
				if !e.Content.IsZero() {
					return big
				}
			}
			return nil
		}, 3, map[string]int64{}, 5},
		{"panics once", func(_ context.Context, try int, _ []*event.Event) error {
			if try == 1 {
				panic("test panic")
			}
			return nil
		}, 3, map[string]int64{}, 4},
		{"hangs until its context ends", func(ctx context.Context, try int, _ []*event.Event) error {
			if try == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}, 3, map[string]int64{}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gate := make(chan struct{})
				first := true
				r := newCaptureRig(10, 1<<20, 1, func(ctx context.Context, try int, events []*event.Event) error {
					if first { // blocks the worker until the others are queued
						first = false
						<-gate
						return nil
					}
					return c.do(ctx, try-1, events)
				})
				r.offer(finished(9))
				time.Sleep(2 * lingerFor) // the synctest bubble's clock
				synctest.Wait()
				for n := range 3 {
					f := finished(n)
					if n == 2 {
						f.call.Method, f.call.Path = "POST", "/v1/chat/completions"
						f.call.Request = []byte(`{"model":"m","messages":[{"role":"user","content":"x"}]}`)
					}
					r.offer(f)
				}
				close(gate)
				if err := r.close(t.Context()); err != nil {
					t.Fatal(err)
				}
				s := r.stats()
				if got := r.health(); got.Status != health.OK {
					t.Errorf("%+v", got)
				}
				if len(r.j.events)-1 != c.recorded || fmt.Sprint(s.Dropped) != fmt.Sprint(c.dropped) || r.j.tries-1 != c.tries {
					t.Errorf("%d recorded, dropped %v, %d tries; want %d, %v, %d", len(r.j.events)-1, s.Dropped, r.j.tries-1, c.recorded, c.dropped, c.tries)
				}
				if s.QueueDepth != 0 || s.QueueBytes != 0 {
					t.Errorf("%+v", s)
				}
				if len(c.dropped) > 0 && len(r.logs.get()) == 0 {
					t.Error("nothing was logged")
				}
				seen := make(map[string]bool)
				for _, e := range r.j.events {
					if seen[e.UUID] {
						t.Errorf("%s was recorded twice", e.RequestURL)
					}
					seen[e.UUID] = true
					if e.ProjectID != "p1" {
						t.Errorf("project %q", e.ProjectID)
					}
				}
				if c.name == "rejects content" {
					if e := r.j.events[3]; string(e.Properties["content_dropped"]) != `"too_large"` {
						t.Errorf("properties %s", e.Properties)
					}
				}
			})
		})
	}
}

// TestCloseLosesNothing closes while calls are queued.
func TestCloseLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCaptureRig(1000, 1<<20, 2, func(context.Context, int, []*event.Event) error { time.Sleep(10 * time.Millisecond); return nil })
		for n := range 500 {
			r.offer(finished(n))
		}
		if err := r.close(t.Context()); err != nil || len(r.j.events) != 500 {
			t.Errorf("%d recorded: %v", len(r.j.events), err)
		}
		r.offer(finished(0)) // too late: ignored
		if s := r.stats(); s.Dropped[dropClosed] != 1 || len(r.j.events) != 500 {
			t.Errorf("%+v", s)
		}
		if err := r.close(t.Context()); err != nil {
			t.Errorf("closing again: %v", err)
		}
	})
}

// TestCloseRunsOutOfTime counts the calls that are lost.
func TestCloseRunsOutOfTime(t *testing.T) {
	for _, heeds := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			r := newCaptureRig(1000, 1<<20, 1, func(ctx context.Context, _ int, _ []*event.Event) error {
				if heeds {
					<-ctx.Done()
					return ctx.Err()
				}
				<-release
				return nil
			})
			for n := range 70 {
				r.offer(finished(n))
			}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			start := time.Now()
			err := r.close(ctx)
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 1100*time.Millisecond {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			if n := r.stats().Dropped[dropClosed]; n != 70 {
				t.Errorf("respects its context %v: %d counted as dropped, want 70", heeds, n)
			}
			close(release)
		})
	}
}

// TestRecordingPanics has the parser panic: there is an event nevertheless, and
// neither it nor the log has the content.
func TestRecordingPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCaptureRig(10, 1<<20, 1, nil)
		r.parse = func(*provider.Call) *event.Event { panic("test panic: the prompt") }
		for n := range 2 {
			f := finished(n)
			f.header.Set("X-Posthog-Distinct-Id", "u")
			if n == 1 {
				f.call.Status, f.call.ErrType, f.traceID = 0, event.ErrTypeTimeout, "told"
			}
			r.offer(f)
		}
		if err := r.close(t.Context()); err != nil || len(r.j.events) != 2 {
			t.Fatalf("%d recorded: %v", len(r.j.events), err)
		}
		for i, want := range []event.Event{
			{HTTPStatus: 200, Status: event.StatusSuccess},
			{Status: event.StatusTimeout, IsError: true, ErrorType: event.ErrTypeTimeout, TraceID: "told"},
		} {
			e := r.j.events[i]
			if e.Validate() != nil || e.ProjectID != "p1" || e.DistinctID != "u" || e.HTTPStatus != want.HTTPStatus || e.Status != want.Status || e.IsError != want.IsError || e.ErrorType != want.ErrorType || e.ParseError == "" {
				t.Errorf("%+v: %v", e, e.Validate())
			}
			if want.TraceID != "" && e.TraceID != want.TraceID {
				t.Errorf("trace id %q", e.TraceID)
			}
		}
		if len(r.logs.get()) != 2 || strings.Contains(fmt.Sprint(r.logs.get()), "test panic") {
			t.Errorf("logged %q", r.logs.get())
		}
	})
}

// FuzzAttribution sends arbitrary headers. The result must be an event that the
// journal and PostHog accept.
func FuzzAttribution(f *testing.F) {
	f.Add(`{"a":1,"b":"x","c":{"d":[1,2]}}`, "region", "eu", "u", "t", "greet@3", "a,b", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Add(`{"a":"\ud800","\u0000":1}`, "$x", "\xff", "\xff\xfe", "/ é", "@", ",,$", "00-")
	f.Add("{\"a\":[\"\xff\"]}", "", "", strings.Repeat("é", 300), strings.Repeat("é", 300), "a@", strings.Repeat("x,", 100), "")
	f.Fuzz(func(t *testing.T, props, name, value, distinct, trace, prompt, tags, parent string) {
		h := http.Header{
			headerProperties: {props}, prefixProperty + name: {value}, prefixFlag + name: {value}, headerDistinctID: {distinct}, headerTraceID: {trace}, headerSessionID: {trace},
			headerPrompt: {prompt}, headerTags: {tags}, headerTraceState: {parent}, headerSurface: {value}, headerTaskType: {value},
		}
		e := &event.Event{UUID: event.NewID(), ProjectID: "p", Name: event.Span, Timestamp: time.Unix(1, 0)}
		attribute(e, h)
		if err := e.Validate(); err != nil {
			t.Fatal(err)
		}
		for k, v := range e.Properties {
			if k == "" || k[0] == '$' || !json.Valid(v) || strings.ToValidUTF8(k+string(v), "") != k+string(v) {
				t.Errorf("property %q: %q", k, v)
			}
		}
		frame, err := e.AppendFrame(nil)
		if err != nil {
			t.Fatal(err)
		}
		back, err := event.DecodeFrame(frame)
		if err != nil || back.DistinctID != e.DistinctID || back.TraceID != e.TraceID || len(back.Properties) != len(e.Properties) {
			t.Errorf("%v: %+v became %+v", err, e, back)
		}
		if event.CleanID(e.TraceID) != e.TraceID {
			t.Errorf("trace id %q", e.TraceID)
		}
	})
}
