package store_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/store"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// TestDeleteEvents deletes some of a project's events permanently.
func TestDeleteEvents(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	c := store.Config{Path: filepath.Join(t.TempDir(), "e.duckdb"), Now: func() time.Time { return now }}
	open := func() *store.DuckDB {
		t.Helper()
		d, err := store.OpenDuckDB(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		return d
	}
	d := open()
	g := storetest.NewGenerator(7)
	var events []*event.Event
	for range 6 {
		e := g.Event(now)
		e.ProjectID, e.Content = "default", event.Content{Input: []byte(`"text"`)}
		events = append(events, e)
	}
	events[5].ProjectID = "other"
	for _, batch := range [][]*event.Event{events[:4], events[5:]} {
		if _, err := d.Write(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	ids := func(list ...*event.Event) (out []string) {
		for _, e := range list {
			out = append(out, e.UUID)
		}
		return out
	}
	// The first twice, one that is not stored yet, and one of another project.
	n, err := d.DeleteEvents(t.Context(), "default", ids(events[0], events[1], events[0], events[4], events[5]))
	if err != nil || n != 2 {
		t.Fatalf("deleted %d, %v", n, err)
	}
	counts := func(d *store.DuckDB, want int) {
		t.Helper()
		for _, table := range []string{"events", "content"} {
			if got := count(t, d, "SELECT count(*) FROM "+table); got != want {
				t.Errorf("%d rows in %s, want %d", got, table, want)
			}
		}
	}
	counts(d, 3)
	again := func(d *store.DuckDB) {
		t.Helper()
		res, err := d.Write(t.Context(), events)
		if err != nil || len(res.Stored) != 0 || res.Duplicates != 6 {
			t.Fatalf("stored %d, %d duplicates, %v", len(res.Stored), res.Duplicates, err)
		}
		counts(d, 3)
	}
	again(d)
	if n, err := d.DeleteEvents(t.Context(), "default", ids(events[0])); n != 0 || err != nil {
		t.Errorf("deleted %d again, %v", n, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open()
	again(d)
	// The other project's event of the same uuid is its own.
	theirs := *events[0]
	theirs.ProjectID = "other"
	if res, err := d.Write(t.Context(), []*event.Event{&theirs}); err != nil || len(res.Stored) != 1 {
		t.Errorf("stored %d, %v", len(res.Stored), err)
	}
	if _, err := d.DeleteEvents(t.Context(), "default", []string{"no uuid"}); event.AsError(err).Code != event.CodeInvalid {
		t.Errorf("no uuid: %v", err)
	}
	if n, err := d.DeleteEvents(t.Context(), "default", nil); n != 0 || err != nil {
		t.Errorf("none: %d, %v", n, err)
	}
	// It is remembered for long, not forever.
	for _, days := range []int{80, 11} {
		now = now.AddDate(0, 0, days)
		if _, err := d.Retain(t.Context(), func(string) store.Retention { return store.Retention{} }); err != nil {
			t.Fatal(err)
		}
		if got, want := count(t, d, "SELECT count(*) FROM deleted_events"), map[bool]int{true: 4}[days == 80]; got != want {
			t.Errorf("after %d days more %d uuids are remembered, want %d", days, got, want)
		}
	}
}

func count(t *testing.T, d *store.DuckDB, query string) (n int) {
	t.Helper()
	err := d.Read(t.Context(), func(rows *sql.Rows) error {
		rows.Next()
		return rows.Scan(&n)
	}, query)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
