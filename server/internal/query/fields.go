package query

import (
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/filter"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// field is a field of filters, and what it is of an event.
type field struct {
	filter.Field

	// expr is the value, NULL where an event has none. name is what follows the dot
	// of a family.
	expr func(r *Reader, name string) sqlf.Fragment

	// is, if set, is the condition that the field has a value, where that is not
	// equality with expr.
	is func(r *Reader, project, value string) sqlf.Fragment

	// exact, if set, is the field of [Filter] with the same meaning. Roll-ups and
	// outcomes know of it.
	exact func(*Filter) *string

	by GroupBy // the breakdown of roll-ups that has its values, if there is one
}

// Groups of fields, for menus.
const (
	groupCall    = "Call"
	groupPrompt  = "Prompt"
	groupUser    = "User and trace"
	groupError   = "Errors"
	groupFigures = "Cost and speed"
	groupOwn     = "Properties"
)

func fragment(f sqlf.Fragment) func(*Reader, string) sqlf.Fragment {
	return func(*Reader, string) sqlf.Fragment { return f }
}

func ofColumn(name string) func(*Reader, string) sqlf.Fragment { return fragment(sqlf.Column(name)) }

// nonzero is a column in which 0 is unknown.
func nonzero(name string) func(*Reader, string) sqlf.Fragment {
	return fragment(sqlf.New("nullif(?, 0)", sqlf.Column(name)))
}

// kinds are the values of [Filter.Kind].
var kinds = []string{KindCalls, KindErrors, KindOutcomes, KindTools, KindUncosted, KindIncomplete, KindOpen}

// filterFields are the fields of filters: one row each.
var filterFields = []field{
	{Field: filter.Field{Name: "status", Label: "Status", Type: filter.Enum, Group: groupCall, Help: "How the call ended.",
		Values: []string{string(event.StatusSuccess), string(event.StatusError), string(event.StatusTimeout), string(event.StatusBlocked), string(event.StatusValidationFailed)}},
		by: ByStatus, expr: ofColumn("status"), exact: func(f *Filter) *string { return &f.Status }},
	{Field: filter.Field{Name: "kind", Label: "Kind", Type: filter.Enum, Group: groupCall, Values: kinds, Ops: []filter.Op{filter.Is}, Help: "Calls, failed events, outcomes, tool calls, calls without a complete price, calls that have not ended."},
		is: (*Reader).kind, exact: func(f *Filter) *string { return &f.Kind }},
	{Field: filter.Field{Name: "event", Label: "Event", Type: filter.Name, Group: groupCall, Help: "The name of the event: $ai_generation, $ai_span, or an event of your own."},
		expr: ofColumn("name"), exact: func(f *Filter) *string { return &f.Name }},
	{Field: filter.Field{Name: "provider", Label: "Provider", Type: filter.Name, Group: groupCall, Help: "The provider of the model."},
		by: ByProvider, expr: ofColumn("provider"), exact: func(f *Filter) *string { return &f.Provider }},
	{Field: filter.Field{Name: "model", Label: "Response model", Type: filter.Name, Group: groupCall, Help: "The response model or, if unknown, the requested one."},
		by: ByModel, expr: fragment(modelExpr), exact: func(f *Filter) *string { return &f.Model }},
	{Field: filter.Field{Name: "requested_model", Label: "Requested model", Type: filter.Name, Group: groupCall, Aliases: []string{"model_asked"}, Help: "The requested model or, if unknown, the response model."},
		by: ByModelAsked, expr: fragment(askedExpr), exact: func(f *Filter) *string { return &f.ModelAsked }},
	{Field: filter.Field{Name: "operation", Label: "Operation", Type: filter.Name, Group: groupCall, Help: "The operation: chat, embeddings, execute_tool."},
		by: ByOperation, expr: ofColumn("operation"), exact: func(f *Filter) *string { return &f.Operation }},
	{Field: filter.Field{Name: "env", Label: "Environment", Type: filter.Name, Group: groupCall, Aliases: []string{"environment"}, Help: "The environment, such as production."},
		by: ByEnvironment, expr: ofColumn("environment"), exact: func(f *Filter) *string { return &f.Environment }},
	{Field: filter.Field{Name: "surface", Label: "Surface", Type: filter.Name, Group: groupCall, Help: "The feature of the application that made the call."},
		by: BySurface, expr: ofColumn("surface"), exact: func(f *Filter) *string { return &f.Surface }},
	{Field: filter.Field{Name: "task", Label: "Task type", Type: filter.Name, Group: groupCall, Aliases: []string{"task_type"}, Help: "The task type that the application gave."},
		by: ByTaskType, expr: ofColumn("task_type"), exact: func(f *Filter) *string { return &f.TaskType }},
	{Field: filter.Field{Name: "step", Label: "Step or tool", Type: filter.Name, Group: groupCall, Ops: []filter.Op{filter.Is, filter.Exists}, Help: "The tool that was called, the span's name, or the agent's step."},
		expr: func(r *Reader, _ string) sqlf.Fragment {
			return sqlf.New("coalesce(nullif(?, ''), ?)", r.stepExpr(), r.constProperty(AgentStep))
		},
		is: func(r *Reader, _, value string) sqlf.Fragment { return r.isStep(value) }, exact: func(f *Filter) *string { return &f.Step }},
	{Field: filter.Field{Name: "tool", Label: "Tool", Type: filter.Name, Group: groupCall, Help: "The tool that was called."},
		expr: func(r *Reader, _ string) sqlf.Fragment {
			return sqlf.New("CASE WHEN ? THEN nullif(?, '') END", r.toolExpr(), r.stepExpr())
		}},
	{Field: filter.Field{Name: "stop", Label: "Stop reason", Type: filter.Name, Group: groupCall, Aliases: []string{"stop_reason"}, Help: "Why the model stopped."}, expr: ofColumn("stop_reason")},
	{Field: filter.Field{Name: "stream", Label: "Streamed", Type: filter.Bool, Group: groupCall, Help: "Whether the response was streamed."}, expr: ofColumn("stream")},
	{Field: filter.Field{Name: "service_tier", Label: "Service tier", Type: filter.Name, Group: groupCall, Help: "The provider's service tier."}, expr: ofColumn("service_tier")},
	{Field: filter.Field{Name: "source", Label: "Source", Type: filter.Name, Group: groupCall, Help: "What sent the event: the gateway, an SDK, OpenTelemetry."}, expr: ofColumn("source")},
	{Field: filter.Field{Name: "input_length", Label: "Input length", Type: filter.Name, Group: groupCall, Help: "The range that the input's length falls into, such as 0_256_tokens."},
		by: ByInputLength, expr: ofColumn("input_length_bucket"), exact: func(f *Filter) *string { return &f.InputLength }},
	{Field: filter.Field{Name: "output_category", Label: "Output category", Type: filter.Name, Group: groupCall, Help: "The category of the output; of outcomes, their property output_category."},
		expr: ofColumn("output_category"), exact: func(f *Filter) *string { return &f.Output }},
	{Field: filter.Field{Name: "tag", Label: "Tag", Type: filter.Name, Group: groupCall, Ops: []filter.Op{filter.Is, filter.Exists}, Help: "A tag that the application gave."},
		expr: func(*Reader, string) sqlf.Fragment { return sqlf.New("nullif(len({tags}), 0)") },
		is:   func(r *Reader, _, value string) sqlf.Fragment { return r.sql.hasTag(value) }, exact: func(f *Filter) *string { return &f.Tag }},
	{Field: filter.Field{Name: "name", Label: "Name", Type: filter.Text, Group: groupCall, Help: "The name of the span."}, expr: ofColumn("span_name")},

	{Field: filter.Field{Name: "prompt", Label: "Prompt", Type: filter.Name, Group: groupPrompt, Aliases: []string{"prompt_name"}, Help: "The prompt's name; prompt:NAME@8 is its version 8."},
		by: ByPromptName, expr: ofColumn("prompt_name"), is: isPrompt, exact: func(f *Filter) *string { return &f.PromptName }},
	{Field: filter.Field{Name: "prompt_version", Label: "Prompt version", Type: filter.Name, Group: groupPrompt, Help: "The version or, where that is unknown, its ID."},
		expr: fragment(versionExpr), exact: func(f *Filter) *string { return &f.PromptVersion }},
	{Field: filter.Field{Name: "prompt_hash", Label: "Prompt hash", Type: filter.ID, Group: groupPrompt, Help: "The hash of the call's instructions."}, expr: ofColumn("prompt_hash")},

	{Field: filter.Field{Name: "user", Label: "User", Type: filter.ID, Group: groupUser, Help: "The user's distinct ID."},
		expr: ofColumn("distinct_id"), exact: func(f *Filter) *string { return &f.User }},
	{Field: filter.Field{Name: "session", Label: "Session", Type: filter.ID, Group: groupUser, Aliases: []string{"session_id"}, Help: "The session's ID."},
		expr: ofColumn("session_id"), exact: func(f *Filter) *string { return &f.SessionID }},
	{Field: filter.Field{Name: "trace", Label: "Trace", Type: filter.ID, Group: groupUser, Aliases: []string{"trace_id"}, Help: "The trace's ID."},
		expr: ofColumn("trace_id"), exact: func(f *Filter) *string { return &f.TraceID }},
	{Field: filter.Field{Name: "generation", Label: "Event ID", Type: filter.ID, Group: groupUser, Aliases: []string{"uuid"}, Help: "The event's own ID."},
		expr: fragment(sqlf.New("CAST({uuid} AS VARCHAR)"))},
	{Field: filter.Field{Name: "completion", Label: "Completion ID", Type: filter.ID, Group: groupUser, Aliases: []string{"completion_id"}, Help: "The ID that the provider gave the response."}, expr: ofColumn("completion_id")},

	{Field: filter.Field{Name: "error_type", Label: "Error type", Type: filter.Name, Group: groupError, Help: "The type of the error, such as rate_limit_error."},
		by: ByErrorType, expr: ofColumn("error_type"), exact: func(f *Filter) *string { return &f.ErrorType }},
	{Field: filter.Field{Name: "error_code", Label: "Error code", Type: filter.Name, Group: groupError, Help: "The provider's error code."}, expr: ofColumn("error_code")},
	{Field: filter.Field{Name: "http", Label: "HTTP status", Type: filter.Number, Group: groupError, Aliases: []string{"http_status"}, Help: "The HTTP status of the response."}, expr: nonzero("http_status")},
	{Field: filter.Field{Name: "error", Label: "Error message", Type: filter.Text, Group: groupError, Help: "The error message."}, expr: ofColumn("error_message")},
	{Field: filter.Field{Name: "error_group", Label: "Error", Type: filter.Text, Group: groupError, Ops: []filter.Op{filter.Is}, Help: "The error message without ids, numbers and quoted words, as the list of errors has it."},
		is: func(_ *Reader, _, value string) sqlf.Fragment { return isErrorGroup(value) }, exact: func(f *Filter) *string { return &f.ErrorGroup }},

	{Field: filter.Field{Name: "cost", Label: "Cost", Type: filter.Dollars, Group: groupFigures, Help: "What the call cost in US dollars or, where some of that is unknown, at least."}, expr: fragment(knownCost)},
	{Field: filter.Field{Name: "priced", Label: "Completely priced", Type: filter.Bool, Group: groupFigures, Help: "Whether the whole cost of a call is known."},
		expr: fragment(sqlf.New("CASE WHEN ? THEN {cost_total} IS NOT NULL END", callExpr))},
	{Field: filter.Field{Name: "input_tokens", Label: "Input tokens", Type: filter.Number, Group: groupFigures, Help: "All input tokens, those read from and written to a cache included."}, expr: fragment(inputExpr)},
	{Field: filter.Field{Name: "output_tokens", Label: "Output tokens", Type: filter.Number, Group: groupFigures, Help: "Output tokens, reasoning included."}, expr: ofColumn("output_tokens")},
	{Field: filter.Field{Name: "tokens", Label: "Tokens", Type: filter.Number, Group: groupFigures, Help: "Input and output tokens."}, expr: ofColumn("tokens")},
	{Field: filter.Field{Name: "cache_read", Label: "Cache read", Type: filter.Number, Group: groupFigures, Help: "Input tokens that were read from a cache."}, expr: ofColumn("cache_read_tokens")},
	{Field: filter.Field{Name: "cache_write", Label: "Cache write", Type: filter.Number, Group: groupFigures, Help: "Input tokens that were written to a cache."}, expr: ofColumn("cache_write_tokens")},
	{Field: filter.Field{Name: "reasoning", Label: "Reasoning tokens", Type: filter.Number, Group: groupFigures, Help: "Output tokens that were spent on reasoning."}, expr: ofColumn("reasoning_tokens")},
	{Field: filter.Field{Name: "latency", Label: "Latency", Type: filter.Duration, Group: groupFigures, Help: "The time from the request to the end of the response."}, expr: ofColumn("latency_us")},
	{Field: filter.Field{Name: "ttft", Label: "Time to first token", Type: filter.Duration, Group: groupFigures, Help: "The time from the request to the first token, of streams."}, expr: ofColumn("ttft_us")},
	{Field: filter.Field{Name: "speed", Label: "Tokens per second", Type: filter.Number, Group: groupFigures, Help: "Output tokens per second of latency."},
		expr: fragment(sqlf.New("CASE WHEN {latency_us} > 0 THEN CAST({output_tokens} AS DOUBLE) * 1000000 / {latency_us} END"))},
	{Field: filter.Field{Name: "input_size", Label: "Input size", Type: filter.Number, Group: groupFigures, Help: "Characters of the input."}, expr: ofColumn("input_chars")},
	{Field: filter.Field{Name: "output_size", Label: "Output size", Type: filter.Number, Group: groupFigures, Help: "Characters of the output."}, expr: ofColumn("output_chars")},
	{Field: filter.Field{Name: "request_size", Label: "Request size", Type: filter.Bytes, Group: groupFigures, Help: "Bytes of the request."}, expr: nonzero("request_bytes")},
	{Field: filter.Field{Name: "response_size", Label: "Response size", Type: filter.Bytes, Group: groupFigures, Help: "Bytes of the response."}, expr: nonzero("response_bytes")},

	{Field: filter.Field{Name: "property", Label: "Property", Type: filter.Property, Family: true, Group: groupOwn, Help: "A custom property: property.NAME."}, expr: (*Reader).ownProperty},
	{Field: filter.Field{Name: "flag", Label: "Feature flag", Type: filter.Name, Family: true, Group: groupOwn, Help: "The variant of a feature flag: flag.KEY."},
		expr: func(r *Reader, key string) sqlf.Fragment { return r.sql.flag(key) }},
	{Field: filter.Field{Name: "group", Label: "Group", Type: filter.ID, Family: true, Group: groupOwn, Help: "The key of a PostHog group: group.TYPE."},
		expr: func(r *Reader, kind string) sqlf.Fragment { return r.sql.group(kind) }},
}

// fieldTable is the grammar's table of filterFields.
var fieldTable = func() *filter.Fields {
	list := make([]filter.Field, len(filterFields))
	for i, f := range filterFields {
		list[i] = f.Field
	}
	return filter.NewFields(list)
}()

// FilterFields are the fields that filters can name.
func FilterFields() []filter.Field { return fieldTable.List() }

// FilterError is the cause of an error of code [event.CodeUnknownFilter]: which part of
// the text it is about.
type FilterError = filter.Error

// FindField returns the field of a name, and its canonical name.
func FindField(name string) (*filter.Field, string, bool) { return fieldTable.Find(name) }

// ParseFilter reads a filter. Its errors are of code [event.CodeUnknownFilter].
func ParseFilter(text string) (filter.Expr, error) { return fieldTable.Parse(text) }

// fieldOf is the field of a canonical name, and what follows its dot; nil where there
// is none.
func fieldOf(canonical string) (*field, string) {
	head, name, _ := strings.Cut(canonical, ".")
	for i := range filterFields {
		if filterFields[i].Name == head {
			return &filterFields[i], name
		}
	}
	return nil, ""
}

// isPrompt is the condition that an event is of a prompt or, as NAME@VERSION, of a
// version of it.
func isPrompt(_ *Reader, _, value string) sqlf.Fragment {
	is := equals(sqlf.Column("prompt_name"), value)
	if at := strings.LastIndexByte(value, '@'); at > 0 && at < len(value)-1 {
		return sqlf.Or(is, equals(sqlf.Column("prompt_name"), value[:at]).And(equals(versionExpr, value[at+1:])))
	}
	return is
}
