package event_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

// extremes are JSON numbers that no event can have.
var extremes = []string{
	"9223372036854775807", "-9223372036854775808", "9223372036854775808", "1e308", "-1e308", "1e309", "-1", "-0.5e30", "1e999999999", "-1e999999999",
	`"9223372036854775807"`, `"NaN"`, `"Infinity"`, `"-inf"`, `"1e400"`, "1" + strings.Repeat("0", 300), "-" + strings.Repeat("9", 5000),
}

// TestBound sets extreme values on every field that is read from the wire.
func TestBound(t *testing.T) {
	for _, b := range event.Bounds {
		if b.Wire == "" {
			continue
		}
		for _, v := range extremes {
			if b.Min < 0 && strings.Trim(v, `"`) == "-1" {
				continue // within the bounds
			}
			e := &event.Event{Name: event.Generation}
			e.SetWireProperties(map[string]json.RawMessage{b.Wire: json.RawMessage(v), "mine": json.RawMessage("1")})
			e.Bound()
			if got, want := string(e.Properties[event.Warnings]), fmt.Sprintf(`["%s out of range"]`, b.Field); got != want {
				t.Errorf("%s = %.40s: warnings %s, want %s", b.Wire, v, got, want)
			}
			if got := e.WireProperties(); len(got) != 3 || string(got["mine"]) != "1" { // mine, the warnings, $ai_is_error
				t.Errorf("%s = %.40s: %v", b.Wire, v, got)
			}
		}
		for _, v := range []float64{b.Min, b.Max} {
			e := &event.Event{Name: event.Generation}
			raw, _ := json.Marshal(v)
			e.SetWireProperties(map[string]json.RawMessage{b.Wire: raw})
			before, _ := json.Marshal(e)
			e.Bound()
			if after, _ := json.Marshal(e); e.Properties[event.Warnings] != nil || string(before) != string(after) {
				t.Errorf("%s = %s became %s", b.Wire, raw, after)
			}
		}
	}
}

// TestBoundTwice checks that bounding is idempotent, that shared maps are not
// changed, and that a caller's own property of that name is replaced or
// extended.
func TestBoundTwice(t *testing.T) {
	shared := map[string]json.RawMessage{"eval_score": json.RawMessage("1e300"), event.Warnings: json.RawMessage(`["latency out of range"]`)}
	e := &event.Event{Name: "llm_output_rated", Properties: shared, Latency: event.Some[time.Duration](math.MaxInt64), RequestBytes: -1,
		Usage: event.Usage{ReportedCost: event.Some(decimal.New(-1, 2_000_000_000))}}
	e.Bound()
	const want = `["latency out of range","request_bytes out of range","reported_cost out of range","eval_score out of range"]`
	for range 2 {
		if got := string(e.Properties[event.Warnings]); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
		e.Bound()
	}
	if len(shared) != 2 || string(shared["eval_score"]) != "1e300" {
		t.Errorf("the caller's map has become %v", shared)
	}
	for _, own := range []string{`{"a":1}`, `"x"`, `[1,2]`, `null`} {
		e := &event.Event{Name: event.Generation, HTTPStatus: -5, Properties: map[string]json.RawMessage{event.Warnings: json.RawMessage(own)}}
		e.Bound()
		if got := string(e.Properties[event.Warnings]); got != `["http_status out of range"]` {
			t.Errorf("%s became %s", own, got)
		}
	}
}

// TestBoundsAreDocumented compares docs/events.md with the table.
func TestBoundsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range event.Bounds {
		if !strings.Contains(string(page), "`"+b.Field+"`") {
			t.Errorf("docs/events.md does not document the bounds of %s", b.Field)
		}
	}
}

func FuzzDollars(f *testing.F) {
	for _, v := range extremes {
		f.Add(v)
	}
	f.Add("0.000000000000000000000000000000000001")
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := event.Dollars(s)
		if !ok {
			return
		}
		e := &event.Event{Cost: event.Cost{Total: event.Some(d)}}
		e.Bound()
		if d := e.Cost.Total; d.Known && (d.Value.IsNegative() || d.Value.GreaterThan(decimal.NewFromInt(event.MaxCostUSD))) {
			t.Errorf("%q became %v", s, d.Value)
		}
	})
}
