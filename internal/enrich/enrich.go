package enrich

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

// Appender is what stands behind an Enricher: the journal.
type Appender interface {
	// Append stores the events. It returns nil only when all are stored.
	Append(ctx context.Context, events ...*event.Event) error
}

// Prompts knows the prompts of the projects.
type Prompts interface {
	// Attribute completes what an event says of its prompt: name, version and
	// whether the text is still that version's. instructions returns the texts of
	// the event's system and developer messages; reading them costs, so it is
	// called only where they matter. Attribute must not do I/O.
	Attribute(e *event.Event, instructions func() []string, conversation func() (said []event.Said, whole bool))
}

// Enricher prepares events and hands them on. Its fields must not be changed
// after the first Append; Append is safe for concurrent use.
type Enricher struct {
	// Price fills an event's cost. nil prices nothing.
	Price func(*event.Event)

	// Prompts names the prompt version behind each event. nil leaves what the
	// caller said.
	Prompts Prompts

	// Surface returns what is put on a project's calls and events that name no
	// surface; "" puts nothing. It is called for those only and must not do I/O.
	// nil puts nothing.
	Surface func(projectID string) string

	// Policy returns what a project keeps at home. It is called once for every
	// event and must not do I/O. nil keeps content and leaves e-mails.
	Policy func(projectID string) privacy.HomePolicy

	Next Appender // required

	Now     func() time.Time // nil: time.Now
	Logger  *slog.Logger     // nil: discards
	Metrics Metrics          // nil: none

	atHome func(*event.Event, privacy.HomePolicy) // nil: privacy.AtHome; tests make it fail
}

// Append enriches the events in place and appends them to Next, all of them in
// one call and in their order; nil events are left out. Its result is Next's.
//
// A stage that panics on an event harms neither the caller nor the other events.
// The event goes on: without a cost where pricing failed, and without content
// and free text where what failed is privacy, or stands before it. The log
// names the stage and the uuid, never the content.
func (n *Enricher) Append(ctx context.Context, events ...*event.Event) error {
	if slices.Contains(events, nil) {
		events = slices.DeleteFunc(slices.Clone(events), func(e *event.Event) bool { return e == nil })
	}
	if len(events) == 0 {
		return nil
	}
	now := time.Now
	if n.Now != nil {
		now = n.Now
	}
	at := now()
	for _, e := range events {
		n.enrich(e, at)
	}
	if n.Metrics != nil {
		n.Metrics.Enriched(len(events))
	}
	return n.Next.Append(ctx, events...)
}

// Stages, as the metric and the log name them.
const (
	stageNormalise = "normalise"
	stagePrompt    = "prompt"
	stagePrice     = "price"
	stagePrivacy   = "privacy"
)

func (n *Enricher) enrich(e *event.Event, now time.Time) {
	if !n.guard(stageNormalise, e, func() { Normalise(e, now) }) {
		// Nothing is known of what the event holds now: keep its identity only.
		n.guard(stageNormalise, e, func() {
			withhold(e)
			Normalise(e, now)
		})
	}
	if n.Surface != nil && e.TakesSurface() {
		e.Surface = line(n.Surface(e.ProjectID), maxLabelLen)
	}
	if n.Prompts != nil {
		// Where this fails the event keeps what its caller said of the prompt.
		n.guard(stagePrompt, e, func() {
			n.Prompts.Attribute(e, func() []string { return privacy.Instructions(e) }, func() ([]event.Said, bool) { return privacy.Conversation(e) })
		})
	}
	if n.Price != nil && !n.guard(stagePrice, e, func() { n.Price(e) }) {
		e.Cost = event.Cost{} // half a cost would be a wrong one
	}
	e.Bound() // a price can make a cost that no call has
	if !n.guard(stagePrivacy, e, func() { n.private(e) }) {
		withhold(e)
	}
	// A mark that stands for a secret can be longer than the secret was.
	e.Name, e.DistinctID = line(e.Name, event.MaxNameLen), line(e.DistinctID, event.MaxDistinctIDLen)
}

func (n *Enricher) private(e *event.Event) {
	policy := privacy.HomePolicy{KeepContent: true}
	if n.Policy != nil {
		policy = n.Policy(e.ProjectID)
	}
	if n.atHome != nil {
		n.atHome(e, policy)
		return
	}
	privacy.AtHome(e, policy)
}

// withhold takes everything out of an event into which a caller or a provider
// can have written free text, since none of it could be scrubbed. Counts, costs,
// ids and the outcome stay.
func withhold(e *event.Event) {
	e.DropContent()
	e.Private = true
	e.ErrorMessage, e.ParseError, e.TraceName, e.SpanName, e.BaseURL, e.RequestURL = "", "", "", "", "", ""
	e.ModelParameters, e.ProviderMetadata, e.Properties, e.Tags, e.Flags, e.Groups = nil, nil, nil, nil, nil, nil
	setNote(e, "content and properties left out: they could not be made private")
}

// guard runs f and reports whether it returned. A panic is counted and logged
// with its place; its value only where the runtime itself made it, because any
// other could quote the event.
func (n *Enricher) guard(stage string, e *event.Event, f func()) (ok bool) {
	defer func() {
		v := recover()
		if ok {
			return
		}
		if n.Metrics != nil {
			n.Metrics.Panicked(stage)
		}
		if n.Logger == nil {
			return
		}
		what := fmt.Sprintf("%T", v)
		if err, is := v.(runtime.Error); is {
			what = err.Error()
		}
		n.Logger.Error("an event could not be enriched; it is kept without what failed",
			"stage", stage, "uuid", e.UUID, "project", e.ProjectID, "panic", what, "stack", string(debug.Stack()))
	}()
	f()
	return true
}
