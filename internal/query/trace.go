package query

import (
	"context"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Trace is all that is known under one trace id, as a tree.
type Trace struct {
	ID        string    `json:"trace_id"`
	Name      string    `json:"name"`
	User      string    `json:"user"` // distinct id
	SessionID string    `json:"session_id"`
	Start     time.Time `json:"start"`
	End       time.Time `json:"end"` // of the part that ended last
	Rollup    Rollup    `json:"totals"`
	Roots     []*Node   `json:"roots"`
	Truncated bool      `json:"truncated"` // more events than MaxTraceEvents: the rest is missing
}

// Node is an event in its trace. Children are in order of time.
type Node struct {
	Event         *Event  `json:"event"`
	ParentMissing bool    `json:"parent_missing"` // it names a parent that has not arrived
	Rollup        Rollup  `json:"totals"`         // of it and all below it
	Children      []*Node `json:"children"`
}

// Rollup is the sum over a tree, each call counted once.
type Rollup struct {
	Events        int       `json:"events"`
	Calls         int       `json:"calls"`
	Errors        int       `json:"errors"`
	InputTokens   event.Int `json:"input_tokens"`
	OutputTokens  event.Int `json:"output_tokens"`
	TotalTokens   event.Int `json:"total_tokens"`
	CostUSD       USD       `json:"cost_usd"`
	UncostedCalls int       `json:"uncosted_calls"` // calls whose cost is unknown: CostUSD lacks them
	LatencyMS     Millis    `json:"latency_ms"`     // from the first start to the last end
}

// MaxTraceEvents bounds the events of one [Trace].
const MaxTraceEvents = 10_000

// Trace assembles a trace.
func (r *Reader) Trace(ctx context.Context, project, id string) (*Trace, error) { return nil, nil }
