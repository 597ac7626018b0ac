package hedgerow

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/hedgerow/hedgerow/event"
)

// Properties are custom properties. Values must marshal to JSON; others are omitted.
// The map may be changed after the call, its values may not.
type Properties = map[string]any

// Bounds of attribution, the same as in the gateway.
const (
	maxProps = 200
	maxTags  = 50
)

// attribution is what a context sets for the calls made with it. It is immutable.
type attribution struct {
	trace, traceName, parent, session, user string
	prompt, promptVersion, promptVersionID  string
	surface, taskType                       string
	tags                                    []string
	props                                   Properties
	groups, flags                           map[string]string
	private                                 bool
}

type attributionKey struct{}

func attributionOf(ctx context.Context) *attribution {
	a, _ := ctx.Value(attributionKey{}).(*attribution)
	return a
}

func with(ctx context.Context, set func(*attribution)) context.Context {
	var a attribution
	if old := attributionOf(ctx); old != nil {
		a = *old
	}
	set(&a)
	return context.WithValue(ctx, attributionKey{}, &a)
}

// WithTrace sets the trace id of what is captured with the context; an empty id
// creates a new one, which [TraceID] returns. [Client.StartTrace] also records the
// trace itself.
func WithTrace(ctx context.Context, id string) context.Context {
	if id == "" {
		id = event.NewID()
	}
	return with(ctx, func(a *attribution) { a.trace, a.parent = id, "" })
}

// TraceID returns the trace id of a context, or "".
func TraceID(ctx context.Context) string {
	if a := attributionOf(ctx); a != nil {
		return event.CleanID(event.CleanValue(a.trace))
	}
	return ""
}

// WithSession sets the session id, which groups traces, such as a conversation.
func WithSession(ctx context.Context, id string) context.Context {
	return with(ctx, func(a *attribution) { a.session = id })
}

// WithUser sets the distinct id of the user, as in PostHog.
func WithUser(ctx context.Context, distinctID string) context.Context {
	return with(ctx, func(a *attribution) { a.user = distinctID })
}

// WithPrompt sets the prompt that a call uses. version is a number, a label, or "".
func WithPrompt(ctx context.Context, name, version string) context.Context {
	return with(ctx, func(a *attribution) { a.prompt, a.promptVersion = name, version })
}

// WithPromptVersionID is [WithPrompt] for the id of a version (pv_…).
func WithPromptVersionID(ctx context.Context, id string) context.Context {
	return with(ctx, func(a *attribution) { a.promptVersionID = id })
}

// WithSurface sets the part of the product that makes the call: Conversation,
// Test, Playbook, or any other name.
func WithSurface(ctx context.Context, surface string) context.Context {
	return with(ctx, func(a *attribution) { a.surface = surface })
}

// WithTaskType sets the purpose of a call: summarize, classify.
func WithTaskType(ctx context.Context, taskType string) context.Context {
	return with(ctx, func(a *attribution) { a.taskType = taskType })
}

// WithTags adds tags. Each becomes a property of that name with the value true.
func WithTags(ctx context.Context, tags ...string) context.Context {
	return with(ctx, func(a *attribution) { a.tags = slices.Concat(a.tags, tags) })
}

// WithProperties adds custom properties and overwrites existing ones.
func WithProperties(ctx context.Context, props Properties) context.Context {
	return with(ctx, func(a *attribution) { a.props = merged(a.props, props) })
}

// WithGroups adds groups by type: {"company": "acme"}.
func WithGroups(ctx context.Context, groups map[string]string) context.Context {
	return with(ctx, func(a *attribution) { a.groups = merged(a.groups, groups) })
}

// WithFlag sets the user's value of a feature flag: true, false or a variant's name.
func WithFlag(ctx context.Context, key, variant string) context.Context {
	return with(ctx, func(a *attribution) { a.flags = merged(a.flags, map[string]string{key: variant}) })
}

// WithPrivacy withholds prompts and responses captured with the context, as
// [Config.PrivacyMode] does. Derived contexts cannot revoke it.
func WithPrivacy(ctx context.Context) context.Context {
	return with(ctx, func(a *attribution) { a.private = true })
}

func merged[V any](a, b map[string]V) map[string]V {
	out := make(map[string]V, len(a)+len(b))
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// apply sets the context's attribution on an event. It overrides the call's body, as
// headers do in the gateway.
func (a *attribution) apply(e *event.Event) {
	if a == nil {
		a = &attribution{}
	}
	over := func(dst *string, v string) {
		if v = event.CleanValue(v); v != "" {
			*dst = v
		}
	}
	over(&e.DistinctID, a.user)
	if e.DistinctID == "" {
		e.DistinctID = event.CleanValue(e.User)
	}
	e.DistinctID = event.FirstChars(e.DistinctID, event.MaxDistinctIDLen)
	if e.User == "" && e.IsCosted() {
		e.User = e.DistinctID // as in the gateway, where a header set it
	}
	if event.CleanValue(a.trace) != "" {
		over(&e.TraceID, a.trace)
		e.ParentID = "" // the body's parent belongs to the body's trace
		switch e.Name {
		case event.Generation, event.Embedding, event.Span:
			e.ParentID = event.CleanValue(a.parent)
		}
	}
	over(&e.TraceName, a.traceName)
	over(&e.SessionID, a.session)
	over(&e.Surface, a.surface)
	over(&e.TaskType, a.taskType)
	if p := event.CleanValue(a.prompt); p != "" {
		e.PromptName, e.PromptVersion = p, event.CleanValue(a.promptVersion)
	}
	over(&e.PromptVersionID, a.promptVersionID)
	for _, tag := range a.tags {
		if tag = event.CleanValue(tag); tag != "" && tag[0] != '$' && len(e.Tags) < maxTags && !slices.Contains(e.Tags, tag) {
			e.Tags = append(e.Tags, tag)
		}
	}
	for k, v := range a.groups {
		if k, v = event.CleanValue(k), event.CleanValue(v); k != "" && v != "" {
			e.Groups = put(e.Groups, k, v)
		}
	}
	for k, v := range a.flags {
		if k, v = event.CleanValue(k), event.CleanValue(v); k != "" && v != "" {
			e.Flags = put(e.Flags, k, v)
		}
	}
	if a.private {
		e.Private = true
	}
	for _, name := range slices.Sorted(maps.Keys(a.props)) {
		setProperty(e, name, a.props[name])
	}
}

func put[V any](m map[string]V, k string, v V) map[string]V {
	if m == nil {
		m = make(map[string]V)
	}
	m[k] = v
	return m
}

// setProperty sets a custom property. Names that begin with $ are reserved for
// PostHog.
func setProperty(e *event.Event, name string, v any) {
	if name = event.CleanValue(name); name == "" || name[0] == '$' {
		return
	}
	if _, known := e.Properties[name]; !known && len(e.Properties) >= maxProps {
		return
	}
	if b, ok := toJSON(v); ok {
		e.Properties = put(e.Properties, name, b)
	}
}

// toJSON marshals a caller's value, whose methods may panic.
func toJSON(v any) (b json.RawMessage, ok bool) {
	defer func() {
		if recover() != nil {
			b, ok = nil, false
		}
	}()
	b, err := json.Marshal(v)
	return b, err == nil
}
