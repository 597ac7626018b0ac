package page

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Handler renders a page, or processes a form and ends with [Frame.Done]. Its
// error becomes a page that explains what to do.
type Handler func(*http.Request, *Frame) (templ.Component, error)

// Route is one entry of the table that says who may do what. A path that begins
// with /p/{project}/ is about that project: for a user who may not see it the
// response is 404, before anything else is checked.
type Route struct {
	Pattern string
	Need    project.Role // the minimum role; ignored for open routes
	Handle  Handler
	// Again is the page that has the form: it is shown again, with the error at
	// the top, if Handle refuses the input. [Frame.Value] fills its fields with
	// what was typed.
	Again Handler
	// Open replaces Handle for routes without sign-in.
	Open http.HandlerFunc
	// Raw replaces Handle for responses other than pages.
	Raw func(http.ResponseWriter, *http.Request, *Frame)
	// Stream is set where Raw streams its response, which is then not
	// compressed.
	Stream bool
	// Form is the limit of the form's size in bytes. Defaults to maxForm.
	Form int64
	// Under is the path of the page's tab, if the page's own path does not begin
	// with it.
	Under string
	// Entry is the entry of the side bar to which the page belongs, for users with the
	// role; Label is its tab there. The first page of the table is the entry's own.
	Entry, Label string
}

func (rt Route) path() string {
	_, path, _ := strings.Cut(rt.Pattern, " ")
	return path
}

func (rt Route) ofProject() bool { return strings.HasPrefix(rt.path(), "/p/{project}/") }

// maxForm bounds what a form may send, in bytes.
const maxForm = 64 << 10

// Gate checks a request against the route's role, and a form's token, and shows
// what the handler returned, in the layout or, for htmx, without it.
func (s *Site) Gate(rt Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := s.frame(w, r)
		if !ok {
			to := "/sign-in"
			if r.Method == http.MethodGet && r.URL.Path != "/" {
				to += "?" + url.Values{"next": {r.URL.RequestURI()}}.Encode()
			}
			Redirect(w, r, to)
			return
		}
		r = r.WithContext(project.WithRole(project.WithActor(r.Context(), f.Session.UserID), f.Session.Role))
		err := s.allow(w, r, rt, f)
		if p, ok := s.Registry.Snapshot().Project(f.Session.ProjectID); ok {
			f.Reads = p.Settings.MayRead(f.Session.Role)
		}
		f.Nav = s.navigate(rt, f)
		var body templ.Component
		if err == nil && rt.Raw != nil {
			rt.Raw(w, r, f)
			return
		}
		if err == nil {
			body, err = rt.Handle(r, f)
		}
		status := http.StatusOK
		if err != nil {
			e := s.Explain(r, err)
			status = e.HTTPStatus()
			switch {
			case rt.Again != nil && f.Form != nil:
				f.Problem, f.location = e, ""
				if body, err = rt.Again(r, f); err == nil {
					break
				}
				e, f.Problem = s.Explain(r, err), nil
				fallthrough
			default:
				f.Title, body = "Error", problem(e)
			}
		}
		if f.location != "" {
			Redirect(w, r, f.location)
			return
		}
		if f.Fragment {
			s.Show(w, r, status, fragment(*f, body))
			return
		}
		f.Flash = f.takeFlash()
		s.Show(w, r, status, layout(*f, body))
	})
}

// allow decides by the table. frame.form is set once a form is known to be the
// person's own.
func (s *Site) allow(w http.ResponseWriter, r *http.Request, rt Route, f *Frame) error {
	if rt.ofProject() {
		id := r.PathValue("project")
		i := slices.IndexFunc(f.Session.Projects, func(p ProjectName) bool { return p.ID == id })
		if i < 0 {
			return event.NewError(event.CodeNotFound, "there is no such project, or you are not a member of it", "choose a project in the sidebar, or ask an administrator for access", nil)
		}
		f.Choose(f.Session.Projects[i])
	}
	if !f.Session.Role.Can(rt.Need) {
		return event.NewError(event.CodeForbidden, "your role, "+string(f.Session.Role)+", does not allow this", "this needs the role "+string(rt.Need)+"; ask an administrator", nil)
	}
	if r.Method != http.MethodPost {
		return nil
	}
	bound := rt.Form
	if bound == 0 {
		bound = maxForm
	}
	r.Body = http.MaxBytesReader(w, r.Body, bound)
	parse := r.ParseForm
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		parse = func() error { return r.ParseMultipartForm(bound) }
	}
	if err := parse(); err != nil {
		return event.Invalid("the form could not be read", "go back and submit it again")
	}
	if !f.Session.owns(r.PostFormValue("csrf")) {
		return CrossSiteError()
	}
	f.Form = r.PostForm
	return nil
}

// Redirect leads a browser on after a form, and htmx too, which would otherwise
// follow by itself and put the page into a fragment's place.
func Redirect(w http.ResponseWriter, r *http.Request, to string) {
	if r.Header.Get("HX-Request") == "true" {
		w.Header().Set("HX-Redirect", to)
		w.WriteHeader(http.StatusOK)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}
