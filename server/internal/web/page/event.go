package page

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// PromptOf is the prompt of an event with its version: support@3.
func PromptOf(e *query.Event) string {
	if v := cmp.Or(e.PromptVersion, e.PromptVersionID); v != "" && e.PromptName != "" {
		return e.PromptName + "@" + v
	}
	return e.PromptName
}

// Heading names an event: calls by their model, outcomes, which know the model
// of their call too, by what they are.
func Heading(e *query.Event) string {
	if e.IsCall() {
		return cmp.Or(e.Model, cmp.Or(e.SpanName, e.Name))
	}
	return cmp.Or(e.SpanName, e.Name)
}

// Outcome is how a call ended: its status, why it was cut off or failed.
func Outcome(e *query.Event) string {
	s := cmp.Or(string(e.Status), "recorded")
	switch {
	case e.Name == event.RequestStarted:
		s = "begun"
	case e.Status == event.StatusSuccess && !usualStops[strings.ToLower(e.StopReason)]:
		s += ": " + e.StopReason // such as length: the response was truncated
	}
	if e.IsError && e.ErrorType != "" {
		s += ": " + e.ErrorType
	}
	if e.IsError && e.ErrorCode != "" && e.ErrorCode != e.ErrorType && e.ErrorCode != event.CodeUnknown {
		s += " · " + e.ErrorCode
	}
	if e.HTTPStatus.Known && e.HTTPStatus.Value >= 400 {
		s += " (" + strconv.FormatInt(e.HTTPStatus.Value, 10) + ")"
	}
	return s
}

// IsNotable reports whether the outcome is other than a normal success.
func IsNotable(e *query.Event) bool {
	return e.IsError || e.Status == event.StatusSuccess && !usualStops[strings.ToLower(e.StopReason)]
}

// usualStops are the stop reasons of complete responses.
var usualStops = map[string]bool{
	"": true, "stop": true, "end_turn": true, "stop_sequence": true, "completed": true, "complete": true, "tool_calls": true, "tool_use": true, "tool-calls": true,
	"tool_call": true, "function_call": true, "done": true,
}

// Uncosted says how many calls are incompletely priced.
func Uncosted(t query.Totals) string {
	if t.Calls == 0 {
		return "no calls yet"
	}
	return Unpriced(t.Incomplete)
}

// Unpriced says how many calls are incompletely priced.
func Unpriced(n int64) string {
	if n <= 0 {
		return "all calls priced"
	}
	return Plural(n, "call") + " incompletely priced"
}

// Cost writes what calls cost: "at least" that, where some of them are incompletely
// priced.
func Cost(sum query.USD, incomplete bool) string {
	if sum.Known && incomplete {
		return "at least " + USD(sum)
	}
	return USD(sum)
}

// CostOf is what an event cost.
func CostOf(e *query.Event) string {
	known, whole := e.Cost.Known()
	return Cost(known, !whole)
}

// OtherErrors says which failures are not of calls.
func OtherErrors(n int64) string {
	if n == 0 {
		return "failed calls"
	}
	return "failed calls; " + Plural(n, "other failure") + " in tools and steps"
}

// TokensInOut is the input and output tokens of totals.
func TokensInOut(t query.Totals) string {
	in, out := Tokens(t.InputTokens), Tokens(t.OutputTokens)
	return in + " in, " + out + " out"
}

// Description is the description of an outcome, in place of a call's details.
func Description(e *query.Event) string {
	var out []string
	for _, p := range []struct{ name, yes, no string }{
		{"task_completed", "task completed", "task not completed"}, {"escalated_to_human", "escalated", ""}, {"accepted_output", "accepted", "not accepted"}, {"edited_output", "edited", ""},
	} {
		switch strings.Trim(string(e.Properties[p.name]), `"`) {
		case "true":
			out = append(out, p.yes)
		case "false":
			if p.no != "" {
				out = append(out, p.no)
			}
		}
	}
	for _, name := range []string{"user_feedback", "eval_score", "$ai_metric_value"} {
		if v := strings.Trim(string(e.Properties[name]), `"`); v != "" && v != "null" {
			out = append(out, strings.TrimPrefix(strings.ReplaceAll(name, "_", " "), "$ai ")+" "+v)
		}
	}
	return strings.Join(out, ", ")
}

// StatusClass is the style of an event’s status.
func StatusClass(e *query.Event) string {
	switch e.Status {
	case event.StatusSuccess, "":
		if e.IsError {
			return "pill bad"
		}
		return "pill"
	case event.StatusBlocked:
		return "pill warn"
	}
	return "pill bad"
}
