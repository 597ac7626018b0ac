package reconcile

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/hedgerow/hedgerow/event"
)

const (
	costColumns = "start_time,end_time,amount_value,amount_currency,line_item\n"
	cur         = "line_item_usage_type,line_item_usage_amount,line_item_unblended_cost,line_item_currency_code,line_item_product_code,line_item_usage_account_id,line_item_usage_start_date,line_item_usage_end_date,pricing_unit\n"
)

// TestRefusesWhatItWouldMisread: days of another time zone, months and counts that no
// provider has are refused, not counted on another day or cut.
func TestRefusesWhatItWouldMisread(t *testing.T) {
	for _, c := range []struct{ name, data, message string }{
		{"a day of Los Angeles", costColumns + "1793520000,1793606400,1,usd,\"gpt-4o, input\"\n", "line 2: the day is not a UTC day"},
		{"a month of AWS", cur + "USE1-NovaLite-input-tokens,1000,0.06,USD,AmazonBedrock,1,2026-11-01T00:00:00Z,2026-12-01T00:00:00Z,1K tokens\n", "line 2: the amounts are of more than one day"},
		{"too many tokens", "usage_date_utc,usage_output_tokens\n2026-11-01,1e30\n", "line 2: usage_output_tokens is not a count"},
		{"too many tokens of AWS", cur + "USE1-NovaLite-input-tokens,1e30,0.06,USD,AmazonBedrock,1,2026-11-01,2026-11-02,1K tokens\n", "line 2: line_item_usage_amount is not a count"},
		{"a column twice", "usage_date_utc,cost_usd,cost_usd\n2026-11-01,1,2\n", "the column cost_usd appears twice"},
		{"a cut gzip file", packed(costColumns)[:20], "the gzip file is damaged"},
	} {
		_, err := Parse(File{Name: "bill", Data: []byte(c.data)})
		var e *event.Error
		if !errors.As(err, &e) || !strings.Contains(e.Message, c.message) || e.Hint == "" {
			t.Errorf("%s: %v, want %q", c.name, err, c.message)
		}
	}
	// A bill of taxes is of its month.
	tax := cur + "x,1,7,USD,AmazonBedrock,1,2026-11-01,2026-12-01,\n"
	tax = strings.Replace(tax, "pricing_unit\nx", "line_item_line_item_type\nx", 1)
	if x, err := Parse(File{Data: []byte(strings.TrimSuffix(tax, "\n") + "Tax\n")}); err != nil || len(x) != 1 || len(x[0].Lines) != 1 || x[0].Lines[0].Kind != Other {
		t.Errorf("a tax: %+v, %v", x, err)
	}
}

func packed(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

// TestControlCharacters: a bill cannot send escape sequences to the terminal of who
// lists it.
func TestControlCharacters(t *testing.T) {
	x, err := Parse(File{Data: []byte(costColumns + "1793491200,1793577600,1,usd,\"a\x1b[31m\u009b\u202eb, input\"\n")})
	if err != nil || len(x) != 1 || len(x[0].Lines) != 1 {
		t.Fatalf("%+v, %v", x, err)
	}
	if l := x[0].Lines[0]; l.Item != "a\uFFFD[31m\uFFFD\uFFFDb, input" || l.Model != "a\uFFFD[31m\uFFFD\uFFFDb," && l.Model != "a\uFFFD[31m\uFFFD\uFFFDb" {
		t.Errorf("item %q, model %q", l.Item, l.Model)
	}
	_, err = Parse(File{Name: "a\x1b]0;b", Data: []byte("x\x1b[2J,y\n1,2\n")})
	if err == nil || strings.ContainsRune(err.Error(), '\x1b') {
		t.Errorf("%q", err)
	}
}

// TestManyNames: an import lists some of the fields and units that are not known, not
// all of a file that is full of them.
func TestManyNames(t *testing.T) {
	var fields, units strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&fields, `,"field%d":1`, i)
		fmt.Fprintf(&units, "USE1-NovaLite-input-tokens,1,0.5,USD,AmazonBedrock,1,2026-11-01,2026-11-02,unit %d %%d\n", i)
	}
	x, err := Parse(File{Data: []byte(`{"data":[{"start_time":1793491200,"end_time":1793577600,"results":[{"amount":{"value":1,"currency":"usd"},"line_item":"a, input"` + fields.String() + `}]}]}`)}, File{Data: []byte(cur + units.String())})
	if err != nil || len(x) != 2 {
		t.Fatalf("%+v, %v", x, err)
	}
	if n := len(x[0].Unknown); n != maxNames+1 {
		t.Errorf("%d fields", n)
	}
	if n := len(x[1].Notes); n > maxNames+1 {
		t.Errorf("%d notes", n)
	}
	all := strings.Join(x[1].Notes, "\n")
	if !strings.Contains(all, `lines in "unit 0 %d", whose number of tokens is not known: 1 (`) || !strings.Contains(all, "and others: 2900") {
		t.Error(all)
	}
}

// TestMemory: small files that unpack to much, and files of many empty records, take
// memory in proportion to what an upload may have.
func TestMemory(t *testing.T) {
	quote := costColumns + `1793491200,1793577600,1,usd,"` + strings.Repeat("a", 32<<20)
	for name, c := range map[string]struct{ data, message string }{
		"a quote that does not end": {packed(quote), "line 2 is too long"},
		"empty records":             {packed(`{"data":[` + strings.Repeat("{},", 1<<20) + `{}]}`), "the JSON matches no known export"},
		"lists of lists":            {`{"data":[{"start_time":1793491200,"results":[` + strings.Repeat("[],", 1<<20) + `{}]}]}`, "the JSON matches no known export"},
		"deep lists":                {strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "the JSON matches no known export"},
		"a large field":             {`{"data":[{"start_time":1793491200,"results":[{"x":[` + strings.Repeat("0,", 5<<19) + `0]}]}]}`, "result 1 is too large"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse(File{Data: []byte(c.data)})
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s: %v", name, err)
		}
		if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 90 {
			t.Errorf("%s: %d MiB", name, n)
		}
	}
}
