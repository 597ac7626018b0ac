package posthog

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

func TestQuota(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		c := connection("c_1")
		c.FlushAt = 2
		r.set(c)
		r.ph.Fail(simposthog.Fault{Status: 200, Body: `{"status":"Ok","quota_limited":["recordings","llm_events"]}`})
		r.queue("c_1").put(events(2)...)
		time.Sleep(time.Second)
		st := r.m.Status("c_1")
		if st.Quota != 2 || st.Sent != 2 || !strings.Contains(st.LastError, "quota") || r.queue("c_1").count("acked") != 2 {
			t.Errorf("status %+v", st)
		}
		r.ph.Fail(simposthog.Fault{Status: 200, Accept: true, Body: `{"quota_limited":["recordings"]}`})
		r.queue("c_1").put(events(2)...)
		time.Sleep(time.Second)
		if st = r.m.Status("c_1"); st.Quota != 2 || st.LastError != "" {
			t.Errorf("status %+v", st)
		}
	})
}

func TestDisabledStopsAndResumes(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		c := connection("c_1")
		r.set(c)
		list := events(105)
		r.queue("c_1").put(list[:5]...)
		time.Sleep(5 * time.Second)
		c.Enabled = false
		r.set(c)
		time.Sleep(time.Second)
		if st := r.m.Status("c_1"); st.State != StateDisabled || st.Held != 0 {
			t.Errorf("status %+v", st)
		}
		r.queue("c_1").put(list[5:]...)
		time.Sleep(time.Hour)
		if n := len(r.ph.Requests()); n != 0 {
			t.Errorf("%d requests while disabled", n)
		}
		c.Enabled = true
		r.set(c)
		r.wait(105)
		r.once(list)
	})
}

func TestDisableEndsHangingRequest(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		c := connection("c_1")
		r.set(c)
		r.ph.Fail(simposthog.Fault{Delay: 20 * time.Second})
		r.queue("c_1").put(events(20)...)
		time.Sleep(2 * time.Second)
		c.Enabled = false
		r.set(c)
		time.Sleep(time.Second)
		if n := r.queue("c_1").count("out"); n != 0 {
			t.Errorf("%d events still held a second after disabling", n)
		}
	})
}

func TestFullJournalDropsDisabledQueues(t *testing.T) {
	var full atomic.Bool
	bubble(t, func(c *Config) {
		c.Full = func() float64 {
			if full.Load() {
				return 0.6
			}
			return 0.4
		}
	}, func(r *rig) {
		c := connection("c_1")
		other := connection("c_2")
		r.set(c, other)
		q := r.queue("c_1")
		c.Enabled = false
		r.set(c, other)
		time.Sleep(time.Minute)
		if r.isDropped(q) {
			t.Fatal("dropped while there was room")
		}
		full.Store(true)
		time.Sleep(20 * time.Second)
		if !r.isDropped(q) || r.isDropped(r.queue("c_2")) {
			t.Error("want the disabled connection's queue dropped, and no other")
		}
		if !strings.Contains(r.log(), "more than half full") {
			t.Error("no warning")
		}
		c.Enabled = true
		r.set(c, other)
		r.queue("c_1").put(events(20)...)
		r.wait(20)
	})
}

func TestDeletedLosesItsQueue(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		on, off := connection("c_on"), connection("c_off")
		r.set(on, off)
		a, b := r.queue("c_on"), r.queue("c_off")
		off.Enabled = false
		r.set(on, off)
		r.set()
		time.Sleep(time.Second)
		if !r.isDropped(a) || !r.isDropped(b) {
			t.Errorf("dropped: enabled one %v, disabled one %v, want both", r.isDropped(a), r.isDropped(b))
		}
		if st := r.m.Status("c_on"); st.State != StateDisabled {
			t.Errorf("state %q", st.State)
		}
	})
}

func TestConnectionsAreIndependent(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		slow := simposthog.New(simposthog.Options{})
		slow.Fail(simposthog.Fault{Delay: 25 * time.Second, Times: -1, Status: 503})
		r.hosts[hostEU] = slow.Transport()
		a, b := connection("c_ok"), connection("c_slow")
		b.Host = hostEU
		r.set(a, b)
		r.queue("c_slow").put(events(1000)...)
		time.Sleep(time.Minute)
		start := time.Now()
		r.queue("c_ok").put(events(1000)...)
		r.wait(1000)
		if d := time.Since(start); d > time.Second {
			t.Errorf("the healthy connection took %v", d)
		}
		if st := r.m.Status("c_slow"); st.State != StateRetrying || st.Sent != 0 {
			t.Errorf("slow: %+v", st)
		}
	})
}

func TestSettingsTakeEffectAtNextBatch(t *testing.T) {
	bubble(t, func(c *Config) {
		c.Shape = func(conn project.Connection, _ project.Project, e *event.Event) Converted {
			e = e.Clone()
			if conn.PrivacyMode {
				e.DropContent()
			}
			return Converted{Events: []*event.Event{e}}
		}
	}, func(r *rig) {
		c := connection("c_1")
		c.PrivacyMode, c.FlushInterval = false, 10*time.Minute
		r.set(c)
		r.ph.SetDown(true)
		r.queue("c_1").put(events(25)...) // a batch in flight and the beginning of another
		time.Sleep(time.Minute)
		c.PrivacyMode, c.FlushInterval = true, time.Second
		r.set(c)
		r.ph.SetDown(false)
		start := time.Now()
		r.wait(25)
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("took %v", d)
		}
		for _, e := range r.ph.Events() {
			if e.Has("$ai_input") {
				t.Fatal("content left after privacy mode was turned on")
			}
		}
		if n := r.openings("c_1"); n != 1 {
			t.Errorf("the queue was opened %d times", n)
		}
	})
}

func TestHeldEventsAreExtended(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		c := connection("c_1")
		c.FlushInterval = 10 * time.Minute // far beyond the queue's acknowledgement wait
		r.set(c)
		r.queue("c_1").put(events(3)...)
		r.wait(3)
		q := r.queue("c_1")
		if q.maxAttempts() != 1 || q.entries[0].extended < 50 {
			t.Errorf("%d attempts, extended %d times", q.maxAttempts(), q.entries[0].extended)
		}
		if n := len(r.ph.Requests()); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestFiltered(t *testing.T) {
	bubble(t, func(c *Config) {
		c.Shape = func(conn project.Connection, _ project.Project, e *event.Event) Converted {
			if !conn.Filter.Match(e) {
				return Converted{}
			}
			return Converted{Events: []*event.Event{e}}
		}
	}, func(r *rig) {
		c := connection("c_1")
		c.Filter.Surfaces = []string{"Guide"}
		r.set(c)
		list := events(40)
		for i := range 20 {
			list[2*i].Surface = "Guide"
		}
		r.queue("c_1").put(list...)
		r.wait(20)
		equal(t, "batch sizes", sizes(r.ph.Requests()), []int{20})
		if st := r.m.Status("c_1"); st.Filtered != 20 || st.Sent != 20 || r.queue("c_1").count("acked") != 40 {
			t.Errorf("status %+v", st)
		}
	})
}

func TestStopFinishesTheRequestInFlight(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.set(connection("c_1"))
		r.ph.Fail(simposthog.Fault{Delay: 2 * time.Second})
		list := events(25)
		q := r.queue("c_1")
		q.put(list...)
		time.Sleep(time.Second)
		start := time.Now()
		r.stop()
		if d := time.Since(start); d > 1100*time.Millisecond {
			t.Errorf("stopped after %v", d)
		}
		if q.count("acked") != 20 || q.count("") != 5 {
			t.Errorf("%d acknowledged and %d given back, want 20 and 5", q.count("acked"), q.count(""))
		}
	})
	t.Run("bounded", func(t *testing.T) {
		bubble(t, nil, func(r *rig) {
			r.set(connection("c_1"))
			r.ph.Fail(simposthog.Fault{Delay: 20 * time.Second})
			q := r.queue("c_1")
			q.put(events(20)...)
			time.Sleep(time.Second)
			start := time.Now()
			r.stop()
			if d := time.Since(start); d < 2900*time.Millisecond || d > 3100*time.Millisecond {
				t.Errorf("stopped after %v, want 3 s", d)
			}
			if q.count("") != 20 {
				t.Errorf("%d given back, want 20", q.count(""))
			}
		})
	})
}

func TestQueueTrouble(t *testing.T) {
	var opens atomic.Int32
	var r *rig
	bubble(t, func(c *Config) {
		open := c.OpenQueue
		c.OpenQueue = func(ctx context.Context, conn project.Connection) (event.Queue, error) {
			if opens.Add(1) < 3 {
				return nil, fmt.Errorf("no journal")
			}
			return open(ctx, conn)
		}
	}, func(rr *rig) {
		r = rr
		r.set(connection("c_1"))
		if st := r.m.Status("c_1"); st.State != StateRetrying {
			t.Errorf("state %q while the queue cannot be opened", st.State)
		}
		time.Sleep(time.Second)
		r.queue("c_1").fail(fmt.Errorf("a hiccup"))
		time.Sleep(time.Second)
		r.queue("c_1").fail(event.NewError(event.CodeNotFound, "gone", "", nil))
		time.Sleep(time.Second)
		r.queue("c_1").put(events(20)...)
		r.wait(20)
		if opens.Load() != 4 {
			t.Errorf("opened %d times, want 4", opens.Load())
		}
	})
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	bubble(t, func(c *Config) { c.Registerer = reg }, func(r *rig) {
		r.set(connection("c_1"))
		r.ph.Fail(simposthog.Fault{Status: 503})
		r.queue("c_1").put(events(20)...)
		r.wait(20)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]float64)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel() {
					name += " " + l.GetValue()
				}
				got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		for name, want := range map[string]float64{
			"hedgerow_posthog_requests_total c_1 ok": 1, "hedgerow_posthog_requests_total c_1 retry": 1,
			"hedgerow_posthog_events_total c_1 sent": 20, "hedgerow_posthog_events_total c_1 retried": 20,
			"hedgerow_posthog_in_flight c_1": 0, "hedgerow_posthog_state c_1 idle": 1,
		} {
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s = %v (%v), want %v", name, v, ok, want)
			}
		}
		if _, ok := got["hedgerow_posthog_lag_seconds c_1"]; !ok {
			t.Error("no lag")
		}
	})
	if n, err := reg.Gather(); err != nil || len(n) != 0 {
		t.Errorf("%d families left after Run (%v)", len(n), err)
	}
}

func TestTroubleIsLoggedWithoutKeys(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.ph.Fail(simposthog.Fault{Status: 401, Body: "bad key " + simposthog.Token + " in " + secretWord, Times: 2}, simposthog.Fault{Status: 500, Body: secretWord})
		c := connection("c_1")
		c.FlushAt = 1
		r.set(c)
		r.queue("c_1").put(events(1)...)
		r.wait(1)
		if !strings.Contains(r.log(), "PostHog rejects the project key (401)") || !strings.Contains(r.log(), "delivery to PostHog resumed") {
			t.Errorf("log:\n%s", r.log())
		}
		if strings.Contains(r.m.Status("c_1").LastError, secretWord) {
			t.Error("the status quotes content")
		}
	}) // stop looks through the log
}

// An import of old data is sent as one, apart from the events of the day.
func TestHistorical(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.set(connection("c_1"))
		list := events(20)
		for i := range list {
			list[i].Historical = i%2 == 0
		}
		r.queue("c_1").put(list...)
		r.wait(20)
		r.once(list)
		want := make(map[string]bool)
		for _, e := range list {
			want[e.UUID] = e.Historical
		}
		for _, e := range r.ph.Events() {
			if e.Historical != want[e.UUID] {
				t.Errorf("%s was sent with historical_migration %v", e.UUID, e.Historical)
			}
		}
		if n := len(r.ph.Requests()); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}
