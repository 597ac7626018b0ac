package settings

import (
	"net/http"

	"github.com/a-h/templ"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// status is the page of the server's components.
func (s *Pages) status(_ *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Status"
	var incidents []string
	for _, i := range s.Store.Incidents() {
		if !i.Acknowledged {
			incidents = append(incidents, i.Message())
		}
	}
	return statusPage(f, page.BySeverity(s.Components()), incidents, s.Now()), nil
}

// acknowledge ends that pages speak of what happened to the store's file.
func (s *Pages) acknowledge(_ *http.Request, f *page.Frame) (templ.Component, error) {
	s.Store.AcknowledgeIncidents()
	return f.Done("/status", "Store file incidents acknowledged.")
}
