package web

import (
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Route is an entry of the table, for the tests that go through all of it.
type Route struct {
	Pattern     string
	Need        project.Role
	Open, Again bool
}

func (s *Web) Table() []Route {
	var out []Route
	for _, rt := range s.Routes {
		out = append(out, Route{rt.Pattern, rt.Need, rt.Open != nil, rt.Again != nil})
	}
	return out
}
