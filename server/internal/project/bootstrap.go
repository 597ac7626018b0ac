package project

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
)

// FirstStart is the information that the first start shows, once.
type FirstStart struct {
	// First reports whether this was the first start; else only Project is set,
	// and only while the default project exists.
	First   bool
	Project Project
	APIKey  Secret // hr_…, of an administrator
	// SignInToken is the token of an administrator's one-time sign-in link, good
	// until SignInExpires.
	SignInToken   Secret
	SignInExpires time.Time
}

type startMark struct {
	Done bool      `json:"done"`
	At   time.Time `json:"at"`
}

// startTakeover is when another replica's unfinished first start counts as dead.
const startTakeover = 15 * time.Second

const firstKeyName = "first key"

// Bootstrap creates the project "default", an administrator's API key, and an
// administrator with a one-time sign-in link at the first start, and does
// nothing later. If several replicas start together, one of them does it; the
// next start completes an interrupted one.
//
// While the bucket cannot be written it returns an error of code
// [event.CodeUnavailable] and can be called again; it still returns the
// project, which does not change later.
func (r *Registry) Bootstrap(ctx context.Context) (FirstStart, error) {
	out, err := r.bootstrap(ctx)
	if err != nil {
		p, _ := r.Snapshot().Project(DefaultID)
		return FirstStart{Project: p}, err
	}
	return out, nil
}

func (r *Registry) bootstrap(ctx context.Context) (FirstStart, error) {
	ctx = WithActor(ctx, "first start")
	if err := r.b.Writable(ctx); err != nil {
		return FirstStart{}, err
	}
	// Where damage may have cost a project its record, what belongs to it stays.
	if !r.damaged() {
		if err := r.sweepOrphans(ctx); err != nil {
			r.log.Error("the rest of an interrupted project deletion could not be removed; it is retried at the next start", "err", err)
		}
	}
	if !r.Snapshot().sealed {
		// The bucket could not be written when it was opened, or a part of it was lost.
		if _, err := r.makeSeal(ctx, r.bucket, (*r.ring.Load())[0]); err != nil {
			return FirstStart{}, err
		}
	}
	rev, done, err := r.claimStart(ctx)
	if err != nil {
		return FirstStart{}, err
	}
	if done {
		p, _ := r.Snapshot().Project(DefaultID)
		return FirstStart{Project: p}, nil
	}
	if err := r.b.Await(ctx, rev); err != nil {
		return FirstStart{}, err
	}
	out := FirstStart{First: true}
	s := r.Snapshot()
	p, ok := s.Project(DefaultID)
	if !ok || p.Revision == 0 { // none, or in memory only
		if !ok {
			p = newProject(DefaultID, "default", r.now())
		}
		if err := r.createProject(ctx, &p); err != nil {
			return FirstStart{}, err
		}
	}
	out.Project = p
	// Records of an interrupted first start were never shown to a user.
	for _, k := range s.APIKeys(p.ID) {
		if k.Name == firstKeyName {
			if err := r.RevokeAPIKey(ctx, p.ID, k.ID); err != nil {
				return FirstStart{}, err
			}
		}
	}
	plain, _, err := r.CreateAPIKey(ctx, p.ID, firstKeyName, RoleAdmin)
	if err != nil {
		return FirstStart{}, err
	}
	out.APIKey = NewSecret(plain)
	admin := User{Name: "Administrator", Role: RoleAdmin}
	if users := r.Snapshot().Users(); len(users) > 0 {
		admin = users[0]
	} else if admin, err = r.createUser(ctx, admin); err != nil {
		return FirstStart{}, err
	}
	token, expires, err := r.CreateLink(ctx, admin.ID)
	if err != nil {
		return FirstStart{}, err
	}
	out.SignInToken, out.SignInExpires = NewSecret(token), expires

	mark, _ := json.Marshal(startMark{Done: true, At: r.now().UTC()})
	if _, err := r.bucket.Update(ctx, keyFirstStart, mark, rev); err != nil {
		return FirstStart{}, unavailable("the first start could not be finished", err)
	}
	return out, nil
}

// claimStart makes the caller the one that does the first start, or waits until
// another has done it.
func (r *Registry) claimStart(ctx context.Context) (revision uint64, done bool, err error) {
	claim, _ := json.Marshal(startMark{At: time.Now().UTC()})
	for {
		rev, err := r.bucket.Create(ctx, keyFirstStart, claim)
		if err == nil {
			r.claim.Store(rev)
			return rev, false, nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return 0, false, unavailable("the first start could not begin", err)
		}
		e, err := r.bucket.Get(ctx, keyFirstStart)
		if err != nil {
			return 0, false, unavailable("the first start could not begin", err)
		}
		var mark startMark
		if err := json.Unmarshal(e.Value(), &mark); err != nil {
			return 0, false, event.NewError(event.CodeInternal, "the record of the first start is damaged", "restore a backup of the data folder", err)
		}
		if mark.Done {
			return 0, true, r.b.Await(ctx, e.Revision())
		}
		if e.Revision() == r.claim.Load() { // its own, broken off
			return e.Revision(), false, nil
		}
		// The bucket's clock on both sides would be better, but it has no time.
		if age := time.Since(e.Created()); age > startTakeover {
			if rev, err := r.bucket.Update(ctx, keyFirstStart, claim, e.Revision()); err == nil {
				r.claim.Store(rev)
				return rev, false, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, false, unavailable("another hedgerow process has not finished its first start", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// AdminLink returns a one-time sign-in link for the first administrator:
// account recovery for a user with access to the machine.
func (r *Registry) AdminLink(ctx context.Context) (token string, expires time.Time, err error) {
	var first *User
	for _, u := range r.Snapshot().Users() {
		if u.Role == RoleAdmin && (first == nil || u.CreatedAt.Before(first.CreatedAt)) {
			first = &u
		}
	}
	if first == nil {
		u, err := r.createUser(ctx, User{Name: "Administrator", Role: RoleAdmin})
		if err != nil {
			return "", time.Time{}, err
		}
		first = &u
	}
	return r.CreateLink(ctx, first.ID)
}
