package servertest

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/dataset"
	"github.com/hedgerow/hedgerow/server/internal/erasure"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/reconcile"
	"github.com/hedgerow/hedgerow/server/internal/reprice"
	"github.com/hedgerow/hedgerow/server/internal/services"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// Options are the settings of a Server.
type Options struct {
	Now    func() time.Time // Defaults to time.Now
	Caller eval.Caller      // answers judges and dataset runs
	Events []*event.Event   // are in the store
}

// Server is what a server keeps, after a first start: the project "default" and its
// administrator are there.
type Server struct {
	services.Services

	t        testing.TB
	settings jetstream.KeyValue
}

// Open opens a Server that ends with the test. It has no StopRollout, no CheckState
// and no Keyless.
func Open(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Now == nil {
		o.Now = time.Now
	}
	ctx, dir, h := t.Context(), t.TempDir(), &Server{t: t}
	j := must(journal.Open(ctx, journal.Config{Dir: filepath.Join(dir, "journal")}))(t)
	t.Cleanup(func() { _ = j.Close(context.Background()) })
	bucket := func(name string) jetstream.KeyValue {
		t.Helper()
		return must(j.KeyValue(ctx, name, 1))(t)
	}

	h.settings = bucket("settings")
	h.Registry = must(project.Open(ctx, h.settings, project.Options{SecretKey: bytes.Repeat([]byte{7}, project.KeySize), Now: o.Now}))(t)
	t.Cleanup(func() { _ = h.Registry.Close() })
	must(h.Registry.Bootstrap(ctx))(t)
	h.Store = must(store.OpenDuckDB(ctx, store.Config{Path: filepath.Join(dir, "e.duckdb")}))(t)
	t.Cleanup(func() { _ = h.Store.Close() })
	if len(o.Events) > 0 {
		must(h.Store.Write(ctx, o.Events))(t)
	}
	h.Query = must(query.New(h.Store, o.Now))(t)

	h.Prompts = must(prompt.Open(ctx, bucket("prompts"), prompt.Options{Audit: h.Registry.Audit, Now: o.Now}))(t)
	t.Cleanup(func() { _ = h.Prompts.Close() })
	h.Experiments = must(experiment.Open(ctx, bucket("experiments"), experiment.Options{Audit: h.Registry.Audit, Ask: h.Query, Now: o.Now}))(t)
	t.Cleanup(func() { _ = h.Experiments.Close() })
	h.Reports = &experiment.ReportCache{Ask: h.Query, Now: o.Now}
	h.Alerts = &experiment.Sender{Client: http.DefaultClient, Project: func(id string) (project.Project, bool) { return h.Registry.Snapshot().Project(id) }}

	h.Checks = must(eval.Open(ctx, bucket("checks"), bucket("spending"), eval.Options{Audit: h.Registry.Audit}))(t)
	t.Cleanup(func() { _ = h.Checks.Close() })
	h.Runner = &eval.Runner{Caller: o.Caller, Budget: h.Checks.Budget()}
	h.Datasets = must(dataset.Open(ctx, dataset.Buckets{Sets: bucket("sets"), Runs: bucket("runs"), Items: bucket("items")}, dataset.Options{Audit: h.Registry.Audit}))(t)
	t.Cleanup(func() { _ = h.Datasets.Close() })
	bills := must(reconcile.Open(ctx, reconcile.Buckets{Imports: bucket(reconcile.ImportsBucket), Days: bucket(reconcile.DaysBucket)}, reconcile.Options{Audit: h.Registry.Audit, Now: o.Now}))(t)
	t.Cleanup(func() { _ = bills.Close() })
	h.Bills = &reconcile.Bills{Registry: bills, Calls: h.Query, Prices: func() reconcile.Prices { return price.Default() }, Settings: h.Registry}
	h.Runs = &dataset.Runner{Registry: h.Datasets, Prompts: h.Prompts, Checks: h.Checks, Evals: h.Runner, Caller: o.Caller}
	t.Cleanup(func() { _ = h.Runs.Close(context.Background()) })
	h.Erasure = h.NewErasure(func(context.Context, project.Connection, string) (bool, error) { return false, nil })
	h.Repricer = reprice.NewRunner(reprice.Config{Prices: price.Default, Calls: h.Query, Journal: direct{h.Store}, Store: direct{h.Store}, Records: new(record), Audit: h.Registry.Audit, Now: o.Now, Rest: -1})
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Repricer.Run(running) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	h.Repricer.Await(ctx)
	return h
}

// direct has the store take at once what is appended.
type direct struct{ *store.DuckDB }

func (d direct) Append(ctx context.Context, events ...*event.Event) error {
	_, err := d.Write(ctx, events)
	return err
}

func (direct) Waiting(context.Context) (uint64, error) { return 0, nil }
func (direct) Sync(context.Context) error              { return nil }

// record is the record of a run in memory.
type record struct {
	mu sync.Mutex
	b  []byte
}

func (r *record) Load(context.Context) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b, nil
}

func (r *record) Save(_ context.Context, b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.b = b
	return nil
}

// NewErasure deletes events of the server. person asks a PostHog to delete a person.
func (h *Server) NewErasure(person func(ctx context.Context, c project.Connection, distinctID string) (bool, error)) *erasure.Eraser {
	return &erasure.Eraser{
		Store: h.Store, Users: h.Query, Audit: h.Registry.Audit, Person: person,
		Project:     func(id string) (project.Project, bool) { return h.Registry.Snapshot().Project(id) },
		Connections: func(id string) []project.Connection { return h.Registry.Snapshot().Connections(id) },
	}
}

// Key makes an API key of a project.
func (h *Server) Key(projectID string, role project.Role) string {
	h.t.Helper()
	plain, _, err := h.Registry.CreateAPIKey(h.t.Context(), projectID, string(role), role)
	if err != nil {
		h.t.Fatal(err)
	}
	return plain
}

// ScopedKey makes an API key of a project with its own scopes.
func (h *Server) ScopedKey(projectID string, scopes ...project.Scope) string {
	h.t.Helper()
	plain, _, err := h.Registry.CreateScopedKey(h.t.Context(), projectID, project.Scopes(scopes).String(), scopes)
	if err != nil {
		h.t.Fatal(err)
	}
	return plain
}

// Unscope makes of an API key one from before there were scopes, as an upgrade
// finds it.
func (h *Server) Unscope(keyID string) {
	h.t.Helper()
	ctx, key := h.t.Context(), "key."+keyID
	e := must(h.settings.Get(ctx, key))(h.t)
	var env struct {
		Record map[string]any `json:"record"`
	}
	if err := json.Unmarshal(e.Value(), &env); err != nil {
		h.t.Fatal(err)
	}
	delete(env.Record, "scopes")
	b := must(json.Marshal(env))(h.t)
	revision := must(h.settings.Update(ctx, key, b, e.Revision()))(h.t)
	for h.Registry.Snapshot().Revision() < revision {
		if ctx.Err() != nil {
			h.t.Fatal(ctx.Err())
		}
		runtime.Gosched()
	}
}

// must ends a test whose fixture does not open.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
