package pipeline

import (
	"context"
	"sync"
	"time"
)

// The receivers of events wait for the store when it is behind by paceLag, each
// request for paceWait at most: what arrives faster than it is stored would
// only wait in the journal, invisible to queries. A store that has ended
// nothing for paceStuck delays no one; the journal is there for that.
const (
	paceTick  = 50 * time.Millisecond
	paceLag   = 600 * time.Millisecond
	paceWait  = time.Second
	paceStuck = 2 * time.Second
)

// pace knows how far the store is behind the journal, by what this process has
// appended and what its sink has ended.
type pace struct {
	history []paceMark // the oldest first; the first is the newest that is stored as a whole
	ended   uint64
	at      time.Time // when ended grew

	mu   sync.Mutex
	gate chan struct{} // closed when the wait is over; nil while there is none
}

// paceMark is how much the journal had been given at a time.
type paceMark struct {
	at       time.Time
	appended uint64
}

// paceMarks bounds the history: 10 s.
const paceMarks = 200

// look notes both counts and opens or shuts the gate.
func (p *pace) look(now time.Time, appended, ended uint64) {
	if ended != p.ended || p.at.IsZero() {
		p.ended, p.at = ended, now
	}
	p.history = append(p.history, paceMark{now, appended})
	drop := max(0, len(p.history)-paceMarks)
	for drop < len(p.history)-1 && p.history[drop].appended <= ended {
		drop++
	}
	p.history = append(p.history[:0], p.history[drop:]...)
	oldest := p.history[0]
	behind := oldest.appended > ended && now.Sub(oldest.at) > paceLag && now.Sub(p.at) < paceStuck
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case behind && p.gate == nil:
		p.gate = make(chan struct{})
	case !behind && p.gate != nil:
		close(p.gate)
		p.gate = nil
	}
}

// wait returns when the store is not behind, or paceWait has passed.
func (p *pace) wait(ctx context.Context) {
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	if gate == nil {
		return
	}
	t := time.NewTimer(paceWait)
	defer t.Stop()
	select {
	case <-gate:
	case <-t.C:
	case <-ctx.Done():
	}
}

// run looks until ctx ends.
func (p *pace) run(ctx context.Context, appended, ended func() uint64) error {
	tick := time.NewTicker(paceTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.look(time.Now(), 0, 0) // lets all pass
			return nil
		case now := <-tick.C:
			done := ended() // first: what is appended between the two is not behind
			p.look(now, appended(), done)
		}
	}
}
