package join

import (
	"cmp"
	"container/list"
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Reach is how far, in time, an outcome and its call may be apart.
const Reach = 7 * 24 * time.Hour

const (
	maxTraces    = 20_000  // of outcomes that are remembered
	maxCalls     = 200     // of one trace that are remembered
	maxKnown     = 100_000 // of all traces together; about 75 MB
	maxIDs       = 50_000  // of recent calls that are remembered; about 5 MB
	maxMissed    = 10_000  // ids that the store does not have
	queryTimeout = 2 * time.Second
)

// Finder finds events in the store.
type Finder interface {
	// OfTraces returns the calls, spans and roots of a project's traces, and the
	// calls that have one of the ids as span id, uuid, completion id or request_id,
	// from a time range. complete is false if there are more than it returns.
	OfTraces(ctx context.Context, project string, traces, ids []string, from, to time.Time) (found []*event.Event, complete bool, err error)
}

// Outcomes completes outcomes. Its methods may be called at the same time.
type Outcomes struct {
	find   atomic.Pointer[Finder]      // nil while the store is not open
	merges atomic.Pointer[TraceMerges] // nil while the store is not open
	seed   maphash.Seed

	querying sync.Mutex // around questions to the store

	mu     sync.Mutex
	traces map[key]*trace   // that outcomes have named
	recent *list.List       // of *trace, the one that was used last in front
	count  int              // of their events
	byID   map[key][]*known // of events of traces

	// The traces of recent calls, by a hash of what a product event may name them by
	// as its request_id, and the hashes in order of arrival.
	traceOf map[uint64]string
	ring    []uint64
	at      int

	// Ids for which the store was queried without a trace and which it does not have, by
	// hash: they are not queried again. A later call with the id is noted above.
	missed     map[uint64]bool
	missedRing []uint64
	missedAt   int
}

type key struct{ project, id string }

// trace is what is known of a trace.
type trace struct {
	key
	at        *list.Element
	events    []*known  // in order of time
	queried   bool      // the store was queried: what it had is here
	queriedAt time.Time // the store was queried within [Reach] of this time
}

// known is an event of a trace, as far as outcomes need it.
type known struct {
	of   *trace
	at   time.Time
	call bool // a call, not another step
	uuid string
	ids  []string

	spanID, provider, model                    string
	promptName, promptVersion, promptVersionID string
	surface, environment, taskType             string
	flags                                      map[string]string
	agentConfig                                map[string]string // by the name of the property
}

// agentConfigs are the properties that name the configuration of an agent.
var agentConfigs = []string{"agent_config_id", "agent_config"}

// NewOutcomes returns an Outcomes that knows only what is added to it, until it
// is opened.
func NewOutcomes() *Outcomes {
	return &Outcomes{seed: maphash.MakeSeed(), traces: make(map[key]*trace), recent: list.New(), byID: make(map[key][]*known), traceOf: make(map[uint64]string), missed: make(map[uint64]bool)}
}

// Open sets the store that is queried.
func (o *Outcomes) Open(find Finder) { o.find.Store(&find) }

// Remember indexes events that are, or are about to be, in the store: of
// traces that outcomes have named, and of which trace each call is of.
func (o *Outcomes) Remember(events ...*event.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range events {
		if e.TraceID == "" || e.Name != event.Span && e.Name != event.Trace && !e.IsCall() && !e.IsReportedStart() {
			continue
		}
		if e.IsCall() {
			o.dropMoved(e)
		}
		if t := o.traces[key{e.ProjectID, e.TraceID}]; t != nil {
			o.remember(t, e)
		}
		if e.IsCall() {
			o.note(e)
		}
	}
}

// dropMoved removes a call from the trace that it had before a merge. The caller holds
// mu.
func (o *Outcomes) dropMoved(e *event.Event) {
	for _, k := range slices.Clone(o.byID[key{e.ProjectID, e.UUID}]) {
		if k.uuid == e.UUID && k.of.id != e.TraceID {
			o.forget(k)
			k.of.events = slices.DeleteFunc(k.of.events, func(have *known) bool { return have == k })
		}
	}
}

// note keeps which trace a call is of. The caller holds mu.
func (o *Outcomes) note(e *event.Event) {
	trace := ""
	for i, id := range ids(e) {
		// By uuid and completion id only what an outcome has named before its call came.
		rare := i == 0 || i == 2
		if id == "" || rare && len(o.missed) == 0 {
			continue
		}
		h := o.hash(e.ProjectID, id)
		if rare && !o.missed[h] {
			continue
		}
		have, known := o.traceOf[h]
		if have == e.TraceID {
			continue
		}
		if trace == "" {
			trace = strings.Clone(e.TraceID)
		}
		o.traceOf[h] = trace
		if known {
			continue
		}
		if len(o.ring) < maxIDs {
			o.ring = append(o.ring, h)
			continue
		}
		delete(o.traceOf, o.ring[o.at])
		o.ring[o.at] = h
		o.at = (o.at + 1) % maxIDs
	}
}

func (o *Outcomes) hash(project, id string) uint64 {
	var h maphash.Hash
	h.SetSeed(o.seed)
	_, _ = h.WriteString(project) // never fails
	_ = h.WriteByte(0)
	_, _ = h.WriteString(id)
	return h.Sum64()
}

// ids are what an outcome may name a call by.
func ids(e *event.Event) [4]string {
	return [4]string{e.UUID, e.SpanID, e.CompletionID, rawjson.Scalar(e.Properties["request_id"])}
}

// remember adds an event to its trace. Of a trace with too many, calls stay rather
// than other steps. The caller holds mu.
func (o *Outcomes) remember(t *trace, e *event.Event) {
	if slices.ContainsFunc(o.byID[key{t.project, e.UUID}], func(k *known) bool { return k.uuid == e.UUID }) {
		return
	}
	if len(t.events) >= maxCalls {
		i := len(t.events) - 1
		for i >= 0 && t.events[i].call {
			i--
		}
		if i < 0 || !e.IsCall() {
			return
		}
		o.forget(t.events[i])
		t.events = slices.Delete(t.events, i, i+1)
	}
	// Copies: e's strings are part of the message that it came in.
	own := func(s string) string { return unique.Make(s).Value() }
	k := &known{
		of: t, uuid: strings.Clone(e.UUID), at: e.Timestamp, call: e.IsCall(), spanID: strings.Clone(e.SpanID), provider: own(e.Provider), model: own(e.ModelName()),
		promptName: own(e.PromptName), promptVersion: own(e.PromptVersion), promptVersionID: own(e.PromptVersionID),
		surface: own(e.Surface), environment: own(e.Environment), taskType: own(e.TaskType),
	}
	for flag, variant := range e.Flags {
		if k.flags == nil {
			k.flags = make(map[string]string, len(e.Flags))
		}
		k.flags[own(flag)] = own(variant)
	}
	for _, name := range agentConfigs {
		if v := rawjson.Scalar(e.Properties[name]); v != "" {
			if k.agentConfig == nil {
				k.agentConfig = make(map[string]string, 1)
			}
			k.agentConfig[name] = own(v)
		}
	}
	for _, id := range ids(e) {
		at := key{t.project, strings.Clone(id)}
		if id != "" && !slices.Contains(k.ids, at.id) && len(o.byID[at]) < maxCalls {
			o.byID[at] = append(o.byID[at], k)
			k.ids = append(k.ids, at.id)
		}
	}
	o.count++
	i, _ := slices.BinarySearchFunc(t.events, k, func(a, b *known) int { return a.at.Compare(b.at) })
	t.events = slices.Insert(t.events, i, k)
	o.trim(t)
}

// trim drops the least recently used traces if there are too many, or too many
// events of them; never the one given. The caller holds mu.
func (o *Outcomes) trim(used *trace) {
	for len(o.traces) > maxTraces || o.count > maxKnown {
		old := o.recent.Back().Value.(*trace)
		if old == used {
			return
		}
		o.recent.Remove(old.at)
		delete(o.traces, old.key)
		for _, k := range old.events {
			o.forget(k)
		}
	}
}

// forget removes an event of a trace from the index of ids. The caller holds mu.
func (o *Outcomes) forget(k *known) {
	o.count--
	for _, id := range k.ids {
		at := key{k.of.project, id}
		left := slices.DeleteFunc(o.byID[at], func(have *known) bool { return have == k })
		if o.byID[at] = left; len(left) == 0 {
			delete(o.byID, at)
		}
	}
}

// trace returns a trace and marks it as used last. If there are too many, the least
// recently used is dropped. The caller holds mu.
func (o *Outcomes) trace(k key) *trace {
	if t := o.traces[k]; t != nil {
		o.recent.MoveToFront(t.at)
		return t
	}
	t := &trace{key: key{unique.Make(k.project).Value(), strings.Clone(k.id)}}
	t.at = o.recent.PushFront(t)
	o.traces[t.key] = t
	o.trim(t)
	return t
}

// Complete fills in the outcomes among events from their traces, in place, and
// returns those whose call is not known yet. An error means that the store could
// not be queried within two seconds: a later try may find more.
//
// If a merge has moved a call to another trace, its outcomes get that trace.
func (o *Outcomes) Complete(ctx context.Context, events []*event.Event) (unknown []*event.Event, err error) {
	return o.completeAll(ctx, events, false)
}

// CompleteSent is Complete for events that are about to be sent: an outcome keeps the
// trace that it names if PostHog has its call there, since the merge was late.
func (o *Outcomes) CompleteSent(ctx context.Context, events []*event.Event) (unknown []*event.Event, err error) {
	return o.completeAll(ctx, events, true)
}

func (o *Outcomes) completeAll(ctx context.Context, events []*event.Event, sent bool) (unknown []*event.Event, err error) {
	byProject := make(map[string][]*event.Event)
	for _, e := range Named(events) {
		byProject[e.ProjectID] = append(byProject[e.ProjectID], e)
	}
	for project, outcomes := range byProject {
		if aerr := o.query(ctx, project, outcomes); aerr != nil {
			err = fmt.Errorf("query the calls of outcomes: %w", aerr)
		}
		missing := o.completeKnown(outcomes)
		moved, merr := o.follow(ctx, project, missing)
		if merr == nil && len(moved) > 0 {
			merr = o.query(ctx, project, slices.Collect(maps.Keys(moved)))
		}
		if merr != nil {
			err = merr
		}
		left := o.completeKnown(missing)
		for e, before := range moved {
			if slices.Contains(left, e) || sent && before.unsent {
				before.restore(e)
			}
		}
		unknown = append(unknown, left...)
	}
	return unknown, err
}

// completeKnown completes outcomes from what is known, and returns the others.
func (o *Outcomes) completeKnown(outcomes []*event.Event) (unknown []*event.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range outcomes {
		if !o.complete(e) && (e.TraceID != "" || looksUp(e)) {
			unknown = append(unknown, e)
		}
	}
	return unknown
}

// Named returns the outcomes among events that name a trace or a call.
func Named(events []*event.Event) (outcomes []*event.Event) {
	for _, e := range events {
		if isOutcome(e) && (e.TraceID != "" || len(named(e)) > 0) {
			outcomes = append(outcomes, e)
		}
	}
	return outcomes
}

// isOutcome reports whether an event may have its context from a call: judgments,
// and every event that is neither PostHog's own nor a call that its application
// reports itself.
func isOutcome(e *event.Event) bool {
	switch e.Name {
	case event.Metric, event.Feedback, "$ai_evaluation":
		return true
	}
	return !strings.HasPrefix(e.Name, "$") && !e.StartSent && !e.IsSpanContent() && !e.IsMerge() && !e.IsRepricing() && !e.IsReportedCall() && !e.IsReportedStart()
}

// looksUp reports whether the store is queried for a call that is named by an id alone.
// Of a product event, a request_id is most often that of its own HTTP request: it is
// compared with those of recent calls only.
func looksUp(e *event.Event) bool {
	return e.IsLLM() || strings.HasPrefix(e.Name, "llm_") || e.ParentID != "" || e.SpanID != ""
}

// named are the ids by which an outcome names its call.
func named(e *event.Event) []string {
	var ids []string
	for _, id := range []string{e.ParentID, e.SpanID, rawjson.Scalar(e.Properties["request_id"]), rawjson.Scalar(e.Properties["$ai_generation_id"])} {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// query queries the store for the traces and calls that it has not been queried for yet.
func (o *Outcomes) query(ctx context.Context, project string, outcomes []*event.Event) error {
	o.querying.Lock() // concurrent callers wait, and find the result
	defer o.querying.Unlock()
	var traces, ids []string
	var from, to time.Time
	o.mu.Lock()
	open := func(e *event.Event) {
		if from.IsZero() || e.Timestamp.Before(from) {
			from = e.Timestamp
		}
		if e.Timestamp.After(to) {
			to = e.Timestamp
		}
	}
	trace := func(e *event.Event, id string) {
		if t := o.trace(key{project, id}); !t.queried || !nearTo(t.queriedAt, e.Timestamp) {
			t.queried, t.queriedAt = true, e.Timestamp // before the query: what is stored meanwhile is remembered
			traces = append(traces, t.id)
			open(e)
		}
	}
	for _, e := range outcomes {
		if e.TraceID != "" {
			trace(e, e.TraceID)
			continue
		}
		if o.named(e) != nil {
			continue
		}
		found := false
		for _, id := range named(e) {
			if of := o.traceOf[o.hash(project, id)]; of != "" {
				trace(e, of)
				found = true
			}
		}
		if found || !looksUp(e) {
			continue
		}
		for _, id := range named(e) {
			if h := o.hash(project, id); !o.missed[h] {
				o.miss(h) // before the query: what is stored meanwhile is noted
				ids = append(ids, id)
				open(e)
			}
		}
	}
	o.mu.Unlock()
	if len(traces) == 0 && len(ids) == 0 {
		return nil
	}
	find := o.find.Load()
	if find == nil {
		o.undoQueried(project, [][2][]string{{traces, ids}})
		return event.NewError(event.CodeUnavailable, "the store is not available at the moment", "try again in a moment; see hedgerow's log and /readyz for the cause", nil)
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	// In separate queries, traces before ids: finding calls by trace is fast,
	// but by id alone it searches some weeks, which can take too long.
	for questions := slices.DeleteFunc([][2][]string{{nil, ids}, {traces, nil}}, func(q [2][]string) bool { return len(q[0])+len(q[1]) == 0 }); len(questions) > 0; {
		q := questions[len(questions)-1]
		found, complete, err := (*find).OfTraces(ctx, project, q[0], q[1], from.Add(-Reach), to.Add(Reach))
		if err != nil {
			o.undoQueried(project, questions)
			return err
		}
		questions = questions[:len(questions)-1]
		if n, m := len(q[0]), len(q[1]); !complete && n+m > 1 { // smaller queries return the rest
			questions = append(questions, [2][]string{q[0][n/2:], q[1][m/2:]}, [2][]string{q[0][:n/2], q[1][:m/2]})
			continue
		}
		o.mu.Lock()
		for _, e := range found {
			t := o.trace(key{project, e.TraceID})
			if !t.queried {
				t.queried, t.queriedAt = true, e.Timestamp // what is found by an id comes with its trace
			}
			o.remember(t, e)
		}
		for _, id := range q[1] {
			if len(o.byID[key{project, id}]) > 0 {
				delete(o.missed, o.hash(project, id))
			}
		}
		o.mu.Unlock()
	}
	return nil
}

// miss keeps that the store does not have an id. The caller holds mu.
func (o *Outcomes) miss(h uint64) {
	o.missed[h] = true
	if len(o.missedRing) < maxMissed {
		o.missedRing = append(o.missedRing, h)
		return
	}
	delete(o.missed, o.missedRing[o.missedAt])
	o.missedRing[o.missedAt] = h
	o.missedAt = (o.missedAt + 1) % maxMissed
}

// undoQueried marks traces and ids as not queried.
func (o *Outcomes) undoQueried(project string, questions [][2][]string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, q := range questions {
		for _, id := range q[0] {
			if t := o.traces[key{project, id}]; t != nil {
				t.queried = false
			}
		}
		for _, id := range q[1] {
			delete(o.missed, o.hash(project, id))
		}
	}
}

// named returns the event that an outcome names: none where the id is of calls of
// several traces, such as the small numbers of Ollama, and the outcome does not say
// of which. The caller holds mu.
func (o *Outcomes) named(e *event.Event) *known {
	for _, id := range named(e) {
		var found *known
		several := false
		for _, k := range o.byID[key{e.ProjectID, id}] {
			switch {
			case e.TraceID != "" && e.TraceID != k.of.id || !near(k, e):
			case found == nil, k.call && !found.call: // the other capture of a call is a step
				found, several = k, false
			case k.call == found.call && k.of != found.of:
				several = true
			}
		}
		if several {
			return nil
		}
		if found != nil {
			return found
		}
	}
	return nil
}

func near(k *known, e *event.Event) bool { return nearTo(k.at, e.Timestamp) }

func nearTo(a, b time.Time) bool { return a.Sub(b).Abs() <= Reach }

// complete reports whether the outcome's call is known. The caller holds mu.
func (o *Outcomes) complete(e *event.Event) bool {
	var of *known
	var others []*known
	if k := o.named(e); k != nil {
		of, others = k, k.of.events
		if e.TraceID == "" {
			e.TraceID = k.of.id
		}
		if e.ParentID == "" && k.spanID != e.SpanID {
			e.ParentID = k.spanID
		}
	} else if t := o.traces[key{e.ProjectID, e.TraceID}]; e.TraceID != "" && t != nil {
		others = slices.DeleteFunc(slices.Clone(t.events), func(k *known) bool { return !near(k, e) })
		for _, better := range []func(*known) bool{
			func(k *known) bool { return k.call && k.promptName != "" },
			func(k *known) bool { return k.call },
			func(k *known) bool { return k.model != "" || k.promptName != "" },
		} {
			if i := slices.IndexFunc(others, better); i >= 0 {
				of = others[i]
				break
			}
		}
	}
	if of == nil {
		return false
	}
	fill(e, of, slices.Insert(slices.Clone(others), 0, of))
	return true
}

// fill sets the fields that an outcome does not have: from its call, then from the
// trace's events in their order.
func fill(e *event.Event, of *known, all []*known) {
	has := func(name string) bool { return rawjson.Scalar(e.Properties[name]) != "" }
	if e.PromptVersion == "" && e.PromptVersionID == "" && !has("prompt_version") && !has("prompt_version_id") &&
		(e.PromptName == "" || e.PromptName == of.promptName) {
		e.PromptName, e.PromptVersion, e.PromptVersionID = cmp.Or(e.PromptName, of.promptName), of.promptVersion, of.promptVersionID
	}
	if model := cmp.Or(e.ModelName(), rawjson.Scalar(e.Properties["model"])); model == "" || model == of.model {
		if model == "" {
			e.Model = of.model
		}
		if e.Provider == "" && !has("provider") {
			e.Provider = of.provider
		}
	}
	first := func(to *string, from func(*known) string) {
		for _, k := range all {
			if *to == "" {
				*to = from(k)
			}
		}
	}
	first(&e.Surface, func(k *known) string { return k.surface })
	first(&e.Environment, func(k *known) string { return k.environment })
	first(&e.TaskType, func(k *known) string { return k.taskType })
	if len(e.Flags) == 0 && !has("posthog_flag") && !has("posthog_flag_variant") {
		if i := slices.IndexFunc(all, func(k *known) bool { return len(k.flags) > 0 }); i >= 0 {
			e.Flags = maps.Clone(all[i].flags)
		}
	}
	if slices.ContainsFunc(agentConfigs, has) {
		return
	}
	if i := slices.IndexFunc(all, func(k *known) bool { return len(k.agentConfig) > 0 }); i >= 0 {
		e.Properties = maps.Clone(e.Properties) // the event may share it with its source
		for name, v := range all[i].agentConfig {
			_ = e.SetProperty(name, v) // a text always marshals
		}
	}
}
