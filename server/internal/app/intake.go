package app

import (
	"context"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/enrich"
	"github.com/hedgerow/hedgerow/server/internal/disk"
)

// intake is where every receiver puts its events. Until the start has put what
// stands behind it in its place it says "unavailable", so that the gateway keeps
// what it has captured and clients try again.
type intake struct {
	next atomic.Pointer[enrich.Appender]
	fail func() // called after each failed append; set before the first one
}

func (i *intake) open(next enrich.Appender) { i.next.Store(&next) }

// Append stores the events. nil means that all are stored.
func (i *intake) Append(ctx context.Context, events ...*event.Event) error {
	next := i.next.Load()
	if next == nil {
		return errNotOpen("the journal")
	}
	err := (*next).Append(ctx, events...)
	if err != nil && i.fail != nil {
		i.fail()
	}
	return err
}

// fromOutside is the intake for callers that can keep their events and send them
// again: they are refused while the disk has no room but its reserve, and wait
// for the store where it is behind. It is never for the gateway.
type fromOutside struct {
	a    *App
	pace *pace // nil: without waiting for the store
}

func (f fromOutside) Append(ctx context.Context, events ...*event.Event) error {
	if f.a.disk.Level() >= disk.Refuse {
		f.a.disk.Poke() // there may be room again
		r := f.a.disk.Health()
		return event.NewError(event.CodeUnavailable, "no events are taken: "+r.Message, r.Hint, nil)
	}
	if f.pace != nil {
		f.pace.wait(ctx)
	}
	return f.a.intake.Append(ctx, events...)
}

// spare takes the content out of events while the disk is nearly full. It stands
// behind enrichment, which has taken what figures need out of the content.
type spare struct {
	next    enrich.Appender
	disk    *disk.Guard
	dropped prometheus.Counter
}

// contentDropped is the property of an event whose content was not kept, and
// droppedByDisk its value where the disk was the reason.
const (
	contentDropped = "content_dropped"
	droppedByDisk  = "disk"
)

func (s spare) Append(ctx context.Context, events ...*event.Event) error {
	if s.disk.Level() < disk.NoContent {
		return s.next.Append(ctx, events...)
	}
	n := 0
	for _, e := range events {
		if e.Content.IsZero() {
			continue
		}
		e.DropContent()
		_ = e.SetProperty(contentDropped, droppedByDisk) // an event with too many properties goes without the mark
		n++
	}
	err := s.next.Append(ctx, events...)
	if err == nil {
		s.dropped.Add(float64(n))
	}
	return err
}
