package web

import (
	"slices"

	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// table has every route of the pages but the static files.
func (s *Web) table() []page.Route {
	return slices.Concat(s.promptRoutes(), s.rolloutRoutes(), s.experimentRoutes(), s.evalRoutes())
}
