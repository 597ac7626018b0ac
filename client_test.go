package hedgerow_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

// TestMain clears the machine's environment settings and checks for leaked
// goroutines.
func TestMain(m *testing.M) {
	if spec := os.Getenv("SPOOL_CHILD"); spec != "" {
		spoolChild(spec)
	}
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "HEDGEROW_") || strings.HasPrefix(name, "POSTHOG_") {
			os.Unsetenv(name)
		}
	}
	code := m.Run()
	if code == 0 {
		if left := leaked(); left != "" {
			fmt.Fprintln(os.Stderr, "goroutines were left behind:\n"+left)
			code = 1
		}
	}
	os.Exit(code)
}

// leaked returns the stacks of goroutines that still run this package's code
// after a grace period.
func leaked() (left string) {
	for range 50 {
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		left = ""
		for _, g := range strings.Split(string(buf), "\n\n") {
			if strings.Contains(g, "hedgerow/hedgerow.") && !strings.Contains(g, "TestMain") {
				left += g + "\n\n"
			}
		}
		if left == "" {
			return ""
		}
		time.Sleep(20 * time.Millisecond)
	}
	return left
}

// rig is a client that delivers to a PostHog in the same process.
type rig struct {
	*hedgerow.Client
	ph  *simposthog.Server
	log *bytes.Buffer
}

const host = "https://posthog.test"

func newRig(t *testing.T, set func(*hedgerow.Config)) *rig {
	t.Helper()
	r := &rig{ph: newReceiver(), log: new(bytes.Buffer)}
	c := hedgerow.Config{
		APIKey: simposthog.Token, Host: host, HTTPClient: &http.Client{Transport: r.ph.Transport()},
		ShutdownTimeout: -1, // retries are waited for
		SendContent:     true,
		Logger:          slog.New(slog.NewTextHandler(&locked{w: r.log}, nil)),
	}
	if set != nil {
		set(&c)
	}
	var err error
	if r.Client, err = hedgerow.New(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		_ = r.Close(ctx)
	})
	return r
}

type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// bubble runs a test on the fake clock. The client is closed inside it.
func bubble(t *testing.T, set func(*hedgerow.Config), f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour) // the fake clock starts at 2000, before which event times are rejected
		f(t, newRig(t, set))
	})
}

func (r *rig) flush(t *testing.T) {
	t.Helper()
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestCapture(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		ctx := hedgerow.WithGroups(hedgerow.WithUser(t.Context(), "ada"), map[string]string{"company": "acme"})
		ctx = hedgerow.WithTags(hedgerow.WithSurface(ctx, "Compose"), "beta")
		start := time.Now().UTC()
		props := hedgerow.Properties{"size": 3, "nested": map[string]any{"a": []int{1}}}
		r.Capture(ctx, "prompt_shared", props)
		props["size"] = 4 // after the call: no effect
		r.flush(t)
		got := r.ph.Events()
		if len(got) != 1 {
			t.Fatalf("%d events", len(got))
		}
		e := got[0]
		if e.Name != "prompt_shared" || e.DistinctID != "ada" || e.Route != "/batch" || !e.Timestamp.Equal(start.Truncate(time.Microsecond)) {
			t.Errorf("%+v", e)
		}
		if !strings.HasSuffix(e.SentTimestamp, "Z") {
			t.Errorf("timestamp %s is not UTC", e.SentTimestamp)
		}
		if len(e.UUID) != 36 || e.UUID[14] != '7' {
			t.Errorf("uuid %s is not of version 7", e.UUID)
		}
		for name, want := range map[string]string{
			"size": "3", "nested": `{"a":[1]}`, "surface": "Compose", "beta": "true", "$groups": `{"company":"acme"}`,
			"$lib": "hedgerow-go", "$lib_version": hedgerow.Version, "$geoip_disable": "true",
		} {
			if got := e.Text(name); got != want {
				t.Errorf("%s is %s, want %s", name, got, want)
			}
		}
		if e.Has("$ai_lib") || e.Has("$process_person_profile") {
			t.Errorf("a product event of a user has %v", e.Properties)
		}
	})
}

// Without a user the event has the default id and creates no person profile.
func TestDistinctID(t *testing.T) {
	for _, tt := range []struct{ def, user, want string }{{"", "", "anonymous"}, {"visitor", "", "visitor"}, {"visitor", "ada", "ada"}, {"", "ada", "ada"}} {
		bubble(t, func(c *hedgerow.Config) { c.DefaultDistinctID = tt.def }, func(t *testing.T, r *rig) {
			ctx := hedgerow.WithTrace(t.Context(), "trace-1")
			if tt.user != "" {
				ctx = hedgerow.WithUser(ctx, tt.user)
			}
			r.Capture(ctx, "$ai_metric", hedgerow.Properties{"$ai_metric_name": "score"})
			r.Capture(ctx, "prompt_shared", nil)
			r.flush(t)
			for _, e := range r.ph.Events() {
				if e.DistinctID != tt.want || (e.Text("$process_person_profile") == "false") != (tt.user == "") {
					t.Errorf("%s: distinct id %q, $process_person_profile %q", e.Name, e.DistinctID, e.Text("$process_person_profile"))
				}
			}
			if n := len(r.ph.Events()); n != 2 {
				t.Errorf("%d events", n)
			}
		})
	}
	// The caller's value takes precedence.
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.Capture(t.Context(), "prompt_shared", hedgerow.Properties{"$process_person_profile": true})
		r.flush(t)
		if e := r.ph.Events()[0]; e.Text("$process_person_profile") != "true" {
			t.Errorf("%s", e.Raw)
		}
	})
	// A hedgerow server accepts events without a user and uses the trace id
	// instead.
	bubble(t, func(c *hedgerow.Config) { c.APIKey = homeToken }, func(t *testing.T, r *rig) {
		r.Capture(hedgerow.WithTrace(t.Context(), "trace-1"), "prompt_shared", nil)
		r.flush(t)
		if e := r.ph.Events()[0]; e.DistinctID != "trace-1" {
			t.Errorf("distinct id %q", e.DistinctID)
		}
	})
}

// homeToken is a project token of hedgerow: with it the simulated receiver
// represents a hedgerow server.
const homeToken = "phc_hedgerow_0123456789abcdefghijklmn"

// newReceiver simulates PostHog and, with homeToken, a hedgerow server.
func newReceiver() *simposthog.Server {
	return simposthog.New(simposthog.Options{Projects: []simposthog.Project{{Token: simposthog.Token}, {Token: homeToken}}})
}

func TestBatching(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		for i := range 19 {
			r.Capture(t.Context(), "e", hedgerow.Properties{"n": i})
		}
		synctest.Wait()
		if n := r.ph.Count(); n != 0 {
			t.Fatalf("%d events were sent before FlushAt", n)
		}
		r.Capture(t.Context(), "e", hedgerow.Properties{"n": 19})
		synctest.Wait()
		if n := len(r.ph.Requests()); n != 1 || r.ph.Count() != 20 {
			t.Fatalf("%d requests, %d events at FlushAt", n, r.ph.Count())
		}
		for i, e := range r.ph.Events() {
			if e.Number("n") != float64(i) {
				t.Fatalf("event %d is number %v: order was not kept", i, e.Number("n"))
			}
		}
		r.Capture(t.Context(), "e", nil)
		start := time.Now()
		if err := r.ph.WaitFor(t.Context(), 21); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("a lone event was sent after %v, want 10s", d)
		}
		n := len(r.ph.Requests())
		time.Sleep(time.Minute)
		if len(r.ph.Requests()) != n {
			t.Error("an empty queue made a request")
		}
	})
	bubble(t, func(c *hedgerow.Config) { c.Serverless = true }, func(t *testing.T, r *rig) {
		start := time.Now()
		r.Capture(t.Context(), "e", nil)
		_ = r.ph.WaitFor(t.Context(), 1)
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("serverless: a lone event was sent after %v, want 2s", d)
		}
		for range 10 {
			r.Capture(t.Context(), "e", nil)
		}
		synctest.Wait()
		if r.ph.Count() != 11 {
			t.Errorf("serverless: %d events after ten more", r.ph.Count())
		}
	})
}

// More events than fit into one request are sent in several.
func TestLargeFlush(t *testing.T) {
	bubble(t, func(c *hedgerow.Config) { c.FlushInterval = time.Hour; c.FlushAt = 1000 }, func(t *testing.T, r *rig) {
		for range 950 {
			r.Capture(t.Context(), "e", nil)
		}
		r.flush(t)
		if n := len(r.ph.Requests()); n != 1 || r.ph.Count() != 950 {
			t.Errorf("%d requests, %d events", n, r.ph.Count())
		}
	})
	bubble(t, func(c *hedgerow.Config) { c.FlushAt = 1 }, func(t *testing.T, r *rig) {
		r.ph.Fail(simposthog.Fault{Delay: time.Second})
		for range 350 {
			r.Capture(t.Context(), "e", hedgerow.Properties{"text": strings.Repeat("hedge ", 4<<10)})
		}
		r.flush(t)
		for _, q := range r.ph.Requests() {
			if len(q.UUIDs) > 100 {
				t.Errorf("a request of %d events", len(q.UUIDs))
			}
		}
		if r.ph.Count() != 350 {
			t.Errorf("%d events", r.ph.Count())
		}
	})
}

// The handling of each status follows PostHog's capture protocol v0: see judge.
func TestRetryClasses(t *testing.T) {
	for _, status := range []int{400, 401, 402, 403, 404, 405, 415, 422, 301} {
		bubble(t, nil, func(t *testing.T, r *rig) {
			r.ph.Fail(simposthog.Fault{Status: status, Times: -1})
			r.Capture(t.Context(), "e", nil)
			if err := r.Flush(t.Context()); err == nil {
				t.Errorf("%d: Flush returned no error", status)
			}
			if n := len(r.ph.Requests()); n != 1 {
				t.Errorf("%d: %d requests, want 1", status, n)
			}
			if s := r.Stats(); s.Dropped[hedgerow.DropRefused] != 1 || s.Queued != 0 || s.Bytes != 0 {
				t.Errorf("%d: %+v", status, s)
			}
		})
	}
	for _, f := range []simposthog.Fault{{Status: 408}, {Status: 429}, {Status: 500}, {Status: 502}, {Status: 503}, {Status: 504}, {Reset: true}} {
		bubble(t, nil, func(t *testing.T, r *rig) {
			f.Times = 3
			r.ph.Fail(f)
			start := time.Now()
			r.Capture(t.Context(), "e", hedgerow.Properties{"a": 1})
			r.flush(t)
			q := r.ph.Requests()
			if len(q) != 4 {
				t.Fatalf("%+v: %d requests, want 4", f, len(q))
			}
			var gaps []time.Duration
			for i := 1; i < len(q); i++ {
				gaps = append(gaps, q[i].At.Sub(q[i-1].At))
			}
			if gaps[0] < 100*time.Millisecond || gaps[1] <= gaps[0] || gaps[2] <= gaps[1] {
				t.Errorf("%+v: waits %v do not grow from 100 ms on", f, gaps)
			}
			e := r.ph.Events()[0]
			if !e.Timestamp.Equal(start.UTC().Truncate(time.Microsecond)) {
				t.Errorf("the event's time moved by %v", e.Timestamp.Sub(start))
			}
			if s := r.Stats(); s.Sent != 1 || s.Lost() != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A lost response causes a duplicate, which PostHog recognises.
func TestRetryIsTheSameEvent(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.ph.Fail(simposthog.Fault{Accept: true, Reset: true})
		r.Capture(t.Context(), "e", hedgerow.Properties{"z": 1, "a": 2})
		r.flush(t)
		got := r.ph.Events()
		if len(got) != 1 || got[0].Copies != 2 {
			t.Fatalf("%d events, copies %d: want one that was sent twice", len(got), got[0].Copies)
		}
		q := r.ph.Requests()
		if !bytes.Equal(eventsOf(t, q[0].Body), eventsOf(t, q[1].Body)) {
			t.Error("the two attempts differ")
		}
	})
}

func eventsOf(t *testing.T, body []byte) json.RawMessage {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	var in struct {
		Batch json.RawMessage `json:"batch"`
	}
	if err := json.NewDecoder(z).Decode(&in); err != nil {
		t.Fatal(err)
	}
	return in.Batch
}

func TestRetriesEnd(t *testing.T) {
	for _, tt := range []struct{ max, requests int }{{-1, 1}, {2, 3}, {0, 11}} {
		bubble(t, func(c *hedgerow.Config) { c.MaxRetries = tt.max }, func(t *testing.T, r *rig) {
			r.ph.SetDown(true)
			r.Capture(t.Context(), "e", nil)
			start := time.Now()
			if err := r.Flush(t.Context()); err == nil {
				t.Error("Flush returned no error")
			}
			if n := len(r.ph.Requests()); n != tt.requests || r.Stats().Dropped[hedgerow.DropRetries] != 1 {
				t.Errorf("MaxRetries %d: %d requests, want %d; %+v", tt.max, n, tt.requests, r.Stats())
			}
			if d := time.Since(start); d > 3*time.Minute {
				t.Errorf("retries took %v", d)
			}
			r.ph.SetDown(false)
			r.Capture(t.Context(), "e", nil)
			r.flush(t)
		})
	}
}

func TestRetryAfter(t *testing.T) {
	date := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for name, tt := range map[string]struct {
		header   func() string
		min, max time.Duration
	}{
		"seconds":  {func() string { return "3" }, 3 * time.Second, 3 * time.Second},
		"date":     {func() string { return date(20 * time.Second) }, 19 * time.Second, 21 * time.Second},
		"nonsense": {func() string { return "soon" }, 100 * time.Millisecond, time.Second},
		"past":     {func() string { return date(-time.Hour) }, 100 * time.Millisecond, time.Second},
		"too long": {func() string { return "99999999" }, 5 * time.Minute, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, r *rig) {
				r.ph.Fail(simposthog.Fault{Status: 429, RetryAfter: tt.header()})
				r.Capture(t.Context(), "e", nil)
				r.flush(t)
				q := r.ph.Requests()
				if d := q[1].At.Sub(q[0].At); d < tt.min || d > tt.max {
					t.Errorf("waited %v, want %v to %v", d, tt.min, tt.max)
				}
			})
		})
	}
}

func TestTooLarge(t *testing.T) {
	// PostHog rejects every request of more than three events.
	bubble(t, func(c *hedgerow.Config) { c.FlushInterval = time.Hour }, func(t *testing.T, r *rig) {
		r.ph.Fail(simposthog.Fault{Status: 413, Times: 3})
		for i := range 8 {
			r.Capture(t.Context(), "e", hedgerow.Properties{"n": i})
		}
		r.flush(t)
		var sizes []int
		for _, q := range r.ph.Requests() {
			sizes = append(sizes, len(eventsList(t, q.Body)))
		}
		if want := []int{8, 4, 2, 1, 1, 2, 4}; fmt.Sprint(sizes) != fmt.Sprint(want) {
			t.Errorf("requests of %v events, want %v", sizes, want)
		}
		for i, e := range r.ph.Events() {
			if e.Number("n") != float64(i) {
				t.Errorf("event %d is number %v", i, e.Number("n"))
			}
		}
	})
	// A single event is lost and the next is not. The log has only its size.
	bubble(t, func(c *hedgerow.Config) { c.APIKey = homeToken }, func(t *testing.T, r *rig) {
		r.Capture(t.Context(), "large", hedgerow.Properties{"list": strings.Split(strings.Repeat(prompt+",", 40_000), ",")})
		r.Capture(t.Context(), "small", nil)
		_ = r.Flush(t.Context())
		if got := r.ph.Events(); len(got) != 1 || got[0].Name != "small" || r.Stats().Dropped[hedgerow.DropTooLarge] != 1 {
			t.Errorf("%d events, %+v", len(got), r.Stats())
		}
		if s := r.log.String(); !strings.Contains(s, "event=large") || strings.Contains(s, "blackthorn") {
			t.Errorf("log: %s", s)
		}
	})
	// Rejected by the host on its own, an LLM event is sent without its
	// content.
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.ph.Fail(simposthog.Fault{Status: 413})
		r.Capture(t.Context(), event.Generation, generation())
		r.flush(t)
		e := r.ph.Events()[0]
		if e.Text("content_dropped") != "too_large" || e.Has("$ai_input") || e.Text("$ai_model") != "m" {
			t.Errorf("%s", e.Raw)
		}
	})
}

func eventsList(t *testing.T, body []byte) (list []json.RawMessage) {
	t.Helper()
	if err := json.Unmarshal(eventsOf(t, body), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// One bad event does not affect the others.
func TestOneIsRefused(t *testing.T) {
	bubble(t, func(c *hedgerow.Config) { c.FlushInterval = time.Hour }, func(t *testing.T, r *rig) {
		r.ph.Refuse(func(e simposthog.Event) string {
			if e.Number("n") == 5 {
				return "bad timestamp"
			}
			return ""
		})
		for i := range 8 {
			r.Capture(t.Context(), "e", hedgerow.Properties{"n": i})
		}
		if err := r.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "1 events were dropped") {
			t.Errorf("Flush: %v", err)
		}
		if s := r.Stats(); r.ph.Count() != 7 || s.Sent != 7 || s.Dropped[hedgerow.DropRefused] != 1 {
			t.Errorf("%d events, %+v", r.ph.Count(), s)
		}
	})
}

// An older PostHog has no AI route; a large event loses its content there rather
// than taking the request with it.
func TestNoAIRoute(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.ph.SetAIRoute(false)
		big := strings.Repeat("the wren ", 1000)
		input := make([]any, 200)
		for i := range input {
			input[i] = map[string]any{"role": "user", "content": big}
		}
		r.CaptureGeneration(t.Context(), hedgerow.Generation{Model: "m", Input: input})
		r.CaptureGeneration(t.Context(), hedgerow.Generation{Model: "m", Input: "small"})
		r.flush(t)
		r.CaptureAIEvent(t.Context(), &event.Event{Name: event.Generation, Model: "m"})
		r.flush(t)
		if n := len(r.ph.RequestsTo("/i/v0/ai/batch")); n != 1 {
			t.Errorf("%d requests to the AI route, want 1", n)
		}
		got := r.ph.Events()
		if len(got) != 3 || got[0].Has("$ai_input") || got[0].Text("content_dropped") != "too_large" || !got[1].Has("$ai_input") {
			t.Errorf("%d events: %v", len(got), got)
		}
		time.Sleep(2 * time.Hour)
		r.ph.SetAIRoute(true)
		r.CaptureAIEvent(t.Context(), &event.Event{Name: event.Generation, Model: "m"})
		r.flush(t)
		if n := len(r.ph.RequestsTo("/i/v0/ai/batch")); n != 2 {
			t.Errorf("the AI route was not tried again after a while")
		}
	})
}

// A failing AI lane does not delay product events.
func TestLanesAreApart(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.ph.Fail(simposthog.Fault{Path: "/i/v0/ai/batch", Status: 503, Times: -1})
		r.CaptureMetric(t.Context(), hedgerow.Metric{Name: "accuracy", Value: 1})
		time.Sleep(20 * time.Second)
		r.Capture(t.Context(), "e", nil)
		time.Sleep(11 * time.Second)
		if r.ph.Count() != 1 {
			t.Error("the product event waits for the AI lane")
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	bubble(t, func(c *hedgerow.Config) { c.QueueSize = 50 }, func(t *testing.T, r *rig) {
		r.ph.SetDown(true)
		start := time.Now()
		for range 200 {
			r.Capture(t.Context(), "e", nil)
		}
		if time.Since(start) != 0 {
			t.Error("Capture waited")
		}
		if s := r.Stats(); s.Queued != 50 || s.Dropped[hedgerow.DropQueueFull] != 150 || s.Bytes <= 0 {
			t.Errorf("%+v", s)
		}
		r.ph.SetDown(false)
		r.flush(t)
		if s := r.Stats(); s.Sent != 50 || s.Queued != 0 || s.Bytes != 0 {
			t.Errorf("%+v", s)
		}
		if n := strings.Count(r.log.String(), "events were dropped"); n != 1 {
			t.Errorf("150 drops made %d lines in the log", n)
		}
	})
	bubble(t, func(c *hedgerow.Config) { c.QueueBytes = 100 << 10 }, func(t *testing.T, r *rig) {
		r.ph.SetDown(true)
		for range 20 {
			r.Capture(t.Context(), "e", hedgerow.Properties{"text": strings.Repeat("x", 10<<10)})
		}
		if s := r.Stats(); s.Bytes > 100<<10 || s.Dropped[hedgerow.DropQueueFull] < 10 {
			t.Errorf("%+v", s)
		}
	})
}

func TestClose(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		for range 5 {
			r.Capture(t.Context(), "e", nil)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.ph.Count() != 5 {
			t.Errorf("%d events arrived", r.ph.Count())
		}
		if err := r.Close(t.Context()); err != nil {
			t.Errorf("closing again: %v", err)
		}
		r.Capture(t.Context(), "e", nil)
		r.flush(t)
		if s := r.Stats(); s.Dropped[hedgerow.DropClosed] != 1 {
			t.Errorf("%+v", s)
		}
	})
	// It returns when its context ends, whatever a delivery is waiting for.
	for _, f := range []simposthog.Fault{{Status: 503, Times: -1}, {Delay: time.Hour, Times: -1}} {
		bubble(t, func(c *hedgerow.Config) { c.Timeout = time.Hour }, func(t *testing.T, r *rig) {
			r.ph.Fail(f)
			for range 5 {
				r.Capture(t.Context(), "e", nil)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			start := time.Now()
			if err := r.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Close: %v", err)
			}
			if d := time.Since(start); d > 4*time.Second {
				t.Errorf("Close took %v", d)
			}
			if s := r.Stats(); s.Lost() != 5 || s.Queued != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestFlushHeedsContext(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.ph.SetDown(true)
		r.Capture(t.Context(), "e", nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush: %v", err)
		}
		r.ph.SetDown(false)
		r.flush(t)
		if r.ph.Count() != 1 {
			t.Error("the event was lost")
		}
	})
}

// A nil client and a disabled one do nothing, and need nothing.
func TestNoOp(t *testing.T) {
	disabled, err := hedgerow.New(hedgerow.Config{Disabled: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*hedgerow.Client{nil, disabled} {
		c.Capture(t.Context(), "e", nil)
		c.CaptureEvent(t.Context(), &event.Event{Name: "e"})
		if err := errors.Join(c.Flush(t.Context()), c.Close(t.Context())); err != nil || c.Enabled() || c.Stats().Sent != 0 {
			t.Errorf("%v, enabled %v", err, c.Enabled())
		}
	}
}

func TestBeforeSend(t *testing.T) {
	set := func(c *hedgerow.Config) {
		c.BeforeSend = func(e *event.Event) *event.Event {
			switch e.Name {
			case "drop":
				return nil
			case "panic":
				panic("the wren")
			}
			_ = e.SetProperty("seen", true)
			return e
		}
	}
	bubble(t, set, func(t *testing.T, r *rig) {
		for _, name := range []string{"drop", "panic", "keep"} {
			r.Capture(t.Context(), name, nil)
		}
		r.flush(t)
		got := r.ph.Events()
		if len(got) != 1 || got[0].Text("seen") != "true" || r.Stats().Dropped[hedgerow.DropBeforeSend] != 2 {
			t.Errorf("%d events, %+v", len(got), r.Stats())
		}
	})
}

type bomb struct{}

func (bomb) MarshalJSON() ([]byte, error) { panic("boom") }

// No argument can make the client panic.
func TestOddInput(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.Capture(t.Context(), "odd", hedgerow.Properties{"chan": make(chan int), "bomb": bomb{}, "ok": 1, "nan": func() {}})
		r.Capture(t.Context(), "", nil)
		r.Capture(t.Context(), strings.Repeat("n", 201), nil)
		r.CaptureEvent(t.Context(), nil)
		ctx := hedgerow.WithUser(t.Context(), strings.Repeat("ü", 300)+"\n")
		r.Capture(hedgerow.WithTags(ctx, "", "$lib", " a \x00"), "user", nil)
		_ = r.Flush(t.Context())
		got := r.ph.Events()
		if len(got) != 2 || !got[0].Has("ok") || got[0].Has("chan") || got[0].Has("bomb") {
			t.Fatalf("%v", got)
		}
		if n := len([]rune(got[1].DistinctID)); n != 200 || !got[1].Has("a") || got[1].Text("$lib") != "hedgerow-go" {
			t.Errorf("distinct id of %d characters, %v", n, got[1].Properties)
		}
		if s := r.Stats(); s.Dropped[hedgerow.DropInvalid] != 2 {
			t.Errorf("%+v", s)
		}
	})
}

const prompt = "the wren nests in the blackthorn"

func generation() hedgerow.Properties {
	return hedgerow.Properties{
		"$ai_model": "m", "$ai_input": []any{map[string]any{"role": "user", "content": prompt}},
		"$ai_output_choices": []any{map[string]any{"role": "assistant", "content": "no, " + prompt}},
		"$ai_error":          "cannot say: " + prompt, "$ai_is_error": true, "$ai_tools": []any{map[string]any{"name": "t", "description": prompt}},
		"plan": "pro",
	}
}

func TestPrivacy(t *testing.T) {
	check := func(t *testing.T, r *rig) {
		r.flush(t)
		e := r.ph.Events()[0]
		if bytes.Contains(e.Raw, []byte("blackthorn")) {
			t.Errorf("content was sent: %s", e.Raw)
		}
		if string(e.Properties["$ai_input"]) != "null" || string(e.Properties["$ai_output_choices"]) != "null" || e.Text("plan") != "pro" || !e.Has("input_length") {
			t.Errorf("%s", e.Raw)
		}
	}
	bubble(t, func(c *hedgerow.Config) { c.PrivacyMode = true }, func(t *testing.T, r *rig) {
		r.Capture(t.Context(), event.Generation, generation())
		check(t, r)
	})
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.Capture(hedgerow.WithPrivacy(t.Context()), event.Generation, generation())
		check(t, r)
	})
	bubble(t, nil, func(t *testing.T, r *rig) {
		props := generation()
		props["note"] = "the key is sk-ant-api03-" + strings.Repeat("aB3", 30)
		r.Capture(t.Context(), event.Generation, props)
		r.flush(t)
		e := r.ph.Events()[0]
		if !bytes.Contains(e.Raw, []byte("blackthorn")) || bytes.Contains(e.Raw, []byte("sk-ant-api03")) {
			t.Errorf("%s", e.Raw)
		}
	})
}

func TestWithoutGzip(t *testing.T) {
	bubble(t, func(c *hedgerow.Config) { c.DisableGzip = true }, func(t *testing.T, r *rig) {
		r.Capture(t.Context(), "e", nil)
		r.flush(t)
		q := r.ph.Requests()[0]
		if q.Header.Get("Content-Encoding") != "" || q.Query != "" || !json.Valid(q.Body) {
			t.Errorf("%v %s", q.Header, q.Query)
		}
	})
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.Capture(t.Context(), "e", nil)
		r.flush(t)
		q := r.ph.Requests()[0]
		if q.Header.Get("Content-Encoding") != "gzip" || q.Query != "compression=gzip" || !bytes.HasPrefix(q.Body, []byte{0x1f, 0x8b}) || q.Header.Get("User-Agent") != "hedgerow-go/"+hedgerow.Version {
			t.Errorf("%v %s", q.Header, q.Query)
		}
	})
}

// An HTML page is not a success.
func TestWrongHost(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.ph.Fail(simposthog.Fault{Status: 200, Body: "<!DOCTYPE html><title>Sign in</title>"})
		r.Capture(t.Context(), "e", nil)
		if err := r.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "HTML page") {
			t.Errorf("Flush: %v", err)
		}
	})
}

func TestNoKeyOrContentInLog(t *testing.T) {
	bubble(t, func(c *hedgerow.Config) { c.LogLevel = slog.LevelDebug; c.MaxRetries = 1 }, func(t *testing.T, r *rig) {
		for _, f := range []simposthog.Fault{{Status: 503, Times: 2, Body: prompt + simposthog.Token}, {Status: 401, Body: prompt}, {Reset: true, Times: 2}} {
			r.ph.Fail(f)
			r.Capture(t.Context(), event.Generation, generation())
			_ = r.Flush(t.Context())
		}
		_ = r.Close(t.Context())
		if s := r.log.String() + r.Stats().LastErr; s == "" || strings.Contains(s, "blackthorn") || strings.Contains(s, simposthog.Token) {
			t.Errorf("log: %q", s)
		}
	})
}
