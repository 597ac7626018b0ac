package traces

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// traceJSON is a trace as a file, without prompts and answers.
func (s *Pages) traceJSON(w http.ResponseWriter, r *http.Request, f *page.Frame) {
	t, err := s.Query.Trace(r.Context(), f.Session.ProjectID, r.PathValue("id"))
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Disposition", `attachment; filename="trace-`+event.CleanID(strings.Map(page.FileName, t.ID))+`.json"`)
	// From here on a write fails only because the connection has ended, so no
	// one would see an error.
	if err := writeTrace(w, t); err != nil {
		s.Log.Debug("a trace was not sent whole", "err", err)
	}
}

// writeTrace writes a trace as JSON, an event a line and without indentation: that
// would grow with the square of the trace's depth. The text is never in memory as
// a whole.
func writeTrace(to io.Writer, t *query.Trace) error {
	w := bufio.NewWriterSize(to, 64<<10)
	out := &traceWriter{w: w, e: json.NewEncoder(w)}
	out.e.SetEscapeHTML(false)
	out.raw("{")
	for _, m := range []struct {
		name  string
		value any
	}{{"trace_id", t.ID}, {"name", t.Name}, {"user", t.User}, {"session_id", t.SessionID}, {"start", t.Start}, {"end", t.End}, {"totals", t.Rollup}, {"truncated", t.Truncated}} {
		out.raw(`"` + m.name + `":`)
		out.value(m.value)
		out.raw(",")
	}
	out.raw(`"roots":`)
	out.nodes(t.Roots)
	out.raw("}\n")
	if out.err != nil {
		return out.err
	}
	return w.Flush()
}

type traceWriter struct {
	w   *bufio.Writer
	e   *json.Encoder
	err error // the first
}

func (t *traceWriter) raw(s string) {
	if t.err == nil {
		_, t.err = t.w.WriteString(s)
	}
}

// value writes a value and the line end that the encoder puts after it.
func (t *traceWriter) value(v any) {
	if t.err == nil {
		t.err = t.e.Encode(v)
	}
}

func (t *traceWriter) nodes(nodes []*query.Node) {
	t.raw("[")
	for i, n := range nodes {
		if i > 0 {
			t.raw(",")
		}
		t.raw(`{"event":`)
		t.value(n.Event)
		t.raw(`,"parent_missing":`)
		t.value(n.ParentMissing)
		t.raw(`,"totals":`)
		t.value(n.Rollup)
		t.raw(`,"children":`)
		t.nodes(n.Children)
		t.raw("}")
	}
	t.raw("]")
}
