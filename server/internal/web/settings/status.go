package settings

import (
	"net/http"
	"time"

	"github.com/a-h/templ"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// statusData is what the page of components shows.
type statusData struct {
	Components []health.Report
	Incidents  []string
	Late       int64 // late merges of the last 7 days
	Now        time.Time
}

// status is the page of the server's components.
func (s *Pages) status(r *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Status"
	late, err := s.Store.LateMerges(r.Context(), "", s.Now().AddDate(0, 0, -7))
	if err != nil {
		late = 0 // the component list says what is wrong with the store
	}
	var incidents []string
	for _, i := range s.Store.Incidents() {
		if !i.Acknowledged {
			incidents = append(incidents, i.Message())
		}
	}
	return statusPage(f, statusData{Components: page.BySeverity(s.Components()), Incidents: incidents, Late: late, Now: s.Now()}), nil
}

// acknowledge stops pages from reporting past damage of the store's file.
func (s *Pages) acknowledge(_ *http.Request, f *page.Frame) (templ.Component, error) {
	s.Store.AcknowledgeIncidents()
	return f.Done("/status", "Store file incidents acknowledged.")
}
