package page

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Assets are the URLs of what every page loads.
type Assets struct {
	App   string // the script, "" without one
	Style string // the style sheet
	Font  string // "" without one
	// Icons are the insides of <svg viewBox="0 0 24 24">, by name; empty without any.
	Icons map[string]string
}

// Site is what all pages share: who is signed in, the layout around a page, and
// how a response is written.
type Site struct {
	Registry  *project.Registry
	Routes    []Route // all pages, in the order of the side bar
	Assets    Assets  // what every page loads
	Log       *slog.Logger
	Now       func() time.Time
	PublicURL string                 // https:// makes cookies Secure
	Feed      bool                   // pages can show new events
	Simulated bool                   // every page shows that the data is simulated
	Dropped   func() uint64          // calls that passed but were not recorded; nil leaves it out
	Health    func() []health.Report // the state of the components; nil leaves it out
}

// PageHeaders sets the security headers of every response.
func PageHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Not no-referrer: browsers then send "Origin: null" with forms, which
	// could not be distinguished from another site's.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}

// CrossSiteError is the error of a form that another site sent.
func CrossSiteError() error {
	return event.NewError(event.CodeForbidden, "this form was sent by another site, or by a page loaded before you signed in", "go back, reload the page and submit it again", nil)
}

// Secure reports whether the browser uses HTTPS, possibly through a proxy that
// terminates it. A client that forges the header harms only itself.
func (s *Site) Secure(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" || strings.HasPrefix(s.PublicURL, "https://")
}

// Refuse shows an error without the layout: to users who are not signed in, and
// where the layout's data is not known.
func (s *Site) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := s.Explain(r, err)
	s.Show(w, r, e.HTTPStatus(), SimplePage(s.Assets, e.Message, problem(e)))
}

// Explain returns an error as users see it, and logs its cause.
func (s *Site) Explain(r *http.Request, err error) *event.Error {
	e := event.AsError(err)
	if (e.Code == event.CodeInternal || e.Code == event.CodeUnavailable) && r.Context().Err() == nil { // else the browser has left the page
		s.Log.Error("page failed", "path", r.Pattern, "err", err)
	}
	return e
}

// Show renders to a buffer first, so that a response is either a complete page
// or an error.
func (s *Site) Show(w http.ResponseWriter, r *http.Request, status int, c templ.Component) {
	var b bytes.Buffer
	if err := c.Render(withDrawing(r, s.Assets), &b); err != nil {
		if r.Context().Err() != nil {
			return // the browser has left the page
		}
		s.Log.Error("page does not render", "path", r.Pattern, "err", err)
		http.Error(w, "hedgerow could not render this page; see the server log", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Add("Vary", "HX-Request")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// Defers reports whether a browser that runs scripts is to get the frame of a
// board first: it then requests the figures itself. A browser without scripts,
// or one that requests a part, gets everything in one response.
func (s *Site) Defers(r *http.Request, f *Frame) bool {
	_, err := r.Cookie(zoneCookie)
	return err == nil && !f.Fragment && s.Assets.App != "" && r.Header.Get("HX-Request") == ""
}
