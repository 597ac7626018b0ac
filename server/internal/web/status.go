package web

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/server/internal/health"
)

// components are how the parts of this server are doing.
func (s *Web) components() []health.Report {
	if s.c.Health == nil {
		return nil
	}
	return s.c.Health()
}

// severity orders reports, the worst first.
func severity(r health.Report) int {
	return slices.Index([]health.Status{health.Failed, health.Degraded, health.Starting, health.OK}, r.Status)
}

// bySeverity sorts the worst first and, of those as bad, by name.
func bySeverity(list []health.Report) []health.Report {
	return slices.SortedFunc(slices.Values(list), func(a, b health.Report) int {
		return cmp.Or(severity(a)-severity(b), cmp.Compare(a.Component, b.Component))
	})
}

// soon is how long a component may be starting before people are told.
const soon = 10 * time.Second

// troubles are the components that people should know of, the worst first.
func troubles(list []health.Report, now time.Time) []health.Report {
	return slices.DeleteFunc(bySeverity(list), func(r health.Report) bool {
		return r.Status == health.OK || r.Status == health.Starting && now.Sub(r.Since) < soon
	})
}

// shownTroubles is how many of them the strip on top of every page names.
const shownTroubles = 2

// toldOf is a report in one paragraph.
func toldOf(r health.Report) string {
	message := cmp.Or(r.Message, r.Component+" is "+string(r.Status))
	out := sentence(message) + "."
	if r.Hint != "" {
		out += " " + sentence(r.Hint) + "."
	}
	return out
}

// status is the page of the server's components.
func (s *Web) status(_ *http.Request, f *frame) (templ.Component, error) {
	f.Title = "Status"
	var incidents []string
	for _, i := range s.c.Store.Incidents() {
		if !i.Acknowledged {
			incidents = append(incidents, i.Message())
		}
	}
	return statusPage(f, bySeverity(s.components()), incidents, s.now()), nil
}

// acknowledge ends that pages speak of what happened to the store's file.
func (s *Web) acknowledge(_ *http.Request, f *frame) (templ.Component, error) {
	s.c.Store.AcknowledgeIncidents()
	return f.done("/status", "Store file incidents acknowledged.")
}
