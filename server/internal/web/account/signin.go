package account

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// signInPage asks for e-mail address and password or, with a one-time link, for
// a click: a link that a mail or chat program fetches ahead of its reader must
// not be used up by that.
func (s *Pages) signInPage(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	if token := v.Get("token"); token != "" {
		s.Show(w, r, http.StatusOK, page.SimplePage(s.Assets, "Sign in", linkForm(token)))
		return
	}
	if _, ok := s.Session(r); ok {
		http.Redirect(w, r, page.SafeNext(v.Get("next")), http.StatusSeeOther)
		return
	}
	s.askPassword(w, r, http.StatusOK, signInForm{Next: v.Get("next")})
}

// signInForm is the sign-in page; Problem says why it is shown again.
type signInForm struct {
	Email, Next string
	Problem     *event.Error
	First       bool // no one has a password yet: only a link can sign in
}

func (s *Pages) askPassword(w http.ResponseWriter, r *http.Request, status int, f signInForm) {
	f.First = true
	for _, u := range s.Registry.Snapshot().Users() {
		f.First = f.First && u.PasswordHash == ""
	}
	s.Show(w, r, status, page.SimplePage(s.Assets, "Sign in", signInPage(f)))
}

// signIn checks a password. How many may fail is limited by network address and
// by account.
func (s *Pages) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	f := signInForm{Email: strings.TrimSpace(r.PostFormValue("email")), Next: r.PostFormValue("next")}
	u, err := s.checkPassword(w, r, f.Email, r.PostFormValue("password"))
	if err == nil {
		_, err = s.Enter(w, r, u, false)
	}
	if err != nil {
		f.Problem = s.Explain(r, err)
		s.askPassword(w, r, f.Problem.HTTPStatus(), f)
		return
	}
	http.Redirect(w, r, page.SafeNext(f.Next), http.StatusSeeOther)
}

// checkPassword is the registry's, bounded. Attempts are counted before they
// are made, so that concurrent ones cannot exceed the limit.
func (s *Pages) checkPassword(w http.ResponseWriter, r *http.Request, email, password string) (project.User, error) {
	address, account := s.address(r), accountKey(email)
	x, wait := s.tries.take(address, account)
	if wait > 0 {
		return project.User{}, tooMany(w, wait)
	}
	u, err := s.Registry.CheckPassword(r.Context(), email, password)
	if err != nil {
		s.Log.Info("sign-in refused", "address", address)
		if x.last {
			of, _ := s.Registry.Snapshot().UserByEmail(email)
			entry := project.AuditEntry{Actor: "address " + address, Action: "sign_in.limited", Target: of.ID, Detail: "too many wrong passwords"}
			if err := s.Registry.Audit(r.Context(), entry); err != nil {
				s.Log.Warn("the audit log could not be written", "err", err)
			}
		}
		return project.User{}, err
	}
	s.tries.passed(x)
	return u, nil
}

// accountKey keeps the limiter's memory small and free of addresses.
func accountKey(email string) string {
	h := sha256.Sum256([]byte(strings.ToLower(strings.TrimSpace(email))))
	return hex.EncodeToString(h[:16])
}

func tooMany(w http.ResponseWriter, wait time.Duration) error {
	seconds := int((wait + time.Second - 1) / time.Second)
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	in := "a second"
	switch {
	case seconds > 90:
		in = strconv.Itoa((seconds+59)/60) + " minutes"
	case seconds > 1:
		in = strconv.Itoa(seconds) + " seconds"
	}
	return event.NewError(event.CodeRateLimited, "too many failed sign-in attempts", "try again in "+in+", or ask an administrator for a sign-in link, which works immediately", nil)
}

// signInLink uses up a one-time link. Users without a password are asked to set
// one.
func (s *Pages) signInLink(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	address := s.address(r)
	wait := s.tries.link(address)
	if wait > 0 {
		s.Refuse(w, r, tooMany(w, wait))
		return
	}
	u, err := s.Registry.RedeemLink(r.Context(), r.PostFormValue("token"))
	if err == nil {
		s.tries.arrived(address)
		_, err = s.Enter(w, r, u, true)
	}
	switch {
	case err != nil:
		s.Refuse(w, r, err)
	case u.PasswordHash == "":
		http.Redirect(w, r, "/welcome", http.StatusSeeOther)
	default:
		http.Redirect(w, r, "/account#password", http.StatusSeeOther)
	}
}

// signOut needs no session, and so no token of one: another site's forms are
// refused before they come here.
func (s *Pages) signOut(w http.ResponseWriter, r *http.Request) {
	s.Leave(r.Context(), r)
	s.DropCookies(w, r)
	page.Redirect(w, r, "/sign-in")
}

// welcome asks a user who signed in by a link for an e-mail address and a
// password.
func (s *Pages) welcome(_ *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Welcome"
	if f.Session.HasPassword && f.Problem == nil {
		return f.Done("/account", "")
	}
	return welcome(*f), nil
}

func (s *Pages) setUp(r *http.Request, f *page.Frame) (templ.Component, error) {
	if f.Session.HasPassword {
		return nil, event.NewError(event.CodeConflict, "you already have a password", "change it on the account page", nil)
	}
	password, err := newPassword(f.Form)
	if err != nil {
		return nil, err
	}
	if f.Session.Email == "" || f.Form.Get("name") != "" {
		_, err := s.Registry.UpdateUser(r.Context(), f.Session.UserID, func(u *project.User) error {
			if u.Email == "" {
				if u.Email = f.Form.Get("email"); strings.TrimSpace(u.Email) == "" {
					return event.Invalid("the e-mail address is missing", "you need it to sign in")
				}
			}
			u.Name = cmp.Or(f.Form.Get("name"), u.Name)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if err := s.setPassword(r, f, password); err != nil {
		return nil, err
	}
	return f.Done("/", "Password set. Use it to sign in from now on.")
}

// setPassword sets the password of the signed-in user. That ends all of their
// sessions; this browser gets a new one.
func (s *Pages) setPassword(r *http.Request, f *page.Frame, password string) error {
	if err := s.Registry.SetPassword(r.Context(), f.Session.UserID, password); err != nil {
		return err
	}
	u, _ := s.Registry.Snapshot().User(f.Session.UserID)
	return s.Renew(r, f, u)
}

func newPassword(form url.Values) (string, error) {
	p := form.Get("password")
	if p != form.Get("repeat") {
		return "", event.Invalid("the passwords do not match", "type the new password in both fields")
	}
	return p, nil
}
