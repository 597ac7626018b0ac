package web

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/services"
)

// Connection is how the delivery to one PostHog project goes, in words.
type Connection struct {
	Name, Host, State, LastError string
	OK                           bool
	Sent, Waiting, Dead          int64
}

// Eraser removes what a deleted project has left in the store.
type Eraser interface {
	Erase(ctx context.Context, projectID string) error
}

// Config is what the pages show and change.
type Config struct {
	services.Services

	Connections func(projectID string) []Connection
	Delivery    Delivery
	// Live tells of new events of a project, many at once by one word; stop ends
	// it. nil leaves the pages as they were loaded.
	Live func(projectID string) (changed <-chan struct{}, stop func())
	// Price tells today's rates of a price row in words. nil leaves them out.
	Price      func(provider, model string) string
	Eraser     Eraser                 // nil leaves a deleted project's events to the store
	Providers  func() []string        // names of the gateway's routes, for the form of provider keys
	PublicURL  string                 // base of sign-in links and of what SDKs are told; https:// makes cookies Secure
	GatewayURL string                 // base of the gateway's routes. Defaults to PublicURL
	Proxies    []netip.Prefix         // whose X-Forwarded-For is believed, beside loopback where PublicURL is of another host
	Logger     *slog.Logger           // Defaults to none
	Simulated  bool                   // says on every page that the data is simulated
	Dropped    func() uint64          // calls that passed but were not recorded
	Health     func() []health.Report // how the components are doing; nil leaves it out
	Now        func() time.Time       // Defaults to time.Now
}

// Web is the handler of the pages.
type Web struct {
	c      Config
	log    *slog.Logger
	now    func() time.Time
	mux    *http.ServeMux
	routes []route
	assets assets
	cross  *http.CrossOriginProtection

	tries      *tries    // of signing in
	unbelieved sync.Once // a proxy that is not believed has been told of
}

// New returns the pages.
func New(c Config) *Web {
	s := &Web{c: c, log: c.Logger, now: c.Now, mux: http.NewServeMux(), assets: loadAssets(dist), cross: http.NewCrossOriginProtection()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.tries = newTries(s.now)
	s.routes = s.table()
	short := squeeze()
	for _, rt := range s.routes {
		switch {
		case rt.open != nil:
			s.mux.HandleFunc(rt.pattern, rt.open)
		case rt.stream:
			s.mux.Handle(rt.pattern, s.gate(rt))
		default:
			s.mux.Handle(rt.pattern, short(s.gate(rt)))
		}
	}
	s.mux.Handle("GET /static/", s.assets)
	s.mux.Handle("GET /assets/", s.assets)
	s.mux.HandleFunc("/", s.notFound)
	return s
}

// ServeHTTP serves the pages with headers that keep them to themselves, and
// refuses what another site sends in the name of whoever is signed in.
func (s *Web) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	pageHeaders(h)
	if s.secure(r) {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	if err := s.cross.Check(r); err != nil {
		s.refuse(w, r, errForeign())
		return
	}
	s.mux.ServeHTTP(w, r)
}

func pageHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Not no-referrer: browsers then send "Origin: null" with forms, which could
	// not be told from another site's.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}

func errForeign() error {
	return event.NewError(event.CodeForbidden, "this form was sent by another site, or by a page loaded before you signed in", "go back, reload the page and submit it again", nil)
}

// secure reports whether the browser came by HTTPS, perhaps by a proxy that ends
// it. Who forges the header harms nobody else.
func (s *Web) secure(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" || strings.HasPrefix(s.c.PublicURL, "https://")
}

func (s *Web) notFound(w http.ResponseWriter, r *http.Request) {
	s.refuse(w, r, event.NewError(event.CodeNotFound, "Page not found", "Start again from the overview.", nil))
}

// Unavailable answers for the pages where no [Web] can be made yet: with a page
// that says why, and with the files that such a page loads.
func Unavailable(w http.ResponseWriter, r *http.Request, err error) {
	s := &Web{log: slog.New(slog.DiscardHandler), assets: loadAssets(dist)}
	pageHeaders(w.Header())
	if strings.HasPrefix(r.URL.Path, "/static/") || strings.HasPrefix(r.URL.Path, "/assets/") {
		s.assets.ServeHTTP(w, r)
		return
	}
	s.refuse(w, r, err)
}

// refuse shows an error outside the frame: to strangers, and where the frame
// cannot be known.
func (s *Web) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := s.told(r, err)
	s.show(w, r, e.HTTPStatus(), plain(s.assets, e.Message, problem(e)))
}

// told is an error as people get to read it; the log gets its cause.
func (s *Web) told(r *http.Request, err error) *event.Error {
	e := event.AsError(err)
	if (e.Code == event.CodeInternal || e.Code == event.CodeUnavailable) && r.Context().Err() == nil { // else the reader has gone on
		s.log.Error("page failed", "path", r.Pattern, "err", err)
	}
	return e
}

// show renders to a buffer first: a page is whole or an error.
func (s *Web) show(w http.ResponseWriter, r *http.Request, status int, c templ.Component) {
	var b bytes.Buffer
	if err := c.Render(r.Context(), &b); err != nil {
		if r.Context().Err() != nil {
			return // the reader has gone on
		}
		s.log.Error("page does not render", "path", r.Pattern, "err", err)
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
