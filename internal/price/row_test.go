package price_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
)

// rows are own prices, as a configuration file has them.
func rows(t testing.TB, text string) []price.Row {
	t.Helper()
	r, err := parseRows(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func parseRows(text string) ([]price.Row, error) {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		return nil, fmt.Errorf("yaml: %w", err)
	}
	if len(n.Content) == 0 {
		return price.RowsFromYAML(&yaml.Node{})
	}
	return price.RowsFromYAML(n.Content[0])
}

func TestRowsFromYAML(t *testing.T) {
	got := rows(t, `
- model: my-model
  aliases: [mine]
  input: 0.9
  output: 2.70
  cache_read: 0
  request: 0.005
  tiers:
    - {above: 128000, input: 1.8}
- {provider: Google-AI, model: m2, unit: token, input: 0.0000001, output: "1e-7", date: 2026-01-31, source: our contract}
`)
	a, b := got[0], got[1]
	if a.Provider != "" || a.Origin != event.CostManual || perMillion(a.Input) != "0.9" || perMillion(a.Output) != "2.7" || a.Aliases[0] != "mine" || a.Request.Value.String() != "0.005" {
		t.Errorf("%+v", a)
	}
	if !a.CacheRead.Known || !a.CacheRead.Value.IsZero() || a.CacheWrite.Known {
		t.Error("0 is a price, none is unknown")
	}
	if len(a.Tiers) != 1 || a.Tiers[0].Above != 128000 || perMillion(a.Tiers[0].Input) != "1.8" || a.Tiers[0].Output.Known {
		t.Errorf("%+v", a.Tiers)
	}
	if b.Provider != "google" || perMillion(b.Input) != "0.1" || perMillion(b.Output) != "0.1" || b.Source != "our contract" || b.Date.Day() != 31 {
		t.Errorf("%+v", b)
	}
	for _, empty := range []string{"", "null", "[]"} {
		if r, err := parseRows(empty); err != nil || len(r) != 0 {
			t.Errorf("%q: %v, %v", empty, r, err)
		}
	}
	if r, err := price.RowsFromYAML(nil); err != nil || r != nil {
		t.Errorf("nil: %v, %v", r, err)
	}
}

func TestRowsFromYAMLErrors(t *testing.T) {
	tests := []struct{ name, yaml, want string }{
		{"not a list", "model: x", "line 1: prices is not a list"},
		{"not a mapping", "- model", "line 1: a price is a mapping"},
		{"unknown key", "- model: x\n  input: 1\n  outptu: 2", `line 3: a price has no key "outptu"`},
		{"unknown key of a tier", "- model: x\n  input: 1\n  tiers:\n  - above: 1\n    inptu: 2", `line 5: a tier has no key "inptu"`},
		{"no model", "- model: a\n  input: 1\n- input: 1", "line 3: the price: it names no model"},
		{"no price", "- model: x", `line 1: the price of "x": it has no price`},
		{"not a number", "- model: x\n  input: cheap", `line 2: a price is a plain number such as 0.15, not "cheap"`},
		{"not finite", "- model: x\n  input: .inf", "a price is a plain number"},
		{"a list for a number", "- model: x\n  input: [1]", "line 2: a price is a number"},
		{"negative", "- model: x\n  input: -1", "input is below 0"},
		{"wrong unit", "- {model: x, input: 0.9, unit: token}", "too high to be true"},
		{"no unit", "- {model: x, input: 0.9, unit: thousand}", "unit is"},
		{"a billion digits", "- {model: x, input: 1e999999999}", "a price is a plain number"},
		{"request too high", "- {model: x, request: 5000}", "request is too high"},
		{"twice", "- {model: my-model, input: 1}\n- {model: My.Model, input: 2}", `line 2: the price of "My.Model" is already given in line 1`},
		{"tier without bound", "- {model: x, input: 1, tiers: [{input: 2}]}", "a tier needs above"},
		{"tier without price", "- {model: x, input: 1, tiers: [{above: 5}]}", "the tier above 5 has no price"},
		{"tiers that descend", "- {model: x, input: 1, tiers: [{above: 5, input: 2}, {above: 5, input: 3}]}", "tiers must ascend"},
		{"tiers not a list", "- {model: x, input: 1, tiers: 5}", "line 1:"},
		{"date", "- {model: x, input: 1, date: yesterday}", "write it as 2026-01-31"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseRows(tt.yaml)
			var e *event.Error
			if !errors.As(err, &e) || e.Code != event.CodeInvalid || e.Hint == "" {
				t.Fatalf("got %v, want an *event.Error with a hint", err)
			}
			if !strings.Contains(e.Message, tt.want) || !strings.HasPrefix(e.Message, "prices, line ") {
				t.Errorf("%q lacks %q", e.Message, tt.want)
			}
		})
	}
}

// FuzzRowsFromYAML: rows that are accepted can be used for pricing, saved and
// read again.
func FuzzRowsFromYAML(f *testing.F) {
	f.Add("- {model: my-model, input: 0.9, output: 2.7, aliases: [a, b]}")
	f.Add("- model: x\n  unit: token\n  input: \"1e-7\"\n  tiers:\n  - {above: 1, input: 0x10}")
	f.Add("- &a {model: x, input: 1}\n- *a")
	f.Add("- {model: x, <<: {input: 1}}")
	f.Add("- {tiers: [[a, b]], model: [1]}")
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := parseRows(text)
		if err != nil {
			return
		}
		tab := price.Default().With(rows...)
		for _, r := range rows {
			e := call("x", r.Model, event.Usage{Input: event.Some[int64](1000), Output: event.Some[int64](1000)})
			tab.Price(e)
			if e.Cost.Total.Known && e.Cost.Total.Value.IsNegative() {
				t.Fatalf("a negative cost: %v", e.Cost.Total.Value)
			}
			b, err := r.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			var again price.Row
			if err := again.UnmarshalJSON(b); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
			if perMillion(again.Input) != perMillion(r.Input) || again.Model != r.Model || len(again.Tiers) != len(r.Tiers) {
				t.Fatalf("%v became %v", r, again)
			}
		}
	})
}
