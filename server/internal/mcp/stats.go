package mcp

import (
	"context"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

var groupings = []query.GroupBy{query.ByModel, query.BySurface, query.ByProvider, query.ByPrompt, query.ByUser, query.ByEnvironment, query.ByStatus, query.ByOutput, query.ByDay, query.ByHour}

// defaultGroups is the number of groups if the caller sets no limit.
const defaultGroups = 20

type statsIn struct {
	filterIn
	GroupBy   string `json:"group_by,omitempty" jsonschema:"breakdown of the totals"`
	Compare   bool   `json:"compare,omitempty" jsonschema:"true also sums up the previous period: the same local days and times as many whole weeks earlier as the range spans, or whole days where it is shorter than a week"`
	TimeZone  string `json:"time_zone,omitempty" jsonschema:"IANA name such as Europe/Berlin, for days and hours; default: UTC"`
	LatencyOf string `json:"latency_of,omitempty" jsonschema:"whose latency and time to first token: completed (the default: calls that did not fail), failed or all"`
	Limit     int    `json:"limit,omitempty" jsonschema:"maximum number of groups, by number of calls; default: 20. Days and hours are all shown"`
}

// Totals over a set of events. A call is a generation or an embedding.
type Totals struct {
	Events         int64              `json:"events"`
	Calls          int64              `json:"calls" jsonschema:"generations and embeddings"`
	Errors         int64              `json:"errors" jsonschema:"calls that failed"`
	OtherErrors    int64              `json:"other_errors,omitempty" jsonschema:"failed events other than calls"`
	ErrorRate      event.Opt[float64] `json:"error_rate,omitzero" jsonschema:"errors / calls"`
	InputTokens    event.Int          `json:"input_tokens,omitzero"`
	OutputTokens   event.Int          `json:"output_tokens,omitzero"`
	TotalTokens    event.Int          `json:"total_tokens,omitzero"`
	UnmeteredCalls int64              `json:"unmetered_calls,omitempty" jsonschema:"calls with unknown token counts, which the sums lack"`
	CostUSD        query.USD          `json:"cost_usd,omitzero"`
	UncostedCalls  int64              `json:"uncosted_calls,omitempty" jsonschema:"calls whose cost is unknown, or known only in part"`
	Incomplete     int64              `json:"incomplete_calls,omitempty" jsonschema:"incompletely priced calls: uncosted ones, but for calls that failed without any known use"`
	CostAtLeast    bool               `json:"cost_at_least,omitempty" jsonschema:"true: the calls cost at least cost_usd"`
	LatencyP50     query.Millis       `json:"latency_ms_p50,omitzero"`
	LatencyP95     query.Millis       `json:"latency_ms_p95,omitzero"`
	LatencyP99     query.Millis       `json:"latency_ms_p99,omitzero"`
	TTFTP50        query.Millis       `json:"time_to_first_token_ms_p50,omitzero"`
	TTFTP95        query.Millis       `json:"time_to_first_token_ms_p95,omitzero"`
	CacheHitShare  event.Opt[float64] `json:"cache_hit_share,omitzero" jsonschema:"input tokens read from a cache / all input tokens"`
}

func totalsView(t query.Totals) Totals {
	return Totals{
		Events: t.Events, Calls: t.Calls, Errors: t.Errors, OtherErrors: t.OtherErrors, ErrorRate: t.ErrorRate,
		InputTokens: t.InputTokens, OutputTokens: t.OutputTokens, TotalTokens: t.TotalTokens, UnmeteredCalls: t.UnmeteredCalls,
		CostUSD: t.CostUSD, UncostedCalls: t.UncostedCalls, Incomplete: t.Incomplete, CostAtLeast: t.CostAtLeast,
		LatencyP50: t.LatencyMS.P50, LatencyP95: t.LatencyMS.P95, LatencyP99: t.LatencyMS.P99, TTFTP50: t.TTFTMS.P50, TTFTP95: t.TTFTMS.P95,
		CacheHitShare: t.CacheHitShare,
	}
}

type group struct {
	Key    string `json:"key" jsonschema:"empty: not set"`
	Totals Totals `json:"totals"`
}

type span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

type statsOut struct {
	From       time.Time `json:"from"`
	To         time.Time `json:"to"`
	TimeZone   string    `json:"time_zone"`
	GroupBy    string    `json:"group_by,omitempty"`
	Totals     Totals    `json:"totals"`
	Previous   *Totals   `json:"previous,omitempty" jsonschema:"of the previous period"`
	Compared   *span     `json:"previous_range,omitempty" jsonschema:"the previous period"`
	Groups     []group   `json:"groups,omitempty" jsonschema:"those with the most calls first; days and hours in order of time"`
	MoreGroups bool      `json:"more_groups,omitempty" jsonschema:"more groups exist"`
}

func (s *Server) getStats(ctx context.Context, who caller, in statsIn) (out statsOut, err error) {
	if err := inRange("limit", &in.Limit, defaultGroups, query.MaxGroups); err != nil {
		return out, err
	}
	f, err := in.week(s.now())
	if err != nil {
		return out, err
	}
	st, err := s.c.Query.Stats(ctx, query.StatsQuery{Project: who.projectID, Filter: f, Compare: in.Compare, GroupBy: query.GroupBy(in.GroupBy), TimeZone: in.TimeZone, LatencyOf: query.LatencyOf(in.LatencyOf), Limit: in.Limit})
	if err != nil {
		return out, err
	}
	out = statsOut{From: f.From.UTC(), To: f.To.UTC(), TimeZone: st.TimeZone, GroupBy: in.GroupBy, Totals: totalsView(st.Totals), MoreGroups: st.Truncated}
	if st.Previous != nil {
		p := totalsView(*st.Previous)
		out.Previous, out.Compared = &p, &span{st.Compared.From, st.Compared.To}
	}
	for _, g := range st.Groups {
		out.Groups = append(out.Groups, group{g.Key, totalsView(g.Totals)})
	}
	return out, nil
}
