package account

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// accountPage is a person's own: name, password, and where they are signed in.
type accountPage struct {
	Sessions []project.Session
}

func (s *Pages) account(_ *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Account"
	var p accountPage
	now := s.Now()
	for _, x := range s.Registry.Snapshot().Sessions(f.Session.UserID) {
		if now.Before(x.ExpiresAt) {
			p.Sessions = append(p.Sessions, x)
		}
	}
	return account(*f, p), nil
}

func (s *Pages) saveAccount(r *http.Request, f *page.Frame) (templ.Component, error) {
	_, err := s.Registry.UpdateUser(r.Context(), f.Session.UserID, func(u *project.User) error {
		u.Name = f.Form.Get("name")
		if u.Email == "" {
			u.Email = f.Form.Get("email")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f.Done("/account", "Saved.")
}

// changePassword requires the old one, except from users who signed in by a
// link a moment ago: they may have forgotten it.
func (s *Pages) changePassword(r *http.Request, f *page.Frame) (templ.Component, error) {
	password, err := newPassword(f.Form)
	if err != nil {
		return nil, err
	}
	if f.Session.Email == "" {
		return nil, event.Invalid("your account has no e-mail address", "add one first: it is your sign-in name")
	}
	if needsOld(*f) {
		if _, err := s.checkPassword(f.Writer, r, f.Session.Email, f.Form.Get("old")); err != nil {
			if event.AsError(err).Code == event.CodeUnauthorized {
				err = event.Invalid("the current password is wrong", "try again, or ask an administrator for a sign-in link")
			}
			return nil, err
		}
	}
	if err := s.setPassword(r, f, password); err != nil {
		return nil, err
	}
	return f.Done("/account", "Password changed. All other browsers are signed out.")
}

// needsOld reports whether a new password needs the old one.
func needsOld(f page.Frame) bool { return f.Session.HasPassword && !f.Session.ByLink }

func (s *Pages) signOutEverywhere(r *http.Request, f *page.Frame) (templ.Component, error) {
	if err := s.Registry.RevokeSessions(r.Context(), f.Session.UserID); err != nil {
		return nil, err
	}
	s.DropCookies(f.Writer, r)
	return f.Done("/sign-in", "")
}

func (s *Pages) revokeSession(r *http.Request, f *page.Frame) (templ.Component, error) {
	if err := s.Registry.RevokeSession(r.Context(), f.Session.UserID, r.PathValue("session")); err != nil {
		return nil, err
	}
	return f.Done("/account", "Browser signed out.")
}

// browser makes a short name of what a browser calls itself.
func browser(agent string) string {
	find := func(names ...string) string {
		for _, n := range names {
			if key, name, _ := strings.Cut(n, ":"); strings.Contains(agent, key) {
				return cmp.Or(name, key)
			}
		}
		return ""
	}
	// The order matters: most of them name others too.
	name := find("Edg/:Edge", "OPR/:Opera", "Firefox", "Chrome", "Safari", "curl")
	on := find("Android", "iPhone", "iPad", "Windows", "Mac OS X:macOS", "CrOS:ChromeOS", "Linux")
	switch {
	case name == "" && on == "":
		return cmp.Or(agent, "unknown browser")
	case on == "":
		return name
	}
	return cmp.Or(name, "Browser") + " on " + on
}
