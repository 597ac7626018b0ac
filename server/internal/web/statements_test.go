package web_test

import (
	"context"
	"database/sql"
	"io"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web"
)

// counted is a store that counts its statements.
type counted struct {
	query.Store
	statements atomic.Int64
}

func (c *counted) Read(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	c.statements.Add(1)
	return c.Store.Read(ctx, scan, query, args...)
}

// TestStatements bounds how many statements a dashboard takes where there are
// roll-ups: each of its questions what it needs itself, and all together what tells
// which events the roll-ups cover.
func TestStatements(t *testing.T) {
	w := newWorld(t)
	roller := query.Roller{Reader: w.Query, Store: w.Store, Stretch: 200}
	if done, err := roller.Roll(t.Context()); err != nil || !done {
		t.Fatalf("nothing was rolled up: %v", err)
	}
	store := &counted{Store: w.Store}
	services := w.Services
	var err error
	if services.Query, err = query.New(store, w.clock.now); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(web.New(web.Config{Services: services, Eraser: w.site, PublicURL: "http://hedgerow.example", Now: w.clock.now, Delivery: w.delivery, Providers: func() []string { return nil }}))
	defer server.Close()
	w.server = server
	client := w.as(w.admin)
	for page, most := range map[string]int64{"/traffic": 25, "/latency-cost": 51, "/quality": 21, "/agents": 28, "/models": 20, "/evals": 13} {
		store.statements.Store(0)
		resp, err := client.Get(server.URL + "/p/default" + page + "?range=30d")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if n := store.statements.Load(); resp.StatusCode != 200 || n == 0 || n > most {
			t.Errorf("%s: %s with %d statements, want at most %d", page, resp.Status, n, most)
		}
	}
}
