package charts

import (
	"net/http"

	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// choices returns to htmx the suggestions for a field of the form.
func (s *Pages) choices(w http.ResponseWriter, r *http.Request, f *page.Frame) {
	values, err := s.Query.FilterValues(r.Context(), f.Session.ProjectID, r.URL.Query().Get("field"))
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	s.Show(w, r, http.StatusOK, options(values))
}

// environments lists the environments that the page at an address can show.
func (s *Pages) environments(w http.ResponseWriter, r *http.Request, f *page.Frame) {
	values, err := s.Query.FilterValues(r.Context(), f.Session.ProjectID, "environment")
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	s.Show(w, r, http.StatusOK, environments(*f, r.URL.Query().Get("at"), values))
}
