package enrich

import (
	"context"
	"log/slog"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

// Appender is what stands behind an Enricher: the journal.
type Appender interface {
	// Append stores the events. It returns nil only when all are stored.
	Append(ctx context.Context, events ...*event.Event) error
}

// Enricher prepares events and hands them on. Its fields must not be changed
// after the first Append; Append is safe for concurrent use.
type Enricher struct {
	// Price fills an event's cost. nil prices nothing.
	Price func(*event.Event)

	// Policy returns what a project keeps at home. It is called once for every
	// event and must not do I/O. nil keeps content and leaves e-mails.
	Policy func(projectID string) privacy.HomePolicy

	Next Appender

	Now     func() time.Time // nil: time.Now
	Logger  *slog.Logger     // nil: discards
	Metrics *Metrics         // nil: none; see [NewMetrics]
}

// Append enriches the events in place and appends them to Next.
func (n *Enricher) Append(ctx context.Context, events ...*event.Event) error {
	for _, e := range events {
		policy := privacy.HomePolicy{KeepContent: true}
		if n.Policy != nil {
			policy = n.Policy(e.ProjectID)
		}
		if n.Price != nil {
			n.Price(e)
		}
		privacy.AtHome(e, policy)
	}
	return n.Next.Append(ctx, events...)
}
