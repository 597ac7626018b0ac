package settings

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

var roleOptions = [][2]string{
	{"viewer", "Viewer – reads"},
	{"member", "Member – can also change connections"},
	{"admin", "Admin – everything, everywhere"},
}

// usersPage lists all users, with the form that invites another.
type usersPage struct {
	Users    []project.User
	Projects []project.Project
}

// invitation is a one-time link, shown once.
type invitation struct {
	URL     string
	Expires time.Time
}

func (s *Pages) users(_ *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Members"
	snap := s.Registry.Snapshot()
	return users(*f, usersPage{Users: snap.Users(), Projects: snap.Projects()}), nil
}

// invite makes a user and a link for them. The link is shown to the
// administrator, who hands it on: hedgerow sends no mail.
func (s *Pages) invite(r *http.Request, f *page.Frame) (templ.Component, error) {
	u, err := s.Registry.CreateUser(r.Context(), project.User{
		Email: f.Form.Get("email"), Name: f.Form.Get("name"), Role: project.Role(f.Form.Get("role")), Projects: f.Form["projects"],
	})
	if err != nil {
		return nil, err
	}
	return s.showLink(r, f, u)
}

func (s *Pages) showLink(r *http.Request, f *page.Frame, u project.User) (templ.Component, error) {
	link, err := s.link(r.Context(), u.ID)
	if err != nil {
		return nil, err
	}
	return s.userPage(f, u.ID, &link)
}

func (s *Pages) link(ctx context.Context, userID string) (invitation, error) {
	token, expires, err := s.Registry.CreateLink(ctx, userID)
	if err != nil {
		return invitation{}, err
	}
	return invitation{URL: s.PublicURL + "/sign-in?" + url.Values{"token": {token}}.Encode(), Expires: expires}, nil
}

// userPage is one user, as an administrator sees them.
type userPage struct {
	User     project.User
	Projects []project.Project
	Sessions int
	Link     *invitation
}

func (s *Pages) user(r *http.Request, f *page.Frame) (templ.Component, error) {
	return s.userPage(f, r.PathValue("user"), nil)
}

func (s *Pages) userPage(f *page.Frame, id string, link *invitation) (templ.Component, error) {
	snap := s.Registry.Snapshot()
	u, ok := snap.User(id)
	if !ok {
		return nil, event.NewError(event.CodeNotFound, "no such member", "go back to the list of members", nil)
	}
	f.Title = userName(u)
	return user(*f, userPage{User: u, Projects: snap.Projects(), Sessions: len(snap.Sessions(id)), Link: link}), nil
}

func (s *Pages) saveUser(r *http.Request, f *page.Frame) (templ.Component, error) {
	u, err := s.Registry.UpdateUser(r.Context(), r.PathValue("user"), func(u *project.User) error {
		u.Name, u.Role, u.Projects = f.Form.Get("name"), project.Role(f.Form.Get("role")), f.Form["projects"]
		if u.Email = f.Form.Get("email"); strings.TrimSpace(u.Email) == "" {
			return event.Invalid("the e-mail address is missing", "members sign in with it")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if u.ID == f.Session.UserID && u.Role != project.RoleAdmin {
		return f.Done("/", "Saved. You are no longer an administrator.")
	}
	return f.Done("/users", "Saved "+userName(u)+".")
}

func (s *Pages) linkUser(r *http.Request, f *page.Frame) (templ.Component, error) {
	u, ok := s.Registry.Snapshot().User(r.PathValue("user"))
	if !ok {
		return s.userPage(f, r.PathValue("user"), nil)
	}
	return s.showLink(r, f, u)
}

func (s *Pages) signOutUser(r *http.Request, f *page.Frame) (templ.Component, error) {
	id := r.PathValue("user")
	if err := s.Registry.RevokeSessions(r.Context(), id); err != nil {
		return nil, err
	}
	return f.Done("/users/"+url.PathEscape(id), "Signed out everywhere.")
}

func (s *Pages) deleteUser(r *http.Request, f *page.Frame) (templ.Component, error) {
	id := r.PathValue("user")
	u, _ := s.Registry.Snapshot().User(id)
	if err := s.Registry.DeleteUser(r.Context(), id); err != nil {
		return nil, err
	}
	return f.Done("/users", userName(u)+" removed and signed out.")
}

func userName(u project.User) string { return cmp.Or(u.Name, cmp.Or(u.Email, u.ID)) }

// sees lists the names of a user's projects.
func sees(u project.User, all []project.Project) string {
	if u.Role == project.RoleAdmin {
		return "all"
	}
	var names []string
	for _, p := range all {
		if u.CanSee(p.ID) {
			names = append(names, p.Name)
		}
	}
	return cmp.Or(strings.Join(names, ", "), "none yet")
}

// ticked is checked for one of several boxes of a name.
func ticked(f page.Frame, name, value string, saved bool) bool {
	if f.Problem != nil && f.Form.Has("role") {
		return slices.Contains(f.Form[name], value)
	}
	return saved
}
