package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/enrich"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/disk"
)

// Appender stores a [Pipeline]'s events: the journal.
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
	Attribute(e *event.Event, instructions func() []string, conversation func() (said []event.ChatMessage, whole bool))
}

// Config says what a [Pipeline] is made of. Its functions are called for every event
// and must not do I/O.
type Config struct {
	// Price fills an event's cost. nil prices nothing.
	Price func(*event.Event)

	// Surface returns what is put on a project's calls and events that name no
	// surface; "" puts nothing. It is called for those only. nil puts nothing.
	Surface func(projectID string) string

	// Policy returns what a project stores locally. nil keeps content and
	// leaves e-mails.
	Policy func(projectID string) privacy.StoragePolicy

	Disk *disk.Guard // whose space decides what is taken; nil: takes all

	Registerer prometheus.Registerer // nil: no metrics
	Logger     *slog.Logger          // nil: discards
	Now        func() time.Time      // nil: time.Now
}

// Pipeline prepares events and hands them on. It is safe for concurrent use.
type Pipeline struct {
	c       Config
	metrics *metrics
	pace    pace
	next    atomic.Pointer[opened]
	atHome  func(*event.Event, privacy.StoragePolicy)
}

// opened is what there is only once the journal is open.
type opened struct {
	next    Appender
	prompts Prompts
}

// New returns a pipeline that is not open yet. It fails only where its metrics
// cannot be registered.
func New(c Config) (*Pipeline, error) {
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, fmt.Errorf("pipeline: register metrics: %w", err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Pipeline{c: c, metrics: m, atHome: privacy.ApplyStorage}, nil
}

// Open passes events to next, and lets prompts name the version used by each of
// them; nil prompts keep what callers sent. Until then Append says that the
// journal is unavailable, so that the gateway keeps what it has captured and
// clients try again.
func (p *Pipeline) Open(next Appender, prompts Prompts) { p.next.Store(&opened{next, prompts}) }

// IsOpen reports whether events are taken.
func (p *Pipeline) IsOpen() bool { return p.next.Load() != nil }

// Append prepares the events in place and hands them on, all of them in one
// call and in their order; nil events are left out. Its result is that of the
// next [Appender]. After a failure there the disk is checked.
//
// A stage that panics on an event harms neither the caller nor the other
// events. The event is still stored: without a cost if pricing failed, and
// without content and free text if privacy or a stage before it failed. The log
// names the stage and the uuid, never the content.
func (p *Pipeline) Append(ctx context.Context, events ...*event.Event) error {
	if slices.Contains(events, nil) {
		events = slices.DeleteFunc(slices.Clone(events), func(e *event.Event) bool { return e == nil })
	}
	if len(events) == 0 {
		return nil
	}
	to := p.next.Load()
	if to == nil {
		return event.NewError(event.CodeUnavailable, "the journal is not available at the moment", "try again in a moment; see hedgerow's log and /readyz for the cause", nil)
	}
	at := p.c.Now()
	for _, e := range events {
		p.prepare(e, to.prompts, at)
	}
	p.metrics.events.Add(float64(len(events)))
	spared := p.dropContent(events)
	err := to.next.Append(ctx, events...)
	switch {
	case err == nil:
		p.metrics.dropped.Add(float64(spared))
	case p.c.Disk != nil:
		p.c.Disk.Poke()
	}
	return err
}

// Stages, as the metric and the log name them.
const (
	stageNormalise = "normalise"
	stagePrompt    = "prompt"
	stagePrice     = "price"
	stagePrivacy   = "privacy"
)

func (p *Pipeline) prepare(e *event.Event, prompts Prompts, now time.Time) {
	if !p.guard(stageNormalise, e, func() { readAnswerID(e); enrich.Normalise(e, now) }) {
		// Nothing is known of what the event holds now: keep its identity only.
		p.guard(stageNormalise, e, func() {
			enrich.Withhold(e)
			enrich.Normalise(e, now)
		})
	}
	if p.c.Surface != nil && e.TakesSurface() {
		e.Surface = enrich.SingleLine(p.c.Surface(e.ProjectID), enrich.MaxLabelLen)
	}
	if prompts != nil {
		// Where this fails the event keeps what its caller said of the prompt.
		p.guard(stagePrompt, e, func() {
			prompts.Attribute(e, func() []string { return privacy.Instructions(e) }, func() ([]event.ChatMessage, bool) { return privacy.Conversation(e) })
		})
	}
	if p.c.Price != nil && !p.guard(stagePrice, e, func() { p.c.Price(e) }) {
		e.Cost = event.Cost{} // half a cost would be a wrong one
	}
	e.BoundCost() // a price can make a cost that no call has
	if !p.guard(stagePrivacy, e, func() { p.private(e) }) {
		enrich.Withhold(e)
	}
	// A mark in place of a secret can be longer than the secret was.
	e.Name, e.DistinctID = enrich.SingleLine(e.Name, event.MaxNameLen), enrich.SingleLine(e.DistinctID, event.MaxDistinctIDLen)
}

// private derives what charts need of the content, and makes the event private.
func (p *Pipeline) private(e *event.Event) {
	policy := privacy.StoragePolicy{KeepContent: true}
	if p.c.Policy != nil {
		policy = p.c.Policy(e.ProjectID)
	}
	p.atHome(e, policy)
}

// guard runs f and reports whether it returned. A panic is counted and logged
// with its place; its value only where the runtime itself made it, because any
// other could quote the event.
func (p *Pipeline) guard(stage string, e *event.Event, f func()) (ok bool) {
	defer func() {
		v := recover()
		if ok {
			return
		}
		p.metrics.panics.WithLabelValues(stage).Inc()
		what := fmt.Sprintf("%T", v)
		if err, is := v.(runtime.Error); is {
			what = err.Error()
		}
		p.c.Logger.Error("an event could not be fully enriched; the failed stage is skipped",
			"stage", stage, "uuid", e.UUID, "project", e.ProjectID, "panic", what, "stack", string(debug.Stack()))
	}()
	f()
	return true
}
