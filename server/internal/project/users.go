package project

import (
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/kv"
)

const (
	// LinkTTL is how long a one-time sign-in link works.
	LinkTTL = 24 * time.Hour
	// SessionTTL is how long a browser stays signed in.
	SessionTTL = 14 * 24 * time.Hour

	tokenLen = 43 // base62 characters of a link's or session's token: 256 bits
)

func normalEmail(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

func checkEmail(s string) (string, error) {
	s = normalEmail(s)
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || utf8.RuneCountInString(s) > 254 {
		return "", event.Invalid("this is not an e-mail address", "write it as name@example.com")
	}
	return s, nil
}

func (r *Registry) checkUser(u *User) error {
	var err error
	if u.Email != "" {
		if u.Email, err = checkEmail(u.Email); err != nil {
			return err
		}
	}
	if u.Name = strings.TrimSpace(u.Name); u.Name != "" {
		if u.Name, err = cleanName("user", u.Name); err != nil {
			return err
		}
	}
	if !u.Role.Valid() {
		return event.Invalid(fmt.Sprintf("unknown role %q", u.Role), "use admin, member or viewer")
	}
	for _, id := range u.Projects {
		if _, ok := r.Snapshot().Project(id); !ok {
			return missing("project")
		}
	}
	u.Projects = slices.Compact(slices.Sorted(slices.Values(u.Projects)))
	return nil
}

// CreateUser makes a user who cannot sign in yet: [Registry.CreateLink] makes
// the invitation. Of u, the e-mail address, name, role and projects count. The
// address is unique.
func (r *Registry) CreateUser(ctx context.Context, u User) (User, error) {
	if normalEmail(u.Email) == "" {
		return User{}, event.Invalid("the user has no e-mail address", "give one")
	}
	return r.createUser(ctx, u)
}

func (r *Registry) createUser(ctx context.Context, u User) (User, error) {
	u.ID, u.PasswordHash, u.CreatedAt = newID("u"), "", r.now().UTC()
	u.UpdatedAt = u.CreatedAt
	if err := r.checkUser(&u); err != nil {
		return User{}, err
	}
	if u.Email != "" {
		if err := r.reserve(ctx, "email", "email", u.Email, u.key()); err != nil {
			return User{}, err
		}
	}
	if err := create(ctx, r, &u); err != nil {
		return User{}, err
	}
	return u, r.done(ctx, u.Revision, AuditEntry{Action: "user.create", Target: u.ID, Detail: string(u.Role)})
}

// UpdateUser changes a user's e-mail address, name, role and projects. The last
// administrator keeps that role.
func (r *Registry) UpdateUser(ctx context.Context, id string, f func(*User) error) (User, error) {
	return r.updateUser(ctx, id, "user.update", f)
}

func (r *Registry) updateUser(ctx context.Context, id, action string, f func(*User) error) (User, error) {
	var before User
	u, err := change(ctx, r, prefixUser+id, func(u *User) error {
		before = *u
		before.Projects = slices.Clone(u.Projects)
		if err := f(u); err != nil {
			return err
		}
		u.ID, u.CreatedAt, u.UpdatedAt = before.ID, before.CreatedAt, r.now().UTC()
		// A project that has been deleted since leaves its members as they are.
		s := r.Snapshot()
		u.Projects = slices.DeleteFunc(slices.Clone(u.Projects), func(id string) bool {
			_, exists := s.Project(id)
			return !exists && slices.Contains(before.Projects, id)
		})
		if err := r.checkUser(u); err != nil {
			return err
		}
		if u.Email == "" && before.Email != "" {
			return event.Invalid("the user has no e-mail address", "give one")
		}
		if before.Role == RoleAdmin && u.Role != RoleAdmin && r.isLastAdmin(id) {
			return errLastAdmin()
		}
		if u.Email != before.Email {
			return r.reserve(ctx, "email", "email", u.Email, u.key())
		}
		return nil
	})
	if err != nil {
		return User{}, err
	}
	if before.Email != "" && u.Email != before.Email {
		r.release(ctx, "email", before.Email, u.key())
	}
	return u, r.done(ctx, u.Revision, AuditEntry{Action: action, Target: u.ID, Detail: string(u.Role)})
}

func (r *Registry) isLastAdmin(id string) bool {
	return !slices.ContainsFunc(r.Snapshot().Users(), func(u User) bool { return u.ID != id && u.Role == RoleAdmin })
}

func errLastAdmin() error {
	return event.NewError(event.CodeConflict, "this is the only administrator", "make another user an administrator first", nil)
}

// DeleteUser deletes a user and ends all sessions of the user immediately.
func (r *Registry) DeleteUser(ctx context.Context, id string) error {
	u, err := remove(ctx, r, prefixUser+id, func(u *User) error {
		if u.Role == RoleAdmin && r.isLastAdmin(id) {
			return errLastAdmin()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if u.Email != "" {
		r.release(ctx, "email", u.Email, u.key())
	}
	if err := r.endSessions(ctx, id); err != nil {
		return err
	}
	return r.done(ctx, 0, AuditEntry{Action: "user.delete", Target: id})
}

// SetPassword sets a user's password (10 to 200 characters) and ends all
// sessions of the user.
func (r *Registry) SetPassword(ctx context.Context, userID, password string) error {
	if n := utf8.RuneCountInString(password); n < 10 || n > 200 {
		return event.Invalid("a password must have 10 to 200 characters", "a few unrelated words make a good one")
	}
	hash, err := r.hashPassword(ctx, password)
	if err != nil {
		return err
	}
	if _, err := r.updateUser(ctx, userID, "user.password", func(u *User) error { u.PasswordHash = hash; return nil }); err != nil {
		return err
	}
	return r.RevokeSessions(ctx, userID) // waits until the snapshot has it
}

// CheckPassword returns the user with an e-mail address and a password. Whether
// the address or the password was wrong is not revealed by the error, nor by
// the time it takes.
func (r *Registry) CheckPassword(ctx context.Context, email, password string) (User, error) {
	u, ok := r.Snapshot().UserByEmail(email)
	hash := u.PasswordHash
	if !ok || hash == "" {
		hash = nobodysPassword
	}
	match, stale, err := r.verifyPassword(ctx, hash, password)
	if err != nil {
		return User{}, err
	}
	if !ok || !match || u.PasswordHash == "" {
		return User{}, event.NewError(event.CodeUnauthorized, "wrong e-mail address or password", "try again, or ask an administrator for a sign-in link", nil)
	}
	if stale { // made with weaker parameters than today's
		if fresh, err := r.hashPassword(ctx, password); err == nil {
			if _, err := r.updateUser(ctx, u.ID, "user.password_rehash", func(u *User) error { u.PasswordHash = fresh; return nil }); err != nil {
				r.log.Warn("a password could not be rehashed", "user", u.ID, "err", err)
			}
		}
	}
	return u, nil
}

// CreateLink makes a one-time sign-in link for a user and returns its token in
// plain: the one time that it can be seen. It works once, for [LinkTTL].
func (r *Registry) CreateLink(ctx context.Context, userID string) (token string, expires time.Time, err error) {
	if _, ok := r.Snapshot().User(userID); !ok {
		return "", time.Time{}, missing("user")
	}
	r.prune(ctx)
	token = randomString(base62, tokenLen)
	h := hashOf(token)
	l := Link{Hash: h[:], UserID: userID, CreatedAt: r.now().UTC(), ExpiresAt: r.now().Add(LinkTTL).UTC()}
	if err := create(ctx, r, &l); err != nil {
		return "", time.Time{}, err
	}
	return token, l.ExpiresAt, r.done(ctx, l.Revision, AuditEntry{Action: "link.create", Target: userID})
}

// RedeemLink uses up a sign-in link and returns its user. Of concurrent
// attempts, on any replica, one succeeds.
func (r *Registry) RedeemLink(ctx context.Context, token string) (User, error) {
	refused := event.NewError(event.CodeUnauthorized, "this sign-in link is no longer valid", "a link works once and for 24 hours; ask for another: hedgerow project sign-in-link", nil)
	h := hashOf(token)
	// No retry: losing the race means that the link has been used.
	l, err := get[Link](ctx, r, nil, linkKey(h[:]))
	if e := event.AsError(err); e != nil {
		if e.Code == event.CodeNotFound {
			return User{}, refused
		}
		return User{}, err
	}
	switch err := r.purge(ctx, l.key(), l.Revision); {
	case kv.IsConflict(err):
		return User{}, refused
	case err != nil:
		return User{}, unavailable("the sign-in link could not be used", err)
	}
	// Read the bucket: this replica's snapshot may not have a new user yet.
	u, err := get[User](ctx, r, *r.ring.Load(), prefixUser+l.UserID)
	switch e := event.AsError(err); {
	case e != nil && e.Code != event.CodeNotFound:
		return User{}, err
	case e != nil, !r.now().Before(l.ExpiresAt):
		return User{}, refused
	}
	return u, r.done(ctx, 0, AuditEntry{Actor: u.ID, Action: "link.redeem", Target: u.ID})
}

// CreateSession signs a user in and returns the token for the cookie. agent is
// the browser's User-Agent, for the list of sessions.
func (r *Registry) CreateSession(ctx context.Context, userID, agent string) (token string, s Session, err error) {
	return r.createSession(ctx, Session{UserID: userID, Agent: agent})
}

// CreateLinkSession is [Registry.CreateSession] for a sign-in with a one-time
// link, which the session records.
func (r *Registry) CreateLinkSession(ctx context.Context, userID, agent string) (token string, s Session, err error) {
	return r.createSession(ctx, Session{UserID: userID, Agent: agent, ByLink: true})
}

func (r *Registry) createSession(ctx context.Context, s Session) (token string, _ Session, err error) {
	userID := s.UserID
	if _, ok := r.Snapshot().User(userID); !ok {
		return "", Session{}, missing("user")
	}
	r.prune(ctx)
	token = randomString(base62, tokenLen)
	h := hashOf(token)
	s.Agent = strings.ToValidUTF8(s.Agent, "")
	if runes := []rune(s.Agent); len(runes) > maxText {
		s.Agent = string(runes[:maxText])
	}
	s.ID, s.Hash, s.CreatedAt, s.ExpiresAt = newID("s"), h[:], r.now().UTC(), r.now().Add(SessionTTL).UTC()
	if err := create(ctx, r, &s); err != nil {
		return "", Session{}, err
	}
	return token, s, r.done(ctx, s.Revision, AuditEntry{Actor: userID, Action: "session.create", Target: userID})
}

// RevokeSession ends one session of a user.
func (r *Registry) RevokeSession(ctx context.Context, userID, id string) error {
	_, err := remove(ctx, r, prefixSession+id, func(s *Session) error {
		if s.UserID != userID {
			return missing("session")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.done(ctx, 0, AuditEntry{Action: "session.revoke", Target: userID})
}

// RevokeSessions signs a user out everywhere.
func (r *Registry) RevokeSessions(ctx context.Context, userID string) error {
	if err := r.endSessions(ctx, userID); err != nil {
		return err
	}
	return r.done(ctx, 0, AuditEntry{Action: "session.revoke_all", Target: userID})
}

func (r *Registry) endSessions(ctx context.Context, userID string) error {
	// From the bucket, not the snapshot: it includes sessions that another
	// replica has just created.
	keys, err := r.bucket.ListKeysFiltered(ctx, prefixSession+">")
	if err != nil {
		return unavailable("the sessions could not be ended", err)
	}
	for key := range keys.Keys() {
		if s, err := get[Session](ctx, r, nil, key); err == nil && s.UserID == userID {
			if err := r.purge(ctx, key, 0); err != nil {
				return unavailable("the sessions could not be ended", err)
			}
		}
	}
	return nil
}

// prune deletes expired records. The next call deletes those that it misses.
func (r *Registry) prune(ctx context.Context) {
	s, now := r.Snapshot(), r.now()
	var keys []string
	for _, x := range s.sessions {
		if !now.Before(x.ExpiresAt) {
			keys = append(keys, x.key())
		}
	}
	for _, l := range s.links {
		if !now.Before(l.ExpiresAt) {
			keys = append(keys, l.key())
		}
	}
	for _, key := range keys[:min(len(keys), 100)] {
		if err := r.purge(ctx, key, 0); err != nil {
			return
		}
	}
}
