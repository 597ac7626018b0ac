package posthog

import (
	"math"
	"strconv"
)

// Price is a model's price in a table of PostHog's own, in USD per token, request and
// search.
type Price struct{ Input, Output, Request, WebSearch float64 }

// Sources of costs, as PostHog names them ($ai_cost_model_source).
const (
	CostPassthrough = "passthrough"
	CostCustom      = "custom"
	CostTable       = "manual"
)

// Cost returns what PostHog makes of the cost of a call when it stores it: contract
// section 4. A total that came is taken over if both of its parts came and neither is
// 0, or if $ai_cost_passthrough says so. Otherwise the parts that did not come are
// computed by prices that came, or by the table; caches and modalities are left out.
// known is false where there is no total, source is "" where PostHog computed nothing.
func (e Event) Cost(table map[string]Price) (total float64, source string, known bool) {
	number := func(name string) (float64, bool) {
		f, err := strconv.ParseFloat(e.Text(name), 64)
		return f, err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
	}
	total, known = number("$ai_total_cost_usd")
	in, hasIn := number("$ai_input_cost_usd")
	out, hasOut := number("$ai_output_cost_usd")
	request, hasRequest := number("$ai_request_cost_usd")
	search, hasSearch := number("$ai_web_search_cost_usd")
	if in != 0 && out != 0 {
		if total == 0 {
			total = in + out + request + search
		}
		return total, CostPassthrough, true
	}
	if known && e.Text("$ai_cost_passthrough") == "true" {
		return total, CostPassthrough, true
	}
	price, ok := table[e.Text("$ai_model")]
	source = CostTable
	customIn, hasCustomIn := number("$ai_input_token_price")
	customOut, hasCustomOut := number("$ai_output_token_price")
	if hasCustomIn && hasCustomOut {
		price, ok, source = Price{Input: customIn, Output: customOut}, true, CostCustom
	}
	if !ok {
		return total, "", known
	}
	if n, counted := number("$ai_input_tokens"); counted && !hasIn {
		in, hasIn = n*price.Input, true
	}
	if n, counted := number("$ai_output_tokens"); counted && !hasOut {
		out, hasOut = n*price.Output, true
	}
	if price.Request > 0 && !hasRequest {
		request, hasRequest = price.Request, true
	}
	if n, counted := number("$ai_web_search_count"); counted && price.WebSearch > 0 && !hasSearch {
		search, hasSearch = n*price.WebSearch, true
	}
	switch {
	case known:
		return total, source, true
	case hasIn || hasOut || hasRequest || hasSearch:
		return in + out + request + search, source, true
	}
	return 0, "", false
}
