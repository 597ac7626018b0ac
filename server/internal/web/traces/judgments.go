package traces

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// judgment is a verdict on a response, as a row.
type judgment struct {
	At      time.Time
	Name    string
	Passed  string // "passed", "failed", or what a user said: "positive", "negative", "neutral"; "" for no verdict
	Score   string
	Reason  string
	Kind    string
	UUID    string
	Judge   string // trace of the judge
	Subject string // span of the call
}

func (j judgment) good() bool { return j.Passed == "passed" || j.Passed == "positive" }

func (j judgment) bad() bool { return j.Passed == "failed" || j.Passed == "negative" }

// Judgments are rows of outcomes; those about a task's end are none.
func Judgments(list []*query.Event) []judgment {
	var out []judgment
	for _, e := range list {
		text := func(names ...string) string {
			for _, n := range names {
				if v := e.Properties[n]; len(v) > 0 && string(v) != "null" {
					var s string
					if json.Unmarshal(v, &s) == nil {
						return s
					}
					return string(v)
				}
			}
			return ""
		}
		j := judgment{At: e.Timestamp, Name: text("eval_name", "$ai_metric_name", "$ai_evaluation_name"), Score: text("eval_score", "$ai_score"), Reason: text("eval_reason_code"), Kind: text("eval_kind"), UUID: e.UUID, Judge: text("judge_trace_id"), Subject: e.ParentID}
		switch strings.ToLower(text("eval_passed", "$ai_evaluation_result")) {
		case "true":
			j.Passed = "passed"
		case "false":
			j.Passed = "failed"
		}
		switch {
		case e.Name == event.Feedback:
			j.Name, j.Reason = "Feedback", text("$ai_feedback_text")
		case j.Name == "" && text("user_feedback") != "":
			j.Name, j.Passed = "Rating", text("user_feedback")
		case j.Name == "" && text("accepted_output", "edited_output") != "":
			j.Name, j.Reason = "Answer", page.Description(e)
		case e.Name == event.Metric:
			j.Score = text("$ai_metric_value")
		}
		if j.Name == "" {
			continue // the end of a task
		}
		out = append(out, j)
	}
	return out
}

// ofCall keeps the verdicts on one call, or on its trace as a whole.
func ofCall(list []judgment, e *query.Event) []judgment {
	return slices.DeleteFunc(slices.Clone(list), func(j judgment) bool { return j.Subject != "" && j.Subject != e.SpanID && j.Subject != e.UUID })
}

// judged are the judgments of an event's trace.
func (s *Pages) judged(r *http.Request, f *page.Frame, traceID string) ([]judgment, error) {
	if traceID == "" {
		return nil, nil
	}
	list, err := s.Query.Judgments(r.Context(), f.Session.ProjectID, traceID)
	return Judgments(list), err
}
