package charts

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// dashboardsPage lists the dashboards that users of a project have created.
type dashboardsPage struct {
	Rows []dashboardRow
}

type dashboardRow struct {
	project.Dashboard
	By string // who made it
}

func (s *Pages) dashboards(_ *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Custom dashboards"
	snap := s.Registry.Snapshot()
	var p dashboardsPage
	for _, d := range snap.Dashboards(f.Session.ProjectID) {
		row := dashboardRow{Dashboard: d, By: d.CreatedBy}
		if u, ok := snap.User(d.CreatedBy); ok {
			row.By = cmp.Or(u.Name, u.Email)
		}
		p.Rows = append(p.Rows, row)
	}
	return dashboards(*f, p), nil
}

func (s *Pages) createDashboard(r *http.Request, f *page.Frame) (templ.Component, error) {
	d, err := s.Registry.CreateDashboard(r.Context(), project.Dashboard{ProjectID: f.Session.ProjectID, Name: f.Form.Get("name")})
	if err != nil {
		return nil, err
	}
	return f.Done(f.Path("/dashboards/"+d.ID), "")
}

// dashboardPage is one dashboard.
type dashboardPage struct {
	project.Dashboard
	View    *page.View
	Cards   []placed
	Edit    bool
	Pending bool
	Focus   string // the button that was pressed last
}

// placed is a chart on a dashboard.
type placed struct {
	project.Chart
	Card
	View    *page.View
	Problem *event.Error // why it cannot be drawn
}

func errNoDashboard() error {
	return event.NewError(event.CodeNotFound, "no such dashboard in this project", "it may have been deleted; see the list of dashboards", nil)
}

func (s *Pages) dashboard(r *http.Request, f *page.Frame) (templ.Component, error) {
	d, ok := s.Registry.Snapshot().Dashboard(f.Session.ProjectID, r.PathValue("dashboard"))
	if !ok {
		return nil, errNoDashboard()
	}
	f.Title = d.Name
	page := "/dashboards/" + d.ID
	v, err := s.View(r, page, "7d")
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	p := dashboardPage{Dashboard: d, View: v, Edit: q.Has("edit") && f.Session.Role.Can(project.RoleMember), Focus: q.Get("focus")}
	p.Pending = !p.Edit && len(d.Charts) > 0 && s.Defers(r, f)
	var at *query.Reader
	if !p.Pending && len(d.Charts) > 0 {
		at, err = s.Query.Snapshot(r.Context(), f.Session.ProjectID)
	}
	for _, c := range d.Charts {
		x := placed{Chart: c, View: v}
		x.Card.Pending = p.Pending
		problem := err
		if problem == nil {
			problem = s.place(r, at, f, &x)
		}
		if problem != nil {
			x.Problem = s.Explain(r, problem)
		}
		x.Spec.ID, x.Spec.Title = c.ID, c.Title
		p.Cards = append(p.Cards, x)
	}
	if p.Edit {
		v.Params["edit"] = []string{"1"}
	}
	return dashboard(*f, p), nil
}

// place queries a chart of a dashboard: its own filters precede those of the
// page.
func (s *Pages) place(r *http.Request, at *query.Reader, f *page.Frame, x *placed) error {
	own, err := url.ParseQuery(x.Query)
	if err != nil {
		return event.Invalid("the chart could not be read", "remove it and build it again")
	}
	sp, err := specOf(own)
	if err != nil || x.Card.Pending {
		return err
	}
	all := r.URL.Query()
	for k, list := range own {
		if !slices.Contains(specParams, k) {
			all[k] = list
		}
	}
	if x.View, err = s.ViewOf(r, all, x.View.Page, "7d"); err != nil {
		return err
	}
	x.Card, err = loadCard(r.Context(), at, f, x.View, sp)
	return err
}

// saveChart puts a chart of the builder on a dashboard, an old or a new one.
func (s *Pages) saveChart(r *http.Request, f *page.Frame) (templ.Component, error) {
	q, err := url.ParseQuery(f.Form.Get("query"))
	if err != nil {
		return nil, event.Invalid("the chart could not be read", "build it again")
	}
	if _, err := specOf(q); err != nil {
		return nil, err
	}
	for _, name := range []string{"range", "from", "to", "tz", "live", "dashboard", "chart", "title"} {
		q.Del(name) // the page's
	}
	c := project.Chart{ID: f.Form.Get("chart"), Title: strings.TrimSpace(f.Form.Get("title")), Query: q.Encode()}
	into, name := f.Form.Get("dashboard"), strings.TrimSpace(f.Form.Get("new"))
	if name != "" || into == "" {
		c.ID = ""
		d, err := s.Registry.CreateDashboard(r.Context(), project.Dashboard{ProjectID: f.Session.ProjectID, Name: name, Charts: []project.Chart{c}})
		if err != nil {
			return nil, err
		}
		return f.Done(f.Path("/dashboards/"+d.ID), "Saved.")
	}
	detail := "chart added: " + c.Title
	if _, err := s.Registry.UpdateDashboard(r.Context(), f.Session.ProjectID, into, detail, func(d *project.Dashboard) error {
		if i := slices.IndexFunc(d.Charts, func(x project.Chart) bool { return x.ID == c.ID && c.ID != "" }); i >= 0 {
			c.Wide = d.Charts[i].Wide
			d.Charts[i] = c
			return nil
		}
		d.Charts = append(d.Charts, project.Chart{Title: c.Title, Query: c.Query})
		return nil
	}); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/dashboards/"+into), "Saved.")
}

// exploreAgain is the builder under a form that was refused.
func (s *Pages) exploreAgain(r *http.Request, f *page.Frame) (templ.Component, error) {
	q, err := url.ParseQuery(f.Form.Get("query"))
	if err != nil {
		return nil, event.Invalid("the chart could not be read", "build it again")
	}
	again := r.Clone(r.Context())
	again.URL.RawQuery = q.Encode()
	return s.explore(again, f)
}

// arrange changes a dashboard: what the form's field "do" says, of the chart
// that it names.
func (s *Pages) arrange(r *http.Request, f *page.Frame) (templ.Component, error) {
	id, chart, do := r.PathValue("dashboard"), f.Form.Get("chart"), f.Form.Get("do")
	detail := map[string]string{"rename": "renamed", "order": "arranged", "earlier": "arranged", "later": "arranged", "width": "arranged", "remove": "chart removed"}[do]
	if detail == "" {
		return nil, event.Invalid("the form could not be read", "go back and submit it again")
	}
	_, err := s.Registry.UpdateDashboard(r.Context(), f.Session.ProjectID, id, detail, func(d *project.Dashboard) error {
		switch do {
		case "rename":
			d.Name = f.Form.Get("name")
			return nil
		case "order":
			order := strings.Split(f.Form.Get("order"), ",")
			// Charts that someone else added in the meantime go last.
			slices.SortStableFunc(d.Charts, func(a, b project.Chart) int {
				at := func(c project.Chart) int {
					if i := slices.Index(order, c.ID); i >= 0 {
						return i
					}
					return len(order)
				}
				return at(a) - at(b)
			})
			return nil
		}
		i := slices.IndexFunc(d.Charts, func(c project.Chart) bool { return c.ID == chart })
		if i < 0 {
			return event.NewError(event.CodeNotFound, "this chart is no longer on the dashboard", "reload the page", nil)
		}
		switch {
		case do == "earlier" && i > 0:
			d.Charts[i-1], d.Charts[i] = d.Charts[i], d.Charts[i-1]
		case do == "later" && i < len(d.Charts)-1:
			d.Charts[i+1], d.Charts[i] = d.Charts[i], d.Charts[i+1]
		case do == "width":
			d.Charts[i].Wide = !d.Charts[i].Wide
		case do == "remove":
			d.Charts = slices.Delete(d.Charts, i, i+1)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	to := f.Path("/dashboards/" + id + "?edit=1")
	if chart != "" && do != "remove" {
		to += "&focus=" + url.QueryEscape(chart+"."+do) // without a fragment, with which browsers ignore autofocus
	}
	return f.Done(to, "")
}

func (s *Pages) deleteDashboard(r *http.Request, f *page.Frame) (templ.Component, error) {
	if err := s.Registry.DeleteDashboard(r.Context(), f.Session.ProjectID, r.PathValue("dashboard")); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/dashboards"), "Deleted.")
}
