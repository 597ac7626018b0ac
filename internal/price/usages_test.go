package price_test

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
)

// TestUsages prices usages that the calculators of genai-prices and LiteLLM have priced
// ("make prices" runs them). Each is equal to both, or usages-differences.txt says why
// one of them is another.
func TestUsages(t *testing.T) {
	f, err := os.Open("testdata/usages.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	explained := rules(t, "testdata/usages-differences.txt")
	both, equal, providers := 0, 0, make(map[string]bool)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		if len(fields) != 6 {
			t.Fatalf("%q", lines.Text())
		}
		provider, model, shape := fields[0], fields[1], fields[2]
		e := usageEvent(t, provider, model, fields[3])
		price.Default().Price(e)
		got := "unknown " + e.Cost.Unpriced
		total := counted(e)
		if total.Known {
			got = total.Value.String()
		}
		providers[provider] = true
		if fields[4] != "?" && fields[5] != "?" {
			both++
		}
		agree := 0
		for i, source := range []string{"genai", "litellm"} {
			want := fields[4+i]
			result := ""
			switch usd, err := decimal.NewFromString(want); {
			case want == "?":
				result = "unpriced"
			case err != nil:
				t.Fatalf("%q: %v", lines.Text(), err)
			case !total.Known:
				result = "unknown"
			case total.Value.Sub(usd).Abs().GreaterThan(decimal.New(1, -9)):
				result = "other"
			}
			if result == "" {
				agree++
				continue
			}
			c := charge{source: source, provider: provider, model: model, usage: strings.ReplaceAll(shape, " ", "-")}
			j := slices.IndexFunc(explained, func(r *rule) bool { return r.explains(c, result) })
			if j < 0 {
				t.Errorf("%s: %s %s, %s (%s): %s USD, hedgerow says %s (%s)", source, provider, model, shape, fields[3], want, got, result)
				continue
			}
			explained[j].used = true
		}
		if agree == 2 {
			equal++
		}
	}
	if err := lines.Err(); err != nil || both < 500 || len(providers) < 12 {
		t.Errorf("%d usages of %d providers have two prices, %v", both, len(providers), err)
	}
	t.Logf("%d usages of %d providers have two prices, of which %d are equal to both", both, len(providers), equal)
	unused(t, explained)
}

// usageEvent is a call with a usage in the form of usages.txt.
func usageEvent(t *testing.T, provider, model, usage string) *event.Event {
	e := &event.Event{Name: event.Generation, Provider: provider, Model: model, Timestamp: time.Date(2026, 11, 30, 12, 30, 0, 0, time.UTC)}
	u := &e.Usage
	u.CacheExclusive = event.Some(false)
	counts := map[string]*event.Int{
		"input": &u.Input, "output": &u.Output, "cache_read": &u.CacheRead, "cache_write": &u.CacheWrite, "cache_write_1h": &u.CacheWrite1h, "cache_write_12h": &u.CacheWrite12h,
		"reasoning": &u.Reasoning, "input_audio": &u.InputAudio, "output_audio": &u.OutputAudio, "input_image": &u.InputImage, "output_image": &u.OutputImage,
		"characters": &u.Characters, "pages": &u.Pages, "search_units": &u.SearchUnits,
	}
	for field := range strings.FieldsSeq(usage) {
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "service_tier", "processing":
			e.ServiceTier = value
		case "speed":
			e.Speed = value
		case "geo":
			e.InferenceGeo = value
		case "at":
			at, err := time.Parse("2006-01-02T15:04", value)
			if err != nil {
				t.Fatal(err)
			}
			e.Timestamp = at
		default:
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				t.Fatalf("%q: %v", field, err)
			}
			if name == "seconds" {
				e.Operation, u.MediaTime = "transcriptions", event.Some(time.Duration(n)*time.Second)
			} else if counts[name] == nil {
				t.Fatalf("%q has no count", field)
			} else {
				*counts[name] = event.Some(n)
			}
		}
	}
	return e
}
