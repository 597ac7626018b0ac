package posthog

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

func TestBatchesAreFullOrDue(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.set(connection("c_1"))
		list := events(45)
		start := time.Now()
		r.queue("c_1").put(list...)
		r.wait(40)
		if d := time.Since(start); d > time.Second {
			t.Errorf("full batches left after %v", d)
		}
		r.wait(45)
		if d := time.Since(start); d < 10*time.Second || d > 10200*time.Millisecond {
			t.Errorf("the last batch left after %v, want the flush interval of 10 s", d)
		}
		equal(t, "batch sizes", sizes(r.ph.RequestsTo(aiPath)), []int{20, 20, 5})
		if n := len(r.ph.RequestsTo(batchPath)); n != 0 {
			t.Errorf("%d requests to /batch/, want none", n)
		}
		r.once(list)
		st := r.m.Status("c_1")
		if st.State != StateIdle || st.Sent != 45 || st.Held != 0 || st.LastSuccess.IsZero() || st.LastError != "" {
			t.Errorf("status %+v", st)
		}
		if n := r.queue("c_1").count("acked"); n != 45 {
			t.Errorf("%d acknowledged, want 45", n)
		}
	})
}

func TestRequestIsGzippedAndComplete(t *testing.T) {
	bubble(t, func(c *Config) {
		c.TraceURL = func(e *event.Event) string { return "https://hedgerow.example/traces/" + e.TraceID }
	}, func(r *rig) {
		c := connection("c_1")
		c.FlushAt = 1
		r.set(c)
		r.queue("c_1").put(events(1)...)
		r.wait(1)
		req := r.ph.Requests()[0]
		if req.Header.Get("Content-Encoding") != "gzip" || req.Header.Get("User-Agent") != "hedgerow/1.2.3" || req.Query != "compression=gzip" {
			t.Errorf("headers %v, query %q", req.Header, req.Query)
		}
		body := plain(t, req)
		if string(body["api_key"]) != `"`+simposthog.Token+`"` || body["sent_at"] != nil {
			t.Errorf("api_key %s, sent_at %s", body["api_key"], body["sent_at"])
		}
		e := r.ph.Events()[0]
		for name, want := range map[string]string{"$ignore_sent_at": "true", "$lib": "hedgerow", "$lib_version": "1.2.3", "trace_url": "https://hedgerow.example/traces/trace-0"} {
			if e.Text(name) != want {
				t.Errorf("%s is %q, want %q", name, e.Text(name), want)
			}
		}
	})
}

func TestOtherEventsGoToBatch(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.set(connection("c_1"))
		r.queue("c_1").put(append(named("prompt_shared", 3), events(2)...)...)
		r.wait(5)
		equal(t, "/batch/", sizes(r.ph.RequestsTo(batchPath)), []int{3})
		equal(t, "AI route", sizes(r.ph.RequestsTo(aiPath)), []int{2})
	})
}

func TestBatchesAreBoundedByBytes(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.set(connection("c_1"))
		list := events(6)
		for _, e := range list {
			e.Content.Input = json.RawMessage(`"` + strings.Repeat("a", 2<<20) + `"`)
		}
		r.queue("c_1").put(list...)
		r.wait(6)
		for _, req := range r.ph.Requests() {
			if len(req.UUIDs) > 2 {
				t.Errorf("a batch of %d events of 2 MiB", len(req.UUIDs))
			}
		}
		r.once(list)
	})
}

func TestFallsBackWithoutAIRoute(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.ph.SetAIRoute(false)
		r.set(connection("c_1"))
		start := time.Now()
		r.queue("c_1").put(events(20)...)
		r.wait(20)
		if d := time.Since(start); d > time.Second {
			t.Errorf("the fall-back took %v", d)
		}
		r.queue("c_1").put(events(20)...)
		r.wait(40)
		equal(t, "AI route", sizes(r.ph.RequestsTo(aiPath)), []int{0})
		equal(t, "/batch/", sizes(r.ph.RequestsTo(batchPath)), []int{20, 20})

		time.Sleep(noAIFor) // then the route is tried again
		r.ph.SetAIRoute(true)
		r.queue("c_1").put(events(20)...)
		r.wait(60)
		equal(t, "AI route", sizes(r.ph.RequestsTo(aiPath)), []int{0, 20})
		if st := r.m.Status("c_1"); st.Failed != 0 || st.Retried != 0 {
			t.Errorf("a missing route counts as failure: %+v", st)
		}
	})
}

func TestRetries(t *testing.T) {
	for _, f := range []simposthog.Fault{{Status: 408}, {Status: 429}, {Status: 500}, {Status: 502}, {Status: 503}, {Status: 504}, {Status: 599}, {Reset: true}, {Delay: time.Minute}} {
		t.Run(fmt.Sprintf("%d reset=%v delay=%v", f.Status, f.Reset, f.Delay), func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				f.Times = 4
				r.ph.Fail(f)
				c := connection("c_1")
				c.FlushAt = 5
				r.set(c)
				list := events(5)
				r.queue("c_1").put(list...)
				r.wait(5)
				reqs := r.ph.Requests()
				if len(reqs) != 5 {
					t.Fatalf("%d requests, want 5", len(reqs))
				}
				before := time.Duration(0)
				for i, g := range gaps(reqs) {
					if f.Delay > 0 {
						g -= 30 * time.Second // the request's timeout
					}
					if g < 200*time.Millisecond || g <= before {
						t.Errorf("wait %d is %v after %v: want it to grow from 200 ms", i+1, g, before)
					}
					before = g
				}
				for i := 1; i < len(reqs); i++ {
					if string(plain(t, reqs[i])["batch"]) != string(plain(t, reqs[0])["batch"]) {
						t.Error("a retry has another body")
					}
				}
				r.once(list)
				st := r.m.Status("c_1")
				if st.Failed != 4 || st.Retried != 5 || st.Sent != 5 || st.State != StateIdle || st.LastError != "" {
					t.Errorf("status %+v", st)
				}
				if n := r.queue("c_1").maxAttempts(); n != 1 {
					t.Errorf("the queue gave an event out %d times", n)
				}
			})
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for name, value := range map[string]func() string{
		"seconds": func() string { return "45" },
		"date":    func() string { return time.Now().Add(45 * time.Second).UTC().Format(http.TimeFormat) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				r.ph.Fail(simposthog.Fault{Status: 429, RetryAfter: value()})
				c := connection("c_1")
				c.FlushAt = 1
				r.set(c)
				r.queue("c_1").put(events(1)...)
				time.Sleep(20 * time.Second)
				if st := r.m.Status("c_1"); st.State != StateRetrying || !strings.Contains(st.LastError, "429") {
					t.Errorf("status %+v", st)
				}
				r.queue("c_1").put(events(1)...) // another batch keeps to it too
				r.wait(2)
				for i, g := range gaps(r.ph.Requests())[:1] {
					if g < 44*time.Second || g > 46*time.Second {
						t.Errorf("wait %d is %v, want 45 s", i, g)
					}
				}
			})
		})
	}
}

func TestAcceptedButUnanswered(t *testing.T) {
	for name, f := range map[string]simposthog.Fault{"reset": {Accept: true, Reset: true}, "timeout": {Accept: true, Delay: time.Hour}, "gateway": {Accept: true, Status: 504}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				if f.Delay > 0 {
					f.Delay, f.Status = 0, 503
				}
				r.ph.Fail(f)
				c := connection("c_1")
				c.FlushAt = 10
				r.set(c)
				list := events(10)
				r.queue("c_1").put(list...)
				ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
				defer cancel()
				if err := r.ph.Wait(ctx, func() bool { return len(r.ph.Requests()) == 2 }); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				r.once(list)
				for _, e := range r.ph.Events() {
					if e.Copies < 2 {
						t.Errorf("%d copies of %s, want 2", e.Copies, e.UUID)
					}
				}
			})
		})
	}
}

func TestAnswerCutShortIsSuccess(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.ph.Fail(simposthog.Fault{Accept: true, Status: 200, Partial: true, Body: `{"status":"Ok"}`})
		c := connection("c_1")
		c.FlushAt = 3
		r.set(c)
		r.queue("c_1").put(events(3)...)
		r.wait(3)
		time.Sleep(time.Minute)
		if n := len(r.ph.Requests()); n != 1 {
			t.Errorf("%d requests, want 1: a 2xx with an unreadable body is fine", n)
		}
	})
}

func TestTooLargeIsHalved(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.ph.Fail(simposthog.Fault{Status: 413, Times: 3, Body: "maximum event size exceeded: and then some"})
		c := connection("c_1")
		c.FlushAt = 8
		r.set(c)
		list := events(8)
		r.queue("c_1").put(list...)
		r.wait(8)
		var got []int
		for _, req := range r.ph.Requests() {
			var batch []json.RawMessage
			if err := json.Unmarshal(plain(t, req)["batch"], &batch); err != nil {
				t.Fatal(err)
			}
			got = append(got, len(batch))
		}
		equal(t, "batch sizes", got, []int{8, 4, 2, 1, 1, 2, 4})
		r.once(list)

		r.queue("c_1").put(events(8)...) // the next one is whole again
		r.wait(16)
		reqs := r.ph.Requests()
		if n := len(reqs[len(reqs)-1].UUIDs); n != 8 {
			t.Errorf("the batch after a 413 has %d events, want 8", n)
		}
	})
}

func TestTooLargeEventIsShrunk(t *testing.T) {
	big := func(n int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("b", n) + `"`) }
	t.Run("known limit", func(t *testing.T) {
		bubble(t, nil, func(r *rig) {
			r.ph.SetAIRoute(false) // 983,040 bytes on /batch/
			r.set(connection("c_1"))
			list := events(4)
			list[1].Content.Input = big(3 << 20)
			list[1].Content.Output = json.RawMessage(`[{"role":"assistant","content":"short"}]`)
			list[2].Properties = map[string]json.RawMessage{"huge": big(1 << 20), "small": big(10)}
			r.queue("c_1").put(list...)
			r.wait(4)
			r.once(list)
			e := r.ph.ByUUID(list[1].UUID)[0]
			if e.Has("$ai_input") || !e.Has("$ai_output_choices") || e.Text(PropDropped) != `["$ai_input"]` || e.Text("$ai_model") != "gpt-4.1-mini" {
				t.Errorf("properties %v", e.Properties)
			}
			if e = r.ph.ByUUID(list[2].UUID)[0]; e.Has("huge") || !e.Has("small") || !e.Has("$ai_input") {
				t.Errorf("properties %v", e.Properties)
			}
			if n := r.queue("c_1").count("dead"); n != 0 {
				t.Errorf("%d dead letters", n)
			}
		})
	})
	t.Run("unknown limit", func(t *testing.T) {
		bubble(t, nil, func(r *rig) {
			c := connection("c_1")
			c.FlushAt = 2
			r.set(c)
			r.hosts[hostUS] = sizeLimited{r.ph.Transport(), t, 10_000}
			list := events(2)
			list[0].Content.Input, list[0].Content.Output = big(50_000), big(3_000)
			r.queue("c_1").put(list...)
			r.wait(2)
			if e := r.ph.ByUUID(list[0].UUID)[0]; e.Has("$ai_input") {
				t.Error("still has its input")
			}
		})
	})
	t.Run("hopeless", func(t *testing.T) {
		bubble(t, nil, func(r *rig) {
			c := connection("c_1")
			c.FlushAt = 1
			r.set(c)
			r.ph.Fail(simposthog.Fault{Status: 413, Times: 20})
			r.queue("c_1").put(events(1)...)
			time.Sleep(time.Minute)
			reasons := r.queue("c_1").reasons()
			if len(reasons) != 1 || !strings.Contains(reasons[0], "too large") {
				t.Errorf("dead letters %q", reasons)
			}
			if st := r.m.Status("c_1"); st.Dead != 1 || st.Held != 0 || st.State != StateIdle {
				t.Errorf("status %+v", st)
			}
		})
	})
}

// sizeLimited rejects a request with an event over a size, as a PostHog with
// its own configuration does.
type sizeLimited struct {
	next  http.RoundTripper
	t     *testing.T
	limit int
}

func (s sizeLimited) RoundTrip(r *http.Request) (*http.Response, error) {
	ph := simposthog.New(simposthog.Options{})
	get := r.Clone(r.Context())
	body := readAll(s.t, r)
	get.Body, r.Body = nopBody(body), nopBody(body)
	if _, err := ph.Transport().RoundTrip(get); err != nil {
		return nil, err
	}
	for _, e := range ph.Events() {
		if len(e.Raw) > s.limit {
			return &http.Response{StatusCode: 413, Header: http.Header{}, Body: nopBody([]byte("maximum event size exceeded")), Request: r}, nil
		}
	}
	return s.next.RoundTrip(r)
}

func TestPoisonIsIsolated(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.ph.Refuse(func(e simposthog.Event) string {
			if strings.HasPrefix(e.DistinctID, "bad") {
				return "event submitted without a distinct_id; it said " + e.Text("$ai_input")
			}
			return ""
		})
		r.set(connection("c_1"))
		list := events(40)
		good := append([]*event.Event(nil), list...)
		for _, i := range []int{31, 7} {
			list[i].DistinctID = fmt.Sprintf("bad-%d", i)
			good = append(good[:i:i], good[i+1:]...)
		}
		r.queue("c_1").put(list...)
		r.wait(38)
		time.Sleep(time.Second)
		r.once(good)
		equal(t, "reasons", r.queue("c_1").reasons(), []string{
			"PostHog rejects the event (400: event submitted without a distinct_id)", "PostHog rejects the event (400: event submitted without a distinct_id)"})
		if st := r.m.Status("c_1"); st.Sent != 38 || st.Dead != 2 || st.State != StateIdle {
			t.Errorf("status %+v", st)
		}
		if n := len(r.ph.Requests()); n > 24 {
			t.Errorf("%d requests to isolate two events", n)
		}
	})
}

func TestRefusedKeyKeepsEvents(t *testing.T) {
	for _, status := range []int{401, 403, 404, 301} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				r.ph.Fail(simposthog.Fault{Status: status, Times: -1, Body: "API key is not valid: personal_api_key"})
				c := connection("c_1")
				r.set(c)
				list := events(500)
				r.queue("c_1").put(list...)
				time.Sleep(10*time.Minute + 30*time.Second) // between two tries
				st := r.m.Status("c_1")
				if st.State != StateRefused || st.LastError == "" || st.Dead != 0 {
					t.Errorf("status %+v", st)
				}
				if n := len(r.ph.Requests()); n > 200 {
					t.Errorf("%d requests in ten minutes of refusal", n)
				}
				if n := r.queue("c_1").maxAttempts(); n > 1 {
					t.Errorf("the queue gave an event out %d times", n)
				}
				r.ph.ClearFaults()
				start := time.Now()
				c.ProjectKey = project.NewSecret("phc_second") // immediately, not after a minute
				r.set(c)
				r.wait(500)
				// The last batch, if it is not full, waits for its flush interval of 10 s.
				if d := time.Since(start); d > 11*time.Second {
					t.Errorf("new settings took %v", d)
				}
				r.once(list)
				if r.ph.Events()[0].Token != "phc_second" {
					t.Error("events went to the old key")
				}
				if n := r.openings("c_1"); n != 1 {
					t.Errorf("the queue was opened %d times", n)
				}
			})
		})
	}
}

func TestHostIsCheckedAgainWhenSending(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		c := connection("c_1")
		c.Host = "http://us.i.posthog.com" // saved when that was allowed
		r.set(c)
		r.queue("c_1").put(events(20)...)
		time.Sleep(time.Minute)
		if st := r.m.Status("c_1"); st.State != StateRefused || !strings.Contains(st.LastError, "https") || len(r.ph.Requests()) != 0 {
			t.Errorf("status %+v, %d requests", st, len(r.ph.Requests()))
		}
	})
}

func TestWebPageIsNoSuccess(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.ph.Fail(simposthog.Fault{Status: 200, Body: "<!DOCTYPE html><html>"})
		r.set(connection("c_1"))
		r.queue("c_1").put(events(20)...)
		time.Sleep(time.Second)
		if st := r.m.Status("c_1"); st.State != StateRefused || st.Sent != 0 {
			t.Errorf("status %+v", st)
		}
		r.wait(20)
	})
}

func TestRefusalEndsByItself(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.ph.Fail(simposthog.Fault{Status: 401})
		r.set(connection("c_1"))
		r.queue("c_1").put(events(20)...)
		r.wait(20)
		if g := gaps(r.ph.Requests())[0]; g < 59*time.Second || g > 62*time.Second {
			t.Errorf("tried again after %v, want a minute", g)
		}
	})
}

func TestOutage(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.ph.SetDown(true)
		r.set(connection("c_1"))
		list := events(3000)
		r.queue("c_1").put(list[:1000]...)
		time.Sleep(10 * time.Minute)
		r.queue("c_1").put(list[1000:]...)
		time.Sleep(10 * time.Minute)
		st := r.m.Status("c_1")
		if st.State != StateRetrying || !strings.Contains(st.LastError, "us.i.posthog.com") || st.Held > 200 || st.Lag < 20*time.Minute-time.Second {
			t.Errorf("status %+v", st)
		}
		if n := len(r.ph.Requests()); n > 8*60 {
			t.Errorf("%d requests in 20 minutes", n)
		}
		if n := r.queue("c_1").maxAttempts(); n > 1 {
			t.Errorf("the queue gave an event out %d times", n)
		}
		r.ph.SetDown(false)
		start := time.Now()
		r.wait(3000)
		if d := time.Since(start); d > time.Minute {
			t.Errorf("catching up took %v", d)
		}
		r.once(list)
		for _, e := range r.ph.Events() {
			if e.Copies != 1 {
				t.Fatalf("%d copies", e.Copies)
			}
		}
	})
}

func TestOddEventsStopNobody(t *testing.T) {
	bubble(t, func(c *Config) {
		c.Shape = func(_ project.Connection, _ project.Project, e *event.Event) Converted {
			if e.DistinctID == "user-3" {
				panic(secretWord)
			}
			return Converted{Events: []*event.Event{e}}
		}
	}, func(r *rig) {
		c := connection("c_1")
		c.FlushAt = 8
		r.set(c)
		list := events(10)
		list[5].Properties = map[string]json.RawMessage{"broken": json.RawMessage(`{` + secretWord)}
		r.queue("c_1").put(list...)
		r.wait(8)
		reasons := r.queue("c_1").reasons()
		if len(reasons) != 2 || strings.Contains(strings.Join(reasons, ""), secretWord) {
			t.Errorf("dead letters %q", reasons)
		}
	})
}

func TestOneUUIDOnceInABatch(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		c := connection("c_1")
		c.FlushInterval = time.Second
		r.set(c)
		e := events(1)[0]
		r.queue("c_1").put(e, e)
		r.wait(1)
		time.Sleep(5 * time.Second)
		equal(t, "batch sizes", sizes(r.ph.Requests()), []int{1, 1})
		if r.queue("c_1").count("acked") != 2 {
			t.Error("not both acknowledged")
		}
	})
}

func TestStubbornEventIsGivenUp(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		c := connection("c_1")
		r.set(c)
		r.hosts[hostUS] = poison500{r.ph.Transport(), t}
		list := events(20)
		list[4].DistinctID = "kills-the-server"
		r.queue("c_1").put(list...)
		for range 120 { // others go through meanwhile
			time.Sleep(30 * time.Second)
			r.queue("c_1").put(events(20)...)
		}
		time.Sleep(time.Minute)
		if n := r.queue("c_1").count("dead"); n != 1 {
			t.Errorf("%d dead letters, want 1: %+v", n, r.m.Status("c_1"))
		}
		if n := r.ph.Count(); n != 19+120*20 {
			t.Errorf("%d events stored", n)
		}
	})
}

type poison500 struct {
	next http.RoundTripper
	t    *testing.T
}

func (p poison500) RoundTrip(r *http.Request) (*http.Response, error) {
	body := readAll(p.t, r)
	r.Body = nopBody(body)
	if strings.Contains(unzip(p.t, body), "kills-the-server") {
		return &http.Response{StatusCode: 500, Header: http.Header{}, Body: nopBody(nil), Request: r}, nil
	}
	return p.next.RoundTrip(r)
}
