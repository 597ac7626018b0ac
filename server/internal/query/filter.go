package query

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/filter"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// Filter selects events. Zero fields do not filter. Strings are compared whole
// and case-sensitively.
type Filter struct {
	From time.Time // first timestamp
	To   time.Time // timestamps before it

	Name          string // event name: "$ai_generation"
	Kind          string // KindCalls … "" is every event
	Provider      string
	Model         string // the response model or, if unknown, the requested one
	ModelAsked    string // the requested model or, if unknown, the response model
	Operation     string
	Surface       string
	User          string // distinct id
	SessionID     string
	TraceID       string
	PromptName    string
	PromptVersion string // the version or, where that is unknown, its id
	Status        string
	ErrorType     string
	ErrorGroup    string // the normalized message: ErrorGroup.Message of Errors
	TaskType      string
	Step          string // name of a span, of the tool that it called, or of the agent's step
	InputLength   string // bucket of the input's length
	Output        string // category of the output; of outcomes, their property output_category
	Environment   string
	Tag           string
	Flag          string            // key of a feature flag on the event …
	FlagVariant   string            // … and its variant there; "" is any. Without Flag: posthog_flag_variant
	Text          string            // text in the metadata, case-insensitive; of lists only
	Properties    map[string]string // custom property name → its value as text, at most MaxPropertyFilters
	Where         filter.Expr       // all else: see [Filter.Narrow]
}

// The kinds of events that [Filter.Kind] can request.
const (
	KindCalls    = "calls"    // generations, embeddings, and calls that applications report themselves
	KindErrors   = "errors"   // failed events
	KindOutcomes = "outcomes" // events that report a call's outcome
	KindTools    = "tools"    // tool calls
	KindUncosted = "uncosted" // calls whose cost is unknown, or known only in part
	KindOpen     = "open"     // calls that applications report as begun, without an end so far

	KindIncomplete = "incomplete" // incompletely priced calls: Incomplete of Totals
)

// MaxPropertyFilters bounds [Filter.Properties].
const MaxPropertyFilters = 10

// maxFilterLen bounds one filter value, in bytes.
const maxFilterLen = 1000

// Expressions over table events that several queries use. A call is defined by
// event.Event.IsCall. Those that applications report themselves have a status,
// unless they are the second report of a call that the gateway captured.
var (
	modelExpr = sqlf.New("coalesce({model}, {model_asked})")
	askedExpr = sqlf.New("coalesce({model_asked}, {model})")
	// versionExpr is the version or, where only that is known, its id.
	versionExpr = sqlf.New("coalesce({prompt_version}, {prompt_version_id})")
	// callExpr spares most rows the list of endExpr.
	callExpr = sqlf.New("({name} = '"+event.Generation+"' OR {name} = '"+event.Embedding+"' OR ? AND {status} IS NOT NULL)", endExpr)
	// endExpr selects the ends of reported calls.
	endExpr = sqlf.New("{name} IN ('" + event.RequestCompleted + "', '" + event.RequestFailed + "', '" + event.ReportedGeneration + "')")
	// outcomeExpr selects outcomes.
	outcomeExpr = sqlf.New("{name} IN (" + outcomeNames + ")")
)

// searched are the columns that [Filter.Text] searches: metadata, not content.
var searched = []string{"name", "distinct_id", "ai_user", "trace_id", "trace_name", "span_name", "session_id", "provider", "model_asked", "model", "operation", "prompt_name", "prompt_version",
	"prompt_version_id", "surface", "task_type", "environment", "status", "stop_reason", "error_type", "error_message", "completion_id", "properties"}

// equals is the condition that an expression has a value.
func equals(expr sqlf.Fragment, value string) sqlf.Fragment { return sqlf.New("? = ?", expr, value) }

// within is the condition of a project's events in the time range of f.
func (f *Filter) within(project string) sqlf.Fragment {
	w := sqlf.New("{project_id} = ?", project)
	if !f.From.IsZero() {
		w = w.Andf("{ts} >= ?", f.From.UTC())
	}
	if !f.To.IsZero() {
		w = w.Andf("{ts} < ?", f.To.UTC())
	}
	return w
}

// around is the time range of f and as much more on both sides.
func (f *Filter) around(reach time.Duration) *Filter {
	var out Filter
	if !f.From.IsZero() {
		out.From = f.From.Add(-reach)
	}
	if !f.To.IsZero() {
		out.To = f.To.Add(reach)
	}
	return &out
}

// where is the condition of f within a project.
func (r *Reader) where(project string, f *Filter) (sqlf.Fragment, error) {
	var none sqlf.Fragment
	if project == "" {
		return none, event.Invalid("the question names no project", "ask with a key of a project")
	}
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		return none, event.Invalid("the time range is empty", `"from" must be before "to"`)
	}
	w := f.within(project).And(r.moment(project))
	for _, c := range []struct {
		name, value string
		cond        sqlf.Fragment
	}{
		{"event", f.Name, equals(sqlf.Column("name"), f.Name)},
		{"provider", f.Provider, equals(sqlf.Column("provider"), f.Provider)},
		{"model", f.Model, equals(modelExpr, f.Model)},
		{"model_asked", f.ModelAsked, equals(askedExpr, f.ModelAsked)},
		{"operation", f.Operation, equals(sqlf.Column("operation"), f.Operation)},
		{"surface", f.Surface, equals(sqlf.Column("surface"), f.Surface)},
		{"user", f.User, equals(sqlf.Column("distinct_id"), f.User)},
		{"session_id", f.SessionID, equals(sqlf.Column("session_id"), f.SessionID)},
		{"trace_id", f.TraceID, equals(sqlf.Column("trace_id"), f.TraceID)},
		{"prompt_name", f.PromptName, equals(sqlf.Column("prompt_name"), f.PromptName)},
		{"prompt_version", f.PromptVersion, equals(versionExpr, f.PromptVersion)},
		{"status", f.Status, equals(sqlf.Column("status"), f.Status)},
		{"error_type", f.ErrorType, equals(sqlf.Column("error_type"), f.ErrorType)},
		{"step", f.Step, r.isStep(f.Step)},
		{"input_length", f.InputLength, equals(sqlf.Column("input_length_bucket"), f.InputLength)},
		{"output_category", f.Output, equals(sqlf.Column("output_category"), f.Output)},
		{"error_group", f.ErrorGroup, isErrorGroup(f.ErrorGroup)},
		{"task_type", f.TaskType, equals(sqlf.Column("task_type"), f.TaskType)},
		{"environment", f.Environment, equals(sqlf.Column("environment"), f.Environment)},
		{"tag", f.Tag, r.sql.hasTag(f.Tag)},
		{"text", f.Text, sqlf.New(r.sql.search, sqlf.Columns(searched...), f.Text)},
	} {
		if c.value == "" {
			continue
		}
		if err := checkText(c.name, c.value); err != nil {
			return none, err
		}
		w = w.And(c.cond)
	}
	if err := checkText("flag", f.Flag+f.FlagVariant); err != nil {
		return none, err
	}
	switch {
	case f.Flag != "" && f.FlagVariant != "":
		w = w.And(equals(r.sql.flag(f.Flag), f.FlagVariant))
	case f.Flag != "":
		w = w.Andf("? IS NOT NULL", r.sql.flag(f.Flag))
	case f.FlagVariant != "":
		w = w.And(equals(r.constProperty("posthog_flag_variant"), f.FlagVariant))
	}
	if f.Kind != "" {
		if !slices.Contains(kinds, f.Kind) {
			return none, event.Invalid("unknown kind of events", "use calls, errors, uncosted, incomplete, outcomes, tools or open")
		}
		w = w.And(r.kind(project, f.Kind))
	}
	if len(f.Properties) > MaxPropertyFilters {
		return none, event.Invalid("too many property filters", fmt.Sprintf("use at most %d", MaxPropertyFilters))
	}
	for _, name := range slices.Sorted(maps.Keys(f.Properties)) {
		value := f.Properties[name]
		if name == "" {
			return none, event.Invalid("a property filter has no name", "")
		}
		if err := checkText("property", name+value); err != nil {
			return none, err
		}
		w = w.And(equals(r.ownProperty(name), value))
	}
	in, err := r.meets(project, f.Where)
	return w.And(in), err
}

// ownProperty is the text of a custom property.
func (r *Reader) ownProperty(name string) sqlf.Fragment {
	if name == AgentConfig {
		return r.constProperty(name)
	}
	return r.sql.property(name)
}

// kind is the condition of the events of a kind, which is one of kinds.
func (r *Reader) kind(project, kind string) sqlf.Fragment {
	switch kind {
	case KindCalls:
		return callExpr
	case KindUncosted:
		return callExpr.Andf("{cost_total} IS NULL")
	case KindIncomplete:
		return callExpr.And(incompleteExpr)
	case KindErrors:
		return sqlf.Column("is_error")
	case KindOutcomes:
		return outcomeExpr
	case KindTools:
		return r.toolExpr()
	}
	return sqlf.New("{name} = '"+event.RequestStarted+"' AND {span_id} NOT IN (SELECT span_id FROM events WHERE project_id = ? AND ? AND span_id IS NOT NULL)", project, endExpr)
}

// isStep is the condition that an event is a step of an agent, or the call of a tool.
func (r *Reader) isStep(name string) sqlf.Fragment {
	return sqlf.New("? IN (?, ?)", name, r.constProperty(AgentStep), r.stepExpr())
}

// isErrorGroup is the condition that an event failed with a normalised message.
func isErrorGroup(message string) sqlf.Fragment {
	return sqlf.New("{is_error} AND ?", equals(errorExpr, message))
}

func checkText(name, s string) error {
	if len(s) > maxFilterLen {
		return event.Invalid(fmt.Sprintf("the filter %s is too long", name), fmt.Sprintf("use at most %d bytes", maxFilterLen))
	}
	if strings.ToValidUTF8(s, "") != s || strings.ContainsRune(s, 0) {
		return event.Invalid(fmt.Sprintf("the filter %s is not text", name), "send it as UTF-8 without NUL")
	}
	return nil
}
