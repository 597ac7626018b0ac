package page

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Frame is the signed-in user of a page, and the data of its layout.
type Frame struct {
	Title     string
	Session   Session
	Nav       navigation
	Flash     *flash
	Problem   *event.Error // why the form of this page was refused
	Fragment  bool         // htmx requests a part of the page: no side bar
	Simulated bool
	Dropped   uint64
	Troubles  []health.Report // components that do not do all of their work, the worst first
	Assets    Assets
	Reads     bool           // the reader may see the project's prompts and answers
	Zone      *time.Location // the reader's, from the browser

	Writer   http.ResponseWriter
	r        *http.Request
	secure   bool
	Form     url.Values // what was sent, once the form's token has been checked
	location string     // where done leads
}

// frame finds who is signed in.
func (s *Site) frame(w http.ResponseWriter, r *http.Request) (*Frame, bool) {
	sess, ok := s.Session(r)
	if !ok {
		return nil, false
	}
	f := &Frame{Session: sess, Simulated: s.Simulated, Assets: s.Assets, Zone: zoneOf(r), Writer: w, r: r, secure: s.Secure(r)}
	if s.Dropped != nil {
		f.Dropped = s.Dropped()
	}
	f.Troubles = troubles(s.Components(), s.Now())
	h := r.Header
	f.Fragment = h.Get("HX-Request") == "true" && h.Get("HX-Boosted") != "true" && h.Get("HX-History-Restore-Request") != "true"
	// Pages without a project of their own keep the last viewed project in the
	// side bar.
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

// Choose makes p the project of this page, and of the next ones that have none
// of their own.
func (f *Frame) Choose(p ProjectName) {
	f.Session.ProjectID, f.Session.Project = p.ID, p.Name
	if c, err := f.r.Cookie(projectCookie); err != nil || c.Value != p.ID {
		f.cookie(http.Cookie{Name: projectCookie, Value: p.ID, MaxAge: 365 * 24 * 3600})
	}
}

// Path is the address of a page of the current project: f.path("/events").
func (f *Frame) Path(below string) string {
	return "/p/" + url.PathEscape(f.Session.ProjectID) + below
}

// URL is path for a link of a template.
func (f *Frame) URL(below string) templ.SafeURL { return templ.SafeURL(f.Path(below)) }

// InPlace makes htmx load the target of a link or GET form into the current
// page, without the side bar. Without scripts it is an ordinary link.
func InPlace(to templ.SafeURL) templ.Attributes {
	return templ.Attributes{"hx-get": string(to), "hx-target": "#page", "hx-swap": "innerHTML show:window:top", "hx-push-url": "true"}
}

// Done ends a form that succeeded: it redirects the browser to a page, which
// shows the message unless it is empty.
func (f *Frame) Done(to, message string) (templ.Component, error) {
	f.location = to
	if message != "" {
		f.putFlash(message)
	}
	return nil, nil
}

// Value is what a field of a refused form held; without one, what is saved.
func (f *Frame) Value(name, saved string) string {
	if f.Problem != nil && f.Form.Has(name) {
		return f.Form.Get(name)
	}
	return saved
}

// Checked is value for a checkbox. Browsers do not send one that is off, so
// another field shows that the form was sent.
func (f *Frame) Checked(name, other string, saved bool) bool {
	if f.Problem != nil && f.Form.Has(other) {
		return f.Form.Get(name) != ""
	}
	return saved
}

// here is the address of the page; "" where a form was sent to it.
func (f *Frame) here() string {
	if f.r.Method != http.MethodGet {
		return ""
	}
	return f.r.URL.RequestURI()
}

// Admin reports whether the reader is an administrator.
func (f *Frame) Admin() bool { return f.Session.Role == project.RoleAdmin }

// Member reports whether the reader may change what a project has.
func (f *Frame) Member() bool { return f.Session.Role.Can(project.RoleMember) }

// SafeNext is where a form leads to: a path of this site, or the start.
func SafeNext(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") || strings.HasPrefix(next, "/sign-in") {
		return "/"
	}
	return next
}
