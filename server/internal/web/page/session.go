package page

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

const (
	// sessionCookie holds a random token of which the registry keeps the hash.
	// Over HTTPS its name begins with __Host-: no other host can set it then.
	sessionCookie = "hedgerow_session"
	flashCookie   = "hedgerow_flash"
	projectCookie = "hedgerow_project"
)

// Session is a signed-in person and the project whose data is shown.
type Session struct {
	ID, UserID      string
	UserName, Email string
	Role            project.Role
	ProjectID       string // "" for a person who has no project
	Project         string // its name
	Projects        []ProjectName
	ByLink          bool // recently signed in by a one-time link
	HasPassword     bool
	Expires         time.Time

	token string
}

// ProjectName is a project that a person may see.
type ProjectName struct{ ID, Name string }

// Session finds who is signed in.
func (s *Site) Session(r *http.Request) (Session, bool) {
	token := s.sessionToken(r)
	if token == "" {
		return Session{}, false
	}
	snap := s.Registry.Snapshot()
	x, u, ok := snap.SessionByToken(token)
	if !ok {
		return Session{}, false
	}
	out := Session{
		ID: x.ID, UserID: u.ID, UserName: u.Name, Email: u.Email, Role: u.Role, Expires: x.ExpiresAt, HasPassword: u.PasswordHash != "",
		ByLink: x.ByLink && s.Now().Sub(x.CreatedAt) < byLinkFor, token: token,
	}
	for _, p := range snap.Projects() {
		if u.CanSee(p.ID) {
			out.Projects = append(out.Projects, ProjectName{p.ID, p.Name})
		}
	}
	return out, true
}

// name is what pages call the user.
func (s Session) name() string { return cmp.Or(s.UserName, cmp.Or(s.Email, "you")) }

// csrf is the token in every form of this session: a MAC under the session's
// token, which another site cannot read, so that none needs to be stored.
func (s Session) csrf() string { return s.mac("csrf") }

func (s Session) owns(token string) bool {
	return token != "" && hmac.Equal([]byte(token), []byte(s.csrf()))
}

func (s Session) mac(text string) string {
	m := hmac.New(sha256.New, []byte(s.token))
	m.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func sessionName(secure bool) string {
	if secure {
		return "__Host-" + sessionCookie
	}
	return sessionCookie
}

func (s *Site) sessionToken(r *http.Request) string {
	c, err := r.Cookie(sessionName(s.Secure(r)))
	if err != nil {
		return ""
	}
	return c.Value
}

// setCookie sets a cookie that scripts do not see and other sites do not send.
func setCookie(w http.ResponseWriter, secure bool, c http.Cookie) {
	c.Path, c.HttpOnly, c.SameSite, c.Secure = "/", true, http.SameSiteLaxMode, secure
	http.SetCookie(w, &c)
}

func (f *Frame) cookie(c http.Cookie) { setCookie(f.Writer, f.secure, c) }

// flash is a message that the next page shows once. It is sent in a cookie,
// with a MAC of the session, so that no one else can put text into a page.
type flash struct{ Message string }

func (f *Frame) putFlash(message string) {
	v := base64.RawURLEncoding.EncodeToString([]byte(message))
	f.cookie(http.Cookie{Name: flashCookie, Value: v + "." + f.Session.mac("flash "+v), MaxAge: 60})
}

func (f *Frame) takeFlash() *flash {
	c, err := f.r.Cookie(flashCookie)
	if err != nil {
		return nil
	}
	f.cookie(http.Cookie{Name: flashCookie, MaxAge: -1})
	v, mac, _ := strings.Cut(c.Value, ".")
	b, err := base64.RawURLEncoding.DecodeString(v)
	if err != nil || !hmac.Equal([]byte(mac), []byte(f.Session.mac("flash "+v))) {
		return nil
	}
	return &flash{string(b)}
}

// byLinkFor is how long a session from a one-time link may set a password
// without the old one.
const byLinkFor = 30 * time.Minute

// AuditContent writes to the audit log that the user reads prompts and answers,
// and refuses if their role may not.
func (s *Site) AuditContent(r *http.Request, f *Frame, target string) error {
	return s.Registry.OpenContent(r.Context(), f.Session.ProjectID, f.Session.Role, target)
}

// DropCookies removes the cookies at sign-out.
func (s *Site) DropCookies(w http.ResponseWriter, r *http.Request) {
	setCookie(w, s.Secure(r), http.Cookie{Name: sessionName(s.Secure(r)), MaxAge: -1})
	setCookie(w, s.Secure(r), http.Cookie{Name: projectCookie, MaxAge: -1})
}

// Enter signs a person in. The session is always a new one: a token that the
// browser sent, which may have been planted there, is revoked and never reused.
// It returns the new token.
func (s *Site) Enter(w http.ResponseWriter, r *http.Request, u project.User, byLink bool) (string, error) {
	ctx := project.WithActor(r.Context(), u.ID)
	s.Leave(ctx, r)
	create := s.Registry.CreateSession
	if byLink {
		create = s.Registry.CreateLinkSession
	}
	token, x, err := create(ctx, u.ID, r.UserAgent())
	if err != nil {
		return "", err
	}
	// A password that was changed since it was checked is refused.
	if now, ok := s.Registry.Snapshot().User(u.ID); !byLink && (!ok || now.PasswordHash != u.PasswordHash) {
		if err := s.Registry.RevokeSession(ctx, u.ID, x.ID); err != nil {
			return "", err
		}
		return "", event.NewError(event.CodeUnauthorized, "the password was just changed", "sign in with the new password", nil)
	}
	setCookie(w, s.Secure(r), http.Cookie{Name: sessionName(s.Secure(r)), Value: token, Expires: x.ExpiresAt})
	return token, nil
}

// Renew gives the reader of a page a new session in place of theirs.
func (s *Site) Renew(r *http.Request, f *Frame, u project.User) error {
	token, err := s.Enter(f.Writer, r, u, false)
	if err != nil {
		return err
	}
	f.Session.token = token
	return nil
}

// Leave ends the session that a browser has, if any.
func (s *Site) Leave(ctx context.Context, r *http.Request) {
	x, u, ok := s.Registry.Snapshot().SessionByToken(s.sessionToken(r))
	if !ok {
		return
	}
	if err := s.Registry.RevokeSession(project.WithActor(ctx, u.ID), u.ID, x.ID); err != nil {
		s.Log.Warn("a session could not be ended", "err", err)
	}
}
