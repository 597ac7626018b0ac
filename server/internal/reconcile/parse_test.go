package reconcile

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/hedgerow/hedgerow/event"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestParse reads an export of each format as its provider writes it and compares the
// lines with those of NAME.want, which were checked against the file by hand.
func TestParse(t *testing.T) {
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	tested := 0
	for _, path := range files {
		if strings.HasSuffix(path, ".want") || filepath.Ext(path) == "" {
			continue
		}
		tested++
		t.Run(filepath.Base(path), func(t *testing.T) {
			data := read(t, path)
			exports, err := Parse(File{Name: filepath.Base(path), Data: data})
			if err != nil {
				t.Fatal(err)
			}
			got := describe(exports)
			if *update {
				if err := os.WriteFile(path+".want", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, _ := os.ReadFile(path + ".want")
			if got != string(want) {
				t.Errorf("%s gives\n%s\nwant\n%s", path, got, want)
			}
			// The same file, twice and compressed, is the same export.
			var z bytes.Buffer
			w := gzip.NewWriter(&z)
			_, _ = w.Write(data)
			_ = w.Close()
			again, err := Parse(File{Data: data}, File{Data: data})
			if err != nil || describe(again) != got {
				t.Errorf("twice: %v\n%s", err, describe(again))
			}
			if packed, err := Parse(File{Data: z.Bytes()}); err != nil || describe(packed) != got {
				t.Errorf("compressed: %v\n%s", err, describe(packed))
			}
		})
	}
	if tested < 12 {
		t.Errorf("%d exports", tested)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// describe writes exports as text.
func describe(exports []Export) string {
	var b strings.Builder
	for _, x := range exports {
		fmt.Fprintf(&b, "feed %s, days %s, step %s\n", x.Feed, strings.Join(x.Days, " "), x.Step)
		fmt.Fprintf(&b, "unknown: %s\nnotes: %s\n", strings.Join(x.Unknown, ", "), strings.Join(x.Notes, "; "))
		for _, l := range x.Lines {
			fmt.Fprintf(&b, "%s", l.Day)
			for _, p := range [][2]string{{"account", l.Account}, {"model", l.Model}, {"tier", l.Tier}, {"kind", string(l.Kind)}, {"item", l.Item}} {
				if p[1] != "" {
					fmt.Fprintf(&b, " | %s %s", p[0], p[1])
				}
			}
			if l.Quantity.Known {
				fmt.Fprintf(&b, " | n %s", l.Quantity.Value)
			}
			if l.USD.Known {
				fmt.Fprintf(&b, " | $%s of %d", l.USD.Value, l.Rows)
			}
			if l.Requests.Known {
				fmt.Fprintf(&b, " | calls %d", l.Requests.Value)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func TestRefused(t *testing.T) {
	const bucket = `{"object":"page","data":[{"start_time":1793491200,"end_time":%d,"results":[{"object":"organization.costs.result","amount":{"value":%s,"currency":"%s"},"line_item":"a, input"}]}]}`
	for _, c := range []struct{ name, data, message string }{
		{"empty", "", "the file is empty"},
		{"spaces", " \n ", "the file is empty"},
		{"web page", "<!doctype html><html>", "this is a web page, not an export"},
		{"zip", "PK\x03\x04abcdef", "this is a zip file"},
		{"parquet", "PAR1abcdef", "this is a Parquet file"},
		{"bad gzip", "\x1f\x8bxx", "the gzip file is damaged"},
		{"other CSV", "name,age\nA,3\n", "the columns match no known export: name, age"},
		{"other JSON", `{"hello":1}`, "the JSON matches no known export"},
		{"cut JSON", `{"object":"page","data":[{"start`, "the file is not JSON"},
		{"error answer", `{"error":{"message":"Invalid key","type":"auth"}}`, "this is an error of the provider's API, not an export: Invalid key"},
		{"no results", `{"object":"page","data":[]}`, "the file has no results"},
		{"euros", fmt.Sprintf(bucket, 1793577600, "1.5", "eur"), "result 1: the amount is in EUR"},
		{"month", fmt.Sprintf(bucket, 1796083200, "1.5", "usd"), "result 1: the amounts are of more than one day"},
		{"huge", fmt.Sprintf(bucket, 1793577600, "1e999999999", "usd"), "result 1: amount_value is not a number"},
		{"amount", "start_time,amount_value\n1793491200,abc\n", "line 2: amount_value is not a number"},
		{"negative count", "usage_date_utc,usage_output_tokens\n2026-11-01,-5\n", "line 2: usage_output_tokens is not a count"},
		{"date", "usage_date_utc,cost_usd\nyesterday,5\n", "line 2: usage_date_utc is not a date or time"},
		{"no date", "usage_date_utc,cost_usd\n,5\n", "line 2: usage_date_utc is not there"},
		{"cut CSV", "usage_date_utc,cost_usd\n2026-11-01\n", "line 2 has 1 columns, the first line has 2"},
		{"quotes", "usage_date_utc,cost_usd\n\"2026-11-01,5\n", "is not CSV"},
		{"only columns", "usage_date_utc,cost_usd\n", "the file has a header but no rows"},
		{"yuan", "line_item_usage_type,line_item_unblended_cost,line_item_currency_code,line_item_product_code,line_item_usage_start_date\nx,1,CNY,AmazonBedrock,2026-11-01\n", "line 2: the amount is in CNY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(File{Name: "bill", Data: []byte(c.data)})
			var e *event.Error
			if !errors.As(err, &e) || !strings.Contains(e.Message, c.message) || !strings.HasPrefix(e.Message, "bill: ") || e.Hint == "" {
				t.Errorf("%v, want %q", err, c.message)
			}
		})
	}
	if _, err := Parse(); err == nil {
		t.Error("no files are an import")
	}
}

// TestEmptyPage: a page without results covers its days if its source is known.
func TestEmptyPage(t *testing.T) {
	page := []byte(`{"object":"page","data":[{"object":"bucket","start_time":1793491200,"end_time":1793577600,"results":[]}],"has_more":false}`)
	if _, err := Parse(File{Data: page}); err == nil {
		t.Error("a page of unknown source is taken")
	}
	x, err := Parse(File{Data: page, Feed: OpenAICosts})
	if err != nil || len(x) != 1 || x[0].Feed != OpenAICosts || strings.Join(x[0].Days, " ") != "2026-11-01" || len(x[0].Lines) != 0 {
		t.Errorf("%+v, %v", x, err)
	}
}

func TestColumnName(t *testing.T) {
	for in, want := range map[string]string{
		"lineItem/UsageType": "line_item_usage_type", "identity/LineItemId": "identity_line_item_id", "bill/PayerAccountId": "bill_payer_account_id", "pricing/publicOnDemandCost": "pricing_public_on_demand_cost",
		"savingsPlan/SavingsPlanARN": "savings_plan_savings_plan_arn", "resourceTags/user:team": "resource_tags_user_team", "product/ProductName": "product_product_name",
		"Usage Date": "usage_date", "amount.value": "amount_value",
	} {
		if got := columnName(in); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
}

// The fuzz targets: for any file, parsing ends with an error for users or with
// lines that are whole.
func fuzz(f *testing.F, seeds ...string) {
	for _, s := range seeds {
		f.Add(read(f, filepath.Join("testdata", s)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		exports, err := Parse(File{Data: data})
		if err != nil {
			if e := (*event.Error)(nil); !errors.As(err, &e) || e.Message == "" || e.Code == event.CodeInternal {
				t.Fatalf("%v", err)
			}
			return
		}
		for _, x := range exports {
			for _, l := range x.Lines {
				if l.Kind == "" || len(l.Day) != len("2026-11-01") || l.Quantity.Known && l.Quantity.Value.IsNegative() && l.Kind.usage() {
					t.Fatalf("%+v", l)
				}
			}
			if len(x.Days) == 0 && len(x.Lines) > 0 {
				t.Fatalf("%d lines of no day", len(x.Lines))
			}
			_ = describe(exports)
		}
	})
}

func FuzzOpenAI(f *testing.F) {
	fuzz(f, "openai-costs.json", "openai-costs.csv", "openai-usage.json", "openai-usage.tsv")
}

func FuzzAnthropic(f *testing.F) {
	fuzz(f, "anthropic-costs.json", "anthropic-costs.csv", "anthropic-usage.json", "anthropic-usage.csv", "anthropic-analytics.json")
}

func FuzzOpenRouter(f *testing.F) { fuzz(f, "openrouter-activity.json", "openrouter-activity.csv") }

func FuzzAWS(f *testing.F) { fuzz(f, "aws-legacy.csv", "aws-cur2.csv") }
