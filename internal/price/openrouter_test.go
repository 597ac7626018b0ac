package price_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (-update rewrites it); got:\n%s", path, got)
	}
}

func TestParseOpenRouter(t *testing.T) {
	f, err := os.Open("testdata/openrouter.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := price.ParseOpenRouter(f)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for _, r := range rows {
		b, err := r.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		got.Write(append(b, '\n'))
		if r.Origin != event.CostSynced {
			t.Errorf("%s: origin is %q", r.Model, r.Origin)
		}
	}
	golden(t, "openrouter.want", got.Bytes())

	// What the sync would say, over the built-in table.
	day := time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC)
	old := price.Default()
	var lines strings.Builder
	for _, c := range price.Diff(old, old.WithSynced(price.Overlay{Date: day, Rows: rows})) {
		lines.WriteString(c.String() + "\n")
	}
	golden(t, "openrouter.diff", []byte(lines.String()))
}

func TestParseOpenRouterErrors(t *testing.T) {
	for name, text := range map[string]string{
		"empty":         "",
		"a web page":    "<!doctype html><html>",
		"a list":        `[{"id": "a/b"}]`,
		"cut off":       `{"data": [{"id": "a/b", "pricing": {"prompt": "0.000001", "completion": "0.000001"}},`,
		"data elsewise": `{"data": {"a": 1}}`,
		"no models":     `{"data": []}`,
		"no prices":     `{"data": [{"id": "a/b"}]}`,
		"LiteLLM's":     `{"gpt-4o": {"input_cost_per_token": 0.0000025}}`,
	} {
		rows, err := price.ParseOpenRouter(strings.NewReader(text))
		var e *event.Error
		if !errors.As(err, &e) || e.Code != event.CodeInvalid || e.Hint == "" || len(rows) != 0 {
			t.Errorf("%s: %v, %v", name, rows, err)
		}
	}
}

// FuzzParseOpenRouter: rows that are read are valid for pricing, and the same
// after saving.
func FuzzParseOpenRouter(f *testing.F) {
	b, err := os.ReadFile("testdata/openrouter.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"data":[{"id":"a/b","pricing":{"prompt":"1e-9","completion":"\"0.001\""}}]}`))
	f.Add([]byte(`{"data":[{"id":"a:free","pricing":{"discount":-1,"overrides":[{"min_prompt_tokens":1,"prompt":"0.001"},{"min_prompt_tokens":2,"prompt":"0.001"}]}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := price.ParseOpenRouter(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, r := range rows {
			text, err := r.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			var again price.Row
			if err := again.UnmarshalJSON(text); err != nil {
				t.Fatalf("%s cannot be read again: %v", text, err)
			}
		}
		tab := price.Default().WithSynced(price.Overlay{Rows: rows, Date: time.Now()})
		if d := price.Diff(tab, tab); len(d) != 0 {
			t.Fatalf("a table differs from itself: %s", d[0])
		}
		for _, c := range price.Diff(price.Default(), tab) {
			if s := c.String(); strings.HasSuffix(s, ": ") || c.Kind == price.Removed {
				t.Fatal(s)
			}
		}
		for _, r := range rows {
			e := call("openrouter", r.Model, event.Usage{Input: n(1000), CacheRead: n(10), CacheWrite: n(10), Output: n(10)})
			tab.Price(e)
			if e.Cost.Total.Known && e.Cost.Total.Value.IsNegative() {
				t.Fatalf("%s: a negative cost", r.Model)
			}
		}
	})
}
