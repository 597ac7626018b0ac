package posthog

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/internal/flag"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Defaults of a [Server] whose options are empty.
const (
	Token            = "phc_posthogtestprojecttoken0000000000000000"
	PersonalKeyValue = "phx_posthogtestpersonalkey0000000000000000000"
)

// Options of a server. The zero value has one project with [Token], and one
// personal key with every scope.
type Options struct {
	Projects     []Project
	PersonalKeys []PersonalKey

	// Keep limits how many events are kept; older ones are dropped, for
	// de-duplication too. 0 keeps all.
	Keep int

	// KeepRequests limits how many requests are kept with their bodies.
	// Defaults to 1000; negative keeps none.
	KeepRequests int

	// OTLP decodes a request to /i/v0/ai/otel: the events of its spans, and the
	// number of spans. With nil the route does not exist.
	OTLP func(h http.Header, body []byte) (events []*Event, spans int, err error)

	// Prices is the server's own table, by $ai_model: see [Event.Cost]. With nil
	// it computes no cost.
	Prices map[string]Price

	// Now is the server's clock. Defaults to time.Now.
	Now func() time.Time
}

// Project is a PostHog project.
type Project struct {
	ID    int // Defaults to its position, from 1
	Name  string
	Token string // phc_…
}

// PersonalKey is a key to the private API.
type PersonalKey struct {
	Key      string   // phx_… or phs_…
	Scopes   []string // "query:read", "project:read", "user:read"; "*" is all
	Projects []int    // ids that it has access to; nil is all
}

// Event is an event as PostHog would store it.
type Event struct {
	ProjectID     int
	Token         string
	UUID          string
	Name          string
	DistinctID    string
	Timestamp     time.Time // after clock-skew correction, UTC
	SentTimestamp string    // as received
	Properties    map[string]json.RawMessage
	Raw           json.RawMessage // the event object as received
	Route         string          // without trailing slash: /batch, /i/v0/ai/batch …
	ReceivedAt    time.Time
	Copies        int  // number of times it was received: 1 without retries
	Historical    bool // the batch had historical_migration
}

// Has reports whether the event has a property, null included.
func (e Event) Has(name string) bool { _, ok := e.Properties[name]; return ok }

// Text returns a string property, or the literal of any other; "" if absent.
func (e Event) Text(name string) string { return rawjson.Text(e.Properties[name]) }

// Number returns a numeric property; 0 if it is absent or not a number.
func (e Event) Number(name string) float64 {
	var f float64
	if json.Unmarshal([]byte(e.Text(name)), &f) != nil {
		return 0
	}
	return f
}

// Request is a received request.
type Request struct {
	Method string
	Path   string
	Query  string
	Header http.Header
	Body   []byte   // as on the wire, compressed if it was
	UUIDs  []string // of the events in it, in order, if it could be parsed
	Status int      // of the response; 0 if the connection was reset instead
	At     time.Time
}

// Server is a PostHog in this process. All methods are safe for concurrent use.
type Server struct {
	o Options

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced whenever something was received
	events    []*Event
	seen      map[envelope]*Event
	requests  []Request
	lost      int
	overQuota int
	faults    []*Fault
	down      bool
	noAI      bool
	quota     map[string]bool
	refuse    func(Event) string
	flags     map[string]any

	definitions     *flag.Set
	definitionsBody []byte // as served

	queries map[string]QueryFunc
	deleted []string // distinct ids of deleted persons

	life sync.Mutex // guards the fields below: starting and stopping
	addr string
	srv  *http.Server
	done chan struct{}
}

// envelope is what PostHog de-duplicates by.
type envelope struct {
	project                            int
	timestamp, distinctID, event, uuid string
}

// New returns a server that has not been started. It can be used as a handler,
// or through [Server.Transport], without being started.
func New(o Options) *Server {
	if len(o.Projects) == 0 {
		o.Projects = []Project{{ID: 1, Name: "Test project", Token: Token}}
	}
	o.Projects = slices.Clone(o.Projects)
	for i := range o.Projects {
		if o.Projects[i].ID == 0 {
			o.Projects[i].ID = i + 1
		}
	}
	if o.PersonalKeys == nil {
		o.PersonalKeys = []PersonalKey{{Key: PersonalKeyValue, Scopes: []string{"*"}}}
	}
	if o.KeepRequests == 0 {
		o.KeepRequests = 1000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{o: o, changed: make(chan struct{}), seen: make(map[envelope]*Event)}
}

// TB is the part of testing.TB that [Run] needs.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Run returns a started server that stops with the test.
func Run(t TB, o Options) *Server {
	t.Helper()
	s := New(o)
	if err := s.Start(); err != nil {
		t.Fatalf("start the simulated PostHog: %v", err)
	}
	t.Cleanup(s.Stop)
	return s
}

// Start listens on a free loopback port or, after a [Server.Stop], on its
// previous port.
func (s *Server) Start() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.srv != nil {
		return nil
	}
	addr := s.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.addr = l.Addr().String()
	s.srv = &http.Server{Handler: s, ReadHeaderTimeout: 30 * time.Second}
	s.done = make(chan struct{})
	go func(srv *http.Server, done chan struct{}) {
		defer close(done)
		_ = srv.Serve(l) // always http.ErrServerClosed: nothing else closes l
	}(s.srv, s.done)
	return nil
}

// Stop closes the listener and resets every connection, as a crash would.
// Received events are kept.
func (s *Server) Stop() {
	s.life.Lock()
	defer s.life.Unlock()
	if s.srv == nil {
		return
	}
	_ = s.srv.Close()
	<-s.done
	s.srv = nil
}

// URL is the base URL of a server that has been started at least once.
func (s *Server) URL() string {
	s.life.Lock()
	defer s.life.Unlock()
	return "http://" + s.addr
}

// Events returns the stored events, in order of arrival, each once.
func (s *Server) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Event, len(s.events))
	for i, e := range s.events {
		out[i] = *e
	}
	return out
}

// Named returns the events of one name.
func (s *Server) Named(name string) []Event {
	return slices.DeleteFunc(s.Events(), func(e Event) bool { return e.Name != name })
}

// ByUUID returns every stored event with this uuid: more than one means that a
// sender changed the envelope between two attempts.
func (s *Server) ByUUID(uuid string) []Event {
	return slices.DeleteFunc(s.Events(), func(e Event) bool { return !strings.EqualFold(e.UUID, uuid) })
}

// Count returns how many events are stored.
func (s *Server) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

// Lost returns how many events got 200 and were dropped because no project has
// their token.
func (s *Server) Lost() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// OverQuota returns how many events got 200 and were dropped by
// [Server.SetQuota].
func (s *Server) OverQuota() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.overQuota
}

// Requests returns the received requests, oldest first, including failed ones,
// up to Options.KeepRequests.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// RequestsTo returns the requests to one path, with or without a trailing
// slash.
func (s *Server) RequestsTo(path string) []Request {
	path = strings.TrimSuffix(path, "/")
	return slices.DeleteFunc(s.Requests(), func(r Request) bool { return strings.TrimSuffix(r.Path, "/") != path })
}

// WaitFor returns once at least n events are stored, or with ctx's error and
// the number of stored events.
func (s *Server) WaitFor(ctx context.Context, n int) error {
	if err := s.Wait(ctx, func() bool { return s.Count() >= n }); err != nil {
		return fmt.Errorf("wait for %d events, have %d: %w", n, s.Count(), err)
	}
	return nil
}

// Wait returns once cond holds. It checks after each request and each change of
// the server's mode, without polling.
func (s *Server) Wait(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Reset drops events, requests and counts, and removes all faults. Flags and
// query handlers are kept.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events, s.requests, s.faults, s.refuse, s.quota = nil, nil, nil, nil, nil
	s.seen = make(map[envelope]*Event)
	s.lost, s.overQuota, s.down, s.noAI = 0, 0, false, false
	s.signal()
}

// signal wakes waiting goroutines. The caller holds mu.
func (s *Server) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// store stores the events of one accepted request.
func (s *Server) store(events []*Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		p, ok := s.projectByToken(e.Token)
		if !ok {
			s.lost++
			continue
		}
		if s.limited(e.Name) {
			s.overQuota++
			continue
		}
		e.ProjectID, e.Copies = p.ID, 1
		key := e.envelope()
		if have := s.seen[key]; have != nil {
			have.Copies++
			continue
		}
		s.seen[key] = e
		s.events = append(s.events, e)
	}
	if s.o.Keep > 0 && len(s.events) > s.o.Keep {
		old := len(s.events) - s.o.Keep
		for _, e := range s.events[:old] {
			delete(s.seen, e.envelope())
		}
		s.events = slices.Delete(s.events, 0, old)
	}
}

func (e *Event) envelope() envelope {
	return envelope{e.ProjectID, e.Timestamp.Format(time.RFC3339Nano), e.DistinctID, e.Name, e.UUID}
}

// limited reports whether events with this name are over quota. LLM events have
// a quota of their own.
func (s *Server) limited(name string) bool {
	if strings.HasPrefix(name, "$ai_") {
		return s.quota["llm_events"]
	}
	return s.quota["events"]
}

func (s *Server) projectByToken(token string) (Project, bool) {
	i := slices.IndexFunc(s.o.Projects, func(p Project) bool { return p.Token == token })
	if i < 0 {
		return Project{}, false
	}
	return s.o.Projects[i], true
}

func (s *Server) record(r Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.o.KeepRequests; n > 0 {
		if len(s.requests) >= n {
			s.requests = slices.Delete(s.requests, 0, len(s.requests)-n+1)
		}
		s.requests = append(s.requests, r)
	}
	s.signal()
}

// SetFlags sets the values that /flags returns: true, false or a variant's name
// by key.
func (s *Server) SetFlags(flags map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flags = maps.Clone(flags)
}
