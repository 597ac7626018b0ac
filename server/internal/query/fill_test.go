package query_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// benchFile is a store of so many events over the 30 days before now, made once
// and kept in the folder for temporary files: ten million take some minutes.
// Delete it there to have it recreated.
func benchFile(b *testing.B, rows int) string {
	// The number counts changes of what fill writes.
	path := filepath.Join(os.TempDir(), fmt.Sprintf("hedgerow-bench-3-%d.duckdb", rows))
	if _, err := os.Stat(path); err == nil {
		rollUp(b, path) // what a later version has emptied
		return path
	}
	making := path + ".making"
	for _, old := range []string{making, making + ".wal"} {
		if err := os.Remove(old); err != nil && !os.IsNotExist(err) {
			b.Fatal(err)
		}
	}
	s, err := store.OpenDuckDB(b.Context(), store.Config{Path: making})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	const tail = 3000 // that no stretch has
	fill(b, making, rows, 0, rows-tail)
	rollUp(b, making)
	fill(b, making, rows, rows-tail, rows)
	if err := os.Rename(making, path); err != nil {
		b.Fatal(err)
	}
	return path
}

// rollUp closes all stretches of a store.
func rollUp(b *testing.B, path string) {
	s, err := store.OpenDuckDB(b.Context(), store.Config{Path: path, MemoryBytes: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	r, err := query.New(s, func() time.Time { return now })
	if err != nil {
		b.Fatal(err)
	}
	begin, cpu, stretches := time.Now(), cpuTime(), 0
	held := &lockTime{DuckDB: s}
	l := query.Roller{Reader: r, Store: held}
	for done := true; done; stretches++ {
		if done, err = l.Roll(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	if stretches > 1 {
		fmt.Printf("%d stretches rolled up in %v, %v of processor time; writes waited %v for each, %v at most\n", stretches-1, time.Since(begin).Round(time.Millisecond),
			(cpuTime() - cpu).Round(time.Millisecond), (held.all / time.Duration(stretches-1)).Round(time.Millisecond), held.most.Round(time.Millisecond))
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// lockTime measures for how long a Roller keeps events from being written.
type lockTime struct {
	*store.DuckDB
	all, most time.Duration
}

func (l *lockTime) Derive(ctx context.Context, generation uint64, first, last time.Time, f func(*store.Derivation) error) (bool, error) {
	begin := time.Now()
	done, err := l.DuckDB.Derive(ctx, generation, first, last, f)
	took := time.Since(begin)
	l.all, l.most = l.all+took, max(l.most, took)
	return done, err
}

// fill adds the events from one number to another in the engine's own words, of the same kinds as those of
// storetest.Generator: four events a trace, an outcome and a tool call for every
// six calls, more calls of some models, prompts and users than of others, 5 % of
// calls failed, some of unknown cost or tokens.
func fill(b *testing.B, path string, rows, from, to int) {
	const chunk = 500_000
	step := (30 * 24 * time.Hour / time.Duration(rows)).Microseconds()
	in := inFile(b, path)
	for at := from; at < to; at += chunk {
		in(fillSQL, min(at+chunk, to), at, now.Add(-30*24*time.Hour).UnixMicro(), step)
	}
	in("CHECKPOINT; USE memory; DETACH bench")
}

// inFile runs statements on the file of a closed store, with memory of their own.
func inFile(t testing.TB, path string) func(statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	run := func(statement string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	run("SET TimeZone = 'UTC'; SET memory_limit = '2GB'; ATTACH '" + path + "' AS bench; USE bench")
	return run
}

var fillSQL = func() string {
	// die(k, n) is a number below n that the row's number decides, another for
	// each k; skew prefers small ones.
	die := func(k, n int) string { return fmt.Sprintf("CAST(hash(i, %d) %% %d AS BIGINT)", k, n) }
	skew := func(k, n int) string {
		return fmt.Sprintf("CAST(floor(pow((hash(i, %d) %% 100000) / 100000.0, 3) * %d) AS BIGINT)", k, n)
	}
	uniform := func(k int) string { return fmt.Sprintf("((1 + hash(i, %d) %% 1000000) / 1000001.0)", k) }
	choose := func(k string, from ...string) string {
		return "['" + strings.Join(from, "', '") + "'][1 + " + k + "]"
	}
	model := choose(skew(1, 8), "gpt-4.1-mini", "gpt-4.1", "claude-sonnet-4.5", "gemini-2.5-flash", "gpt-5", "claude-haiku-4.5", "mistral-large", "llama-3.3-70b")
	columns := []struct{ name, expr string }{
		{"uuid", "CAST(printf('%012x', micros // 1000) || '7' || substr(md5(CAST(i AS VARCHAR)), 1, 3) || 'b' || substr(md5(CAST(i AS VARCHAR)), 4, 15) AS UUID)"},
		{"project_id", "'default'"},
		{"name", "CASE kind WHEN 'outcome' THEN 'llm_task_completed' WHEN 'tool' THEN '" + event.Span + "' ELSE '" + event.Generation + "' END"},
		{"ts", "make_timestamp(micros)"},
		{"stored_at", "make_timestamp(micros + 400000)"},
		{"content_bytes", "0"},
		{"distinct_id", "'user-' || CAST(floor(pow((hash(i // 4, 2) % 100000) / 100000.0, 2) * 20000) AS BIGINT)"},
		{"source", "'gateway'"},
		{"trace_id", "md5(CAST(i // 4 AS VARCHAR))"},
		{"span_id", "substr(md5(CAST(i AS VARCHAR)), 1, 16)"},
		{"parent_id", "CASE WHEN i % 4 <> 0 THEN substr(md5(CAST(i // 4 * 4 AS VARCHAR)), 1, 16) END"},
		{"session_id", "'s-' || CAST(i // 24 AS VARCHAR)"},
		{"trace_name", "CASE WHEN i % 4 = 0 THEN " + choose(die(3, 4), "answer", "search", "summarise", "classify") + " END"},
		{"span_name", "CASE kind WHEN 'tool' THEN " + choose(skew(4, 6), "search", "fetch", "lookup", "calculate", "mail", "calendar") + " END"},
		{"operation", "CASE kind WHEN 'call' THEN 'chat' WHEN 'tool' THEN 'execute_tool' END"},
		{"latency_us", "CASE WHEN kind <> 'outcome' THEN CAST(-ln(" + uniform(5) + ") * 1500000 AS BIGINT) + 40000 END"},
		{"is_error", "CASE kind WHEN 'call' THEN failed WHEN 'tool' THEN " + die(6, 12) + " = 0 ELSE false END"},
		{"properties", "CASE kind WHEN 'outcome' THEN '{\"agent_config\":\"' || " + choose(die(7, 3), "plain", "planner", "swarm") + " || '\",\"eval_score\":0.' || " + die(8, 100) +
			" || ',\"retry_count\":' || " + die(9, 3) + " || ',\"task_completed\":' || " + choose(die(10, 5), "true", "true", "true", "true", "false") +
			" || ',\"user_feedback\":\"' || " + choose(die(11, 4), "positive", "negative", "neutral", "") + " || '\"}' WHEN 'call' THEN '{\"n\":' || " + die(12, 100) + " || ',\"plan\":\"' || " + choose(die(13, 2), "pro", "free") + " || '\"}' END"},
		{"private", "false"},
	}
	of := []struct{ name, expr string }{ // what only calls say
		{"provider", choose(skew(14, 4), "openai", "anthropic", "google", "openrouter")},
		{"model_asked", model},
		{"model", "CASE WHEN NOT failed THEN " + model + " || '-2026-01-01' END"},
		{"base_url", "'https://api.openai.com/v1'"},
		{"request_url", "'https://api.openai.com/v1/chat/completions'"},
		{"method", "'POST'"},
		{"input_tokens", "CASE WHEN metered THEN input END"},
		{"output_tokens", "CASE WHEN metered THEN output END"},
		{"tokens", "CASE WHEN metered THEN input + output END"},
		{"cache_read_tokens", "CASE WHEN metered AND i % 2 = 0 THEN input // 3 END"},
		{"cache_exclusive", "CASE WHEN metered AND i % 2 = 0 THEN " + die(15, 3) + " = 0 END"},
		{"reasoning_tokens", "CASE WHEN metered AND i % 5 = 0 THEN output // 2 END"},
		{"cost_input", "CASE WHEN metered THEN CAST(input AS DECIMAL(18,0)) * 0.00000015 END"},
		{"cost_output", "CASE WHEN metered THEN CAST(output AS DECIMAL(18,0)) * 0.00000060 END"},
		{"cost_total", "CASE WHEN metered THEN CAST(input AS DECIMAL(18,0)) * 0.00000015 + CAST(output AS DECIMAL(18,0)) * 0.00000060 END"},
		{"cost_model", "CASE WHEN metered THEN " + model + " END"},
		{"cost_source", "CASE WHEN metered THEN 'table' END"},
		{"ttft_us", "CASE WHEN i % 2 = 0 THEN CAST(-ln(" + uniform(16) + ") * 300000 AS BIGINT) + 20000 END"},
		{"stream", "CASE WHEN i % 2 = 0 THEN true END"},
		{"http_status", "CASE WHEN failed THEN 500 ELSE 200 END"},
		{"request_bytes", "3000"},
		{"response_bytes", "2000"},
		{"error_type", "CASE WHEN failed THEN " + choose(skew(17, 4), "server_error", "rate_limit", "timeout", "overloaded") + " END"},
		{"error_message", "CASE WHEN failed THEN 'upstream request ' || substr(md5(CAST(i AS VARCHAR)), 1, 12) || ' failed after ' || " + die(18, 60) + " || ' s' END"},
		{"status", "CASE WHEN failed THEN 'error' ELSE 'success' END"},
		{"stop_reason", "CASE WHEN NOT failed THEN 'stop' END"},
		{"completion_id", "'chatcmpl-' || substr(md5(CAST(i AS VARCHAR)), 1, 16)"},
		{"prompt_name", "CASE WHEN p < 8 THEN 'prompt-' || p END"},
		{"prompt_version", "CASE WHEN p < 8 THEN " + choose(die(19, 4), "1", "2", "3", "4") + " END"},
		{"surface", choose(skew(20, 7), "Conversation", "Test", "Playbook", "Compose", "Conduct", "Guide", "Orchestrate")},
		{"task_type", choose(die(21, 3), "summary", "search", "chat")},
		{"environment", choose(skew(22, 3), "production", "staging", "development")},
		{"input_chars", "input * 4"},
		{"input_length_bucket", choose(die(23, 5), "0-500", "501-2000", "2001-8000", "8001-32000", "32001+")},
	}
	var names, exprs []string
	for _, c := range columns {
		names, exprs = append(names, c.name), append(exprs, c.expr)
	}
	for _, c := range of {
		names, exprs = append(names, c.name), append(exprs, "CASE WHEN kind = 'call' THEN "+c.expr+" END")
	}
	return "INSERT INTO events (" + strings.Join(names, ", ") + ") SELECT " + strings.Join(exprs, ", ") +
		" FROM (SELECT *, NOT failed AND " + die(24, 25) + " <> 0 AS metered FROM (SELECT i, $3 + i * $4 AS micros, CASE i % 8 WHEN 3 THEN 'outcome' WHEN 5 THEN 'tool' ELSE 'call' END AS kind, " +
		die(25, 20) + " = 0 AS failed, " + die(26, 3000) + " AS input, " + die(27, 800) + " AS output, " + skew(28, 10) + " AS p FROM range(CAST($2 AS BIGINT), CAST($1 AS BIGINT)) r(i)))"
}()
