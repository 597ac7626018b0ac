package web

import "github.com/hedgerow/hedgerow/internal/project"

// Route is an entry of the table, for the tests that go through all of it.
type Route struct {
	Pattern     string
	Need        project.Role
	Open, Again bool
}

func (s *Web) Routes() []Route {
	var out []Route
	for _, rt := range s.routes {
		out = append(out, Route{rt.pattern, rt.need, rt.open != nil, rt.again != nil})
	}
	return out
}
