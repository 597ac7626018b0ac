package ingest

import (
	"context"
	"encoding/json"
	"hash/maphash"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
)

// JoinedTo is the property of a joined event that holds the uuid of the event
// which counts.
const JoinedTo = "hedgerow_joined_to"

const (
	joinWindow  = time.Hour
	joinEntries = 100_000 // about 10 MB
)

// Joiner recognises calls that come through two doors. It stands between the
// doors and enrich; see the package comment for what it does and where its
// limits are.
type Joiner struct {
	next   Appender
	now    func() time.Time
	seed   maphash.Seed
	joined prometheus.Counter

	mu   sync.Mutex
	seen map[uint64]*completion
	ring []uint64 // keys in order of arrival, to be forgotten in that order
	at   int
}

// completion is a call that came through a door.
type completion struct {
	source string
	uuid   string
	by     string // the uuid that was joined to it; "" while none was
	when   time.Time
}

// NewJoiner returns a Joiner before next. now and r may be nil.
func NewJoiner(next Appender, now func() time.Time, r prometheus.Registerer) (*Joiner, error) {
	if now == nil {
		now = time.Now
	}
	j := &Joiner{next: next, now: now, seed: maphash.MakeSeed(), seen: make(map[uint64]*completion),
		joined: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "hedgerow", Subsystem: "ingest", Name: "joined_total", Help: "Events of calls that had come through another door already: kept as spans, counted once."})}
	if r != nil {
		if err := r.Register(j.joined); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// Append joins what has been seen and appends all.
func (j *Joiner) Append(ctx context.Context, events ...*event.Event) error {
	var fresh, joined []*completion
	for _, e := range events {
		if e == nil || !e.IsCosted() || e.CompletionID == "" {
			continue
		}
		c, first := j.note(e)
		switch {
		case first:
			fresh = append(fresh, c)
		case c != nil:
			join(e, c.uuid)
			joined = append(joined, c)
		}
	}
	err := j.next.Append(ctx, events...)
	if err != nil {
		// They may not be stored, and will come again.
		j.forget(fresh, joined)
	} else {
		j.joined.Add(float64(len(joined)))
	}
	return err
}

// note remembers a call, or finds the one that it repeats. An event that comes
// again with its own uuid is no other call, and one through the same door is none
// of the joiner's: providers that are simulated answer with the same id always.
func (j *Joiner) note(e *event.Event) (c *completion, first bool) {
	var h maphash.Hash
	h.SetSeed(j.seed)
	_, _ = h.WriteString(e.ProjectID)
	_ = h.WriteByte(0)
	_, _ = h.WriteString(e.CompletionID)
	key := h.Sum64()
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	c = j.seen[key]
	switch {
	case c == nil || now.Sub(c.when) > joinWindow:
	case c.uuid == e.UUID || c.source == e.Source && c.by != e.UUID:
		return nil, false
	case c.by == "" || c.by == e.UUID:
		c.by = e.UUID
		return c, false
	default:
		return nil, false // the pair is complete: this is a call of its own
	}
	known := c != nil
	c = &completion{source: e.Source, uuid: e.UUID, when: now}
	j.seen[key] = c
	switch {
	case known: // its place in the ring stays
	case len(j.ring) < joinEntries:
		j.ring = append(j.ring, key)
	default:
		delete(j.seen, j.ring[j.at])
		j.ring[j.at] = key
		j.at = (j.at + 1) % joinEntries
	}
	return c, true
}

// forget undoes note for an append that failed.
func (j *Joiner) forget(fresh, joined []*completion) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range fresh {
		c.when = time.Time{} // as if it had been long ago
	}
	for _, c := range joined {
		c.by = ""
	}
}

// join makes of a generation a span that points to the one that counts.
func join(e *event.Event, to string) {
	if e.SpanName == "" {
		e.SpanName = e.ModelName()
	}
	e.Name = event.Span
	e.Usage, e.Cost = event.Usage{}, event.Cost{}
	e.DropContent()
	e.Private = false
	p := make(map[string]json.RawMessage, len(e.Properties)+1)
	for k, v := range e.Properties {
		if !costProperties[k] {
			p[k] = v
		}
	}
	p[JoinedTo] = json.RawMessage(strconv.Quote(to))
	e.Properties = p
}

// costProperties would let PostHog price the call again.
var costProperties = map[string]bool{
	"$ai_usage": true, "$ai_cost_passthrough": true, "$ai_input_token_price": true, "$ai_output_token_price": true, "$ai_cache_read_token_price": true,
	"$ai_cache_write_token_price": true, "$ai_cache_write_1h_token_price": true, "$ai_request_price": true, "$ai_web_search_price": true, "$ai_total_cost_usd": true,
	"$ai_output": true,
}
