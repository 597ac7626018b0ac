package web

import (
	"net/http"
)

// choices answers htmx's question for what a field of the form can offer.
func (s *Web) choices(w http.ResponseWriter, r *http.Request, f *frame) {
	values, err := s.c.Query.FilterValues(r.Context(), f.Session.ProjectID, r.URL.Query().Get("field"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, options(values))
}
