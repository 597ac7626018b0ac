package query

import (
	"context"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// GroupBy is what [Stats] are broken down by.
type GroupBy string

// The breakdowns.
const (
	ByNone        GroupBy = ""
	ByModel       GroupBy = "model"
	BySurface     GroupBy = "surface"
	ByProvider    GroupBy = "provider"
	ByPrompt      GroupBy = "prompt" // name@version
	ByUser        GroupBy = "user"   // distinct id
	ByEnvironment GroupBy = "environment"
	ByStatus      GroupBy = "status"
	ByDay         GroupBy = "day"  // days of the viewer's time zone
	ByHour        GroupBy = "hour" // hours of the viewer's time zone
)

// StatsQuery asks for totals over a time range.
type StatsQuery struct {
	Project string
	Filter
	Compare  bool // also the totals of the equally long period before From
	GroupBy  GroupBy
	TimeZone string // IANA name; "" is UTC
	Limit    int    // groups, the most frequent; 0 is 100, at most 1000. Days and hours are not limited by it
}

// Stats are totals and their breakdown.
type Stats struct {
	From      *time.Time `json:"from"` // null: from the first event on
	To        *time.Time `json:"to"`
	TimeZone  string     `json:"time_zone"`
	GroupBy   GroupBy    `json:"group_by"`
	Totals    Totals     `json:"totals"`
	Previous  *Totals    `json:"previous,omitempty"` // where Compare was asked for
	Groups    []Group    `json:"groups"`             // by calls, descending; days and hours by time, without gaps
	Truncated bool       `json:"truncated"`          // there are more groups
}

// Group is one part of the breakdown.
type Group struct {
	Key    string     `json:"key"`             // "" where the events do not say; for days 2026-01-31, for hours RFC 3339 with the zone's offset
	Start  *time.Time `json:"start,omitempty"` // days and hours: their first moment
	Totals Totals     `json:"totals"`
}

// Totals over a set of events. A call is a generation or an embedding.
type Totals struct {
	Events         int64              `json:"events"`
	Calls          int64              `json:"calls"`
	Errors         int64              `json:"errors"`       // calls that failed
	OtherErrors    int64              `json:"other_errors"` // failed events that are not calls
	ErrorRate      event.Opt[float64] `json:"error_rate"`   // Errors / Calls
	InputTokens    event.Int          `json:"input_tokens"`
	OutputTokens   event.Int          `json:"output_tokens"`
	TotalTokens    event.Int          `json:"total_tokens"`
	UnmeteredCalls int64              `json:"unmetered_calls"` // calls of unknown tokens: the sums lack them
	CostUSD        USD                `json:"cost_usd"`
	UncostedCalls  int64              `json:"uncosted_calls"`  // calls of unknown cost: CostUSD lacks them
	UncostedErrors int64              `json:"uncosted_errors"` // those among them that failed, and probably cost nothing
	LatencyMS      Quantiles          `json:"latency_ms"`
	TTFTMS         Quantiles          `json:"time_to_first_token_ms"`
	CacheHitShare  event.Opt[float64] `json:"cache_hit_share"` // input tokens read from a cache / all input tokens, over calls that report it
}

// Quantiles of the calls that know the value.
type Quantiles struct {
	P50 Millis `json:"p50"`
	P95 Millis `json:"p95"`
	P99 Millis `json:"p99"`
}

// Stats computes totals.
func (r *Reader) Stats(ctx context.Context, q StatsQuery) (*Stats, error) { return nil, nil }

// Period is a summary of a stretch of time, with its two usual breakdowns.
type Period struct {
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	TimeZone  string    `json:"time_zone"`
	Totals    Totals    `json:"totals"`
	Previous  Totals    `json:"previous"` // of the equally long period before
	ByModel   []Group   `json:"by_model"`
	BySurface []Group   `json:"by_surface"`
}

// Today sums up the current day of a time zone (IANA name, "" is UTC).
func (r *Reader) Today(ctx context.Context, project, timeZone string) (*Period, error) {
	return nil, nil
}

// SevenDays sums up the current day of a time zone and the six before it.
func (r *Reader) SevenDays(ctx context.Context, project, timeZone string) (*Period, error) {
	return nil, nil
}
