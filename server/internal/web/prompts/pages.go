package prompts

import (
	"slices"

	"github.com/hedgerow/hedgerow/server/internal/dataset"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// Pages are the handlers of these pages.
type Pages struct {
	*page.Site
	Query       *query.Reader
	Prompts     *prompt.Registry
	Experiments *experiment.Registry
	Reports     *experiment.ReportCache
	StopRollout experiment.Stopper // nil: an experiment's rollout is not stopped with it
	Checks      *eval.Registry
	Runner      *eval.Runner
	CheckState  func(checkID string) eval.State // nil: no check runs here
	Datasets    *dataset.Registry
	Runs        *dataset.Runner // nil: no run can be started here
	Event       page.Handler    // the page of an event, which shows again the form of an example
}

// Routes returns the routes of these pages, in the order of the side bar.
func (s *Pages) Routes() []page.Route {
	return slices.Concat(s.promptRoutes(), s.rolloutRoutes(), s.experimentRoutes(), s.evalRoutes())
}
