package charts

import (
	"cmp"
	"encoding/csv"
	"net/http"
	"slices"
	"strconv"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// chartCSV is a chart's numbers as a file.
func (s *Pages) chartCSV(w http.ResponseWriter, r *http.Request, f *page.Frame) {
	v, err := s.View(r, "/explore", "7d")
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	sp, err := specOf(r.URL.Query())
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	c, err := loadCard(r.Context(), s.Query, f, v, sp)
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	s.sendCSV(w, sp.Title, c.sheet())
}

// units are how headings of files name a unit.
var units = map[string]string{"ms": " (ms)", "usd": " (USD)", "rate": " (%)", "tok": " (tokens)"}

// sheet is a card as rows of a file: numbers in full, without units.
func (c *Card) sheet() [][]string {
	head := []string{c.First}
	for i, col := range c.Columns {
		name := page.PlainText(col.Name)
		if slices.ContainsFunc(c.Rows, func(r row) bool { return r.Cells[i].least }) {
			name += ", at least"
		}
		head = append(head, name+units[col.unit])
	}
	out := [][]string{head}
	for _, r := range c.Rows {
		line := []string{page.PlainText(cmp.Or(r.Key, r.Label))}
		for _, x := range r.Cells {
			line = append(line, x.Exact)
		}
		out = append(out, line)
	}
	return out
}

// sendCSV sends a file (RFC 4180).
func (s *Pages) sendCSV(w http.ResponseWriter, name string, rows [][]string) {
	page.CSVHeaders(w, name, s.Now())
	if err := csv.NewWriter(w).WriteAll(rows); err != nil {
		s.Log.Debug("a file was not sent whole", "err", err)
	}
}

// agentsCSV is a table of the agents' page as a file: calls or depth of traces,
// or steps.
func (s *Pages) agentsCSV(w http.ResponseWriter, r *http.Request, f *page.Frame) {
	v, err := s.View(r, "/agents", "7d")
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	var rows [][]string
	of := r.URL.Query().Get("of")
	switch of {
	case "steps":
		steps, err := s.Query.Steps(r.Context(), f.Session.ProjectID, v.Filter, 100)
		if err != nil {
			s.Refuse(w, r, err)
			return
		}
		rows = append(rows, []string{"step", "tool", "runs", "failures", "retries", "latency_p95_ms"})
		for _, x := range steps {
			rows = append(rows, []string{page.PlainText(x.Name), strconv.FormatBool(x.Tool), page.PlainCount(x.Runs), page.PlainCount(x.Errors), page.PlainCount(x.Retries), page.Fraction(x.LatencyMS)})
		}
	case "calls", "depth":
		shapes, depth, err := s.Query.Shapes(r.Context(), f.Session.ProjectID, v.Filter)
		if err != nil {
			s.Refuse(w, r, err)
			return
		}
		rows = append(rows, []string{of, "traces"})
		if of == "depth" {
			shapes = depth
		}
		for _, x := range shapes {
			rows = append(rows, []string{page.PlainCount(x.Size), page.PlainCount(x.Traces)})
		}
	default:
		s.Refuse(w, r, event.Invalid("unknown table", "use steps, calls or depth"))
		return
	}
	s.sendCSV(w, "agents "+of, rows)
}
