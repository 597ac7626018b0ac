package project_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

func TestDashboards(t *testing.T) {
	r, _ := start(t, project.Options{})
	ctx := project.WithActor(t.Context(), "u_ann")
	d := must(r.CreateDashboard(ctx, project.Dashboard{ProjectID: project.DefaultID, Name: " Support ", Charts: []project.Chart{{Title: "Cost", Query: "m=cost_usd"}}}))(t)
	if d.Name != "Support" || d.Charts[0].ID == "" || d.CreatedBy != "u_ann" {
		t.Errorf("created %+v", d)
	}
	// Two users add a chart each concurrently: both are kept.
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			if _, err := r.UpdateDashboard(ctx, project.DefaultID, d.ID, "chart added", func(d *project.Dashboard) error {
				d.Charts = append(d.Charts, project.Chart{Title: fmt.Sprint("Calls ", i), Query: "m=calls"})
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, ok := r.Snapshot().Dashboard(project.DefaultID, d.ID)
	if !ok || len(got.Charts) != 3 {
		t.Errorf("the dashboard is %+v", got)
	}
	for _, f := range []func(*project.Dashboard) error{
		func(d *project.Dashboard) error { d.Name = " "; return nil },
		func(d *project.Dashboard) error { d.Charts = append(d.Charts, d.Charts[0]); return nil },
		func(d *project.Dashboard) error { d.Charts[0].Title = ""; return nil },
		func(d *project.Dashboard) error { d.Charts[0].Query = "%zz"; return nil },
		func(d *project.Dashboard) error { d.Charts[0].Query = strings.Repeat("m=calls&", 600); return nil },
		func(d *project.Dashboard) error {
			d.Charts = make([]project.Chart, project.MaxCharts+1)
			return nil
		},
	} {
		_, err := r.UpdateDashboard(ctx, project.DefaultID, d.ID, "", f)
		wantCode(t, err, event.CodeInvalid)
	}
	if again, _ := r.Snapshot().Dashboard(project.DefaultID, d.ID); again.Revision != got.Revision {
		t.Error("a refused change was saved")
	}

	// Another project cannot see, change or delete it, and deletes its own with
	// itself.
	other := must(r.CreateProject(ctx, "Other"))(t)
	_, err := r.UpdateDashboard(ctx, other.ID, d.ID, "", func(*project.Dashboard) error { return nil })
	wantCode(t, err, event.CodeNotFound)
	wantCode(t, r.DeleteDashboard(ctx, other.ID, d.ID), event.CodeNotFound)
	if _, ok := r.Snapshot().Dashboard(other.ID, d.ID); ok {
		t.Error("another project shows the dashboard")
	}
	_, err = r.CreateDashboard(ctx, project.Dashboard{ProjectID: "nowhere", Name: "x"})
	wantCode(t, err, event.CodeNotFound)
	must(r.CreateDashboard(ctx, project.Dashboard{ProjectID: other.ID, Name: "Theirs"}))(t)
	must(r.CreateSavedView(ctx, project.SavedView{ProjectID: other.ID, Name: "Theirs", Page: "/events"}))(t)
	if err := r.DeleteProject(ctx, other.ID); err != nil {
		t.Fatal(err)
	}
	if s := r.Snapshot(); len(s.Dashboards(other.ID)) != 0 || len(s.SavedViews(other.ID, "")) != 0 {
		t.Error("a deleted project leaves dashboards or views behind")
	}
	if err := r.DeleteDashboard(ctx, project.DefaultID, d.ID); err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, e := range r.AuditLog(project.DefaultID, 0) {
		actions = append(actions, e.Action)
	}
	if got := strings.Join(actions, " "); !strings.HasPrefix(got, "dashboard.delete dashboard.update dashboard.update dashboard.create") {
		t.Errorf("the audit log has %s", got)
	}
}

func TestSavedViews(t *testing.T) {
	r, _ := start(t, project.Options{})
	ctx := t.Context()
	v := must(r.CreateSavedView(ctx, project.SavedView{ProjectID: project.DefaultID, Name: "Dear ones", Page: "/events", Query: "sort=cost"}))(t)
	must(r.CreateSavedView(ctx, project.SavedView{ProjectID: project.DefaultID, Name: "Slow", Page: "/traces", Query: "sort=duration"}))(t)
	if got := r.Snapshot().SavedViews(project.DefaultID, "/events"); len(got) != 1 || got[0].ID != v.ID {
		t.Errorf("views of events: %+v", got)
	}
	_, err := r.CreateSavedView(ctx, project.SavedView{ProjectID: project.DefaultID, Page: "/events"})
	wantCode(t, err, event.CodeInvalid)
	_, err = r.CreateSavedView(ctx, project.SavedView{ProjectID: "nowhere", Name: "x", Page: "/events"})
	wantCode(t, err, event.CodeNotFound)
	wantCode(t, r.DeleteSavedView(ctx, "nowhere", v.ID), event.CodeNotFound)
	if err := r.DeleteSavedView(ctx, project.DefaultID, v.ID); err != nil {
		t.Fatal(err)
	}
	if got := r.Snapshot().SavedViews(project.DefaultID, "/events"); len(got) != 0 {
		t.Errorf("views of events: %+v", got)
	}
}
