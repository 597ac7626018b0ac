package join

import (
	"context"
	"encoding/json"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
)

// JoinedTo is the property of a joined event that holds the uuid of the event
// which counts.
const JoinedTo = "hedgerow_joined_to"

// JoinWindow is how long a call waits for its other half.
const JoinWindow = time.Hour

const (
	joinEntries = 100_000 // calls that are remembered; about 40 MB
	joinAlike   = 64      // of which so many look the same

	gatewayWait = 500 * time.Millisecond // for the gateway's record of a call that a wrapper reports at once
	gatewaySoon = 10 * time.Second       // after a call's end; what is reported later has had its record long since
)

// Appender stores events. nil means that all of them are stored.
type Appender interface {
	Append(ctx context.Context, events ...*event.Event) error
}

// Joiner recognises calls that come through two receivers. It stands between the
// pipeline and the journal; see the package comment for what it does and where its
// limits are.
type Joiner struct {
	next   Appender
	c      JoinerConfig
	seed   maphash.Seed
	joined prometheus.Counter

	mu      sync.Mutex
	seen    map[uint64][]*seenCall // by mark, the oldest first
	ring    []mark                 // in order of arrival, to be forgotten in that order
	at      int
	arrived chan struct{} // closed, and made anew, when a call of the gateway comes
}

// JoinerConfig says what a Joiner is made of. The zero value will do.
type JoinerConfig struct {
	// Gateway reports whether a base URL is one of this hedgerow's gateway. A
	// wrapper that names one has captured a call that the gateway has seen, even
	// where it does not say which. nil knows none.
	Gateway func(baseURL string) bool

	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

// seenCall is a call that came through a receiver.
type seenCall struct {
	source string
	uuid   string
	by     string // the uuid that was joined to it; "" while none was
	when   time.Time
	facts  facts
	lost   bool // it was not stored after all
}

// mark is one thing by which a call is known.
type mark struct {
	key  uint64
	call *seenCall
}

// NewJoiner returns a Joiner before next.
func NewJoiner(next Appender, c JoinerConfig) (*Joiner, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	j := &Joiner{next: next, c: c, seed: maphash.MakeSeed(), seen: make(map[uint64][]*seenCall), arrived: make(chan struct{}),
		joined: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "hedgerow", Subsystem: "ingest", Name: "joined_total", Help: "Events of calls that had come through another receiver before: kept as spans, counted once."})}
	if c.Registerer != nil {
		if err := c.Registerer.Register(j.joined); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// Append joins what has been seen and appends all.
func (j *Joiner) Append(ctx context.Context, events ...*event.Event) error {
	j.awaitGateway(ctx, events)
	var fresh, joined []*seenCall
	for _, e := range events {
		if e == nil || !e.IsCosted() {
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
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, c := range fresh {
			c.lost = true
		}
		for _, c := range joined {
			c.by = ""
		}
		return err
	}
	j.joined.Add(float64(len(joined)))
	return nil
}

// awaitGateway waits a moment for the gateway's records of calls that wrappers say
// they made through it. The gateway writes one shortly after the answer's end, and a
// wrapper that does not batch may be faster; the gateway's is the one to count, since
// it has what the request said of itself, and knows the time to the first token. No
// caller waits: a wrapper reports in the background.
func (j *Joiner) awaitGateway(ctx context.Context, events []*event.Event) {
	if j.c.Gateway == nil {
		return
	}
	var wait <-chan time.Time
	for _, e := range events {
		if e == nil || !e.IsCosted() || e.Source == event.SourceGateway || e.BaseURL == "" || j.c.Now().Sub(e.Timestamp.Add(e.Latency.Or(0))).Abs() > gatewaySoon || !j.c.Gateway(e.BaseURL) {
			continue
		}
		for known, arrived := j.gatewayHas(e); !known; known, arrived = j.gatewayHas(e) {
			if wait == nil {
				wait = time.After(gatewayWait)
			}
			select {
			case <-arrived:
			case <-wait:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// gatewayHas reports whether a call's record by the gateway is known, or else when to
// look again.
func (j *Joiner) gatewayHas(e *event.Event) (known bool, arrived <-chan struct{}) {
	keys, f := j.marks(e), factsOf(e)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, key := range keys {
		for _, c := range j.seen[key] {
			if c.source == event.SourceGateway && !c.lost && (c.by == "" || c.by == e.UUID) && j.same(f, c.facts) {
				return true, nil
			}
		}
	}
	return len(keys) == 0, j.arrived
}

// marks returns what a call is looked up by, before [facts.same] compares the two:
// the provider's id of the completion; and, for calls of the gateway and those that say that they went through it,
// how many tokens it had. Two calls with equal counts may be taken for each
// other. That is no harm: both receivers have seen both.
func (j *Joiner) marks(e *event.Event) []uint64 {
	hash := func(kind, s string) uint64 {
		var h maphash.Hash
		h.SetSeed(j.seed)
		for _, part := range []string{kind, e.ProjectID, s} {
			_, _ = h.WriteString(part)
			_ = h.WriteByte(0)
		}
		return h.Sum64()
	}
	var keys []uint64
	if e.CompletionID != "" {
		keys = append(keys, hash("id", e.CompletionID))
	}
	gateway := e.Source == event.SourceGateway
	if gateway || e.CompletionID == "" && j.c.Gateway != nil && e.BaseURL != "" && j.c.Gateway(e.BaseURL) {
		keys = append(keys, hash(e.Name, strconv.FormatInt(e.Usage.Input.Or(0), 10)+"/"+strconv.FormatInt(e.Usage.Output.Or(0), 10)))
	}
	return keys
}

// note remembers a call, or finds the one that it repeats. An event that comes
// again with its own uuid is no other call, and one through the same receiver is none
// of the joiner's: providers that are simulated answer with the same id always.
func (j *Joiner) note(e *event.Event) (c *seenCall, first bool) {
	keys := j.marks(e)
	if len(keys) == 0 {
		return nil, false
	}
	now := j.c.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	f := factsOf(e)
	var found *seenCall
	for _, key := range keys {
		for _, c := range j.seen[key] {
			switch {
			case c.uuid == e.UUID && !c.lost:
				return nil, false
			case c.lost, c.source == e.Source, now.Sub(c.when) > JoinWindow, !j.same(f, c.facts):
			case c.by == e.UUID:
				return c, false
			case c.by == "" && (found == nil || !found.facts.overlaps(f) && c.facts.overlaps(f)):
				found = c // of several that look the same the one of that moment
			}
		}
		if found != nil {
			found.by = strings.Clone(e.UUID)
			return found, false
		}
	}
	c = &seenCall{source: e.Source, uuid: e.UUID, when: now, facts: f.kept()}
	for _, key := range keys {
		j.keep(key, c)
	}
	if e.Source == event.SourceGateway {
		close(j.arrived)
		j.arrived = make(chan struct{})
	}
	return c, true
}

// Remember makes the joiner know calls that it has not seen itself, or not since
// the process began: those that the store has, and those that reach it. Spans that
// were joined tell which calls have their other half already.
func (j *Joiner) Remember(events ...*event.Event) {
	var joined []*event.Event
	byUUID := make(map[string]*seenCall)
	now := j.c.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range events {
		switch {
		case e.Name == event.Span && e.Properties[JoinedTo] != nil:
			joined = append(joined, e)
		case e.IsCosted() && now.Sub(e.Timestamp) <= JoinWindow:
			keys := j.marks(e)
			// Of its own: e's strings lie in the message that it came in.
			c := &seenCall{source: strings.Clone(e.Source), uuid: strings.Clone(e.UUID), when: e.Timestamp, facts: factsOf(e).kept()}
			for _, key := range keys {
				if i := slices.IndexFunc(j.seen[key], func(have *seenCall) bool { return have.uuid == e.UUID }); i >= 0 {
					c = j.seen[key][i]
					keys = nil // known
					break
				}
			}
			for _, key := range keys {
				j.keep(key, c)
			}
			byUUID[e.UUID] = c
		}
	}
	for _, e := range joined {
		to := text(e.Properties[JoinedTo])
		c := byUUID[to]
		for _, key := range j.marks(e) {
			for _, have := range j.seen[key] {
				if have.uuid == to {
					c = have
				}
			}
		}
		if c != nil && c.by == "" {
			c.by = strings.Clone(e.UUID)
		}
	}
}

// keep files a call under a mark. The caller holds mu.
func (j *Joiner) keep(key uint64, c *seenCall) {
	if alike := j.seen[key]; len(alike) >= joinAlike {
		j.seen[key] = append(alike[:0], alike[len(alike)-joinAlike+1:]...)
	}
	j.seen[key] = append(j.seen[key], c)
	if len(j.ring) < joinEntries {
		j.ring = append(j.ring, mark{key, c})
		return
	}
	j.forget(j.ring[j.at])
	j.ring[j.at] = mark{key, c}
	j.at = (j.at + 1) % joinEntries
}

func (j *Joiner) forget(m mark) {
	left := slices.DeleteFunc(j.seen[m.key], func(c *seenCall) bool { return c == m.call })
	if len(left) == 0 {
		delete(j.seen, m.key)
		return
	}
	j.seen[m.key] = left
}

// join makes of a generation a span that points to the one that counts.
func join(e *event.Event, to string) {
	if e.SpanName == "" {
		e.SpanName = e.ModelName()
	}
	e.Name = event.Span
	e.Usage, e.Cost = event.Usage{}, event.Cost{}
	e.InputChars, e.OutputChars, e.InputLengthBucket, e.OutputCategory = event.Int{}, event.Int{}, "", ""
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
