package traces

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// home redirects to the overview of the last viewed project.
func (s *Pages) home(r *http.Request, f *page.Frame) (templ.Component, error) {
	if f.Session.ProjectID == "" {
		f.Title = "No project"
		return page.NoProject(*f), nil
	}
	return f.Done(f.Path("/overview"), "")
}

func (s *Pages) toEvents(r *http.Request, f *page.Frame) (templ.Component, error) {
	if f.Session.ProjectID == "" {
		return s.home(r, f)
	}
	to := "/events"
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	return f.Done(f.Path(to), "")
}

func (s *Pages) findEvent(r *http.Request, f *page.Frame) (templ.Component, error) {
	id := r.PathValue("uuid")
	return s.find(f, "/events/"+url.PathEscape(id), func(projectID string) error {
		_, err := s.Query.Event(r.Context(), projectID, id, false)
		return err
	})
}

func (s *Pages) findTrace(r *http.Request, f *page.Frame) (templ.Component, error) {
	id := r.PathValue("id")
	return s.find(f, "/traces/"+url.PathEscape(id), func(projectID string) error {
		_, err := s.Query.Trace(r.Context(), projectID, id)
		return err
	})
}

// find redirects to a page of the first project that has the requested item,
// among those that the person may see.
func (s *Pages) find(f *page.Frame, path string, in func(projectID string) error) (templ.Component, error) {
	list := slices.Clone(f.Session.Projects)
	slices.SortStableFunc(list, func(a, b page.ProjectName) int { // the current one first
		switch f.Session.ProjectID {
		case a.ID:
			return -1
		case b.ID:
			return 1
		}
		return 0
	})
	err := error(event.NewError(event.CodeNotFound, "no such event in your projects", "it may be older than the project’s retention", nil))
	for _, p := range list {
		if err = in(p.ID); err == nil {
			f.Choose(p)
			return f.Done(f.Path(path), "")
		}
		if event.AsError(err).Code != event.CodeNotFound {
			return nil, err
		}
	}
	return nil, err
}
