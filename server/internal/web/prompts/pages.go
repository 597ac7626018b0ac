package prompts

import (
	"net/url"
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

// Named are the prompts, experiments, checks and datasets of a project.
func (s *Pages) Named(projectID string) []page.Named {
	var out []page.Named
	for _, p := range s.Prompts.Prompts(projectID) {
		out = append(out, page.Named{Kind: "prompt", Icon: "file-text", Name: p.Name, Below: "/prompts/" + url.PathEscape(p.Name)})
	}
	for _, d := range s.Experiments.Experiments(projectID) {
		out = append(out, page.Named{Kind: "experiment", Icon: "flask-conical", Name: d.Name, Below: "/experiments/" + url.PathEscape(d.ID)})
	}
	for _, c := range s.Checks.Checks(projectID) {
		out = append(out, page.Named{Kind: "evaluation", Icon: "gavel", Name: c.Name, Below: "/evals/" + url.PathEscape(c.ID)})
	}
	for _, d := range s.Datasets.Sets(projectID) {
		out = append(out, page.Named{Kind: "dataset", Icon: "database", Name: d.Name, Below: "/datasets/" + url.PathEscape(d.ID)})
	}
	return out
}

// Routes returns the routes of these pages, in the order of the side bar.
func (s *Pages) Routes() []page.Route {
	return slices.Concat(s.promptRoutes(), s.rolloutRoutes(), s.experimentRoutes(), s.evalRoutes())
}
