package eval

import (
	"cmp"
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// EventName is the event of a judgment by a check or a user.
const EventName = "llm_output_rated"

// Properties of judgments. The first four are the vocabulary's own.
const (
	PropName         = "eval_name"
	PropScore        = "eval_score"
	PropPassed       = "eval_passed"
	PropReason       = "eval_reason_code"
	PropKind         = "eval_kind"     // of the check: json_schema, judge …
	PropCheck        = "eval_check_id" // the check's id; also on a judge's own generations
	PropGeneration   = "generation_id" // uuid of the generation's event
	PropJudgeTrace   = "judge_trace_id"
	PropJudged       = "judged_event_id" // on a judge's generation: the judged event
	PropFeedback     = "user_feedback"
	PropFeedbackText = "$ai_feedback_text"

	PropExample = "dataset_example_id"
	PropDataset = "dataset_id"
	PropRun     = "dataset_run_id"
)

// SurfaceJudge and SurfaceDataset are the surfaces of the calls that hedgerow
// makes itself. No check runs on them on its own.
const (
	SurfaceJudge   = "Judge"
	SurfaceDataset = "Dataset"
)

// Limits of a judgment.
const (
	maxNameLen  = 100    // characters of a check's name
	maxScore    = 1e9    // of a score, positive or negative
	maxFeedback = 10_000 // characters of a user's words
)

// Result is one judgment of an answer, with Passed, Score or both; unknown
// values are omitted.
type Result struct {
	Name       string             `json:"eval_name"`                 // of the check: correctness, no_links …
	Passed     event.Opt[bool]    `json:"eval_passed,omitzero"`      //
	Score      event.Opt[float64] `json:"eval_score,omitzero"`       // on the check's own scale, usually 0 to 1
	ReasonCode string             `json:"eval_reason_code,omitzero"` // one word: missing_citation, schema_required …

	Kind       Kind   `json:"eval_kind,omitzero"`      // "" for judgments from outside
	CheckID    string `json:"eval_check_id,omitzero"`  //
	JudgeTrace string `json:"judge_trace_id,omitzero"` // trace in which a judge gave its reasons
}

// Validate returns an error for an invalid judgment from outside.
func (r *Result) Validate() error {
	r.Name, r.ReasonCode = strings.TrimSpace(r.Name), strings.TrimSpace(r.ReasonCode)
	switch {
	case r.Name == "":
		return event.Invalid("the evaluation has no name", `set "eval_name", such as "correctness"`)
	case event.FirstChars(r.Name, maxNameLen) != r.Name:
		return event.Invalid("the evaluation's name is longer than 100 characters", "use a short fixed name")
	case !r.Passed.Known && !r.Score.Known:
		return event.Invalid("the evaluation has neither a pass/fail result nor a score", `set "eval_passed", "eval_score" or both`)
	case r.Score.Known && !(r.Score.Value >= -maxScore && r.Score.Value <= maxScore):
		return event.Invalid("the score is out of range", "use a number from 0 to 1, or your own scale")
	case r.ReasonCode != "" && !codeForm.MatchString(r.ReasonCode):
		return event.Invalid("the reason code is not one word", "use lower-case letters, digits and _ such as missing_citation; free text would reach PostHog")
	}
	return nil
}

// codeForm is the form of a reason code: a word, so that it cannot contain
// text of an answer.
var codeForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// Event returns the judgment of a generation as an event with the generation's
// trace, user, prompt, model and labels, so that charts and experiments count
// them together. With a check its uuid is derived from the generation and the
// check; otherwise it is new.
func (r Result) Event(of *event.Event, at time.Time) *event.Event {
	e := about(of, EventName, at)
	if r.CheckID != "" {
		e.UUID = event.DerivedID("eval/"+of.UUID+"/"+r.CheckID, at)
	}
	set := func(name string, v any) { _ = e.SetProperty(name, v) } // words and numbers always marshal
	set(PropName, r.Name)
	if r.Passed.Known {
		set(PropPassed, r.Passed.Value)
	}
	if r.Score.Known {
		set(PropScore, r.Score.Value)
	}
	for name, v := range map[string]string{PropReason: r.ReasonCode, PropKind: string(r.Kind), PropCheck: r.CheckID, PropJudgeTrace: r.JudgeTrace} {
		if v != "" {
			set(name, v)
		}
	}
	return e
}

// about creates an event about a generation.
func about(of *event.Event, name string, at time.Time) *event.Event {
	e := &event.Event{
		UUID: event.NewID(), ProjectID: of.ProjectID, Name: name, Timestamp: at, Source: source,
		DistinctID: of.DistinctID, TraceID: of.TraceID, ParentID: of.SpanID, SessionID: of.SessionID,
		Provider: of.Provider, ModelAsked: of.ModelAsked, Model: of.Model, Operation: of.Operation,
		PromptName: of.PromptName, PromptVersion: of.PromptVersion, PromptVersionID: of.PromptVersionID, PromptHash: of.PromptHash,
		Surface: of.Surface, TaskType: of.TaskType, Environment: of.Environment, Tags: of.Tags, Flags: of.Flags, Groups: of.Groups,
		InputLengthBucket: of.InputLengthBucket, OutputCategory: of.OutputCategory,
		Properties: make(map[string]json.RawMessage),
	}
	// The other fields that experiments and datasets group calls by.
	for _, p := range []string{"posthog_flag", "posthog_flag_variant", PropExample, PropDataset, PropRun} {
		if v := of.Properties[p]; v != nil {
			e.Properties[p] = v
		}
	}
	if of.UUID != "" {
		_ = e.SetProperty(PropGeneration, of.UUID)
	}
	if of.TraceID != "" {
		_ = e.SetProperty("trace_id", of.TraceID)
	}
	return e
}

// source is the [event.Event.Source] of judgments.
const source = "eval"

// Feedback is a user's feedback on an answer.
type Feedback struct {
	Rating   string          `json:"rating,omitzero"` // positive, negative or neutral; "" where only words or deeds are known
	Text     string          `json:"text,omitzero"`   // the user's own words: content, which privacy keeps locally
	Accepted event.Opt[bool] `json:"accepted_output,omitzero"`
	Edited   event.Opt[bool] `json:"edited_output,omitzero"`
}

// Validate returns an error for invalid feedback.
func (f *Feedback) Validate() error {
	f.Rating = strings.ToLower(strings.TrimSpace(f.Rating))
	if word, ok := ratings[f.Rating]; ok {
		f.Rating = word
	} else if f.Rating != "" {
		return event.Invalid("unknown rating", "use positive, negative or neutral")
	}
	f.Text = strings.TrimSpace(f.Text)
	if f.Rating == "" && f.Text == "" && !f.Accepted.Known && !f.Edited.Known {
		return event.Invalid("the feedback is empty", `set "rating" (positive, negative, neutral), "text", "accepted_output" or "edited_output"`)
	}
	if event.FirstChars(f.Text, maxFeedback) != f.Text {
		return event.NewError(event.CodeTooLarge, "the feedback is longer than 10,000 characters", "shorten it", nil)
	}
	return nil
}

// ratings are the words for thumbs.
var ratings = map[string]string{
	"positive": "positive", "good": "positive", "up": "positive", "thumbs_up": "positive", "like": "positive",
	"negative": "negative", "bad": "negative", "down": "negative", "thumbs_down": "negative", "dislike": "negative",
	"neutral": "neutral",
}

// Events returns the events of a feedback: llm_output_rated with the figures,
// and $ai_feedback with the text.
func (f Feedback) Events(of *event.Event, at time.Time) []*event.Event {
	var out []*event.Event
	if f.Rating != "" || f.Accepted.Known || f.Edited.Known {
		e := about(of, EventName, at)
		if f.Rating != "" {
			_ = e.SetProperty(PropFeedback, f.Rating)
		}
		if f.Accepted.Known {
			_ = e.SetProperty("accepted_output", f.Accepted.Value)
		}
		if f.Edited.Known {
			_ = e.SetProperty("edited_output", f.Edited.Value)
		}
		out = append(out, e)
	}
	if f.Text != "" {
		e := about(of, event.Feedback, at)
		delete(e.Properties, "trace_id") // PostHog's own event has PostHog's own name for it
		_ = e.SetProperty(PropFeedbackText, f.Text)
		out = append(out, e)
	}
	return out
}

// FromStored converts a stored generation to an event with the fields that
// judgments need and its stored content.
func FromStored(q *query.Event) *event.Event {
	e := &event.Event{
		UUID: q.UUID, ProjectID: q.ProjectID, Name: q.Name, DistinctID: q.DistinctID, Timestamp: q.Timestamp, TraceID: q.TraceID, SpanID: cmp.Or(q.SpanID, q.UUID), SessionID: q.SessionID,
		Provider: q.Provider, Model: q.Model, ModelAsked: q.ModelAsked, Operation: q.Operation, IsError: q.IsError, Status: q.Status, StopReason: q.StopReason,
		PromptName: q.PromptName, PromptVersion: q.PromptVersion, PromptVersionID: q.PromptVersionID, PromptHash: q.PromptHash,
		Surface: q.Surface, TaskType: q.TaskType, Environment: q.Environment, Tags: q.Tags, Flags: q.Flags, Groups: q.Groups,
		InputChars: q.InputChars, OutputChars: q.OutputChars, InputLengthBucket: q.InputLengthBucket, OutputCategory: q.OutputCategory,
		ModelParameters: q.ModelParameters, Properties: q.Properties,
	}
	if q.LatencyMS.Known {
		e.Latency = event.Some(time.Duration(q.LatencyMS.Value * float64(time.Millisecond)))
	}
	if q.Content != nil {
		e.Content = event.Content{Input: q.Content.Input, Output: q.Content.Output, Tools: q.Content.Tools}
	}
	return e
}

// ended returns when a generation's answer was complete: the time of its
// judgments, the same for each.
func ended(e *event.Event) time.Time { return e.Timestamp.Add(e.Latency.Or(0)) }
