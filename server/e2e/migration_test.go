package e2e

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"

	"github.com/hedgerow/hedgerow/server/internal/health"
)

// migrationStart is the day of the first of the events of a migration.
const migrationStart = "2026-01-01"

// fillOld adds events to the store of a folder of 3b558a2, each of which a migration
// changes: fewer tokens than none.
func (w *world) fillOld(events int) {
	w.t.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		w.t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	// Row groups as hedgerow makes them: DuckDB cannot change a table whose row groups have another size.
	_, err = db.ExecContext(w.t.Context(), fmt.Sprintf(`ATTACH '%[3]s' AS old (ROW_GROUP_SIZE 20480); INSERT INTO old.events (uuid, project_id, name, ts, stored_at, content_bytes, is_error, private, input_tokens, output_tokens)
		SELECT uuid(), 'default', '$ai_generation', TIMESTAMP '%[1]s' + INTERVAL (i) MICROSECOND, TIMESTAMP '%[1]s' + INTERVAL (i) MICROSECOND, 0, false, false, -1, 7 FROM range(%[2]d) AS r(i); CHECKPOINT old`, migrationStart, events, filepath.Join(w.dir, "hedgerow.duckdb")))
	if err = errors.Join(err, db.Close()); err != nil {
		w.t.Fatal(err)
	}
}

// migrating is how /readyz describes a migration.
var migrating = regexp.MustCompile(`being migrated from schema (\d+) to \d+(?:: (\d+) % of)?`)

// migration returns the state of a migration in progress from /readyz: the schema that
// it started from, and the percentage done. ok is false if there is none.
func (p *proc) migration() (from, percent int, ok bool) {
	resp, err := http.Get(p.base + "/readyz")
	if err != nil {
		return 0, 0, false // not listening yet
	}
	defer resp.Body.Close()
	var ready struct {
		Components []health.Report `json:"components"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&ready); err != nil || resp.StatusCode != http.StatusOK {
		p.w.t.Errorf("/readyz: %d %v", resp.StatusCode, err)
		return 0, 0, false
	}
	for _, c := range ready.Components {
		if m := migrating.FindStringSubmatch(c.Message); c.Component == "store" && m != nil {
			from, _ = strconv.Atoi(m[1])
			percent, _ = strconv.Atoi(m[2])
			return from, percent, true
		}
	}
	return 0, 0, false
}

// callsDuring makes calls until enough says that it has seen enough of the
// migration, or until the migration ends, and returns how many it made during
// it and the slowest. Each call must succeed.
func (p *proc) callsDuring(enough func(from, percent, calls int) bool) (calls int, slowest time.Duration) {
	t := p.w.t
	t.Helper()
	began := false
	p.w.await(func() bool {
		from, percent, ok := p.migration()
		if !ok {
			return began || p.storeWorks()
		}
		if began = true; enough(from, percent, calls) {
			return true
		}
		start := time.Now()
		if status, body, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody, "X-PostHog-Distinct-Id", "during"); err != nil || status != http.StatusOK {
			t.Fatalf("a call during the migration: %d %s %v\n%s", status, body, err, p.logs())
		}
		if took := time.Since(start); took > slowest {
			slowest = took
		}
		if status, _ := p.send(t.Context(), "GET", "/readyz?for=store", ""); status == http.StatusServiceUnavailable {
			calls++
		}
		return false
	}, p.logs)
	return calls, slowest
}

func (p *proc) storeWorks() bool {
	status, _ := p.send(p.w.t.Context(), "GET", "/readyz?for=store", "")
	return status == http.StatusOK
}

// TestMigration starts on a large folder of 3b558a2. While its store is migrated the
// gateway serves calls, and /readyz, log and metrics show the progress. kill -9 in the
// middle does no harm: the next start continues, and every event is correct.
//
// With HEDGEROW_UPGRADE (make upgrade) the store has millions of events, so that the
// migration takes more than one transaction; else as many as a migration can be seen
// with, which is more on a faster machine.
func TestMigration(t *testing.T) {
	long := os.Getenv("HEDGEROW_UPGRADE") != ""
	if !long {
		t.Parallel()
	}
	events := 150_000
	if long {
		events = 2_000_000 // in four transactions
	}
	for ; !migrationOf(t, events, long); events *= 2 {
		t.Logf("the migration of %d events was over before it was seen", events)
	}
}

func migrationOf(t *testing.T, events int, long bool) (seen bool) {
	w := newWorld(t)
	w.env = []string{"POSTHOG_API_KEY=", "POSTHOG_HOST="}
	w.unpackOld()
	made := time.Now()
	w.fillOld(events)
	t.Logf("%d events made in %v", events, time.Since(made).Round(time.Millisecond))
	p := w.launch()
	began := time.Now()
	first, slowest := p.callsDuring(func(_, percent, calls int) bool { return calls > 0 && (!long || percent > 0) })
	if first == 0 {
		p.kill()
		return false
	}
	if m := p.metric("hedgerow_store_migration_progress"); m < 0 || m >= 1 || long && m == 0 {
		t.Errorf("the metric says that %v of the migration is done", m)
	}
	// Acknowledged events are on disk soon after.
	w.await(func() bool { return p.metric("hedgerow_journal_appended_total") >= float64(first) }, p.logs)
	_, _, middle := p.migration()
	p.kill()
	t.Logf("killed %v after the start, still migrating: %v; %d calls, the slowest %v", time.Since(began).Round(time.Millisecond), middle, first, slowest.Round(time.Millisecond))
	if !middle {
		return false
	}
	if log := p.logs(); !strings.Contains(log, "the store is being migrated: calls are forwarded") || strings.Contains(log, "the store was migrated") {
		t.Errorf("the log of the first start:\n%s", log)
	}

	began = time.Now()
	p = w.launch()
	from := 0
	second, slowest := p.callsDuring(func(f, _, calls int) bool { from = f; return calls > 0 && !long })
	w.await(p.storeWorks, p.logs)
	t.Logf("migrated %v after the second start; %d calls, the slowest %v", time.Since(began).Round(time.Millisecond), second, slowest.Round(time.Millisecond))
	if second == 0 || from < 9 { // 8 and 9 had been made
		t.Errorf("%d calls while the migration went on from schema %d", second, from)
	}
	if log := p.logs(); !strings.Contains(log, "the store was migrated") || long && !strings.Contains(log, "events_done=") {
		t.Errorf("the log of the second start:\n%s", log)
	}
	if m := p.metric("hedgerow_store_migration_progress"); m != 1 {
		t.Errorf("the metric says that %v is done at the end", m)
	}
	w.await(func() bool { // pages and API are opened last
		status, _ := p.send(t.Context(), "GET", "/readyz?for=web", "")
		return status == http.StatusOK
	}, p.logs)
	p.awaitStored("user=during", first+second)
	var stats struct {
		Totals struct {
			Calls        int64
			InputTokens  *int64 `json:"input_tokens"`
			OutputTokens int64  `json:"output_tokens"`
		}
	}
	p.get("/api/v1/stats?to=2026-01-02T00:00:00Z&from="+migrationStart+"T00:00:00Z", &stats)
	if got := stats.Totals; got.Calls != int64(events) || got.OutputTokens != 7*int64(events) || got.InputTokens != nil && *got.InputTokens != 0 {
		t.Errorf("after the migration of %d events: %+v", events, got)
	}
	if strings.Contains(p.logs(), "engine has failed") {
		t.Errorf("the store's engine has failed:\n%s", p.logs())
	}
	p.stop()
	return true
}
