package sdkadapter_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"log/slog"

	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/sdktest/adapter"
)

// rig is an adapter whose SDK delivers to a PostHog in the same process, on the
// fake clock.
type rig struct {
	t  *testing.T
	a  http.Handler
	ph *simposthog.Server
	lg bytes.Buffer
}

type object = map[string]any

// harness runs a test as the harness does: a fresh adapter, then /init with what
// the test wants.
func harness(t *testing.T, config object, f func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(26 * 365 * 24 * time.Hour) // the fake clock begins at 2000, and events of 2025 are not of its future
		r := &rig{t: t, ph: simposthog.New(simposthog.Options{})}
		a := sdkadapter.New(sdkadapter.Options{Transport: r.ph.Transport(), Logger: slog.New(slog.NewTextHandler(&r.lg, nil))})
		defer a.Close()
		r.a = a
		c := object{"api_key": simposthog.Token, "host": "https://mock-server:8081"}
		for k, v := range config {
			c[k] = v
		}
		r.do("POST", "/init", c)
		f(r)
	})
}

// do calls the adapter, which must be content.
func (r *rig) do(method, path string, body any) object {
	r.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r.a.ServeHTTP(w, httptest.NewRequestWithContext(r.t.Context(), method, path, bytes.NewReader(b)))
	var out object
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 {
		r.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return out
}

// capture sends an event and returns its uuid.
func (r *rig) capture(path string, e object) string {
	r.t.Helper()
	if e["distinct_id"] == nil {
		e["distinct_id"] = "test_user"
	}
	return r.do("POST", path, e)["uuid"].(string)
}

func (r *rig) flush() object { r.t.Helper(); return r.do("POST", "/flush", nil) }

// state of the SDK; made are the requests it tells of.
type state struct {
	Pending  int            `json:"pending_events"`
	Captured int            `json:"total_events_captured"`
	Sent     int            `json:"total_events_sent"`
	Retries  int            `json:"total_retries"`
	LastErr  *string        `json:"last_error"`
	Dropped  map[string]int `json:"total_events_dropped"`
	Requests []struct {
		TimestampMS  int64    `json:"timestamp_ms"`
		StatusCode   int      `json:"status_code"`
		RetryAttempt int      `json:"retry_attempt"`
		EventCount   int      `json:"event_count"`
		UUIDs        []string `json:"uuid_list"`
	} `json:"requests_made"`
}

func (r *rig) state() (s state) {
	r.t.Helper()
	b, _ := json.Marshal(r.do("GET", "/state", nil))
	if err := json.Unmarshal(b, &s); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// waits are the times between requests.
func (s state) waits() (list []time.Duration) {
	for i := 1; i < len(s.Requests); i++ {
		list = append(list, time.Duration(s.Requests[i].TimestampMS-s.Requests[i-1].TimestampMS)*time.Millisecond)
	}
	return list
}

func (s state) statuses() (list []int) {
	for _, q := range s.Requests {
		list = append(list, q.StatusCode)
	}
	return list
}

func TestHealth(t *testing.T) {
	harness(t, nil, func(r *rig) {
		h := r.do("GET", "/health", nil)
		if h["sdk_name"] != "hedgerow-go" || h["sdk_version"] == "" || !slices.Equal(h["capabilities"].([]any), []any{"capture_v0", "capture_ai_v0", "encoding_gzip"}) {
			t.Errorf("%v", h)
		}
	})
}

// What capture protocol v0 retries, and what it never retries.
func TestRetries(t *testing.T) {
	for _, path := range []string{"/capture", "/capture_ai"} {
		name := map[string]string{"/capture": "test_event", "/capture_ai": "$ai_generation"}[path]
		for _, c := range []struct {
			name  string
			fault simposthog.Fault
			again bool
		}{
			{"network error", simposthog.Fault{Reset: true}, true},
			{"408", simposthog.Fault{Status: 408}, true}, {"429", simposthog.Fault{Status: 429}, true},
			{"500", simposthog.Fault{Status: 500}, true}, {"502", simposthog.Fault{Status: 502}, true},
			{"503", simposthog.Fault{Status: 503}, true}, {"504", simposthog.Fault{Status: 504}, true},
			{"400", simposthog.Fault{Status: 400}, false}, {"401", simposthog.Fault{Status: 401}, false},
			{"402", simposthog.Fault{Status: 402}, false}, {"403", simposthog.Fault{Status: 403}, false},
			{"413", simposthog.Fault{Status: 413}, false}, {"418", simposthog.Fault{Status: 418}, false},
		} {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				harness(t, object{"flush_at": 1}, func(r *rig) {
					r.ph.Fail(c.fault)
					uuid := r.capture(path, object{"event": name})
					r.flush()
					s := r.state()
					if !c.again {
						if len(s.Requests) != 1 || s.Sent != 0 || s.Pending != 0 || r.ph.Count() != 0 {
							t.Errorf("%+v", s)
						}
						return
					}
					if len(s.Requests) != 2 || s.Requests[1].RetryAttempt != 1 || s.Retries != 1 || s.Sent != 1 || len(r.ph.ByUUID(uuid)) != 1 {
						t.Errorf("%+v", s)
					}
				})
			})
		}
	}
}

// The first wait is at least 100 ms, each one longer than the one before, and the
// third try is the one that arrives.
func TestBackoff(t *testing.T) {
	harness(t, object{"flush_at": 1}, func(r *rig) {
		r.ph.Fail(simposthog.Fault{Status: 503, Times: 2})
		r.capture("/capture", object{"event": "test_event"})
		r.flush()
		s := r.state()
		if got := s.statuses(); !slices.Equal(got, []int{503, 503, 200}) {
			t.Fatalf("answers %v", got)
		}
		if w := s.waits(); w[0] < 100*time.Millisecond || w[1] <= w[0] {
			t.Errorf("waits %v", w)
		}
	})
}

// The wait is the longer of the backoff and Retry-After, in seconds or as a date.
func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		name       string
		at         func(time.Time) string
		least, top time.Duration
	}{
		{"seconds", func(time.Time) string { return "3" }, 3 * time.Second, 4 * time.Second},
		{"date", func(now time.Time) string { return now.Add(5 * time.Second).UTC().Format(http.TimeFormat) }, 4 * time.Second, 6 * time.Second},
		{"less than the backoff", func(time.Time) string { return "0" }, 100 * time.Millisecond, time.Second},
		{"not to be read", func(time.Time) string { return "soon" }, 100 * time.Millisecond, time.Second},
	} {
		for _, status := range []int{429, 503} {
			t.Run(fmt.Sprint(c.name, " ", status), func(t *testing.T) {
				harness(t, object{"flush_at": 1}, func(r *rig) {
					r.ph.Fail(simposthog.Fault{Status: status, RetryAfter: c.at(time.Now())})
					r.capture("/capture", object{"event": "test_event"})
					r.flush()
					if w := r.state().waits(); len(w) != 1 || w[0] < c.least || w[0] > c.top {
						t.Errorf("waits %v, want one between %v and %v", w, c.least, c.top)
					}
				})
			})
		}
	}
}

func TestMaxRetries(t *testing.T) {
	for _, n := range []int{0, 1, 3} {
		harness(t, object{"flush_at": 1, "max_retries": n}, func(r *rig) {
			r.ph.Fail(simposthog.Fault{Status: 500, Times: -1})
			r.capture("/capture", object{"event": "test_event"})
			r.flush()
			s := r.state()
			if len(s.Requests) != n+1 || s.Dropped["retries"] != 1 || s.LastErr == nil || s.Pending != 0 {
				t.Errorf("max_retries %d: %+v", n, s)
			}
		})
	}
}

// A 413 halves the batch; a lone event that is still refused is dropped and
// logged, by name and size only.
func TestHalves(t *testing.T) {
	harness(t, object{"flush_at": 8}, func(r *rig) {
		r.ph.Fail(simposthog.Fault{Status: 413, Times: 3})
		var want []string
		for i := range 8 {
			want = append(want, r.capture("/capture", object{"event": "test_event", "properties": object{"n": i, "word": "blackthorn"}}))
		}
		r.flush()
		s := r.state()
		var counts []int
		for _, q := range s.Requests {
			counts = append(counts, q.EventCount)
		}
		if !slices.Equal(counts, []int{8, 4, 2, 1, 1, 2, 4}) {
			t.Errorf("requests of %v events", counts)
		}
		var got []string
		for _, e := range r.ph.Events() {
			got = append(got, e.UUID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("arrived %v, want %v", got, want)
		}
	})
	harness(t, object{"flush_at": 1}, func(r *rig) {
		r.ph.Fail(simposthog.Fault{Status: 413, Times: -1})
		r.capture("/capture", object{"event": "test_event", "properties": object{"word": "blackthorn"}})
		r.flush()
		if s := r.state(); s.Dropped["too_large"] != 1 || s.Retries != 0 {
			t.Errorf("%+v", s)
		}
		if log := r.lg.String(); !strings.Contains(log, "test_event") || !strings.Contains(log, "bytes=") || strings.Contains(log, "blackthorn") {
			t.Errorf("log %s", log)
		}
	})
}

// An LLM event that is larger than its route takes never makes a batch fail: its
// content is left out before it is sent. (PostHog's SDKs drop it whole.)
func TestOversized(t *testing.T) {
	harness(t, object{"flush_at": 2}, func(r *rig) {
		big := r.capture("/capture_ai", object{"event": "$ai_generation", "properties": object{"$ai_model": "m", "$ai_input": slices.Repeat([]object{{"role": "user", "content": "blackthorn"}}, 300_000)}})
		small := r.capture("/capture_ai", object{"event": "$ai_generation"})
		r.flush()
		if e := r.ph.ByUUID(big); len(e) != 1 || e[0].Text("$ai_model") != "m" || len(e[0].Raw) >= 8<<20 || bytes.Contains(e[0].Raw, []byte("blackthorn")) {
			t.Errorf("%d arrived", len(e))
		}
		if s := r.state(); len(r.ph.ByUUID(small)) != 1 || len(s.Requests) != 1 || s.Requests[0].StatusCode != 200 {
			t.Errorf("%+v", s)
		}
	})
}

// A 2xx is a success whatever its body, even if that is truncated.
func TestUnreadableAnswer(t *testing.T) {
	for _, f := range []simposthog.Fault{{Accept: true, Status: 200, Body: "no JSON {"}, {Accept: true, Status: 204}, {Accept: true, Status: 200, Partial: true}} {
		harness(t, object{"flush_at": 1}, func(r *rig) {
			r.ph.Fail(f)
			uuid := r.capture("/capture", object{"event": "test_event"})
			r.flush()
			if s := r.state(); len(s.Requests) != 1 || s.Sent != 1 || len(r.ph.ByUUID(uuid)) != 1 {
				t.Errorf("%+v: %+v", f, s)
			}
		})
	}
}

// A retry is the same bytes: PostHog de-duplicates by all four of timestamp,
// distinct id, name and uuid.
func TestSameOnRetry(t *testing.T) {
	harness(t, object{"flush_at": 3}, func(r *rig) {
		r.ph.Fail(simposthog.Fault{Status: 503, Accept: true}) // the answer gets lost
		var want []string
		for i := range 3 {
			want = append(want, r.capture("/capture", object{"event": fmt.Sprint("event ", i)}))
		}
		r.flush()
		s := r.state()
		if len(s.Requests) != 2 || !slices.Equal(s.Requests[0].UUIDs, want) || !slices.Equal(s.Requests[1].UUIDs, want) {
			t.Errorf("%+v", s)
		}
		q := r.ph.Requests()
		if !bytes.Equal(q[0].Body, q[1].Body) {
			t.Error("the second try has other bytes")
		}
		if n := r.ph.Count(); n != 3 || r.ph.Events()[0].Copies != 2 {
			t.Errorf("%d events, the first came %d times", n, r.ph.Events()[0].Copies)
		}
	})
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// What is in a request: the key, the batch, and events with a uuid, a name, a
// distinct id, a UTC timestamp and the name of the library.
func TestFormat(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		harness(t, object{"flush_at": 1, "enable_compression": compressed}, func(r *rig) {
			uuid := r.capture("/capture", object{"event": "test_event", "distinct_id": "ada", "timestamp": "2025-01-02T08:34:05+05:30", "properties": object{"key": "value", "timestamp_like": "2025-01-02T08:34:05+05:30"}})
			r.flush()
			q := r.ph.Requests()
			if len(q) != 1 || q[0].Path != "/batch/" || q[0].Header.Get("Content-Type") != "application/json" || (q[0].Header.Get("Content-Encoding") == "gzip") != compressed {
				t.Fatalf("%d requests: %+v", len(q), q)
			}
			if !compressed {
				var body struct {
					APIKey string            `json:"api_key"`
					Batch  []json.RawMessage `json:"batch"`
				}
				if err := json.Unmarshal(q[0].Body, &body); err != nil || body.APIKey != simposthog.Token || len(body.Batch) != 1 {
					t.Errorf("%s: %v", q[0].Body, err)
				}
			}
			e := r.ph.ByUUID(uuid)[0]
			if !uuidForm.MatchString(uuid) || e.Name != "test_event" || e.DistinctID != "ada" || e.Text("key") != "value" || e.Text("$lib") != "hedgerow-go" || e.Text("$lib_version") == "" {
				t.Errorf("%s", e.Raw)
			}
			if at, err := time.Parse(time.RFC3339, e.SentTimestamp); err != nil || !strings.HasSuffix(e.SentTimestamp, "Z") || !at.Equal(time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)) {
				t.Errorf("timestamp %s", e.SentTimestamp)
			}
			if got := e.Text("timestamp_like"); got != "2025-01-02T08:34:05+05:30" {
				t.Errorf("the property became %s", got)
			}
		})
	}
}

// Each event has its own uuid, and one that the caller names is kept.
func TestUUIDs(t *testing.T) {
	harness(t, object{"flush_at": 100}, func(r *rig) {
		const own = "0198c0de-0000-7000-8000-000000000abc"
		if got := r.capture("/capture_ai", object{"event": "$ai_generation", "uuid": own}); got != own {
			t.Errorf("uuid %s", got)
		}
		seen := map[string]bool{own: true}
		for range 50 {
			id := r.capture("/capture", object{"event": "test_event"})
			if seen[id] || !uuidForm.MatchString(id) {
				t.Fatalf("uuid %s", id)
			}
			seen[id] = true
		}
		r.flush()
		for _, q := range r.state().Requests {
			if len(slices.Compact(slices.Sorted(slices.Values(q.UUIDs)))) != len(q.UUIDs) {
				t.Errorf("a batch has an event twice: %v", q.UUIDs)
			}
		}
		if r.ph.Count() != 51 {
			t.Errorf("%d events", r.ph.Count())
		}
	})
}

// LLM events have a route of their own; a host that lacks it gets them by the
// other.
func TestRoutes(t *testing.T) {
	harness(t, object{"flush_at": 1}, func(r *rig) {
		r.capture("/capture_ai", object{"event": "$ai_generation"})
		r.capture("/capture", object{"event": "test_event"})
		r.flush()
		paths := []string{r.ph.Requests()[0].Path, r.ph.Requests()[1].Path}
		slices.Sort(paths)
		if !slices.Equal(paths, []string{"/batch/", "/i/v0/ai/batch/"}) {
			t.Errorf("paths %v", paths)
		}
	})
	harness(t, object{"flush_at": 1}, func(r *rig) {
		r.ph.SetAIRoute(false)
		uuid := r.capture("/capture_ai", object{"event": "$ai_generation"})
		r.flush()
		r.capture("/capture_ai", object{"event": "$ai_generation"})
		r.flush()
		var paths []string
		for _, q := range r.ph.Requests() {
			paths = append(paths, q.Path)
		}
		if !slices.Equal(paths, []string{"/i/v0/ai/batch/", "/batch/", "/batch/"}) || len(r.ph.ByUUID(uuid)) != 1 {
			t.Errorf("paths %v", paths)
		}
	})
	// The caller decides the route, not the event's name.
	harness(t, object{"flush_at": 1}, func(r *rig) {
		uuid := r.capture("/capture", object{"event": "$ai_generation"})
		r.flush()
		if n := len(r.ph.RequestsTo("/i/v0/ai/batch")); n != 0 || len(r.ph.Requests()) != 1 || r.ph.Requests()[0].Path != "/batch/" || len(r.ph.ByUUID(uuid)) != 1 {
			t.Errorf("%d requests to the AI route, all: %v", n, r.ph.Requests())
		}
	})
}

// Batches: by number, by time, in order, none that is empty, never more than 100.
func TestBatches(t *testing.T) {
	harness(t, object{"flush_at": 1}, func(r *rig) {
		for range 3 {
			r.capture("/capture", object{"event": "test_event"})
			synctest.Wait()
		}
		for _, q := range r.state().Requests {
			if q.EventCount != 1 {
				t.Errorf("a request of %d events", q.EventCount)
			}
		}
		if n := r.ph.Count(); n != 3 {
			t.Errorf("%d events", n)
		}
	})
	harness(t, object{"flush_at": 100, "flush_interval_ms": 500}, func(r *rig) {
		if got := r.flush(); got["events_flushed"] != float64(0) || len(r.state().Requests) != 0 {
			t.Errorf("a flush of nothing: %v, %+v", got, r.state())
		}
		r.capture("/capture", object{"event": "test_event"})
		synctest.Wait()
		if r.ph.Count() != 0 {
			t.Error("delivered before its time")
		}
		time.Sleep(501 * time.Millisecond)
		synctest.Wait()
		if r.ph.Count() != 1 {
			t.Error("not delivered after flush_interval_ms")
		}
		var want []string
		for i := range 250 {
			want = append(want, r.capture("/capture", object{"event": fmt.Sprint("event ", i)}))
		}
		if got := r.flush(); got["events_flushed"] == float64(0) {
			t.Errorf("%v", got)
		}
		var got []string
		for _, q := range r.state().Requests[1:] {
			if q.EventCount > 100 {
				t.Errorf("a request of %d events", q.EventCount)
			}
			got = append(got, q.UUIDs...)
		}
		if !slices.Equal(got, want) {
			t.Error("events arrived in another order, or not at all")
		}
	})
}

// What is captured during a delivery is neither lost nor sent twice.
func TestDuringFlush(t *testing.T) {
	harness(t, object{"flush_at": 1}, func(r *rig) {
		r.ph.Fail(simposthog.Fault{Delay: time.Second, Times: 1, Status: 503})
		first := r.capture("/capture", object{"event": "first"})
		time.Sleep(500 * time.Millisecond)
		second := r.capture("/capture", object{"event": "second"})
		r.flush()
		for _, id := range []string{first, second} {
			if e := r.ph.ByUUID(id); len(e) != 1 || e[0].Copies != 1 {
				t.Errorf("%s arrived %d times", id, len(e))
			}
		}
		if s := r.state(); s.Sent != 2 || s.Captured != 2 || s.Pending != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A full queue drops and counts; the caller neither waits nor fails.
func TestFullQueue(t *testing.T) {
	harness(t, object{"flush_at": 10, "queue_size": 10}, func(r *rig) {
		r.ph.SetDown(true)
		start := time.Now()
		for range 25 {
			r.capture("/capture", object{"event": "test_event"})
		}
		if d := time.Since(start); d > 0 {
			t.Errorf("capturing waited for %v", d)
		}
		synctest.Wait()
		if s := r.state(); s.Dropped["queue_full"] != 15 || s.Pending != 10 {
			t.Errorf("%+v", s)
		}
		r.ph.SetDown(false)
		r.flush()
		if r.ph.Count() != 10 {
			t.Errorf("%d events arrived", r.ph.Count())
		}
	})
}

// Trouble with the AI route holds nothing else back.
func TestLanes(t *testing.T) {
	harness(t, object{"flush_at": 1}, func(r *rig) {
		r.ph.Fail(simposthog.Fault{Path: "/i/v0/ai/batch", Status: 503, Times: -1})
		r.capture("/capture_ai", object{"event": "$ai_generation"})
		synctest.Wait()
		start := time.Now()
		uuid := r.capture("/capture", object{"event": "test_event"})
		synctest.Wait()
		if len(r.ph.ByUUID(uuid)) != 1 || time.Since(start) > 0 {
			t.Error("the product event waits for the LLM event")
		}
		r.ph.ClearFaults()
		r.flush()
		if r.ph.Count() != 2 {
			t.Errorf("%d events", r.ph.Count())
		}
	})
}

// A flag is requested at the host, and that the user met it is an event.
func TestFlag(t *testing.T) {
	harness(t, object{"flush_at": 1}, func(r *rig) {
		r.ph.SetFlags(map[string]any{"on": true, "off": false, "arm": "test"})
		for key, want := range map[string]any{"on": true, "off": false, "arm": "test"} {
			if got := r.do("POST", "/get_feature_flag", object{"key": key, "distinct_id": "ada", "groups": object{"company": "acme"}}); got["success"] != true || got["value"] != want {
				t.Errorf("%s: %v, want %v", key, got, want)
			}
		}
		// A flag that the host does not know has no value.
		if got := r.do("POST", "/get_feature_flag", object{"key": "none", "distinct_id": "ada", "disable_geoip": true, "person_properties": object{"$device_id": "d1"}, "group_properties": object{"company": object{"plan": "pro"}}}); got["success"] != true || got["value"] != nil {
			t.Errorf("%v", got)
		}
		r.flush()
		if met := r.ph.Named("$feature_flag_called"); len(met) != 3 || met[0].DistinctID != "ada" {
			t.Errorf("%d events: %+v", len(met), met)
		}
	})
}

func TestReset(t *testing.T) {
	harness(t, object{"flush_at": 100}, func(r *rig) {
		r.capture("/capture", object{"event": "test_event"})
		r.do("POST", "/reset", nil)
		w := httptest.NewRecorder()
		r.a.ServeHTTP(w, httptest.NewRequest("GET", "/state", nil))
		if w.Code != 400 || r.ph.Count() != 0 {
			t.Errorf("%d %s, %d events", w.Code, w.Body, r.ph.Count())
		}
		r.do("POST", "/init", object{"api_key": simposthog.Token, "host": "https://mock-server:8081"})
		if s := r.state(); s.Captured != 0 || len(s.Requests) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Tests at the same time do not see each other.
func TestParallel(t *testing.T) {
	harness(t, nil, func(r *rig) {
		var wg sync.WaitGroup
		for _, id := range []string{"t-1", "t-2"} {
			r.do("POST", "/init?test_id="+id, object{"api_key": simposthog.Token, "host": "https://mock-server:8081"})
			wg.Go(func() {
				r.capture("/capture?test_id="+id, object{"event": id})
				r.do("POST", "/flush?test_id="+id, nil)
			})
		}
		wg.Wait()
		for _, q := range r.ph.Requests() {
			id := q.Header.Get("X-Test-Id")
			if e := r.ph.ByUUID(q.UUIDs[0])[0]; id == "" || e.Name != id {
				t.Errorf("X-Test-Id %q on a request of the event %q", id, e.Name)
			}
		}
		if len(r.ph.Requests()) != 2 || len(r.state().Requests) != 0 {
			t.Errorf("%d requests", len(r.ph.Requests()))
		}
	})
}

// The program speaks the same over a network.
func TestProgram(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "sdkadapter")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ph := simposthog.Run(t, simposthog.Options{})
	cmd := exec.CommandContext(t.Context(), bin, "-listen", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + strings.TrimSpace(strings.TrimPrefix(line, "listening at "))
	for _, c := range []struct{ path, body string }{
		{"/init", `{"api_key":"` + simposthog.Token + `","host":"` + ph.URL() + `","flush_at":1}`},
		{"/capture_ai", `{"distinct_id":"ada","event":"$ai_generation"}`},
		{"/flush", ``},
	} {
		res, err := http.Post(base+c.path, "application/json", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("%s: %d", c.path, res.StatusCode)
		}
	}
	if e := ph.Named("$ai_generation"); len(e) != 1 || e[0].DistinctID != "ada" {
		t.Errorf("arrived: %+v", e)
	}
}
