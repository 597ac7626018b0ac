package app

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/disk"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// reports collects the states of the components. The zero value is ready to
// use.
type reports struct {
	mu   sync.Mutex
	list []func() health.Report
}

func (r *reports) add(f func() health.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, f)
}

// all are the present reports, by name.
func (r *reports) all() []health.Report {
	r.mu.Lock()
	list := slices.Clone(r.list)
	r.mu.Unlock()
	out := make([]health.Report, 0, len(list))
	for _, f := range list {
		out = append(out, f())
	}
	slices.SortStableFunc(out, func(a, b health.Report) int { return cmp.Compare(a.Component, b.Component) })
	return out
}

// find returns the report of a component.
func find(list []health.Report, component string) (health.Report, bool) {
	i := slices.IndexFunc(list, func(r health.Report) bool { return r.Component == component })
	if i < 0 {
		return health.Report{}, false
	}
	return list[i], true
}

// weight orders reports by how bad they are.
func weight(s health.Status) int {
	return slices.Index([]health.Status{health.OK, health.Starting, health.Degraded, health.Failed}, s)
}

// worstOf is the worst report, of several the first that began; it is
// [health.OK] where all are.
func worstOf(list []health.Report) health.Report {
	worst := health.Report{Status: health.OK}
	for _, r := range list {
		if d := weight(r.Status) - weight(worst.Status); d > 0 || d == 0 && r.Status != health.OK && r.Since.Before(worst.Since) {
			worst = r
		}
	}
	return worst
}

var componentDesc = prometheus.NewDesc("hedgerow_component_status", "1 for the current status of a component: ok, starting, degraded or failed.", []string{"component", "status"}, nil)

// Describe and Collect make reports a [prometheus.Collector].
func (r *reports) Describe(ch chan<- *prometheus.Desc) { ch <- componentDesc }

func (r *reports) Collect(ch chan<- prometheus.Metric) {
	seen := make(map[string]bool)
	for _, h := range r.all() {
		if seen[h.Component] {
			continue // two of one name would spoil the whole answer
		}
		seen[h.Component] = true
		for _, s := range []health.Status{health.OK, health.Starting, health.Degraded, health.Failed} {
			v := 0.0
			if h.Status == s {
				v = 1
			}
			ch <- prometheus.MustNewConstMetric(componentDesc, prometheus.GaugeValue, v, h.Component, string(s))
		}
	}
}

// Readiness is the body of /readyz.
type Readiness struct {
	Status     string          `json:"status"` // ok or degraded
	Components []health.Report `json:"components"`
}

// The parts of /readyz?for=.
const (
	partIngest = "ingest"
	partStore  = "store"
	partWeb    = "web"
)

// ready serves /readyz: 200 as long as the gateway passes calls, even if other
// parts have failed. With ?for= it reports one part.
func (a *App) ready(w http.ResponseWriter, r *http.Request) {
	list := a.reports.all()
	ok := true
	switch part := r.URL.Query().Get("for"); part {
	case "":
	case partIngest:
		ok = a.ingestWorks(list)
	case partStore:
		ok = a.storeWorks(list)
	case partWeb:
		ok = a.cfg.Has(config.RoleWeb) && a.pages.Load() != nil && works(list, "settings") && works(list, "store")
	default:
		api.WriteError(w, event.Invalid("/readyz knows no part "+strconv.Quote(part), "use ingest, store or web, or omit the parameter"))
		return
	}
	if a.stopping.Load() {
		ok = false
		list = append(list, health.Report{Component: "process", Status: health.Failed, Message: "hedgerow is stopping"})
	}
	body := Readiness{Status: "ok", Components: list}
	if worstOf(list).Status != health.OK {
		body.Status = "degraded"
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if !ok {
		h.Set("Retry-After", api.RetryAfter)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body)
}

func (a *App) ingestWorks(list []health.Report) bool {
	return a.cfg.Has(config.RoleIngest) && a.projectsKnown() && a.events.IsOpen() && works(list, "journal") && a.disk.Level() < disk.Refuse
}

func (a *App) storeWorks(list []health.Report) bool {
	return a.sinksOpen.Load() && works(list, "journal") && works(list, "store") && works(list, "store sink")
}

// works reports whether a component does at least a part of its work. One that
// does not report works.
func works(list []health.Report, component string) bool {
	r, ok := find(list, component)
	return !ok || r.Working()
}

// openFiles sees that enough files may be open: each connection is one.
func (a *App) openFiles(context.Context) error {
	const enough = 4096
	n, err := RaiseFiles()
	switch {
	case err != nil:
		a.log.Warn("the limit of open files could not be raised", "limit", n, "err", err)
	case n < enough:
		a.log.Warn("the open-file limit is low, and each connection needs one: raise it (ulimit -n, LimitNOFILE= in a systemd unit, --ulimit nofile= of Docker)", "limit", n, "recommended", enough)
	default:
		a.log.Info("limit of open files", "limit", n)
	}
	return nil
}
