package mcp

import (
	"context"
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// Bounds of get_trace.
const (
	defaultSpans        = 100
	maxSpans            = 1000
	defaultContentChars = 4000
	maxContentChars     = 100_000
	maxContentSpans     = 50 // spans whose content one answer shows
)

type traceIn struct {
	TraceID         string `json:"trace_id" jsonschema:"id of the trace, as returned by list_events"`
	IncludeContent  bool   `json:"include_content,omitempty" jsonschema:"true also shows prompts and responses of up to 50 spans"`
	MaxContentChars int    `json:"max_content_chars,omitempty" jsonschema:"characters of each prompt and response to show; default: 4000"`
	MaxSpans        int    `json:"max_spans,omitempty" jsonschema:"maximum number of spans to show; default: 100. The totals always cover all"`
}

// Totals of a trace.
type traceTotals struct {
	Events        int          `json:"events"`
	Calls         int          `json:"calls"`
	OpenCalls     int          `json:"open_calls,omitempty" jsonschema:"calls reported as started and not yet as ended"`
	Errors        int          `json:"errors" jsonschema:"calls that failed"`
	OtherErrors   int          `json:"other_errors,omitempty" jsonschema:"failed events other than calls"`
	InputTokens   event.Int    `json:"input_tokens,omitzero"`
	OutputTokens  event.Int    `json:"output_tokens,omitzero"`
	TotalTokens   event.Int    `json:"total_tokens,omitzero"`
	CostUSD       query.USD    `json:"cost_usd,omitzero"`
	UncostedCalls int          `json:"uncosted_calls,omitempty" jsonschema:"calls whose cost is unknown, or known only in part"`
	Incomplete    int          `json:"incomplete_calls,omitempty" jsonschema:"incompletely priced calls: uncosted ones, but for calls that failed without any known use"`
	CostAtLeast   bool         `json:"cost_at_least,omitempty" jsonschema:"true: the calls cost at least cost_usd"`
	LatencyMS     query.Millis `json:"latency_ms,omitzero" jsonschema:"from the first start to the last end"`
}

// Span is a part of a trace. The tree is encoded by depth: a span's parent is
// the nearest before it whose depth is one less.
type Span struct {
	Depth         int    `json:"depth" jsonschema:"0 for a root; the parent is the nearest span before with a depth of one less"`
	ParentMissing bool   `json:"parent_missing,omitempty" jsonschema:"its parent has not arrived"`
	Event         Event  `json:"event"`
	Input         string `json:"input,omitempty" jsonschema:"prompt as JSON, possibly truncated"`
	Output        string `json:"output,omitempty" jsonschema:"response as JSON, possibly truncated"`
	Tools         string `json:"tools,omitempty" jsonschema:"available tools as JSON, possibly truncated"`
	ContentCut    bool   `json:"content_cut,omitempty" jsonschema:"input, output or tools are truncated"`
}

type traceOut struct {
	TraceID   string      `json:"trace_id"`
	Name      string      `json:"name,omitempty"`
	User      string      `json:"user,omitempty"`
	SessionID string      `json:"session_id,omitempty"`
	Start     time.Time   `json:"start"`
	End       time.Time   `json:"end"`
	Totals    traceTotals `json:"totals"`
	Spans     []Span      `json:"spans" jsonschema:"in order of the tree"`
	MoreSpans int         `json:"more_spans,omitempty" jsonschema:"spans that are not shown"`
	Truncated bool        `json:"truncated,omitempty" jsonschema:"the trace has more than 10,000 events, and the totals lack the rest"`
	URL       string      `json:"url,omitempty" jsonschema:"URL of the trace's page"`
}

func (s *Server) getTrace(ctx context.Context, who caller, in traceIn) (out traceOut, err error) {
	if in.TraceID == "" {
		return out, event.Invalid(`the argument "trace_id" is missing`, "list_events returns trace ids")
	}
	if err := inRange("max_spans", &in.MaxSpans, defaultSpans, maxSpans); err != nil {
		return out, err
	}
	if err := inRange("max_content_chars", &in.MaxContentChars, defaultContentChars, maxContentChars); err != nil {
		return out, err
	}
	t, err := s.c.Query.Trace(ctx, who.projectID, in.TraceID)
	if err != nil {
		return out, err
	}
	r := t.Rollup
	out = traceOut{TraceID: t.ID, Name: t.Name, User: t.User, SessionID: t.SessionID, Start: t.Start, End: t.End, Spans: []Span{}, Truncated: t.Truncated, URL: s.traceURL(t.ID),
		Totals: traceTotals{r.Events, r.Calls, r.OpenCalls, r.Errors, r.OtherErrors, r.InputTokens, r.OutputTokens, r.TotalTokens, r.CostUSD, r.UncostedCalls, r.Incomplete, r.CostAtLeast, r.LatencyMS}}
	var kept []int // spans whose content is there
	var walk func(nodes []*query.Node, depth int)
	walk = func(nodes []*query.Node, depth int) {
		for _, n := range nodes {
			if len(out.Spans) == in.MaxSpans {
				out.MoreSpans++
			} else {
				v := s.eventView(n.Event)
				v.URL = "" // the trace has the same
				out.Spans = append(out.Spans, Span{Depth: depth, ParentMissing: n.ParentMissing, Event: v})
				if n.Event.ContentState == query.ContentKept {
					kept = append(kept, len(out.Spans)-1)
				}
			}
			walk(n.Children, depth+1)
		}
	}
	walk(t.Roots, 0)
	if !in.IncludeContent {
		return out, nil
	}
	if err := s.opens(ctx, who, "events"); err != nil {
		return out, err
	}
	for i, at := range kept {
		span := &out.Spans[at]
		if i >= maxContentSpans {
			span.ContentCut = true
			continue
		}
		e, err := s.c.Query.Event(ctx, who.projectID, span.Event.UUID, true)
		if err != nil {
			return out, err
		}
		if e.Content == nil { // removed between the two questions
			span.Event.Content = e.ContentState
			continue
		}
		for _, part := range []struct {
			from json.RawMessage
			to   *string
		}{{e.Content.Input, &span.Input}, {e.Content.Output, &span.Output}, {e.Content.Tools, &span.Tools}} {
			var cut bool
			*part.to, cut = shorten(string(part.from), in.MaxContentChars)
			span.ContentCut = span.ContentCut || cut
		}
	}
	return out, nil
}

// shorten cuts s after n characters. JSON null is nothing.
func shorten(s string, n int) (string, bool) {
	if s == "null" {
		return "", false
	}
	if utf8.RuneCountInString(s) <= n {
		return s, false
	}
	at := 0
	for range n {
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	return s[:at] + "…", true
}
