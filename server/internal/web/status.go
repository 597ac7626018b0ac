package web

import (
	"net/http"

	"github.com/a-h/templ"
)

// status is the page of the server's components.
func (s *Web) status(_ *http.Request, f *frame) (templ.Component, error) {
	f.Title = "Status"
	var incidents []string
	for _, i := range s.c.Store.Incidents() {
		if !i.Acknowledged {
			incidents = append(incidents, i.Message())
		}
	}
	return statusPage(f, bySeverity(s.components()), incidents, s.Now()), nil
}

// acknowledge ends that pages speak of what happened to the store's file.
func (s *Web) acknowledge(_ *http.Request, f *frame) (templ.Component, error) {
	s.c.Store.AcknowledgeIncidents()
	return f.done("/status", "Store file incidents acknowledged.")
}
