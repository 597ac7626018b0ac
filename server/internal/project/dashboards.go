package project

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Dashboard is a page of charts created by a project's users.
type Dashboard struct {
	ID        string    `json:"id"` // d_…
	ProjectID string    `json:"project"`
	Name      string    `json:"name"`
	Charts    []Chart   `json:"charts"`     // in the order of the page
	CreatedBy string    `json:"created_by"` // user id
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	Revision uint64 `json:"-"`
}

// Chart is one chart of a [Dashboard].
type Chart struct {
	ID    string `json:"id"` // h_…
	Title string `json:"title"`
	// Query is the chart as query parameters of the chart builder: figures,
	// breakdown, filters, form. It is validated when shown.
	Query string `json:"query"`
	Wide  bool   `json:"wide"` // takes the whole width
}

// SavedView is a list with its filters, order and columns under a name.
type SavedView struct {
	ID        string    `json:"id"` // v_…
	ProjectID string    `json:"project"`
	Name      string    `json:"name"`
	Page      string    `json:"page"`  // below the project: "/events"
	Query     string    `json:"query"` // of the page's address
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`

	Revision uint64 `json:"-"`
}

// Limits of a project's records.
const (
	MaxDashboards = 100
	MaxCharts     = 24 // of one dashboard
	MaxSavedViews = 200
	maxQuery      = 4000 // bytes
)

func (d *Dashboard) noun() string                { return "dashboard" }
func (d *Dashboard) key() string                 { return prefixDashboard + d.ID }
func (d *Dashboard) revision() *uint64           { return &d.Revision }
func (d *Dashboard) secrets() map[string]*Secret { return nil }
func (d *Dashboard) boundTo() string             { return "" }

func (v *SavedView) noun() string                { return "saved view" }
func (v *SavedView) key() string                 { return prefixSavedView + v.ID }
func (v *SavedView) revision() *uint64           { return &v.Revision }
func (v *SavedView) secrets() map[string]*Secret { return nil }
func (v *SavedView) boundTo() string             { return "" }

// CreateDashboard saves a new dashboard. Its ID and times are filled in, and
// CreatedBy is the actor of ctx.
func (r *Registry) CreateDashboard(ctx context.Context, d Dashboard) (Dashboard, error) {
	if _, ok := r.Snapshot().Project(d.ProjectID); !ok {
		return Dashboard{}, missing("project")
	}
	if len(r.Snapshot().Dashboards(d.ProjectID)) >= MaxDashboards {
		return Dashboard{}, event.NewError(event.CodeConflict, fmt.Sprintf("a project has at most %d dashboards", MaxDashboards), "delete one that is no longer needed", nil)
	}
	d.ID, d.CreatedBy, d.CreatedAt = newID("d"), actorOf(ctx), r.now().UTC()
	d.UpdatedAt = d.CreatedAt
	if err := d.check(); err != nil {
		return Dashboard{}, err
	}
	if err := create(ctx, r, &d); err != nil {
		return Dashboard{}, err
	}
	return d, r.done(ctx, d.Revision, AuditEntry{Action: "dashboard.create", ProjectID: d.ProjectID, Target: d.Name})
}

// UpdateDashboard changes a dashboard of a project. f gets a copy of the record
// and may be called again after a concurrent change. Charts without an ID get
// one. detail describes the change in the audit log.
func (r *Registry) UpdateDashboard(ctx context.Context, projectID, id, detail string, f func(*Dashboard) error) (Dashboard, error) {
	d, err := change(ctx, r, prefixDashboard+id, func(d *Dashboard) error {
		before := *d
		if d.ProjectID != projectID {
			return missing("dashboard")
		}
		d.Charts = slices.Clone(d.Charts)
		if err := f(d); err != nil {
			return err
		}
		d.ID, d.ProjectID, d.CreatedBy, d.CreatedAt = before.ID, before.ProjectID, before.CreatedBy, before.CreatedAt
		d.UpdatedAt = r.now().UTC()
		return d.check()
	})
	if err != nil {
		return Dashboard{}, err
	}
	return d, r.done(ctx, d.Revision, AuditEntry{Action: "dashboard.update", ProjectID: projectID, Target: d.Name, Detail: detail})
}

// DeleteDashboard removes a dashboard of a project.
func (r *Registry) DeleteDashboard(ctx context.Context, projectID, id string) error {
	d, err := remove(ctx, r, prefixDashboard+id, func(d *Dashboard) error {
		if d.ProjectID != projectID {
			return missing("dashboard")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.done(ctx, 0, AuditEntry{Action: "dashboard.delete", ProjectID: projectID, Target: d.Name})
}

// check validates and normalizes.
func (d *Dashboard) check() (err error) {
	if d.Name, err = cleanName("dashboard", d.Name); err != nil {
		return err
	}
	if len(d.Charts) > MaxCharts {
		return event.Invalid(fmt.Sprintf("a dashboard has at most %d charts", MaxCharts), "add more charts to another dashboard")
	}
	seen := make(map[string]bool)
	for i := range d.Charts {
		c := &d.Charts[i]
		if c.ID == "" {
			c.ID = newID("h")
		}
		if seen[c.ID] {
			return event.Invalid("the dashboard contains a chart twice", "reload the page and try again")
		}
		seen[c.ID] = true
		if c.Title, err = cleanName("chart", c.Title); err != nil {
			return err
		}
		if err := checkQuery(c.Query); err != nil {
			return err
		}
	}
	return nil
}

func checkQuery(q string) error {
	if len(q) > maxQuery {
		return event.Invalid("the view has too many filters to save", "remove some")
	}
	if _, err := url.ParseQuery(q); err != nil {
		return event.Invalid("the view to save is not a URL query", "reload the page and try again")
	}
	return nil
}

// CreateSavedView saves a list's address under a name.
func (r *Registry) CreateSavedView(ctx context.Context, v SavedView) (SavedView, error) {
	if _, ok := r.Snapshot().Project(v.ProjectID); !ok {
		return SavedView{}, missing("project")
	}
	if len(r.Snapshot().SavedViews(v.ProjectID, "")) >= MaxSavedViews {
		return SavedView{}, event.NewError(event.CodeConflict, fmt.Sprintf("a project has at most %d saved views", MaxSavedViews), "delete one that is no longer needed", nil)
	}
	v.ID, v.CreatedBy, v.CreatedAt = newID("v"), actorOf(ctx), r.now().UTC()
	var err error
	if v.Name, err = cleanName("saved view", v.Name); err != nil {
		return SavedView{}, err
	}
	if err := checkQuery(v.Query); err != nil {
		return SavedView{}, err
	}
	if err := create(ctx, r, &v); err != nil {
		return SavedView{}, err
	}
	return v, r.done(ctx, v.Revision, AuditEntry{Action: "view.create", ProjectID: v.ProjectID, Target: v.Name, Detail: v.Page})
}

// DeleteSavedView removes a saved view of a project.
func (r *Registry) DeleteSavedView(ctx context.Context, projectID, id string) error {
	v, err := remove(ctx, r, prefixSavedView+id, func(v *SavedView) error {
		if v.ProjectID != projectID {
			return missing("saved view")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.done(ctx, 0, AuditEntry{Action: "view.delete", ProjectID: projectID, Target: v.Name, Detail: v.Page})
}

// Dashboards returns a project's dashboards, by name.
func (s *Snapshot) Dashboards(projectID string) []Dashboard { return s.dashboardsBy[projectID] }

// Dashboard returns a project's dashboard with an id.
func (s *Snapshot) Dashboard(projectID, id string) (Dashboard, bool) {
	i := slices.IndexFunc(s.dashboardsBy[projectID], func(d Dashboard) bool { return d.ID == id })
	if i < 0 {
		return Dashboard{}, false
	}
	return s.dashboardsBy[projectID][i], true
}

// SavedViews returns a project's saved views of a page, by name; with "", of all
// pages.
func (s *Snapshot) SavedViews(projectID, page string) []SavedView {
	all := s.viewsBy[projectID]
	if page == "" {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(v SavedView) bool { return v.Page != page })
}
