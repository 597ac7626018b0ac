package traces

import (
	"cmp"
	"encoding/csv"
	"net/http"
	"strconv"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// maxCSV bounds the events of one file; its last line says so where there are
// more.
const maxCSV = 50_000

// csvColumns are those of a file of events: what is known of a call, without
// its words.
var csvColumns = []struct {
	name string
	text func(*query.Event) string
}{
	{"timestamp", func(e *query.Event) string { return e.Timestamp.UTC().Format(time.RFC3339Nano) }},
	{"uuid", func(e *query.Event) string { return e.UUID }},
	{"event", func(e *query.Event) string { return e.Name }},
	{"status", func(e *query.Event) string { return string(e.Status) }},
	{"error_type", func(e *query.Event) string { return e.ErrorType }},
	{"error_code", func(e *query.Event) string { return e.ErrorCode }},
	{"http_status", func(e *query.Event) string { return digits(e.HTTPStatus) }},
	{"provider", func(e *query.Event) string { return e.Provider }},
	{"model_asked", func(e *query.Event) string { return e.ModelAsked }},
	{"model", func(e *query.Event) string { return e.Model }},
	{"operation", func(e *query.Event) string { return e.Operation }},
	{"prompt_name", func(e *query.Event) string { return e.PromptName }},
	{"prompt_version", func(e *query.Event) string { return cmp.Or(e.PromptVersion, e.PromptVersionID) }},
	{"surface", func(e *query.Event) string { return e.Surface }},
	{"environment", func(e *query.Event) string { return e.Environment }},
	{"task_type", func(e *query.Event) string { return e.TaskType }},
	{"user", func(e *query.Event) string { return e.DistinctID }},
	{"session_id", func(e *query.Event) string { return e.SessionID }},
	{"trace_id", func(e *query.Event) string { return e.TraceID }},
	{"trace_name", func(e *query.Event) string { return e.TraceName }},
	{"span_name", func(e *query.Event) string { return e.SpanName }},
	{"input_tokens", func(e *query.Event) string { return digits(e.Usage.Input) }},
	{"output_tokens", func(e *query.Event) string { return digits(e.Usage.Output) }},
	{"total_tokens", func(e *query.Event) string { return digits(e.Usage.Total) }},
	{"cache_read_tokens", func(e *query.Event) string { return digits(e.Usage.CacheRead) }},
	{"cache_write_tokens", func(e *query.Event) string { return digits(e.Usage.CacheWrite) }},
	{"reasoning_tokens", func(e *query.Event) string { return digits(e.Usage.Reasoning) }},
	{"cost_usd", func(e *query.Event) string { return page.PlainUSD(e.Cost.Total) }},
	{"cost_at_least_usd", func(e *query.Event) string { known, _ := e.Cost.Known(); return page.PlainUSD(known) }},
	{"cost_unpriced", func(e *query.Event) string { return e.Cost.Unpriced }},
	{"latency_ms", func(e *query.Event) string { return page.Fraction(e.LatencyMS) }},
	{"time_to_first_token_ms", func(e *query.Event) string { return page.Fraction(e.TTFTMS) }},
	{"stop_reason", func(e *query.Event) string { return e.StopReason }},
	{"outcome", page.Description},
}

func digits(n event.Int) string {
	if !n.Known {
		return ""
	}
	return strconv.FormatInt(n.Value, 10)
}

// eventsCSV is the list of events as a file, in its filters and order, without
// prompts and answers.
func (s *Pages) eventsCSV(w http.ResponseWriter, r *http.Request, f *page.Frame) {
	v, err := s.View(r, "/events", "")
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	q := query.EventsQuery{Project: f.Session.ProjectID, Filter: v.Filter, Point: v.Point, Sort: query.EventSort(r.URL.Query().Get("sort")), Limit: query.MaxLimit}
	list, err := s.Query.Events(r.Context(), q)
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	page.CSVHeaders(w, "events", s.Now())
	out := csv.NewWriter(w)
	line := make([]string, len(csvColumns))
	for i, c := range csvColumns {
		line[i] = c.name
	}
	// From here on a write fails only because the connection has ended, so no
	// one would see an error.
	_ = out.Write(line)
	for n := 0; ; {
		for _, e := range list.Events {
			for i, c := range csvColumns {
				line[i] = page.PlainText(c.text(e))
			}
			if out.Write(line) != nil {
				return
			}
			n++
		}
		out.Flush()
		if list.Next == "" {
			return
		}
		if n >= maxCSV {
			_ = out.Write([]string{"Truncated: a file has at most " + page.Count(maxCSV) + " events. Choose a shorter time range."})
			break
		}
		q.Cursor = list.Next
		if list, err = s.Query.Events(r.Context(), q); err != nil {
			_ = out.Write([]string{"The rest could not be read: " + s.Explain(r, err).Message})
			break
		}
	}
	out.Flush()
}
