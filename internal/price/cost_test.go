package price_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
)

// The prices of these tests, in USD per million tokens: a table of our own, so
// that no vendor can break the arithmetic.
const testPrices = `
- {provider: openai, model: gpt-t, input: 2, output: 8, cache_read: 0.5}
- {provider: openai, model: gpt-bare, input: 2, output: 8}
- {provider: openai, model: gpt-write, input: 4, output: 20, cache_read: 0.4, cache_write: 5}
- {provider: openai, model: gpt-audio-t, input: 2.5, output: 10, cache_read: 1, input_audio: 40, output_audio: 80, cache_read_audio: 20}
- {provider: openai, model: gpt-image-t, input: 5, output: 10, input_image: 8, output_image: 32}
- {provider: openai, model: gpt-search, input: 2, output: 8, web_search: 0.01}
- {provider: openai, model: embed-t, input: 0.02}
- {provider: openai, model: input-only, input: 1}
- {provider: openai, model: tiered, input: 1, output: 2, cache_read: 0.1, tiers: [{above: 200, input: 3, output: 4}, {above: 400, input: 5}]}
- {provider: anthropic, model: claude-t, input: 3, output: 15, cache_read: 0.3, cache_write: 3.75, cache_write_1h: 6, web_search: 0.01}
- {provider: anthropic, model: claude-bare, input: 3, output: 15}
- {provider: openrouter, model: anthropic/claude-t, input: 3, output: 15, cache_read: 0.3, cache_write: 3.75}
- {provider: google, model: gemini-2.5-t, input: 1, output: 10}
- {provider: google, model: gemini-2.0-t, input: 1, output: 10}
- {provider: perplexity, model: sonar-t, input: 2, output: 8, reasoning: 3, web_search: 0.005, request: 0.006}
- {provider: acme, model: per-call, request: 0.5}
- {provider: acme, model: gratis, input: 0, output: 0}
`

func call(provider, model string, u event.Usage) *event.Event {
	return &event.Event{UUID: event.NewID(), Name: event.Generation, Source: event.SourceGateway, Provider: provider, Model: model, Usage: u, Timestamp: today}
}

// today is the day of the tests: prices have days.
var today = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// n is a known count.
func n(v int64) event.Int { return event.Some(v) }

func usd(s string) price.USD { return event.Some(decimal.RequireFromString(s)) }

// TestPrice follows the contract's section 4. want is
// input/output/request/search=total in USD per million calls, ? where unknown;
// then the source, the price's model and provider; then CacheExclusive if known. A
// total after ≥ is unknown, and the call cost at least that: a side was not counted.
func TestPrice(t *testing.T) {
	type ev = event.Event
	in, out := n(1000), n(100)
	tests := []struct {
		name     string
		provider string
		model    string
		usage    event.Usage
		change   func(*ev)
		want     string
	}{
		{name: "input and output", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, Output: out},
			want: "2000/800/?/?=2800 manual gpt-t@openai inclusive"},
		{name: "zero tokens cost zero", provider: "openai", model: "gpt-t", usage: event.Usage{Input: n(0), Output: n(0)},
			want: "0/0/?/?=0 manual gpt-t@openai inclusive"},
		{name: "no counts, no cost", provider: "openai", model: "gpt-t", want: "?/?/?/?=?"},
		{name: "input alone", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in},
			want: "2000/?/?/?=≥2000 manual gpt-t@openai inclusive"},
		{name: "output alone", provider: "openai", model: "gpt-t", usage: event.Usage{Output: out},
			want: "?/800/?/?=≥800 manual gpt-t@openai"},
		{name: "unknown model", provider: "openai", model: "gpt-nobody", usage: event.Usage{Input: in, Output: out},
			want: "?/?/?/?=? inclusive"},
		{name: "no model", provider: "openai", usage: event.Usage{Input: in, Output: out}, want: "?/?/?/?=? inclusive"},
		{name: "a model known to be free", provider: "acme", model: "gratis", usage: event.Usage{Input: in, Output: out},
			want: "0/0/?/?=0 manual gratis@acme inclusive"},
		{name: "the model asked for where none answered", provider: "openai", usage: event.Usage{Input: in}, change: func(e *ev) { e.ModelAsked = "gpt-t" },
			want: "2000/?/?/?=≥2000 manual gpt-t@openai inclusive"},
		{name: "embedding", provider: "openai", model: "embed-t", usage: event.Usage{Input: in}, change: func(e *ev) { e.Name = event.Embedding },
			want: "20/?/?/?=20 manual embed-t@openai inclusive"},
		{name: "embedding with output count 0", provider: "openai", model: "embed-t", usage: event.Usage{Input: in, Output: n(0)}, change: func(e *ev) { e.Name = event.Embedding },
			want: "20/?/?/?=20 manual embed-t@openai inclusive"},
		{name: "output without a price makes the total unknown", provider: "openai", model: "input-only", usage: event.Usage{Input: in, Output: out},
			want: "1000/?/?/?=? manual input-only@openai inclusive"},
		{name: "other events have no cost", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in}, change: func(e *ev) { e.Name = event.Span },
			want: "?/?/?/?=?"},

		// Cache, OpenAI's way: inside the input count.
		{name: "cache read, inclusive", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, CacheRead: n(400), Output: out},
			want: "1400/800/?/?=2200 manual gpt-t@openai inclusive"}, // 600×2 + 400×0.5
		{name: "cache read without a rate is half", provider: "openai", model: "gpt-bare", usage: event.Usage{Input: in, CacheRead: n(400)},
			want: "1600/?/?/?=≥1600 manual gpt-bare@openai inclusive"}, // 600×2 + 400×1
		{name: "cache write without a rate is input", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, CacheRead: n(400), CacheWrite: n(100)},
			want: "1400/?/?/?=≥1400 manual gpt-t@openai inclusive"},
		{name: "cache write with a rate", provider: "openai", model: "gpt-write", usage: event.Usage{Input: in, CacheRead: n(400), CacheWrite: n(100)},
			want: "2660/?/?/?=≥2660 manual gpt-write@openai inclusive"}, // 500×4 + 400×0.4 + 100×5
		{name: "exclusive by word", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, CacheRead: n(400), CacheExclusive: event.Some(true)},
			want: "2200/?/?/?=≥2200 manual gpt-t@openai exclusive"}, // 1000×2 + 400×0.5
		{name: "more cache than input", provider: "openai", model: "gpt-t", usage: event.Usage{Input: n(100), CacheRead: n(400)},
			want: "200/?/?/?=≥200 manual gpt-t@openai inclusive cache_exceeds_input"},

		// Cache, Anthropic's way: next to the input count.
		{name: "claude, exclusive", provider: "anthropic", model: "claude-t", usage: event.Usage{Input: in, CacheRead: n(400), CacheWrite: n(200), Output: out},
			want: "3870/1500/?/?=5370 manual claude-t@anthropic exclusive"}, // 1000×3 + 400×0.3 + 200×3.75
		{name: "claude, writes of an hour", provider: "anthropic", model: "claude-t", usage: event.Usage{Input: in, CacheWrite: n(300), CacheWrite5m: n(100), CacheWrite1h: n(200)},
			want: "4575/?/?/?=≥4575 manual claude-t@anthropic exclusive"}, // 3000 + 100×3.75 + 200×6
		{name: "claude, part of the writes told apart", provider: "anthropic", model: "claude-t", usage: event.Usage{Input: in, CacheWrite: n(300), CacheWrite1h: n(200)},
			want: "4575/?/?/?=≥4575 manual claude-t@anthropic exclusive"},
		{name: "claude without rates: 0.1, 1.25, 2", provider: "anthropic", model: "claude-bare", usage: event.Usage{Input: in, CacheRead: n(1000), CacheWrite5m: n(1000), CacheWrite1h: n(1000)},
			want: "13050/?/?/?=≥13050 manual claude-bare@anthropic exclusive"}, // 3000 + 300 + 3750 + 6000
		{name: "claude, inclusive by word", provider: "anthropic", model: "claude-t", usage: event.Usage{Input: in, CacheRead: n(400), CacheWrite: n(200), CacheExclusive: event.Some(false)},
			want: "2070/?/?/?=≥2070 manual claude-t@anthropic inclusive"}, // 400×3 + 400×0.3 + 200×3.75
		{name: "claude through OpenRouter counts inclusive", provider: "openrouter", model: "anthropic/claude-t", usage: event.Usage{Input: in, CacheRead: n(400), CacheWrite: n(200)},
			want: "2070/?/?/?=≥2070 manual anthropic/claude-t@openrouter inclusive"},
		{name: "vercel, counts that can only be exclusive", provider: "anthropic", model: "claude-t", usage: event.Usage{Input: n(100), CacheRead: n(400)}, change: prop("$ai_framework", `"vercel"`),
			want: "420/?/?/?=≥420 manual claude-t@anthropic exclusive"},
		{name: "vercel, counts that may be inclusive", provider: "anthropic", model: "claude-t", usage: event.Usage{Input: in, CacheRead: n(400)}, change: prop("$ai_framework", `"vercel"`),
			want: "1920/?/?/?=≥1920 manual claude-t@anthropic inclusive"},

		// Modalities.
		{name: "audio", provider: "openai", model: "gpt-audio-t", usage: event.Usage{Input: in, InputAudio: n(200), Output: out, OutputAudio: n(50)},
			want: "10000/4500/?/?=14500 manual gpt-audio-t@openai inclusive"}, // 800×2.5 + 200×40, 50×10 + 50×80
		{name: "cached audio", provider: "openai", model: "gpt-audio-t", usage: event.Usage{Input: in, InputAudio: n(200), CacheRead: n(300), CacheReadAudio: n(100)},
			want: "7700/?/?/?=≥7700 manual gpt-audio-t@openai inclusive"}, // (800−200)×2.5 + 200×1 + 100×40 + 100×20
		{name: "audio without a rate is text", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, InputAudio: n(200), Output: out, OutputAudio: n(50)},
			want: "2000/800/?/?=2800 manual gpt-t@openai inclusive"},
		{name: "images", provider: "openai", model: "gpt-image-t", usage: event.Usage{Input: in, InputImage: n(200), Output: out, OutputImage: n(100)},
			want: "5600/3200/?/?=8800 manual gpt-image-t@openai inclusive"}, // 800×5 + 200×8, 100×32
		{name: "modalities without a total count", provider: "openai", model: "gpt-audio-t", usage: event.Usage{InputText: n(800), InputAudio: n(200)},
			want: "10000/?/?/?=≥10000 manual gpt-audio-t@openai inclusive"},
		{name: "more audio than input", provider: "openai", model: "gpt-audio-t", usage: event.Usage{Input: n(100), InputAudio: n(200)},
			want: "8000/?/?/?=≥8000 manual gpt-audio-t@openai inclusive modality_exceeds_input"},
		{name: "output that is only estimated", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, OutputEstimated: n(40)},
			want: "2000/?/?/?=? manual gpt-t@openai inclusive"},
		{name: "text output told apart", provider: "openai", model: "gpt-audio-t", usage: event.Usage{Output: out, OutputText: n(40), OutputAudio: n(60)},
			want: "?/5200/?/?=≥5200 manual gpt-audio-t@openai"},

		// Reasoning.
		{name: "reasoning is in the output", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, Output: out, Reasoning: n(60)},
			want: "2000/800/?/?=2800 manual gpt-t@openai inclusive"},
		{name: "reasoning at its own rate", provider: "perplexity", model: "sonar-t", usage: event.Usage{Output: out, Reasoning: n(60)},
			want: "?/500/6000/?=≥6500 manual sonar-t@perplexity"}, // 40×8 + 60×3
		{name: "gemini", provider: "google", model: "gemini-2.5-t", usage: event.Usage{Output: out, Reasoning: n(60)},
			want: "?/1000/?/?=≥1000 manual gemini-2.5-t@google"},
		{name: "gemini 2.0 does not think", provider: "google", model: "gemini-2.0-t", usage: event.Usage{Output: out, Reasoning: n(60)}, change: func(e *ev) { e.Source = event.SourceIngest },
			want: "?/1000/?/?=≥1000 manual gemini-2.0-t@google"},

		// Requests and searches.
		{name: "request and searches", provider: "perplexity", model: "sonar-t", usage: event.Usage{Input: in, Output: out, WebSearches: n(3)},
			want: "2000/800/6000/15000=23800 manual sonar-t@perplexity inclusive"},
		{name: "searches are not guessed", provider: "openai", model: "gpt-search", usage: event.Usage{Input: in},
			want: "2000/?/?/?=≥2000 manual gpt-search@openai inclusive"},
		{name: "no searches cost nothing", provider: "openai", model: "gpt-search", usage: event.Usage{Input: in, WebSearches: n(0)},
			want: "2000/?/?/0=≥2000 manual gpt-search@openai inclusive"},
		{name: "searches without a price", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, WebSearches: n(2)},
			want: "2000/?/?/?=? manual gpt-t@openai inclusive"},
		{name: "request count", provider: "acme", model: "per-call", change: prop("$ai_request_count", "3"),
			want: "?/?/1500000/?=1500000 manual per-call@acme"},
		{name: "a failed call that used nothing", provider: "acme", model: "per-call", change: func(e *ev) { e.IsError = true },
			want: "?/?/?/?=?"},

		// Long prompts.
		{name: "at the bound", provider: "openai", model: "tiered", usage: event.Usage{Input: n(200), Output: out},
			want: "200/200/?/?=400 manual tiered@openai inclusive"},
		{name: "above it, the whole call", provider: "openai", model: "tiered", usage: event.Usage{Input: n(201), Output: out},
			want: "603/400/?/?=1003 manual tiered@openai inclusive"},
		{name: "the highest that applies; what it lacks is the row's", provider: "openai", model: "tiered", usage: event.Usage{Input: n(401), Output: out, CacheRead: n(1)},
			want: "2000.1/200/?/?=2200.1 manual tiered@openai inclusive"},
		{name: "cached tokens outside the input count towards it", provider: "openai", model: "tiered", usage: event.Usage{Input: n(101), CacheRead: n(100), CacheExclusive: event.Some(true)},
			want: "313/?/?/?=≥313 manual tiered@openai exclusive"},

		// Precedence.
		{name: "the provider's word wins", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, Output: out, ReportedCost: usd("0.01")},
			want: "?/?/?/?=10000 passthrough inclusive"},
		{name: "even if it is 0", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, Output: out, ReportedCost: usd("0")},
			want: "?/?/?/?=0 passthrough inclusive"},
		{name: "and over custom prices", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, ReportedCost: usd("0.01")}, change: props("$ai_input_token_price", "1", "$ai_output_token_price", "1"),
			want: "?/?/?/?=10000 passthrough inclusive"},
		{name: "and for a model that nobody knows", provider: "openrouter", model: "new/model", usage: event.Usage{ReportedCost: usd("0.01")},
			want: "?/?/?/?=10000 passthrough"},
		{name: "a total that came wins over it", provider: "openai", model: "gpt-t", usage: event.Usage{ReportedCost: usd("0.01")}, change: func(e *ev) { e.Cost.Total = usd("0.02") },
			want: "?/?/?/?=20000 passthrough"},
		{name: "parts that came", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, Output: out}, change: func(e *ev) {
			e.Cost.Input, e.Cost.Output, e.Cost.Request = usd("0.001"), usd("0.002"), usd("0.004")
		}, want: "1000/2000/4000/?=7000 passthrough inclusive"},
		{name: "parts of 0 did not come", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, Output: out}, change: func(e *ev) { e.Cost.Input, e.Cost.Output = usd("0"), usd("0") },
			want: "2000/800/?/?=2800 manual gpt-t@openai inclusive"},
		{name: "one part that came is kept", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, Output: out}, change: func(e *ev) { e.Cost.Input = usd("1") },
			want: "1000000/800/?/?=1000800 manual gpt-t@openai inclusive"},
		{name: "custom prices", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, Output: out, CacheRead: n(400), WebSearches: n(2)},
			change: props("$ai_input_token_price", "0.00001", "$ai_output_token_price", `"0.00002"`, "$ai_cache_read_token_price", "0.000001", "$ai_request_price", "0.5", "$ai_web_search_price", "0.25"),
			want:   "6400/2000/500000/500000=1008400 custom custom@custom inclusive"},
		{name: "custom prices of cache writes", provider: "anthropic", model: "claude-nobody", usage: event.Usage{Input: in, Output: out, CacheWrite: n(300), CacheWrite1h: n(200)},
			change: props("$ai_input_token_price", "0.00001", "$ai_output_token_price", "0.00002", "$ai_cache_write_token_price", "0.00003", "$ai_cache_write_1h_token_price", "0.00004"),
			want:   "21000/2000/?/?=23000 custom custom@custom exclusive"},
		{name: "half of a custom price is none", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in}, change: prop("$ai_input_token_price", "1"),
			want: "2000/?/?/?=≥2000 manual gpt-t@openai inclusive"},
		{name: "unreadable custom prices are none", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in}, change: props("$ai_input_token_price", `"NaN"`, "$ai_output_token_price", `{}`),
			want: "2000/?/?/?=≥2000 manual gpt-t@openai inclusive"},

		// Nonsense.
		{name: "negative counts", provider: "openai", model: "gpt-t", usage: event.Usage{Input: n(-5), Output: out},
			want: "0/800/?/?=800 manual gpt-t@openai inclusive negative_count"},
		{name: "negative cost", provider: "openai", model: "gpt-t", usage: event.Usage{ReportedCost: usd("-1")},
			want: "?/?/?/?=0 passthrough negative_cost"},
		{name: "a cost of thousands of digits", provider: "openai", model: "gpt-t", usage: event.Usage{Input: in, ReportedCost: usd("1e9000")},
			want: "2000/?/?/?=≥2000 manual gpt-t@openai inclusive unreadable_cost"},
	}
	tab := price.Default().With(rows(t, testPrices)...)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := call(tt.provider, tt.model, tt.usage)
			if tt.change != nil {
				tt.change(e)
			}
			tab.Price(e)
			if got := costLine(e); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			// What has been priced stays as it is: pricing twice is pricing once.
			before := *e
			tab.Price(e)
			if e.Cost.Total.Known && !reflect.DeepEqual(before, *e) {
				t.Errorf("priced again it is %s", costLine(e))
			}
		})
	}
}

func prop(name, value string) func(*event.Event) { return props(name, value) }

func props(kv ...string) func(*event.Event) {
	return func(e *event.Event) {
		e.Properties = make(map[string]json.RawMessage)
		for i := 0; i < len(kv); i += 2 {
			e.Properties[kv[i]] = json.RawMessage(kv[i+1])
		}
	}
}

// TestUncounted: a call one side of which was not counted has no known cost, but one
// that it cost at least.
func TestUncounted(t *testing.T) {
	in, out := n(1000), n(100)
	tab := price.Default().With(rows(t, testPrices)...)
	for _, tt := range []struct {
		name, model string
		usage       event.Usage
		change      func(*event.Event)
		want, lacks string
	}{
		{"output tokens only", "gpt-t", event.Usage{Output: out}, nil, "?/800/?/?=≥800 manual gpt-t@openai", "input_tokens"},
		{"input tokens only", "gpt-t", event.Usage{Input: in}, nil, "2000/?/?/?=≥2000 manual gpt-t@openai inclusive", "output_tokens"},
		{"a cache read without the input", "gpt-t", event.Usage{CacheRead: in, Output: out}, nil, "500/800/?/?=≥1300 manual gpt-t@openai inclusive", "input_tokens"},
		{"thoughts without the output", "gpt-t", event.Usage{Input: in, Reasoning: out}, nil, "2000/800/?/?=≥2800 manual gpt-t@openai inclusive", "output_tokens"},
		{"a search alone", "gpt-search", event.Usage{WebSearches: n(1)}, nil, "?/?/?/10000=≥10000 manual gpt-search@openai", "input_tokens,output_tokens"},
		{"parts that add up to the side", "gpt-audio-t", event.Usage{InputText: n(800), InputAudio: n(200), Output: out}, nil, "10000/1000/?/?=11000 manual gpt-audio-t@openai inclusive", ""},
		{"a failed call that counted its input", "gpt-t", event.Usage{Input: in}, func(e *event.Event) { e.IsError = true }, "2000/?/?/?=≥2000 manual gpt-t@openai inclusive", "output_tokens"},
		{"a failed call that counted nothing", "gpt-t", event.Usage{}, func(e *event.Event) { e.IsError = true }, "?/?/?/?=?", ""},
		{"an embedding", "gpt-t", event.Usage{Input: in}, func(e *event.Event) { e.Name = event.Embedding }, "2000/?/?/?=2000 manual gpt-t@openai inclusive", ""},
		{"a side that came with its cost", "gpt-t", event.Usage{Output: out}, func(e *event.Event) { e.Cost.Input = usd("0.002") }, "2000/800/?/?=2800 manual gpt-t@openai", ""},
		{"no side is billed by tokens", "per-call", event.Usage{}, func(e *event.Event) { e.Provider = "acme" }, "?/?/500000/?=500000 manual per-call@acme", ""},
		{"a free model", "gratis", event.Usage{Output: out}, func(e *event.Event) { e.Provider = "acme" }, "?/0/?/?=0 manual gratis@acme", ""},
	} {
		e := call("openai", tt.model, tt.usage)
		if tt.change != nil {
			tt.change(e)
		}
		tab.Price(e)
		if got := costLine(e); got != tt.want || e.Cost.Unpriced != tt.lacks {
			t.Errorf("%s: %s, lacking %q; want %s, lacking %q", tt.name, got, e.Cost.Unpriced, tt.want, tt.lacks)
		}
	}
}

// counted is the cost of what the usage of a test counts. Most tests count one side of
// a call, so that the call cost at least that.
func counted(e *event.Event) price.USD {
	for _, name := range strings.Split(e.Cost.Unpriced, ",") {
		if (name != "input_tokens" || e.Usage.Input.Known) && (name != "output_tokens" || e.Usage.Output.Known || e.Usage.OutputEstimated.Known) {
			return e.Cost.Total
		}
	}
	return e.Cost.Sum()
}

func costLine(e *event.Event) string {
	show := func(v price.USD) string {
		if !v.Known {
			return "?"
		}
		return v.Value.Shift(6).String()
	}
	c := e.Cost
	total := show(c.Total)
	if least := counted(e); !c.Total.Known && least.Known {
		total = "≥" + show(least)
	}
	s := fmt.Sprintf("%s/%s/%s/%s=%s", show(c.Input), show(c.Output), show(c.Request), show(c.WebSearch), total)
	if c.Source != "" {
		s += " " + c.Source
	}
	if c.ModelUsed != "" || c.Provider != "" {
		s += " " + c.ModelUsed + "@" + c.Provider
	}
	if e.Usage.CacheExclusive.Known {
		s += map[bool]string{true: " exclusive", false: " inclusive"}[e.Usage.CacheExclusive.Value]
	}
	if w := e.Properties[price.WarningProperty]; w != nil {
		s += " " + strings.Trim(string(w), `"`)
	}
	return s
}

// TestPriceBuiltin checks a few public models by hand: a slip of the unit in the
// table would show here.
func TestPriceBuiltin(t *testing.T) {
	u := event.Usage{Input: n(1_000_000), Output: n(100_000)}
	for _, tt := range []struct{ provider, model, want string }{
		{"openai", "gpt-4.1-mini-2025-04-14", "0.56"},
		{"openai", "gpt-4o", "3.5"},
		{"openai", "gpt-4o-mini", "0.21"},
		{"anthropic", "claude-sonnet-4-6", "4.5"},
		{"anthropic", "claude-haiku-4-5-20251001", "1.5"},
		{"google", "gemini-2.5-flash", "0.55"},
		{"google", "gemini-2.5-pro", "4"}, // above 200,000 tokens: 2.50 and 15
		{"openrouter", "openai/gpt-4.1-mini", "0.56"},
		{"groq", "llama-3.3-70b-versatile", "0.669"},
		{"mistral", "mistral-large-latest", "0.65"},
	} {
		e := call(tt.provider, tt.model, u)
		price.Default().Price(e)
		if got := e.Cost.Total; !got.Known || got.Value.String() != tt.want || e.Cost.Source != event.CostTable {
			t.Errorf("%s/%s costs %s (%s), want %s", tt.provider, tt.model, got.Value, e.Cost.Source, tt.want)
		}
	}
}

// TestDeploymentAlias: a deployment's name decides, not the response model.
func TestDeploymentAlias(t *testing.T) {
	tab := price.Default().WithAliases("azure", map[string]string{"prod-chat": "gpt-4.1-mini", "prod-claude": "claude-sonnet-4-6"}).
		With(rows(t, `[{provider: azure, model: fine-tuned, input: 100, output: 100}]`)...)
	for _, tt := range []struct{ asked, answered, want string }{
		{"prod-chat", "", "400/?/?/?=≥400 table gpt-4.1-mini@openai inclusive"},
		{"prod-chat", "gpt-4o-2024-08-06", "400/?/?/?=≥400 table gpt-4.1-mini@openai inclusive"},
		{"fine-tuned", "gpt-4o-2024-08-06", "100000/?/?/?=≥100000 manual fine-tuned@azure inclusive"},
		{"unheard-of", "gpt-4o-2024-08-06", "2500/?/?/?=≥2500 table gpt-4o@openai inclusive"},
		{"unheard-of", "", "?/?/?/?=? inclusive"},
	} {
		e := call("azure", tt.answered, event.Usage{Input: n(1000)})
		e.ModelAsked = tt.asked
		tab.Price(e)
		if got := costLine(e); got != tt.want {
			t.Errorf("%s, answered by %q: got %s, want %s", tt.asked, tt.answered, got, tt.want)
		}
	}
}

// TestBaseURLTellsProvider: the OpenAI SDK calls itself openai wherever it points.
func TestBaseURLTellsProvider(t *testing.T) {
	for base, want := range map[string]string{
		"https://api.groq.com/openai/v1": "groq", "https://openrouter.ai:443/api/v1": "openrouter",
		"https://api.openai.com/v1": "openai", "": "openai", "not a url": "openai",
	} {
		e := call("openai", "openai/gpt-oss-120b", event.Usage{Input: n(1000)})
		e.BaseURL = base
		price.Default().Price(e)
		if e.Cost.Provider != want {
			t.Errorf("%q: the price is of %q, want %q", base, e.Cost.Provider, want)
		}
	}
}

// TestNoDrift: the sum of many small costs is exact to the last digit, where sums
// of float64 are not.
func TestNoDrift(t *testing.T) {
	const calls = 10_000
	sum, float := decimal.Zero, 0.0
	for range calls {
		e := call("openai", "gpt-4o-mini", event.Usage{Input: n(7), Output: n(3)})
		price.Default().Price(e)
		sum = sum.Add(e.Cost.Total.Value)
		f, _ := e.Cost.Total.Value.Float64()
		float += f
	}
	// 7 × 0.15 + 3 × 0.60 = 2.85 USD per million calls.
	if want := "0.0285"; sum.String() != want {
		t.Errorf("the sum is %s, want %s", sum, want)
	}
	if float == 0.0285 {
		t.Error("float64 does not drift here: the test shows nothing")
	}
}

// TestWriteBack: a priced event tells PostHog what it cost and by which price.
// TestCacheSaved: tokens read from a cache × (price of input − price of a cache
// read), in USD per million calls.
func TestCacheSaved(t *testing.T) {
	table := price.Default().With(rows(t, testPrices)...)
	read := func(in, cached int64) event.Usage {
		return event.Usage{Input: n(in), Output: n(100), CacheRead: n(cached)}
	}
	for _, c := range []struct {
		name, provider, model string
		usage                 event.Usage
		change                func(*event.Event)
		want                  string
	}{
		{"a price of its own", "openai", "gpt-t", read(1000, 400), nil, "600"},                                                                   // 400 × (2 − 0.5)
		{"no price of its own: half", "openai", "gpt-bare", read(1000, 400), nil, "400"},                                                         // 400 × (2 − 1)
		{"claude: nine tenths", "anthropic", "claude-bare", read(1000, 400), nil, "1080"},                                                        // 400 × (3 − 0.3), next to the input
		{"writing is not set against it", "openai", "gpt-write", event.Usage{Input: n(1000), CacheRead: n(100), CacheWrite: n(500)}, nil, "360"}, // 100 × (4 − 0.4)
		{"a tier", "openai", "tiered", read(300, 100), nil, "290"},                                                                               // 100 × (3 − 0.1)
		{"sound", "openai", "gpt-audio-t", event.Usage{Input: n(100), InputAudio: n(50), CacheRead: n(30), CacheReadAudio: n(10)}, nil, "230"},   // 20 × (2.5 − 1) + 10 × (40 − 20)
		{"nothing read", "openai", "gpt-t", read(1000, 0), nil, "0"},
		{"not told", "openai", "gpt-t", event.Usage{Input: n(1000), Output: n(100)}, nil, "?"},
		{"no price", "openai", "gpt-nobody", read(1000, 400), nil, "?"},
		{"priced by somebody else", "openai", "gpt-t", read(1000, 400), func(e *event.Event) { e.Usage.ReportedCost = usd("1") }, "?"},
	} {
		e := call(c.provider, c.model, c.usage)
		if c.change != nil {
			c.change(e)
		}
		table.Price(e)
		got := "?"
		if s := e.Cost.CacheSaved; s.Known {
			got = s.Value.Shift(6).String()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestWriteBack(t *testing.T) {
	e := call("openai", "gpt-4.1-mini", event.Usage{Input: n(1000), Output: n(100)})
	e.ProjectID = "p"
	price.Default().Price(e)
	b, err := e.MarshalPostHog(event.Wire{})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"$ai_total_cost_usd": "0.00056", "$ai_input_cost_usd": "0.0004", "$ai_output_cost_usd": "0.00016", "$ai_cost_passthrough": "true",
		"$ai_model_cost_used": `"gpt-4.1-mini"`, "$ai_cost_model_source": `"table"`, "$ai_cost_model_provider": `"openai"`, "$ai_cache_reporting_exclusive": "false",
	} {
		if s := string(got.Properties[name]); s != want {
			t.Errorf("%s is %s, want %s", name, s, want)
		}
	}
}

func BenchmarkPrice(b *testing.B) {
	u := event.Usage{Input: n(1200), Output: n(350), CacheRead: n(400), CacheWrite: n(100), CacheExclusive: event.Some(true)}
	for _, m := range [][2]string{{"openai", "gpt-4.1-mini-2025-04-14"}, {"anthropic", "claude-sonnet-4-6"}, {"google", "gemini-2.5-pro"}, {"openai", "unknown"}} {
		b.Run(m[1], func(b *testing.B) {
			e := call(m[0], m[1], u)
			b.ReportAllocs()
			for b.Loop() {
				e.Cost = event.Cost{}
				price.Default().Price(e)
			}
		})
	}
}

func BenchmarkMatchUncached(b *testing.B) {
	b.ReportAllocs()
	tab := price.Default()
	for i := 0; b.Loop(); i++ {
		tab.Match("openrouter", "unknown/model-"+decimal.NewFromInt(int64(i)).String())
	}
}
