package price_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
)

// TestWays prices a million tokens of input, or one page, by the built-in table: what the
// day, the hour, the place and the way of calling change.
func TestWays(t *testing.T) {
	const bedrock = "https://bedrock-runtime.us-gov-west-1.amazonaws.com"
	annotated := map[string]json.RawMessage{"document_annotation_format": json.RawMessage(`{"type":"json_schema"}`)}
	plain := map[string]json.RawMessage{"document_annotation_format": json.RawMessage("null")}
	for _, tt := range []struct {
		name, provider, model, at string
		change                    func(*event.Event)
		want                      string
	}{
		{"DeepSeek, at a peak hour of a Monday", "deepseek", "deepseek-flash", "2026-11-30T02:00", nil, "0.3"},
		{"the same hour on a Sunday", "deepseek", "deepseek-flash", "2026-11-29T02:00", nil, "0.15"},
		{"a Monday between the peaks", "deepseek", "deepseek-flash", "2026-11-30T05:59", nil, "0.15"},
		{"the first minute of the second peak", "deepseek", "deepseek-flash", "2026-11-30T06:00", nil, "0.3"},
		{"before there were peaks", "deepseek", "deepseek-v4-flash", "2026-08-10T02:00", nil, "0.14"},
		{"peaks of every day", "deepseek", "deepseek-v4-flash", "2026-08-22T02:00", nil, "0.44"},
		{"weekends without peak", "deepseek", "deepseek-v4-flash", "2026-08-23T02:00", nil, "0.22"},
		{"weekdays with peaks", "deepseek", "deepseek-v4-flash", "2026-08-24T02:00", nil, "0.44"},
		{"a name of last year", "deepseek", "deepseek-chat", "2025-12-01T12:00", nil, "0.28"},

		{"a bare id at Bedrock is called in its region", "bedrock", "anthropic.claude-sonnet-5", "2026-11-30T12:00", nil, "2.2"},
		{"global", "bedrock", "global.anthropic.claude-sonnet-5", "2026-11-30T12:00", nil, "2"},
		{"in the region of the address", "bedrock", "anthropic.claude-sonnet-5", "2026-11-30T12:00", func(e *event.Event) { e.BaseURL = bedrock }, "2.4"},
		{"in the region of the ARN", "bedrock", "arn:aws-us-gov:bedrock:us-gov-east-1:123456789012:inference-profile/anthropic.claude-sonnet-5", "2026-11-30T12:00", nil, "2.4"},
		{"in the region of the id", "bedrock", "us-gov.anthropic.claude-sonnet-5", "2026-11-30T12:00", nil, "2.4"},
		{"another provider's call there is not Bedrock's", "openai", "gpt-4.1", "2026-11-30T12:00", func(e *event.Event) { e.BaseURL = bedrock }, "2"},
		{"the Gemini API", "gemini", "gemini-2.0-flash", "2026-11-30T12:00", nil, "0.1"},
		{"Vertex", "gcp.vertex_ai", "gemini-2.0-flash", "2026-11-30T12:00", nil, "0.15"},
		{"Vertex by its address", "google", "gemini-2.0-flash", "2026-11-30T12:00", func(e *event.Event) { e.BaseURL = "https://us-east5-aiplatform.googleapis.com/v1" }, "0.15"},
		{"Vertex without a price of its own", "gcp.vertex_ai", "gemini-2.5-flash", "2026-11-30T12:00", nil, "0.3"},

		{"a tier before its first day, at today's standard price", "openai", "gpt-4o", "2026-09-01T12:00", tier("priority"), "4.25"},
		{"a tier before its first day, at another standard price", "openai", "gpt-5.6-luna", "2026-07-01T12:00", tier("flex"), "unknown service_tier flex"},
		{"Anthropic's batches before the first day", "anthropic", "claude-opus-4-6", "2026-03-01T12:00", tier("batch"), "5"}, // long prompts cost twice as much then
		{"Anthropic's batches today", "anthropic", "claude-opus-4-6", "2026-11-30T12:00", tier("batch"), "2.5"},

		{"pages", "mistral", "mistral-ocr-latest", "2026-11-30T12:00", pages(plain, ""), "0.004"},
		{"annotated pages", "mistral", "mistral-ocr-latest", "2026-11-30T12:00", pages(annotated, ""), "0.005"},
		{"annotated pages in a batch", "mistral", "mistral-ocr-latest", "2026-11-30T12:00", pages(annotated, "batch"), "0.0025"},
		{"annotated pages last year", "mistral", "mistral-ocr-latest", "2025-12-01T12:00", pages(annotated, ""), "0.003"},
		{"annotated pages before there were any", "mistral", "mistral-ocr-latest", "2025-04-01T12:00", pages(annotated, ""), "0.003"},

		{"a search at Azure", "azure", "gpt-4.1", "2026-11-30T12:00", search, "0.014"},
		{"a search at OpenAI", "openai", "gpt-4.1", "2026-11-30T12:00", search, "0.01"},
		{"Gemini's cache by OpenRouter: input and storage", "openrouter", "google/gemini-2.5-pro", "2026-11-30T12:00", func(e *event.Event) {
			e.Usage.Input, e.Usage.CacheWrite = event.Some[int64](1000), event.Some[int64](1000)
		}, "0.001625"},
		{"free, as its provider says", "zai", "glm-4.7-flash", "2026-11-30T12:00", nil, "0"},
	} {
		at, err := time.Parse("2006-01-02T15:04", tt.at)
		if err != nil {
			t.Fatal(err)
		}
		e := &event.Event{Name: event.Generation, Provider: tt.provider, Model: tt.model, Timestamp: at, Usage: event.Usage{Input: event.Some[int64](1_000_000)}}
		if tt.change != nil {
			tt.change(e)
		}
		price.Default().Price(e)
		got := "unknown " + e.Cost.Unpriced
		if total := counted(e); total.Known {
			got = total.Value.String()
		}
		if got != tt.want {
			t.Errorf("%s: %s at %s costs %s, want %s", tt.name, tt.model, tt.provider, got, tt.want)
		}
	}
}

// TestCorrectionsAndFeed: a correction holds as long as the feed says of a model what the
// built-in prices from it do. Once it says something else, the feed holds.
func TestCorrectionsAndFeed(t *testing.T) {
	row := func(r price.Row, input string) price.Row {
		r.Periods, r.Variants = nil, nil
		r.Input = event.Some(decimal.RequireFromString(input).Shift(-6))
		return r
	}
	var same, moved []price.Row
	for _, r := range price.Default().Builtin() {
		if r.Provider == "deepseek" || r.Provider == "mistral" {
			same = append(same, r)
			switch r.Model {
			case "deepseek-flash":
				r = row(r, "0.2")
			case "mistral-large-2512":
				r = row(r, "0.6")
			}
			moved = append(moved, r)
		}
	}
	sunday := time.Date(2026, 12, 6, 2, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name            string
		rows            []price.Row
		deepseek, large string
	}{{"the feed as it was", same, "0.15", "0.5"}, {"the feed has moved", moved, "0.2", "0.6"}} {
		table := price.Default().WithRefreshed(price.Overlay{Date: sunday, Rows: tt.rows})
		for model, want := range map[string]string{"deepseek/deepseek-flash": tt.deepseek, "mistral/mistral-large-latest": tt.large} {
			provider, name, _ := strings.Cut(model, "/")
			r, _ := table.Match(provider, name)
			if got := price.PerMillion(r.At(sunday).Input); got != want {
				t.Errorf("%s: %s costs %s, want %s", tt.name, model, got, want)
			}
		}
	}
}

func tier(name string) func(*event.Event) { return func(e *event.Event) { e.ServiceTier = name } }

func pages(parameters map[string]json.RawMessage, tier string) func(*event.Event) {
	return func(e *event.Event) {
		e.ModelParameters, e.ServiceTier, e.Usage = parameters, tier, event.Usage{Pages: event.Some[int64](1)}
	}
}

func search(e *event.Event) { e.Usage = event.Usage{WebSearches: event.Some[int64](1)} }
