package posthog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
)

// definitions are those of one connection. They are refreshed only while
// flags are requested: answers are at most two polls old.
type definitions struct {
	loading sync.Mutex // locked while loading

	mu       sync.Mutex
	identity string // the host and the keys that they were fetched with
	set      *flag.Set
	etag     string
	loaded   time.Time // when PostHog last confirmed them
	tried    time.Time
	warned   string
}

// definitionsOf returns the present definitions, nil if there are none.
func (f *Flags) definitionsOf(ctx context.Context, conn project.Connection) (*flag.Set, time.Time) {
	f.mu.Lock()
	d := f.defs[conn.ID]
	if d == nil {
		d = &definitions{}
		f.defs[conn.ID] = d
	}
	f.mu.Unlock()

	look := func() (set *flag.Set, loaded time.Time, age time.Duration) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.identity != identity(conn) {
			d.identity, d.set, d.etag, d.loaded, d.tried = identity(conn), nil, "", time.Time{}, time.Time{}
		}
		return d.set, d.loaded, f.c.Now().Sub(d.tried)
	}
	set, loaded, age := look()
	switch {
	case age < f.c.PollEvery:
		return set, loaded
	case age < 2*f.c.PollEvery:
		if d.loading.TryLock() {
			f.refresh.Go(func() {
				defer d.loading.Unlock()
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.c.Timeout)
				defer cancel()
				if err := supervise.Catch(func() error { f.load(ctx, conn, d); return nil }); err != nil {
					f.log.Error("the definitions of flags could not be read", "err", err)
				}
			})
		}
		return set, loaded
	}
	d.loading.Lock() // one caller loads, the others wait
	defer d.loading.Unlock()
	if set, loaded, age = look(); age < f.c.PollEvery {
		return set, loaded
	}
	f.load(ctx, conn, d)
	set, loaded, _ = look()
	return set, loaded
}

// identity is what definitions belong to. It stays in memory.
func identity(c project.Connection) string {
	return keyOf(c.Host, c.ProjectKey.Reveal(), c.PersonalKey.Reveal())
}

// forget makes the next evaluation refresh the definitions first.
func (f *Flags) forget(connectionID string) {
	f.mu.Lock()
	delete(f.defs, connectionID)
	f.mu.Unlock()
	f.changed(connectionID)
}

// changed clears a connection's recorded exposures and PostHog's answers.
func (f *Flags) changed(connectionID string) {
	mine := func(k string) bool { return strings.HasPrefix(k, connectionID+"\x00") }
	f.answers.drop(mine)
	f.called.drop(mine)
}

type fetched struct {
	set       *flag.Set // nil: the previous ones are still valid
	etag      string
	overQuota bool
}

// load requests and stores the definitions. It keeps the existing ones if
// PostHog does not answer.
func (f *Flags) load(ctx context.Context, conn project.Connection, d *definitions) {
	d.mu.Lock()
	etag, before := d.etag, d.set
	d.mu.Unlock()
	got, err := f.fetch(ctx, conn, etag)
	now := f.c.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tried = now
	why := ""
	switch {
	case err != nil:
		why = err.Error()
	case got.overQuota:
		why = "over PostHog's quota for feature flags"
		d.set, d.etag = nil, ""
	case got.set == nil:
		d.loaded = now
	default:
		d.set, d.etag, d.loaded = got.set, got.etag, now
		if before != nil {
			f.changed(conn.ID)
		}
	}
	if why != "" && why != d.warned {
		f.log.Warn("feature flag definitions could not be fetched: flags are decided by PostHog", "connection", conn.ID, "err", why)
	}
	d.warned = why
}

func (f *Flags) fetch(ctx context.Context, conn project.Connection, etag string) (fetched, error) {
	to := conn.Host + "/flags/definitions?send_cohorts=true&token=" + url.QueryEscape(conn.ProjectKey.Reveal())
	a, err := f.get(ctx, conn, to, etag)
	if err == nil && a.status == http.StatusNotFound {
		// PostHogs from before 2026 have it under its older name.
		to = AppHost(conn.Host) + "/api/feature_flag/local_evaluation?send_cohorts=true&token=" + url.QueryEscape(conn.ProjectKey.Reveal())
		a, err = f.get(ctx, conn, to, etag)
	}
	switch {
	case err != nil:
		return fetched{}, fmt.Errorf("%s: %w", explain(err, conn.Host).message, err)
	case a.status == http.StatusNotModified && etag != "":
		return fetched{}, nil
	case a.status == http.StatusPaymentRequired:
		return fetched{overQuota: true}, nil
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		return fetched{}, fmt.Errorf("PostHog returned %d: the personal key is wrong or lacks the scope Feature Flag Read", a.status)
	case a.status != http.StatusOK:
		return fetched{}, fmt.Errorf("PostHog answers %d", a.status)
	}
	set, err := flag.Parse(a.body)
	if err != nil {
		return fetched{}, err
	}
	return fetched{set: set, etag: a.header.Get("ETag")}, nil
}

func (f *Flags) get(ctx context.Context, conn project.Connection, to, etag string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, f.c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return answer{}, fmt.Errorf("make request: %w", withoutURL(err))
	}
	req.Header.Set("User-Agent", f.caller.agent)
	req.Header.Set("Authorization", "Bearer "+conn.PersonalKey.Reveal())
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	return do(f.caller.http, req, maxDefinitions, f.c.Now())
}

// patch changes a flag, in the project that events go to.
func (f *Flags) patch(ctx context.Context, conn project.Connection, id int64, change map[string]any) (answer, error) {
	body, err := json.Marshal(change)
	if err != nil {
		return answer{}, fmt.Errorf("encode request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, f.c.Timeout)
	defer cancel()
	to := AppHost(conn.Host) + "/api/projects/@current/feature_flags/" + strconv.FormatInt(id, 10) + "/?token=" + url.QueryEscape(conn.ProjectKey.Reveal())
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, to, bytes.NewReader(body))
	if err != nil {
		return answer{}, fmt.Errorf("make request: %w", withoutURL(err))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", f.caller.agent)
	req.Header.Set("Authorization", "Bearer "+conn.PersonalKey.Reveal())
	return do(f.caller.http, req, maxAnswer, f.c.Now())
}
