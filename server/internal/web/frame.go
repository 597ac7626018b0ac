package web

import (
	"net/http"
	"net/url"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// frame is what a page knows of the person who looks at it, and what it has
// around it.
type frame struct {
	Title     string
	Session   Session
	Nav       []navSection
	Flash     *flash
	Problem   *event.Error // why the form of this page was refused
	Fragment  bool         // htmx asks for a part of the page: no side bar
	Simulated bool
	Dropped   uint64
	Troubles  []health.Report // components that do not do all of their work, the worst first
	Assets    Assets
	Reads     bool           // the reader may see the project's prompts and answers
	Zone      *time.Location // the reader's, as the browser told

	w        http.ResponseWriter
	r        *http.Request
	secure   bool
	form     url.Values // what was sent, once it is known to be the person's own
	location string     // where done leads
}

// frame finds who is signed in.
func (s *Site) frame(w http.ResponseWriter, r *http.Request) (*frame, bool) {
	sess, ok := s.session(r)
	if !ok {
		return nil, false
	}
	f := &frame{Session: sess, Simulated: s.Simulated, Assets: s.Assets, Zone: zoneOf(r), w: w, r: r, secure: s.secure(r)}
	if s.Dropped != nil {
		f.Dropped = s.Dropped()
	}
	f.Troubles = troubles(s.components(), s.Now())
	h := r.Header
	f.Fragment = h.Get("HX-Request") == "true" && h.Get("HX-Boosted") != "true" && h.Get("HX-History-Restore-Request") != "true"
	// The project that was looked at last is the one that pages without a project
	// of their own keep in the side bar.
	current := 0
	if c, err := r.Cookie(projectCookie); err == nil {
		for i, p := range sess.Projects {
			if p.ID == c.Value {
				current = i
			}
		}
	}
	if len(sess.Projects) > 0 {
		f.Session.ProjectID, f.Session.Project = sess.Projects[current].ID, sess.Projects[current].Name
	}
	return f, true
}

// choose makes p the project of this page, and of the next ones that have none
// of their own.
func (f *frame) choose(p ProjectName) {
	f.Session.ProjectID, f.Session.Project = p.ID, p.Name
	if c, err := f.r.Cookie(projectCookie); err != nil || c.Value != p.ID {
		f.cookie(http.Cookie{Name: projectCookie, Value: p.ID, MaxAge: 365 * 24 * 3600})
	}
}

// path is the address of a page of the current project: f.path("/events").
func (f *frame) path(below string) string {
	return "/p/" + url.PathEscape(f.Session.ProjectID) + below
}

// url is path for a link of a template.
func (f *frame) url(below string) templ.SafeURL { return templ.SafeURL(f.path(below)) }

// live makes htmx load what a link or a GET form leads to into the page as it
// stands, without the side bar. Without scripts the link is a link.
func live(to templ.SafeURL) templ.Attributes {
	return templ.Attributes{"hx-get": string(to), "hx-target": "#page", "hx-swap": "innerHTML show:window:top", "hx-push-url": "true"}
}

// done ends a form that was carried out: the browser goes on to a page, which
// says so. With an empty message it says nothing.
func (f *frame) done(to, message string) (templ.Component, error) {
	f.location = to
	if message != "" {
		f.putFlash(message)
	}
	return nil, nil
}

// value is what a field of a refused form held; without one, what is saved.
func (f *frame) value(name, saved string) string {
	if f.Problem != nil && f.form.Has(name) {
		return f.form.Get(name)
	}
	return saved
}

// checked is value for a checkbox. One that is off is not sent at all: the form
// that it is part of is told by another field of it.
func (f *frame) checked(name, other string, saved bool) bool {
	if f.Problem != nil && f.form.Has(other) {
		return f.form.Get(name) != ""
	}
	return saved
}

func (f *frame) admin() bool { return f.Session.Role == project.RoleAdmin }

func (f *frame) member() bool { return f.Session.Role.Can(project.RoleMember) }
