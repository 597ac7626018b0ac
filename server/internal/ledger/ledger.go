// Package ledger keeps, for each connection, the names of the properties that
// ever left for it and of those that stayed locally: since when, until when, how
// often, what kind of value. It never holds a value.
//
// Notes are taken in memory, where no one waits, and written every few seconds
// and when [Ledger.Run] ends: a crash loses the last of them. Several processes
// may write for one connection; their notes are added up.
package ledger

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/kv"
)

// MaxNames is how many names each of a connection's two lists has. Further ones
// are counted together.
const MaxNames = 2000

const (
	flushEvery  = 5 * time.Second
	flushWithin = 10 * time.Second
	mostBytes   = 16 << 20 // of a page that is read; one that is full has a tenth
)

// Kinds of values.
const (
	KindNumber  = "number"
	KindBoolean = "boolean"
	KindText    = "text"
	KindList    = "list"
	KindObject  = "object"
	KindNull    = "null"
)

// Seen is when a name occurred, and how often.
type Seen struct {
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Count int64     `json:"count"` // of events
}

func (s *Seen) add(o Seen) {
	if s.Count == 0 || o.First.Before(s.First) {
		s.First = o.First
	}
	if o.Last.After(s.Last) {
		s.Last = o.Last
	}
	s.Count += o.Count
}

// SentName is a property that left.
type SentName struct {
	Name  string   `json:"name"`
	Kinds []string `json:"kinds"` // of its values: number, text …
	Seen
}

// WithheldName is a property that stayed locally.
type WithheldName struct {
	Name      string         `json:"name"`
	Attribute bool           `json:"attribute"` // of a span or resource
	Reason    privacy.Reason `json:"reason"`    // the latest
	Seen
}

// Page is what the ledger says of a connection, most frequent names first.
type Page struct {
	Sent         []SentName
	Withheld     []WithheldName
	MoreSent     int64 // properties under names beyond MaxNames, which are not listed
	MoreWithheld int64
}

// Config is what a ledger works with.
type Config struct {
	// KV keeps a record for each connection. Required.
	KV jetstream.KeyValue
	// Known reports whether there is such a connection: what is noted of others is
	// dropped. nil knows all.
	Known  func(connectionID string) bool
	Logger *slog.Logger
}

// Ledger takes notes. It is safe for concurrent use.
type Ledger struct {
	c   Config
	log *slog.Logger

	mu      sync.Mutex
	pending map[string]*book // by connection: what has not been written yet
}

// book is a connection's record.
type book struct {
	Left     map[string]*left `json:"left"`
	Held     map[string]*held `json:"held"` // by name, attributes behind attributePrefix
	MoreLeft int64            `json:"more_left,omitempty"`
	MoreHeld int64            `json:"more_held,omitempty"`
}

type left struct {
	Kinds []string `json:"kinds"`
	Seen
}

type held struct {
	Reason privacy.Reason `json:"reason"`
	Seen
}

const attributePrefix = "\x00"

func newBook() *book { return &book{Left: make(map[string]*left), Held: make(map[string]*held)} }

// Bucket is the name of the key-value bucket in which a server keeps a [Ledger].
const Bucket = "ledger"

// New returns a ledger; [Ledger.Run] writes it.
func New(c Config) *Ledger {
	l := &Ledger{c: c, log: c.Logger, pending: make(map[string]*book)}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.c.Known == nil {
		l.c.Known = func(string) bool { return true }
	}
	return l
}

// Left notes the properties of an event that has left.
func (l *Ledger) Left(connectionID string, at time.Time, properties map[string]json.RawMessage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(connectionID)
	for name, v := range properties {
		b.left(name, left{Kinds: []string{kindOf(v)}, Seen: Seen{at, at, 1}})
	}
}

// Held notes properties that stayed locally.
func (l *Ledger) Held(connectionID string, at time.Time, list []privacy.Withheld) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(connectionID)
	for _, h := range list {
		name := h.Name
		if h.Attribute {
			name = attributePrefix + name
		}
		b.held(name, held{h.Reason, Seen{at, at, 1}})
	}
}

// book returns what is pending of a connection. The caller holds mu.
func (l *Ledger) book(connectionID string) *book {
	b := l.pending[connectionID]
	if b == nil {
		b = newBook()
		l.pending[connectionID] = b
	}
	return b
}

func (b *book) left(name string, n left) {
	have := b.Left[name]
	switch {
	case have == nil && len(b.Left) >= MaxNames:
		b.MoreLeft += n.Count
		return
	case have == nil:
		have = &left{}
		b.Left[strings.Clone(name)] = have
	}
	have.add(n.Seen)
	for _, k := range n.Kinds {
		if !slices.Contains(have.Kinds, k) {
			have.Kinds = append(have.Kinds, k)
		}
	}
}

func (b *book) held(name string, n held) {
	have := b.Held[name]
	switch {
	case have == nil && len(b.Held) >= MaxNames:
		b.MoreHeld += n.Count
		return
	case have == nil:
		have = &held{}
		b.Held[strings.Clone(name)] = have
	}
	if !n.Last.Before(have.Last) {
		have.Reason = n.Reason
	}
	have.add(n.Seen)
}

// add puts the notes of another book into this one, in the order of names, so that
// which are beyond the bound does not depend on chance.
func (b *book) add(o *book) {
	for _, name := range slices.Sorted(maps.Keys(o.Left)) {
		b.left(name, *o.Left[name])
	}
	for _, name := range slices.Sorted(maps.Keys(o.Held)) {
		b.held(name, *o.Held[name])
	}
	b.MoreLeft += o.MoreLeft
	b.MoreHeld += o.MoreHeld
}

func kindOf(v json.RawMessage) string {
	if len(v) == 0 {
		return KindNull
	}
	switch v[0] {
	case '"':
		return KindText
	case '[':
		return KindList
	case '{':
		return KindObject
	case 't', 'f':
		return KindBoolean
	case 'n':
		return KindNull
	}
	return KindNumber
}

// Run writes what is noted until ctx ends, and again then. It returns nil.
func (l *Ledger) Run(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	failing := false
	flush := func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, flushWithin)
		defer cancel()
		err := l.Flush(ctx)
		if err != nil && !failing {
			l.log.Warn("the ledger of what left for PostHog cannot be written; it is kept in memory meanwhile", "err", err)
		}
		failing = err != nil
	}
	for {
		select {
		case <-tick.C:
			flush(ctx)
		case <-ctx.Done():
			flush(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// Flush writes what is noted. What cannot be written stays noted.
func (l *Ledger) Flush(ctx context.Context) error {
	l.mu.Lock()
	pending := l.pending
	l.pending = make(map[string]*book)
	l.mu.Unlock()
	var errs []error
	for id, notes := range pending {
		if !l.c.Known(id) {
			continue
		}
		if err := l.write(ctx, id, notes); err != nil {
			errs = append(errs, err)
			l.mu.Lock()
			l.book(id).add(notes)
			l.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// Forget removes what is kept of a connection.
func (l *Ledger) Forget(ctx context.Context, connectionID string) error {
	l.mu.Lock()
	delete(l.pending, connectionID)
	l.mu.Unlock()
	if err := l.c.KV.Purge(ctx, connectionID); err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("remove ledger: %w", err)
	}
	return nil
}

func (l *Ledger) write(ctx context.Context, id string, notes *book) error {
	_, err := kv.Swap(ctx, l.c.KV, id, func(old jetstream.KeyValueEntry) ([]byte, error) {
		b := newBook()
		if old != nil {
			b = l.open(id, old)
		}
		b.add(notes)
		return encode(b)
	})
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	return nil
}

// read returns what is written of a connection.
func (l *Ledger) read(ctx context.Context, id string) (*book, error) {
	e, err := l.c.KV.Get(ctx, id)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return newBook(), nil
	case err != nil:
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return l.open(id, e), nil
}

func (l *Ledger) open(id string, e jetstream.KeyValueEntry) *book {
	b, err := decode(e.Value())
	if err != nil {
		// Notes are no reason to stop: start over.
		l.log.Warn("the ledger of a connection is damaged and starts empty", "connection", id, "err", err)
		return newBook()
	}
	return b
}

func encode(b *book) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if err := json.NewEncoder(z).Encode(b); err != nil {
		return nil, fmt.Errorf("encode ledger: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("encode ledger: %w", err)
	}
	return out.Bytes(), nil
}

func decode(value []byte) (*book, error) {
	z, err := gzip.NewReader(bytes.NewReader(value))
	if err != nil {
		return nil, err
	}
	b := newBook()
	if err := json.NewDecoder(io.LimitReader(z, mostBytes)).Decode(b); err != nil {
		return nil, err
	}
	if b.Left == nil || b.Held == nil {
		return nil, errors.New("lists are missing")
	}
	maps.DeleteFunc(b.Left, func(_ string, v *left) bool { return v == nil })
	maps.DeleteFunc(b.Held, func(_ string, v *held) bool { return v == nil })
	return b, nil
}

// Page returns what is known of a connection, what is not written yet included.
func (l *Ledger) Page(ctx context.Context, connectionID string) (Page, error) {
	b, err := l.read(ctx, connectionID)
	if err != nil {
		return Page{}, event.NewError(event.CodeUnavailable, "the ledger could not be read", "try again; if it persists, check hedgerow's log and the free space of its data folder", err)
	}
	l.mu.Lock()
	if notes := l.pending[connectionID]; notes != nil {
		b.add(notes)
	}
	l.mu.Unlock()
	p := Page{MoreSent: b.MoreLeft, MoreWithheld: b.MoreHeld}
	for name, n := range b.Left {
		slices.Sort(n.Kinds)
		p.Sent = append(p.Sent, SentName{Name: name, Kinds: n.Kinds, Seen: n.Seen})
	}
	for name, n := range b.Held {
		plain, attribute := strings.CutPrefix(name, attributePrefix)
		p.Withheld = append(p.Withheld, WithheldName{Name: plain, Attribute: attribute, Reason: n.Reason, Seen: n.Seen})
	}
	slices.SortFunc(p.Sent, func(a, b SentName) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name)) })
	slices.SortFunc(p.Withheld, func(a, b WithheldName) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name)) })
	return p, nil
}
