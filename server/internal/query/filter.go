package query

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Filter selects events. Zero fields do not filter. Strings are compared whole
// and case-sensitively.
type Filter struct {
	From time.Time // first timestamp
	To   time.Time // timestamps before it

	Name          string // event name: "$ai_generation"
	Kind          string // KindCalls … "" is every event
	Provider      string
	Model         string // the model that answered or, where that is unknown, the one asked for
	ModelAsked    string // the model asked for or, where that is unknown, the one that answered
	Operation     string
	Surface       string
	User          string // distinct id
	SessionID     string
	TraceID       string
	PromptName    string
	PromptVersion string // the version or, where that is unknown, its id
	Status        string
	ErrorType     string
	ErrorGroup    string // the normalised message: ErrorGroup.Message of Errors
	TaskType      string
	Step          string // name of a span, of the tool that it called, or of the agent's step
	InputLength   string // bucket of the input's length
	Output        string // category of the output; of outcomes, their property output_category
	Environment   string
	Tag           string
	Flag          string            // key of a feature flag that the event names …
	FlagVariant   string            // … and its variant there; "" is any. Without Flag: posthog_flag_variant
	Text          string            // words that its metadata hold, in any case of letters; of lists only
	Properties    map[string]string // custom property name → its value as text, at most MaxPropertyFilters
}

// The kinds of events that [Filter.Kind] can ask for.
const (
	KindCalls    = "calls"    // generations, embeddings, and calls that applications report themselves
	KindErrors   = "errors"   // failed events
	KindOutcomes = "outcomes" // what tells how a call worked out
	KindTools    = "tools"    // tool calls
	KindOpen     = "open"     // calls that applications report as begun, without an end so far
)

// MaxPropertyFilters bounds [Filter.Properties].
const MaxPropertyFilters = 10

// maxFilterLen bounds one filter value, in bytes.
const maxFilterLen = 1000

// Expressions over table events that several questions use. A call is what
// event.Event.IsCall says. Those that applications report themselves have a status,
// unless they are the other half of a call that the gateway has seen.
const (
	modelExpr = "coalesce(model, model_asked)"
	askedExpr = "coalesce(model_asked, model)"
	// versionExpr is the version or, where only that is known, its id.
	versionExpr = "coalesce(prompt_version, prompt_version_id)"
	callExpr    = "(name IN ('" + event.Generation + "', '" + event.Embedding + "') OR " + endExpr + " AND status IS NOT NULL)"
)

// endExpr tells the ends of calls that applications report.
const endExpr = "name IN ('" + event.RequestCompleted + "', '" + event.RequestFailed + "', '" + event.ReportedGeneration + "')"

// searched are the columns that [Filter.Text] looks into: what is said of a call,
// not what it said.
var searched = []string{"name", "distinct_id", "ai_user", "trace_id", "trace_name", "span_name", "session_id", "provider", "model_asked", "model", "operation", "prompt_name", "prompt_version",
	"prompt_version_id", "surface", "task_type", "environment", "status", "stop_reason", "error_type", "error_message", "completion_id", "properties"}

// Before is the filter over the equally long period before From. There is none
// where the time range has no start or no end.
func (f Filter) Before() (Filter, bool) {
	if f.From.IsZero() || f.To.IsZero() {
		return f, false
	}
	f.From, f.To = f.From.Add(-f.To.Sub(f.From)), f.From
	return f, true
}

// where collects conditions and what is bound to them.
type where struct {
	conds []string
	args  []any
}

func (w *where) add(cond string, args ...any) {
	w.conds = append(w.conds, cond)
	w.args = append(w.args, args...)
}

func (w *where) String() string { return "WHERE " + strings.Join(w.conds, " AND ") }

// where gives the conditions of f within a project.
func (r *Reader) where(project string, f *Filter) (*where, error) {
	if project == "" {
		return nil, event.Invalid("the question names no project", "ask with a key of a project")
	}
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		return nil, event.Invalid("the time range is empty", `"from" must be before "to"`)
	}
	w := new(where)
	w.add("project_id = ?", project)
	if !f.From.IsZero() {
		w.add("ts >= ?", f.From.UTC())
	}
	if !f.To.IsZero() {
		w.add("ts < ?", f.To.UTC())
	}
	for _, c := range []struct{ name, cond, value string }{
		{"event", "name = ?", f.Name},
		{"provider", "provider = ?", f.Provider},
		{"model", modelExpr + " = ?", f.Model},
		{"model_asked", askedExpr + " = ?", f.ModelAsked},
		{"operation", "operation = ?", f.Operation},
		{"surface", "surface = ?", f.Surface},
		{"user", "distinct_id = ?", f.User},
		{"session_id", "session_id = ?", f.SessionID},
		{"trace_id", "trace_id = ?", f.TraceID},
		{"prompt_name", "prompt_name = ?", f.PromptName},
		{"prompt_version", versionExpr + " = ?", f.PromptVersion},
		{"status", "status = ?", f.Status},
		{"error_type", "error_type = ?", f.ErrorType},
		{"step", "? IN (" + r.sql.constProperty(AgentStep) + ", " + r.sql.stepExpr() + ")", f.Step},
		{"input_length", "input_length_bucket = ?", f.InputLength},
		{"output_category", "output_category = ?", f.Output},
		{"error_group", "is_error AND " + errorExpr + " = ?", f.ErrorGroup},
		{"task_type", "task_type = ?", f.TaskType},
		{"environment", "environment = ?", f.Environment},
		{"tag", r.sql.hasTag, f.Tag},
		{"text", r.sql.search(searched), f.Text},
	} {
		if c.value == "" {
			continue
		}
		if err := checkText(c.name, c.value); err != nil {
			return nil, err
		}
		w.add(c.cond, c.value)
	}
	if err := checkText("flag", f.Flag+f.FlagVariant); err != nil {
		return nil, err
	}
	switch {
	case f.Flag != "" && f.FlagVariant != "":
		w.add(r.sql.flag+" = ?", append(flagArgs(f.Flag), f.FlagVariant)...)
	case f.Flag != "":
		w.add(r.sql.flag+" IS NOT NULL", flagArgs(f.Flag)...)
	case f.FlagVariant != "":
		w.add(r.sql.constProperty("posthog_flag_variant")+" = ?", f.FlagVariant)
	}
	switch f.Kind {
	case "":
	case KindCalls:
		w.add(callExpr)
	case KindErrors:
		w.add("is_error")
	case KindOutcomes:
		w.add("name IN (" + outcomeNames + ")")
	case KindTools:
		w.add(r.sql.toolExpr())
	case KindOpen:
		w.add("name = '"+event.RequestStarted+"' AND span_id NOT IN (SELECT span_id FROM events WHERE project_id = ? AND "+endExpr+" AND span_id IS NOT NULL)", project)
	default:
		return nil, event.Invalid("there is no such kind of events", "use calls, errors, outcomes, tools or open")
	}
	if len(f.Properties) > MaxPropertyFilters {
		return nil, event.Invalid("too many property filters", fmt.Sprintf("use at most %d", MaxPropertyFilters))
	}
	for _, name := range slices.Sorted(maps.Keys(f.Properties)) {
		value := f.Properties[name]
		if name == "" {
			return nil, event.Invalid("a property filter has no name", "")
		}
		if err := checkText("property", name+value); err != nil {
			return nil, err
		}
		if name == AgentConfig {
			w.add(r.sql.constProperty(name)+" = ?", value)
			continue
		}
		w.add(r.sql.property+" = ?", propertyPath(name), value)
	}
	return w, nil
}

// flagArgs are what dialect.flag is bound to.
func flagArgs(key string) []any { return []any{propertyPath(key), key} }

func checkText(name, s string) error {
	if len(s) > maxFilterLen {
		return event.Invalid(fmt.Sprintf("the filter %s is too long", name), fmt.Sprintf("use at most %d bytes", maxFilterLen))
	}
	if strings.ToValidUTF8(s, "") != s || strings.ContainsRune(s, 0) {
		return event.Invalid(fmt.Sprintf("the filter %s is not text", name), "send it as UTF-8 without NUL")
	}
	return nil
}
