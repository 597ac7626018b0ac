package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// patience limits every wait of these tests; it is reached only if a test
// fails.
const patience = time.Minute

// rig is a gateway that serves on loopback and whose events are collected.
type rig struct {
	*gateway.Gateway
	url  string
	sink *sink
	logs *buffer
	reg  *prometheus.Registry
}

// start serves a gateway until the test ends. Fields that c leaves empty are
// filled in: every call belongs to the project p1.
func start(t testing.TB, c gateway.Config) *rig {
	t.Helper()
	r := &rig{sink: newSink(), logs: new(buffer), reg: prometheus.NewRegistry()}
	if c.Authorize == nil {
		c.Authorize = func(string, *http.Request) (gateway.Grant, error) { return gateway.Grant{ProjectID: "p1"}, nil }
	}
	if c.Append == nil {
		c.Append = r.sink
	}
	c.Logger = slog.New(slog.NewJSONHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c.Registerer = r.reg
	g, err := gateway.New(c)
	if err != nil {
		t.Fatal(err)
	}
	r.Gateway = g
	srv := httptest.NewUnstartedServer(g)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.Start()
	r.url = srv.URL
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = g.Close(ctx)
	})
	return r
}

// at returns a configuration with url as the upstream openai.
func at(url string) gateway.Config {
	return gateway.Config{Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: url}}}
}

// providers serves simulated providers until the test ends.
func providers(t testing.TB) *simprovider.Server {
	t.Helper()
	sim := simprovider.New(simprovider.Options{})
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.Close() })
	return sim
}

// simulate serves simulated providers and a gateway in front of them.
func simulate(t testing.TB, c gateway.Config) (*rig, *simprovider.Server) {
	t.Helper()
	sim := providers(t)
	all := map[string]gateway.Upstream{
		"openai":     {BaseURL: sim.OpenAIURL()},
		"anthropic":  {BaseURL: sim.AnthropicURL()},
		"openrouter": {BaseURL: sim.OpenRouterURL()},
		"azure":      {BaseURL: sim.CompatibleURL("azure")},
		"gemini":     {BaseURL: sim.GeminiURL()},
	}
	maps.Copy(all, c.Upstreams)
	c.Upstreams = all
	return start(t, c), sim
}

// metric returns the sum of a metric's values whose labels include all of want,
// given as name=value.
func (r *rig) metric(t testing.TB, name string, want ...string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			if slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(labels, w) }) {
				continue
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// quiet waits until no handler runs: the last one may still be returning when
// its response has been read.
func (r *rig) quiet(t testing.TB) {
	t.Helper()
	for begin := time.Now(); r.metric(t, "hedgerow_gateway_in_flight") > 0; runtime.Gosched() {
		if time.Since(begin) > patience {
			t.Fatal("a call is still in progress")
		}
	}
}

// one waits for the event of the only call so far.
func (r *rig) one(t testing.TB) *event.Event {
	t.Helper()
	return r.sink.await(t, 1)[0]
}

// sink is an Appender that keeps events, and fails or blocks on command.
type sink struct {
	mu      sync.Mutex
	events  []*event.Event
	at      []time.Time
	changed chan struct{}
	fail    func(try int, events []*event.Event) error
	tries   int
}

func newSink() *sink { return &sink{changed: make(chan struct{})} }

func (s *sink) Append(_ context.Context, events ...*event.Event) error {
	s.mu.Lock()
	s.tries++
	fail, try := s.fail, s.tries
	s.mu.Unlock()
	if fail != nil {
		if err := fail(try, events); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		s.events, s.at = append(s.events, e), append(s.at, time.Now())
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *sink) all() []*event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// await waits for n events and fails the test if there are more.
func (s *sink) await(t testing.TB, n int) []*event.Event {
	t.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		events, changed := slices.Clone(s.events), s.changed
		s.mu.Unlock()
		if len(events) > n {
			t.Fatalf("%d events, want %d", len(events), n)
		}
		if len(events) == n {
			return events
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%d events after %v, want %d", len(events), patience, n)
		}
	}
}

// buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// client changes nothing in a request or response on its own.
func client(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true, ExpectContinueTimeout: patience}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// response is what a caller received.
type response struct {
	status  int
	proto   string
	length  int64
	te      []string
	header  http.Header
	trailer http.Header
	body    string
	err     error // of reading the body
}

// call sends one request and reads the whole response. Headers are "name:
// value" lines.
func call(t testing.TB, method, url, body string, headers ...string) response {
	t.Helper()
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, rd)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	return do(t, client(t), req)
}

func do(t testing.TB, c *http.Client, req *http.Request) response {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		return response{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return response{resp.StatusCode, resp.Proto, resp.ContentLength, resp.TransferEncoding, resp.Header, resp.Trailer, string(b), err}
}

// chat posts a chat completion with the caller's own key.
func chat(t testing.TB, base, body string, headers ...string) response {
	t.Helper()
	return call(t, "POST", base+"/openai/v1/chat/completions", body, append([]string{"Content-Type: application/json", "Authorization: Bearer sk-own"}, headers...)...)
}

const (
	chatBody   = `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"How wide is a hedge?"}]}`
	streamBody = `{"model":"gpt-4.1-mini","stream":true,"messages":[{"role":"user","content":"How wide is a hedge?"}]}`
)

// refusedAddr returns an address at which nothing listens.
func refusedAddr(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// receive waits for a value from a channel.
func receive[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
		panic("not reached")
	}
}

var errTest = errors.New("made up by the test")
