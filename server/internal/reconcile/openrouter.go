package reconcile

import (
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// OpenRouter's activity: GET /api/v1/activity, a row per day, model and endpoint (package
// openrouter of PyPI), and the CSV export of the page Activity, a row per call. Prompt
// tokens include cached ones, completion tokens reasoning. Amounts are what OpenRouter
// charged in USD; what a caller's own provider key was charged is not among them.

var openRouterDays = format{
	name:  "OpenRouter activity",
	known: names("date model model_permaslug endpoint_id provider_name usage byok_usage_inference requests prompt_tokens completion_tokens reasoning_tokens cached_tokens workspace_id workspace api_key_name variant"),
	is: func(has func(string) bool) bool {
		return has("date") && has("usage") && (has("model") || has("model_permaslug"))
	},
	feed: func(record) Feed { return OpenRouterActivity },
	read: func(r record, c *collector) error { return readOpenRouter(r, c, "date", "usage") },
}

var openRouterCalls = format{
	name: "OpenRouter activity by call",
	known: names(`generation_id created_at cost_total cost_web_search cost_cache cost_file_processing byok_usage_inference tokens_prompt tokens_completion tokens_reasoning tokens_cached
		model_permaslug model provider_name variant cancelled streamed user finish_reason_raw finish_reason_normalized generation_time_ms time_to_first_token_ms api_key_disabled api_key_name app_name`),
	is: func(has func(string) bool) bool {
		return has("generation_id") && has("cost_total") && has("created_at")
	},
	feed: func(record) Feed { return OpenRouterActivity },
	read: func(r record, c *collector) error { return readOpenRouter(r, c, "created_at", "cost_total") },
}

func readOpenRouter(r record, c *collector, date, cost string) error {
	day, err := r.day([]string{date}, nil)
	if err != nil {
		return err
	}
	usd, err := r.number(cost)
	if err != nil {
		return err
	}
	read := func(fields ...string) (n Amount) {
		if err == nil {
			n, err = r.count(fields...)
		}
		return n
	}
	prompt, cached, completion := read("prompt_tokens", "tokens_prompt"), read("cached_tokens", "tokens_cached"), read("completion_tokens", "tokens_completion")
	requests, own := read("requests"), read("byok_usage_inference")
	if err != nil {
		return err
	}
	l := Line{Day: day, Model: r.text("model", "model_permaslug"), Requests: event.Some[int64](1)}
	if variant := strings.ToLower(r.text("variant")); variant != "" && variant != Standard && !strings.Contains(l.Model, ":") {
		l.Model += ":" + variant
	}
	if requests.Known {
		l.Requests = event.Some(requests.Value.IntPart())
	}
	if own.Known && own.Value.IsPositive() {
		c.note("rows with charges of your own provider keys, which are on that provider's bill and not counted here: " + times)
	}
	if err := addAll(c, l, quantities{{Input, less(prompt, cached)}, {CacheRead, cached}, {Output, completion}}); err != nil {
		return err
	}
	return c.add(Line{Day: day, Model: l.Model, Kind: Total, USD: usd})
}
