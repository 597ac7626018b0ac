package app

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/disk"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// TestReady requests /readyz of an app in many states.
func TestReady(t *testing.T) {
	ok := func(names ...string) (list []health.Report) {
		for _, n := range names {
			list = append(list, health.Report{Component: n, Status: health.OK})
		}
		return list
	}
	all := ok("journal", "settings", "store", "store sink", "disk")
	with := func(r health.Report) (list []health.Report) {
		for _, c := range all {
			if c.Component == r.Component {
				c = r
			}
			list = append(list, c)
		}
		return list
	}
	for _, c := range []struct {
		name     string
		list     []health.Report
		free     int64 // of 1,000, where 100 have to be
		unopened bool
		stopping bool
		status   string
		want     map[string]int // by query
	}{
		{name: "all is well", list: all, free: 900, status: "ok", want: map[string]int{"": 200, "?for=ingest": 200, "?for=store": 200, "?for=web": 200}},
		{name: "nothing is open", free: 900, unopened: true, status: "ok", want: map[string]int{"": 200, "?for=ingest": 503, "?for=store": 503, "?for=web": 503}},
		{name: "the journal is down", list: with(health.Report{Component: "journal", Status: health.Failed, Message: "the disk is full", Hint: "free space"}), free: 900,
			status: "degraded", want: map[string]int{"": 200, "?for=ingest": 503, "?for=store": 503, "?for=web": 200}},
		{name: "the store is down", list: with(health.Report{Component: "store", Status: health.Failed}), free: 900,
			status: "degraded", want: map[string]int{"": 200, "?for=ingest": 200, "?for=store": 503, "?for=web": 503}},
		{name: "the sink is down", list: with(health.Report{Component: "store sink", Status: health.Failed}), free: 900,
			status: "degraded", want: map[string]int{"": 200, "?for=ingest": 200, "?for=store": 503, "?for=web": 200}},
		{name: "the settings are a copy", list: with(health.Report{Component: "settings", Status: health.Degraded}), free: 900,
			status: "degraded", want: map[string]int{"": 200, "?for=ingest": 200, "?for=store": 200, "?for=web": 200}},
		{name: "the disk has its reserve", list: with(health.Report{Component: "disk", Status: health.Degraded}), free: 99,
			status: "degraded", want: map[string]int{"": 200, "?for=ingest": 503, "?for=store": 200, "?for=web": 200}},
		{name: "it stops", list: all, free: 900, stopping: true, status: "degraded", want: map[string]int{"": 503, "?for=ingest": 503, "?for=store": 503, "?for=web": 503}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newApp(&config.Config{LogLevel: "error"})
			a.disk = &disk.Guard{Limit: disk.Size(100), Usage: func(string) (disk.Usage, error) { return disk.Usage{Free: c.free, Total: 1000}, nil }}
			a.disk.Look()
			if err := a.openPipeline(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, r := range c.list {
				a.reports.add(func() health.Report { return r })
			}
			if !c.unopened {
				a.events.Open(a.events, nil)
				a.firstProject(project.FirstStart{})
				a.sinksOpen.Store(true)
				h := a.route(nil)
				a.pages.Store(&h)
			}
			a.stopping.Store(c.stopping)
			for query, want := range c.want {
				w := httptest.NewRecorder()
				a.ready(w, httptest.NewRequest("GET", "/readyz"+query, nil))
				var body Readiness
				if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
					t.Fatalf("%v in %s", err, w.Body)
				}
				if w.Code != want || body.Status != c.status || body.Components == nil {
					t.Errorf("/readyz%s: %d %s, want %d and %q", query, w.Code, w.Body, want, c.status)
				}
				if (w.Code == 503) != (w.Header().Get("Retry-After") != "") {
					t.Errorf("/readyz%s: %d with Retry-After %q", query, w.Code, w.Header().Get("Retry-After"))
				}
			}
		})
	}
	a := newApp(&config.Config{LogLevel: "error"})
	w := httptest.NewRecorder()
	a.ready(w, httptest.NewRequest("GET", "/readyz?for=gateway", nil))
	if w.Code != 400 || !strings.Contains(w.Body.String(), "ingest, store or web") {
		t.Errorf("an unknown part: %d %s", w.Code, w.Body)
	}
}

func TestWorst(t *testing.T) {
	at := time.Unix(1000, 0)
	for _, c := range []struct {
		list []health.Report
		want string
	}{
		{nil, ""},
		{[]health.Report{{Component: "a", Status: health.OK}}, ""},
		{[]health.Report{{Component: "a", Status: health.Starting}, {Component: "b", Status: health.Degraded}, {Component: "c", Status: health.OK}}, "b"},
		{[]health.Report{{Component: "a", Status: health.Failed, Since: at.Add(time.Second)}, {Component: "b", Status: health.Failed, Since: at}, {Component: "c", Status: health.Degraded}}, "b"},
	} {
		if got := worstOf(c.list); got.Component != c.want {
			t.Errorf("%+v: %q, want %q", c.list, got.Component, c.want)
		}
	}
}

// TestComponentMetric has two reports of one name, which must not spoil /metrics.
func TestComponentMetric(t *testing.T) {
	a := newApp(&config.Config{LogLevel: "error"})
	for _, s := range []health.Status{health.Failed, health.OK} {
		a.reports.add(func() health.Report { return health.Report{Component: "buckets", Status: s} })
	}
	families, err := a.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		if f.GetName() == "hedgerow_component_status" {
			for _, m := range f.GetMetric() {
				got[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	if len(got) != 4 || got["buckets failed"] != 1 || got["buckets ok"] != 0 {
		t.Errorf("%v", got)
	}
}
