package posthog

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Day is one day's LLM calls as PostHog counts them. Days are UTC's.
type Day struct {
	Day          string // 2026-01-31
	Calls        int64
	InputTokens  int64
	OutputTokens int64
	CostUSD      decimal.Decimal
	Errors       int64
	P95          event.Opt[time.Duration] // latency
	Uncosted     int64                    // calls of unknown cost
}

// Days queries PostHog for the calls per day from since on, the start of a day
// in UTC, in the connection's schema. Copies of an event that PostHog has not
// merged yet count once. It needs the personal key; errors are those of
// [Query].
func Days(ctx context.Context, conn project.Connection, since time.Time, o QueryOptions) ([]Day, error) {
	// Contract section 7.7, with whole days of UTC in place of the project's.
	// Input tokens are all input, as locally: see event.Usage.AllInput.
	allInput := "toInt(properties.$ai_input_tokens) + if(properties.$ai_cache_reporting_exclusive = 'true', coalesce(toInt(properties.$ai_cache_read_input_tokens), 0) + coalesce(toInt(properties.$ai_cache_creation_input_tokens), 0), 0)"
	names, in, out, cost, bad, latency := "'$ai_generation','$ai_embedding'", allInput, "$ai_output_tokens", "$ai_total_cost_usd",
		"properties.$ai_is_error = 'true'", "toFloat(properties.$ai_latency)"
	if conn.Schema == project.SchemaLLMEvents {
		names, in, out, cost, bad, latency = "'llm_request_completed','llm_request_failed'", "toInt(properties.input_tokens)", "output_tokens", "estimated_cost_usd",
			"event = 'llm_request_failed'", "toFloat(properties.latency_ms) / 1000"
	}
	hogql := fmt.Sprintf(`SELECT toDate(toTimeZone(timestamp, 'UTC')) AS day, count(DISTINCT uuid) AS calls,
  sum(%s) AS in_tok, sum(toInt(properties.%s)) AS out_tok, sum(toFloat(properties.%s)) AS cost,
  countIf(%s) AS errors, quantile(0.95)(%s) AS p95_s, countIf(properties.%s IS NULL) AS uncosted
FROM events WHERE event IN (%s) AND timestamp >= toDateTime('%s', 'UTC')
GROUP BY day ORDER BY day LIMIT 100`, in, out, cost, bad, latency, cost, names, since.UTC().Format(time.DateTime))
	if o.Name == "" {
		o.Name = "hedgerow 7d by day"
	}
	rows, err := Query(ctx, conn, hogql, o)
	if err != nil {
		return nil, err
	}
	days := make([]Day, 0, len(rows.Results))
	for _, row := range rows.Results {
		d, ok := day(row)
		if !ok {
			return nil, event.NewError(event.CodeUpstream, "PostHog's figures cannot be read", "check that the host is PostHog's, and report its version", nil)
		}
		days = append(days, d)
	}
	return days, nil
}

func day(row []json.RawMessage) (d Day, ok bool) {
	if len(row) < 8 || json.Unmarshal(row[0], &d.Day) != nil || len(d.Day) < len(time.DateOnly) {
		return d, false
	}
	d.Day = d.Day[:len(time.DateOnly)] // a date, or a date and time
	for i, into := range []*int64{&d.Calls, &d.InputTokens, &d.OutputTokens, nil, &d.Errors, nil, &d.Uncosted} {
		if into == nil {
			continue
		}
		n, known := number(row[i+1])
		if known {
			*into = n.IntPart()
		}
	}
	d.CostUSD, _ = number(row[4])
	if p95, known := number(row[6]); known {
		d.P95 = event.Some(time.Duration(p95.InexactFloat64() * float64(time.Second)))
	}
	return d, true
}

// number reads a number, which ClickHouse writes as a string where it is large;
// null is none.
func number(v json.RawMessage) (decimal.Decimal, bool) {
	s := string(v)
	if t, err := strconv.Unquote(s); err == nil {
		s = t
	}
	if len(s) > 40 {
		return decimal.Decimal{}, false
	}
	d, err := decimal.NewFromString(s)
	return d, err == nil
}
