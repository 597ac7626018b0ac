package reconcile

import (
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// Anthropic's usage and cost reports: GET /v1/organizations/usage_report/messages and
// /v1/organizations/cost_report (platform.claude.com, api/admin), their successors
// /v1/organizations/analytics/usage and /cost, whose rows nest what they group by, and
// the CSV exports of the console's pages Usage and Cost.

var (
	anthropicStart = []string{"starting_at", "usage_date_utc"}
	anthropicEnd   = []string{"ending_at"}
)

const anthropicGroups = `starting_at ending_at usage_date_utc account_id api_key api_key_id api_key_status context_window inference_geo model model_version service_account_id service_tier speed
	usage_type workspace workspace_id workspace_name group_actor group_actor_type group_api_key_id group_context_window group_inference_geo group_model group_product group_service_tier group_session_id
	group_speed group_user_profile_id group_workspace_id`

var anthropicCosts = format{
	name:  "Anthropic costs",
	known: names(anthropicGroups, "amount currency description cost_type token_type cost_usd list_price_usd cost_amount cost_list_amount cost_currency cost_requests group_cost_type group_token_type group_description"),
	is: func(has func(string) bool) bool {
		return has("starting_at") && (has("amount") && has("currency") || has("cost_amount")) || has("usage_date_utc") && has("cost_usd")
	},
	feed: func(record) Feed { return AnthropicCosts },
	read: readAnthropicCost,
}

func readAnthropicCost(r record, c *collector) error {
	day, err := r.day(anthropicStart, anthropicEnd)
	if err != nil {
		return err
	}
	usd, err := r.number("cost_usd") // the console's, in dollars
	if err != nil {
		return err
	}
	if !usd.Known { // the API's, in cents: "123.45" is 1.2345 USD
		if usd, err = r.number("amount", "cost_amount"); err != nil {
			return err
		}
		usd.Value = usd.Value.Shift(-2)
	}
	if !usd.Known {
		return c.cover(day)
	}
	if err := onlyUSD(r, r.text("currency", "cost_currency")); err != nil {
		return err
	}
	l := Line{Day: day, Model: r.text("model", "group_model"), Tier: anthropicTier(r), USD: usd, Item: r.text("description", "group_description")}
	token, cost := strings.ToLower(r.text("token_type", "group_token_type")), strings.ToLower(r.text("cost_type", "group_cost_type"))
	switch {
	case cost == "web_search":
		l.Kind, l.Tier = WebSearch, ""
	case cost == "code_execution":
		l.Kind, l.Tier = CodeSession, ""
	case cost == "session_usage":
		l.Kind, l.Tier = Other, ""
	case strings.Contains(token, "cache_read"):
		l.Kind = CacheRead
	case strings.Contains(token, "1h"):
		l.Kind = CacheWrite1h
	case strings.Contains(token, "cache_write"), strings.Contains(token, "cache_creation"):
		l.Kind = CacheWrite
	case strings.Contains(token, "output"):
		l.Kind = Output
	case strings.Contains(token, "input"):
		l.Kind = Input
	case l.Model != "" || cost == "" && l.Item == "":
		l.Kind = Total
	default:
		l.Kind = Other
	}
	if l.Item == "" {
		l.Item = strings.TrimSpace(cost + " " + token)
	}
	return c.add(l)
}

// anthropicTier is the tier of a record. Fast mode is one, since it is priced as such.
func anthropicTier(r record) string {
	tier := tierOf(r.text("service_tier", "group_service_tier", "usage_type"))
	if speed := strings.ToLower(r.text("speed", "group_speed")); speed != "" && speed != Standard && (tier == "" || tier == Standard) {
		return speed
	}
	return tier
}

var anthropicUsage = format{
	name: "Anthropic usage",
	known: names(anthropicGroups, `uncached_input_tokens cache_creation cache_creation_ephemeral_1h_input_tokens cache_creation_ephemeral_5m_input_tokens cache_read_input_tokens output_tokens
		server_tool_use server_tool_use_web_search_requests server_tool_use_web_fetch_requests
		usage_input_tokens_no_cache usage_input_tokens_cache_write usage_input_tokens_cache_write_5m usage_input_tokens_cache_write_1h usage_input_tokens_cache_read usage_output_tokens web_search_count
		usage_uncached_input_tokens usage_cache_creation usage_cache_creation_ephemeral_1h_input_tokens usage_cache_creation_ephemeral_5m_input_tokens usage_cache_read_input_tokens
		usage_server_tool_use usage_server_tool_use_web_search_requests usage_server_tool_use_web_fetch_requests usage_total_tokens usage_requests`),
	is: func(has func(string) bool) bool {
		return has("starting_at") && (has("uncached_input_tokens") || has("usage_uncached_input_tokens")) || has("usage_date_utc") && has("usage_output_tokens")
	},
	feed: func(record) Feed { return AnthropicUsage },
	read: readAnthropicUsage,
}

func readAnthropicUsage(r record, c *collector) error {
	day, err := r.day(anthropicStart, anthropicEnd)
	if err != nil {
		return err
	}
	read := func(fields ...string) (n Amount) {
		if err == nil {
			n, err = r.count(fields...)
		}
		return n
	}
	list := quantities{
		{Input, read("uncached_input_tokens", "usage_uncached_input_tokens", "usage_input_tokens_no_cache")},
		{CacheRead, read("cache_read_input_tokens", "usage_cache_read_input_tokens", "usage_input_tokens_cache_read")},
		{CacheWrite, read("cache_creation_ephemeral_5m_input_tokens", "usage_cache_creation_ephemeral_5m_input_tokens", "usage_input_tokens_cache_write_5m", "usage_input_tokens_cache_write")},
		{CacheWrite1h, read("cache_creation_ephemeral_1h_input_tokens", "usage_cache_creation_ephemeral_1h_input_tokens", "usage_input_tokens_cache_write_1h")},
		{Output, read("output_tokens", "usage_output_tokens")},
	}
	searches, requests := read("server_tool_use_web_search_requests", "usage_server_tool_use_web_search_requests", "web_search_count"), read("usage_requests")
	if err != nil {
		return err
	}
	l := Line{Day: day, Model: r.text("model", "group_model", "model_version"), Tier: anthropicTier(r)}
	if requests.Known {
		l.Requests = event.Some(requests.Value.IntPart())
	}
	if err := addAll(c, l, list); err != nil {
		return err
	}
	return addAll(c, Line{Day: day, Model: l.Model}, quantities{{WebSearch, searches}})
}
