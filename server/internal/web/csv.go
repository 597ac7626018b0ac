package web

import (
	"encoding/csv"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// chartCSV is a chart's numbers as a file.
func (s *Web) chartCSV(w http.ResponseWriter, r *http.Request, f *frame) {
	v, err := s.view(r, "/explore", "7d")
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	sp, err := specOf(r.URL.Query())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	c, err := s.card(r.Context(), s.c.Query, f, v, sp)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.sendCSV(w, sp.Title, c.sheet())
}

// units are how headings of files name a unit.
var units = map[string]string{"ms": " (ms)", "usd": " (USD)", "rate": " (%)", "tok": " (tokens)"}

// sheet is a card as rows of a file: numbers in full, without units.
func (c *card) sheet() [][]string {
	head := []string{c.First}
	for _, col := range c.Columns {
		head = append(head, plainText(col.Name)+units[col.unit])
	}
	out := [][]string{head}
	for _, r := range c.Rows {
		line := []string{plainText(or(r.Key, r.Label))}
		for _, x := range r.Cells {
			line = append(line, x.Exact)
		}
		out = append(out, line)
	}
	return out
}

// plainText keeps spreadsheets from taking somebody's words for a formula (OWASP,
// CSV injection). Full-width signs count, which some read as the plain ones, and so
// do signs behind what a spreadsheet does not show.
func plainText(s string) string {
	rest := strings.TrimLeftFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zs, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) || r == utf8.RuneError
	})
	first, _ := utf8.DecodeRuneInString(rest)
	if s != "" && (strings.ContainsRune("=+-@＝＋－＠﹦﹢﹣﹫", first) && rest != "" || strings.ContainsRune("\t\r\n", rune(s[0]))) {
		return "'" + s
	}
	return s
}

// sendCSV sends a file (RFC 4180).
func (s *Web) sendCSV(w http.ResponseWriter, name string, rows [][]string) {
	csvHeaders(w, name, s.now())
	if err := csv.NewWriter(w).WriteAll(rows); err != nil {
		s.log.Debug("a file was not sent whole", "err", err)
	}
}

func csvHeaders(w http.ResponseWriter, name string, now time.Time) {
	h := w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Disposition", `attachment; filename="`+strings.Trim(strings.Map(fileName, strings.ToLower(name)), "_")+"-"+now.UTC().Format(time.DateOnly)+`.csv"`)
}

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
	{"prompt_version", func(e *query.Event) string { return or(e.PromptVersion, e.PromptVersionID) }},
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
	{"cost_usd", func(e *query.Event) string { return plainUSD(e.Cost.Total) }},
	{"latency_ms", func(e *query.Event) string { return fraction(e.LatencyMS) }},
	{"time_to_first_token_ms", func(e *query.Event) string { return fraction(e.TTFTMS) }},
	{"stop_reason", func(e *query.Event) string { return e.StopReason }},
	{"outcome", about},
}

func digits(n event.Int) string {
	if !n.Known {
		return ""
	}
	return strconv.FormatInt(n.Value, 10)
}

func fraction(n event.Opt[float64]) string {
	if !n.Known {
		return ""
	}
	return strconv.FormatFloat(n.Value, 'f', -1, 64)
}

// eventsCSV is the list of events as a file, in its filters and order, without
// prompts and answers.
func (s *Web) eventsCSV(w http.ResponseWriter, r *http.Request, f *frame) {
	v, err := s.view(r, "/events", "")
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	q := query.EventsQuery{Project: f.Session.ProjectID, Filter: v.Filter, Point: v.Point, Sort: query.EventSort(r.URL.Query().Get("sort")), Limit: query.MaxLimit}
	page, err := s.c.Query.Events(r.Context(), q)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	csvHeaders(w, "events", s.now())
	out := csv.NewWriter(w)
	line := make([]string, len(csvColumns))
	for i, c := range csvColumns {
		line[i] = c.name
	}
	// What fails from here on is a connection that has ended: nobody is left to
	// be told.
	_ = out.Write(line)
	for n := 0; ; {
		for _, e := range page.Events {
			for i, c := range csvColumns {
				line[i] = plainText(c.text(e))
			}
			if out.Write(line) != nil {
				return
			}
			n++
		}
		out.Flush()
		if page.Next == "" {
			return
		}
		if n >= maxCSV {
			_ = out.Write([]string{"Truncated: a file has at most " + count(maxCSV) + " events. Choose a shorter time range."})
			break
		}
		q.Cursor = page.Next
		if page, err = s.c.Query.Events(r.Context(), q); err != nil {
			_ = out.Write([]string{"The rest could not be read: " + s.told(r, err).Message})
			break
		}
	}
	out.Flush()
}

// agentsCSV is a table of the agents' page as a file: calls or depth of traces,
// or steps.
func (s *Web) agentsCSV(w http.ResponseWriter, r *http.Request, f *frame) {
	v, err := s.view(r, "/agents", "7d")
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	var rows [][]string
	of := r.URL.Query().Get("of")
	switch of {
	case "steps":
		steps, err := s.c.Query.Steps(r.Context(), f.Session.ProjectID, v.Filter, 100)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		rows = append(rows, []string{"step", "tool", "runs", "failures", "retries", "latency_p95_ms"})
		for _, x := range steps {
			rows = append(rows, []string{plainText(x.Name), strconv.FormatBool(x.Tool), plainCount(x.Runs), plainCount(x.Errors), plainCount(x.Retries), fraction(x.LatencyMS)})
		}
	case "calls", "depth":
		shapes, depth, err := s.c.Query.Shapes(r.Context(), f.Session.ProjectID, v.Filter)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		rows = append(rows, []string{of, "traces"})
		if of == "depth" {
			shapes = depth
		}
		for _, x := range shapes {
			rows = append(rows, []string{plainCount(x.Size), plainCount(x.Traces)})
		}
	default:
		s.refuse(w, r, event.Invalid("unknown table", "use steps, calls or depth"))
		return
	}
	s.sendCSV(w, "agents "+of, rows)
}
