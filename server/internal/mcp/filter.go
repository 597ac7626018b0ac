package mcp

import (
	"strconv"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// filterIn are the arguments that select events. Embedded, they are a tool's
// own.
type filterIn struct {
	From          string            `json:"from,omitempty" jsonschema:"start of the range (inclusive): 2026-01-31T12:00:00Z, 2026-01-31, or relative such as -24h or -7d"`
	To            string            `json:"to,omitempty" jsonschema:"end of the range (exclusive), in the same formats. Default: now"`
	Event         string            `json:"event,omitempty" jsonschema:"event name: $ai_generation (a call), $ai_embedding, $ai_span, $ai_trace, or one of the application's events"`
	Provider      string            `json:"provider,omitempty" jsonschema:"such as openai or anthropic"`
	Model         string            `json:"model,omitempty" jsonschema:"the response model, as recorded"`
	Operation     string            `json:"operation,omitempty" jsonschema:"such as chat, messages, responses or embeddings"`
	Surface       string            `json:"surface,omitempty" jsonschema:"feature of the application that made the call"`
	User          string            `json:"user,omitempty" jsonschema:"the user's distinct id"`
	SessionID     string            `json:"session_id,omitempty" jsonschema:"session that the call belongs to"`
	TraceID       string            `json:"trace_id,omitempty" jsonschema:"trace that the call belongs to; get_trace shows all of it"`
	PromptName    string            `json:"prompt_name,omitempty" jsonschema:"name of the prompt"`
	PromptVersion string            `json:"prompt_version,omitempty" jsonschema:"version of the prompt"`
	Status        string            `json:"status,omitempty" jsonschema:"how the call ended"`
	Output        string            `json:"output_category,omitempty" jsonschema:"category of the response: set by the application, or text, json, code, tool_call, media, empty, refusal, error"`
	ErrorType     string            `json:"error_type,omitempty" jsonschema:"such as rate_limit_error"`
	TaskType      string            `json:"task_type,omitempty" jsonschema:"task type set by the application"`
	Environment   string            `json:"environment,omitempty" jsonschema:"such as production"`
	Tag           string            `json:"tag,omitempty" jsonschema:"tag set by the application"`
	Flag          string            `json:"flag,omitempty" jsonschema:"key of a feature flag on the event"`
	FlagVariant   string            `json:"flag_variant,omitempty" jsonschema:"variant of that flag"`
	Q             string            `json:"q,omitempty" jsonschema:"a filter in words, which holds together with the other arguments: status:error cost:>0.01 latency:>2s -model:(gpt-4o,o4-mini) prompt:~support has:session property.plan:pro (surface:chat OR surface:search). After a field: a value, (one,of,several), ~contains, ^starts with, $ends with, >, >=, <, <=, 1..5; - negates; has: exists. A wrong field is an error that names the nearest"`
	Properties    map[string]string `json:"properties,omitempty" jsonschema:"custom properties and their required values, at most ten"`
}

func narrowFilter(p map[string]*jsonschema.Schema) {
	enum(p["status"], event.StatusSuccess, event.StatusError, event.StatusTimeout, event.StatusBlocked, event.StatusValidationFailed)
}

// week is the filter of figures: where no time is given, the last seven days.
func (in *filterIn) week(now time.Time) (query.Filter, error) {
	f, err := in.filter(now)
	if f.To.IsZero() {
		f.To = now
	}
	if f.From.IsZero() {
		f.From = f.To.AddDate(0, 0, -7)
	}
	return f, err
}

func (in *filterIn) filter(now time.Time) (query.Filter, error) {
	f := query.Filter{
		Name: in.Event, Provider: in.Provider, Model: in.Model, Operation: in.Operation, Surface: in.Surface, User: in.User, SessionID: in.SessionID, TraceID: in.TraceID,
		PromptName: in.PromptName, PromptVersion: in.PromptVersion, Status: in.Status, Output: in.Output, ErrorType: in.ErrorType, TaskType: in.TaskType,
		Environment: in.Environment, Tag: in.Tag, Flag: in.Flag, FlagVariant: in.FlagVariant, Properties: in.Properties,
	}
	for _, t := range []struct {
		name, value string
		into        *time.Time
	}{{"from", in.From, &f.From}, {"to", in.To, &f.To}} {
		if t.value == "" {
			continue
		}
		at, err := moment(t.value, now)
		if err != nil {
			return f, event.Invalid(strconv.Quote(t.name)+" is not a time", "use 2026-01-31T12:00:00Z, 2026-01-31, or a relative time such as -24h or -7d")
		}
		*t.into = at
	}
	return f, f.Narrow(in.Q)
}

// moment reads a time as questions take it; tools may also say now.
func moment(s string, now time.Time) (time.Time, error) {
	if s == "now" {
		return now, nil
	}
	return query.ParseTime(s, now)
}
