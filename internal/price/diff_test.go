package price_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/internal/price"
)

func TestDiff(t *testing.T) {
	old := price.Default().With(rows(t, `
- {provider: acme, model: gone, input: 5, output: 15}
- {provider: acme, model: same, input: 1, output: 2}
- {provider: acme, model: dearer, input: 2, output: 8, cache_read: 0.5, request: 0.01, tiers: [{above: 1000, input: 4}]}
- {provider: acme, model: renamed, input: 1, output: 2}
`)...)
	next := price.Default().With(rows(t, `
- {model: new, input: 0.15, output: 0.6, cache_read: 0.0125, web_search: 0.01}
- {provider: acme, model: same, input: 1.00, output: 2, date: 2026-01-01, source: elsewhere, aliases: [x]}
- {provider: acme, model: dearer, input: 1.5, output: 8, request: 0.02, tiers: [{above: 1000, input: 4, output: 9}, {above: 2000, input: 5}]}
- {provider: acme, model: other-name, aliases: [renamed], input: 1, output: 2}
`)...)
	var got []string
	for _, c := range price.Diff(old, next) {
		got = append(got, c.String())
	}
	want := []string{
		"+ any new: input $0.15, output $0.60, cache_read $0.0125, web_search $0.01 each",
		"~ acme dearer: input $2 → $1.50, cache_read $0.50 → unknown, output above 1000 tokens unknown → $9, input above 2000 tokens unknown → $5, request $0.01 → $0.02 each",
		"- acme gone: input $5, output $15",
		"+ acme other-name: input $1, output $2",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if d := price.Diff(old, old); len(d) != 0 {
		t.Errorf("a table differs from itself: %v", d)
	}
}

// TestDiffLooksThroughAliases: a synced row for what was an alias is a change only
// if it costs something else.
func TestDiffLooksThroughAliases(t *testing.T) {
	sync := func(yaml string) []price.Change {
		o := price.Overlay{Date: time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC), Rows: rows(t, yaml)}
		var vendor []price.Change
		for _, c := range price.Diff(price.Default(), price.Default().WithSynced(o)) {
			if c.New.Provider == "openai" {
				vendor = append(vendor, c)
			}
		}
		return vendor
	}
	// gpt-5.1-codex is an alias of gpt-5.1: 1.25, 10, cache 0.125, search 0.01.
	if d := sync(`[{provider: openrouter, model: openai/gpt-5.1-codex, input: 1.25, output: 10, cache_read: 0.125, web_search: 0.01}]`); len(d) != 0 {
		t.Errorf("%v", d)
	}
	d := sync(`[{provider: openrouter, model: openai/gpt-5.1-codex, input: 1.25, output: 11, cache_read: 0.125, web_search: 0.01}]`)
	// The prices of its tiers stay: the source says nothing of them.
	if len(d) != 1 || d[0].String() != "~ openai gpt-5.1-codex: output $10 → $11" {
		t.Errorf("%v", d)
	}
}
