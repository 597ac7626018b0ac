package pipeline

import (
	"context"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/disk"
)

// Admission appends the events of callers that can keep them and send them again. It
// is never for the gateway.
type Admission struct {
	p     *Pipeline
	paced bool
}

// Admit returns an appender that refuses events while the disk has no room but its
// reserve. Where paced is true it also waits for the store where that is behind, a
// second a call at most.
func (p *Pipeline) Admit(paced bool) Admission { return Admission{p, paced} }

// Append admits the events and appends them: [Pipeline.Append].
func (a Admission) Append(ctx context.Context, events ...*event.Event) error {
	if d := a.p.c.Disk; d != nil && d.Level() >= disk.Refuse {
		d.Poke() // there may be room again
		r := d.Health()
		return event.NewError(event.CodeUnavailable, "no events are accepted: "+r.Message, r.Hint, nil)
	}
	if a.paced {
		a.p.pace.wait(ctx)
	}
	return a.p.Append(ctx, events...)
}

// Pace looks, until ctx ends, how far the store is behind by how many events this
// process has appended and its sink has stored, and makes admitted events wait
// meanwhile.
func (p *Pipeline) Pace(ctx context.Context, appended, stored func() uint64) error {
	return p.pace.run(ctx, appended, stored)
}

// contentDropped is the property of an event whose content was not kept, and
// droppedByDisk its value where the disk was the reason.
const (
	contentDropped = "content_dropped"
	droppedByDisk  = "disk"
)

// spare takes the content out of events while the disk is nearly full, and returns
// of how many. The stages have taken what figures need out of the content before.
func (p *Pipeline) dropContent(events []*event.Event) (n int) {
	if p.c.Disk == nil || p.c.Disk.Level() < disk.NoContent {
		return 0
	}
	for _, e := range events {
		if e.Content.IsZero() {
			continue
		}
		e.DropContent()
		_ = e.SetProperty(contentDropped, droppedByDisk) // a string always marshals
		n++
	}
	return n
}
