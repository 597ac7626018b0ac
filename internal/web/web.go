package web

import (
	"bytes"
	"context"
	"embed"
	"log/slog"
	"net/http"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/query"
)

//go:embed static
var static embed.FS

// cookie is the session's name in the browser. A random token, of which the
// server keeps a hash.
const cookie = "hedgerow_session"

// Session is a signed-in person.
type Session struct {
	UserName  string
	ProjectID string // the project whose data is shown
	Project   string // its name
	Expires   time.Time
}

// SignIn is what this package needs of the users. project.Registry offers it.
type SignIn interface {
	// Redeem uses up a one-time link and returns a session's token.
	Redeem(ctx context.Context, link string) (token string, expires time.Time, err error)
	// Session finds the session of a token.
	Session(token string) (Session, bool)
	// SignOut ends a session.
	SignOut(ctx context.Context, token string) error
}

// Connection is how the delivery to one PostHog project goes, in words.
type Connection struct {
	Name, Host, State, LastError string
	OK                           bool
	Sent, Waiting, Dead          int64
}

// Config is what the pages show.
type Config struct {
	Query       *query.Reader
	SignIn      SignIn
	Connections func(projectID string) []Connection
	Logger      *slog.Logger
	Simulated   bool          // says on every page that the data is simulated
	Dropped     func() uint64 // calls that passed but were not recorded
	Now         func() time.Time
}

// Web is the handler of the pages.
type Web struct {
	c   Config
	log *slog.Logger
	now func() time.Time
	mux *http.ServeMux
}

// New returns the pages.
func New(c Config) *Web {
	s := &Web{c: c, log: c.Logger, now: c.Now, mux: http.NewServeMux()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.mux.Handle("GET /{$}", http.RedirectHandler("/overview", http.StatusSeeOther))
	s.mux.HandleFunc("GET /sign-in", s.signInPage)
	s.mux.HandleFunc("POST /sign-in", s.signIn)
	s.mux.HandleFunc("POST /sign-out", s.signOut)
	s.mux.Handle("GET /static/", http.FileServerFS(static))
	s.mux.Handle("GET /overview", s.page(s.overview))
	s.mux.Handle("GET /events", s.page(s.events))
	s.mux.Handle("GET /events/{uuid}", s.page(s.event))
	s.mux.Handle("GET /traces/{id}", s.page(s.trace))
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.show(w, r, http.StatusNotFound, plain("Not found", problem("There is no such page", "Start again from the overview.")))
	})
	return s
}

// ServeHTTP serves the pages with headers that keep them to themselves.
func (s *Web) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	s.mux.ServeHTTP(w, r)
}

// frame is what every page of a signed-in person has around it.
type frame struct {
	Title     string
	Active    string // path of the current entry in the side bar
	Session   Session
	Simulated bool
	Dropped   uint64
}

// page lets signed-in people in, renders to a buffer first, and turns an error
// into a page.
func (s *Web) page(h func(*http.Request, *frame) (templ.Component, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess, ok := s.session(r)
		if !ok {
			http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
			return
		}
		f := &frame{Session: sess, Simulated: s.c.Simulated, Active: r.URL.Path}
		if s.c.Dropped != nil {
			f.Dropped = s.c.Dropped()
		}
		body, err := h(r, f)
		status := http.StatusOK
		if err != nil {
			e := event.AsError(err)
			status = e.HTTPStatus()
			if e.Code == event.CodeInternal {
				s.log.Error("page failed", "path", r.Pattern, "err", err)
			}
			f.Title, body = "Problem", problem(e.Message, e.Hint)
		}
		s.show(w, r, status, layout(*f, body))
	})
}

func (s *Web) show(w http.ResponseWriter, r *http.Request, status int, c templ.Component) {
	var b bytes.Buffer
	if err := c.Render(r.Context(), &b); err != nil {
		s.log.Error("page does not render", "path", r.Pattern, "err", err)
		http.Error(w, "hedgerow could not draw this page; see its log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

func (s *Web) session(r *http.Request) (Session, bool) {
	c, err := r.Cookie(cookie)
	if err != nil {
		return Session{}, false
	}
	return s.c.SignIn.Session(c.Value)
}

// signInPage asks for a click: a link that a mail or chat program fetches ahead
// of its reader must not be used up by that.
func (s *Web) signInPage(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, http.StatusOK, plain("Sign in", signInForm(r.URL.Query().Get("token"))))
}

func (s *Web) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	token, expires, err := s.c.SignIn.Redeem(r.Context(), r.PostFormValue("token"))
	if err != nil {
		e := event.AsError(err)
		s.show(w, r, e.HTTPStatus(), plain("Sign in", problem(e.Message, e.Hint)))
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: token, Path: "/", Expires: expires, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"})
	http.Redirect(w, r, "/overview", http.StatusSeeOther)
}

func (s *Web) signOut(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(cookie); err == nil {
		if err := s.c.SignIn.SignOut(r.Context(), c.Value); err != nil {
			s.log.Warn("sign-out failed", "err", err)
		}
	}
	http.SetCookie(w, &http.Cookie{Name: cookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}
