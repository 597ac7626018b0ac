package sdkadapter

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/event"
)

// Options are an adapter's settings.
type Options struct {
	// Transport sends what the SDK delivers. Defaults to [http.DefaultTransport].
	Transport http.RoundTripper
	// Logger is the SDK's. Defaults to none.
	Logger *slog.Logger
}

// Adapter is the handler that the harness talks to.
type Adapter struct {
	o   Options
	mux *http.ServeMux

	mu    sync.Mutex
	tests map[string]*instance // by test_id; "" is the one of tests that run alone
}

// New returns an adapter without any client: /init makes them.
func New(o Options) *Adapter {
	if o.Transport == nil {
		o.Transport = http.DefaultTransport
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Adapter{o: o, mux: http.NewServeMux(), tests: make(map[string]*instance)}
	a.mux.HandleFunc("GET /health", a.health)
	a.mux.HandleFunc("POST /init", a.init)
	a.mux.HandleFunc("POST /capture", a.capture)
	a.mux.HandleFunc("POST /capture_ai", a.capture)
	a.mux.HandleFunc("POST /get_feature_flag", a.flag)
	a.mux.HandleFunc("POST /flush", a.flush)
	a.mux.HandleFunc("GET /state", a.state)
	a.mux.HandleFunc("POST /reset", a.reset)
	return a
}

// ServeHTTP answers one request of the harness.
func (a *Adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// Close ends every client; what they hold is dropped.
func (a *Adapter) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, in := range a.tests {
		in.end()
	}
	clear(a.tests)
}

// instance is one client and what was seen of it.
type instance struct {
	*hedgerow.Client
	next   http.RoundTripper
	testID string

	mu       sync.Mutex
	captured int64
	requests []sent
}

// sent is a request that the SDK made, as /state reports it.
type sent struct {
	TimestampMS  int64    `json:"timestamp_ms"`
	StatusCode   int      `json:"status_code"` // 0 where no answer came
	RetryAttempt int      `json:"retry_attempt"`
	EventCount   int      `json:"event_count"`
	UUIDs        []string `json:"uuid_list"`
}

func (in *instance) end() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = in.Close(ctx) // what is left is dropped, as it should be
}

// RoundTrip sends a delivery and notes it.
func (in *instance) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	_ = req.Body.Close()
	if err != nil {
		return nil, err
	}
	out := req.Clone(req.Context())
	out.Body = io.NopCloser(bytes.NewReader(body))
	if in.testID != "" {
		out.Header.Set("X-Test-Id", in.testID)
	}
	if strings.HasPrefix(req.URL.Path, "/flags") { // /state reports deliveries only
		return in.next.RoundTrip(out)
	}
	s := sent{TimestampMS: time.Now().UnixMilli(), UUIDs: uuids(body)}
	s.EventCount = len(s.UUIDs)
	res, err := in.next.RoundTrip(out)
	if err == nil {
		s.StatusCode = res.StatusCode
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, before := range in.requests {
		if slices.Equal(before.UUIDs, s.UUIDs) {
			s.RetryAttempt++
		}
	}
	in.requests = append(in.requests, s)
	return res, err
}

// uuids are those of the events in a delivery.
func uuids(body []byte) []string {
	if z, err := gzip.NewReader(bytes.NewReader(body)); err == nil {
		if plain, err := io.ReadAll(z); err == nil {
			body = plain
		}
	}
	var batch struct {
		Batch []struct {
			UUID string `json:"uuid"`
		} `json:"batch"`
	}
	_ = json.Unmarshal(body, &batch) // what cannot be read has none
	list := make([]string, 0, len(batch.Batch))
	for _, e := range batch.Batch {
		list = append(list, e.UUID)
	}
	return list
}

// of returns the client of a request's test, or answers that there is none.
func (a *Adapter) of(w http.ResponseWriter, r *http.Request) *instance {
	a.mu.Lock()
	defer a.mu.Unlock()
	in := a.tests[r.URL.Query().Get("test_id")]
	if in == nil {
		fail(w, http.StatusBadRequest, errors.New("call /init first"))
	}
	return in
}

func (a *Adapter) health(w http.ResponseWriter, _ *http.Request) {
	answer(w, map[string]any{
		"sdk_name": "hedgerow-go", "sdk_version": hedgerow.Version, "adapter_version": "1.0.0",
		"capabilities": []string{"capture_v0", "capture_ai_v0", "encoding_gzip"}, "supports_parallel": true,
	})
}

func (a *Adapter) init(w http.ResponseWriter, r *http.Request) {
	var c struct {
		APIKey          string `json:"api_key"`
		Host            string `json:"host"`
		FlushAt         int    `json:"flush_at"`
		FlushIntervalMS int    `json:"flush_interval_ms"`
		MaxRetries      *int   `json:"max_retries"`
		Compression     *bool  `json:"enable_compression"`
		QueueSize       int    `json:"queue_size"` // not the harness's: for this package's tests
	}
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	in := &instance{next: a.o.Transport, testID: r.URL.Query().Get("test_id")}
	config := hedgerow.Config{
		APIKey: c.APIKey, Host: c.Host, FlushAt: c.FlushAt, FlushInterval: time.Duration(c.FlushIntervalMS) * time.Millisecond, QueueSize: c.QueueSize,
		DisableGzip: c.Compression != nil && !*c.Compression, Logger: a.o.Logger, HTTPClient: &http.Client{Transport: in},
	}
	if c.MaxRetries != nil {
		if config.MaxRetries = *c.MaxRetries; config.MaxRetries == 0 {
			config.MaxRetries = -1 // 0 is the SDK's default
		}
	}
	var err error
	if in.Client, err = hedgerow.New(config); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	a.mu.Lock()
	before := a.tests[in.testID]
	a.tests[in.testID] = in
	a.mu.Unlock()
	if before != nil {
		before.end()
	}
	answer(w, map[string]any{"success": true})
}

// capture is /capture and /capture_ai. The body is an event in PostHog's form.
func (a *Adapter) capture(w http.ResponseWriter, r *http.Request) {
	in := a.of(w, r)
	if in == nil {
		return
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20))
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	e, err := event.UnmarshalPostHog(b)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	if e.UUID == "" {
		e.UUID = event.NewID()
	}
	in.mu.Lock()
	in.captured++
	in.mu.Unlock()
	if r.URL.Path == "/capture_ai" {
		in.CaptureAIEvent(r.Context(), e)
	} else {
		in.CaptureEvent(r.Context(), e)
	}
	answer(w, map[string]any{"success": true, "uuid": e.UUID})
}

// flag is /get_feature_flag. The SDK always asks the host. A flag that the host does
// not know has no value.
func (a *Adapter) flag(w http.ResponseWriter, r *http.Request) {
	in := a.of(w, r)
	if in == nil {
		return
	}
	var q struct {
		Key        string            `json:"key"`
		DistinctID string            `json:"distinct_id"`
		Groups     map[string]string `json:"groups"`

		PersonProperties hedgerow.Properties            `json:"person_properties"`
		GroupProperties  map[string]hedgerow.Properties `json:"group_properties"`
		DisableGeoIP     bool                           `json:"disable_geoip"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	v, err := in.Flag(hedgerow.WithGroups(hedgerow.WithUser(r.Context(), q.DistinctID), q.Groups), q.Key,
		hedgerow.FlagOptions{PersonProperties: q.PersonProperties, GroupProperties: q.GroupProperties, DisableGeoIP: q.DisableGeoIP})
	if err != nil && event.AsError(err).Code == event.CodeNotFound {
		answer(w, map[string]any{"success": true, "value": nil})
		return
	}
	if err != nil {
		fail(w, http.StatusBadGateway, err)
		return
	}
	var value any = v
	if v == "true" || v == "false" {
		value = v == "true"
	}
	answer(w, map[string]any{"success": true, "value": value})
}

func (a *Adapter) flush(w http.ResponseWriter, r *http.Request) {
	in := a.of(w, r)
	if in == nil {
		return
	}
	before := in.Stats().Sent
	// Lost events are reported by /state.
	err := in.Flush(r.Context())
	if r.Context().Err() != nil {
		fail(w, http.StatusServiceUnavailable, err)
		return
	}
	answer(w, map[string]any{"success": true, "events_flushed": in.Stats().Sent - before})
}

func (a *Adapter) state(w http.ResponseWriter, r *http.Request) {
	in := a.of(w, r)
	if in == nil {
		return
	}
	s := in.Stats()
	in.mu.Lock()
	defer in.mu.Unlock()
	retries := 0
	for _, q := range in.requests {
		if q.RetryAttempt > 0 {
			retries++
		}
	}
	var last *string
	if s.LastErr != "" {
		last = &s.LastErr
	}
	answer(w, map[string]any{
		"pending_events": s.Queued, "total_events_captured": in.captured, "total_events_sent": s.Sent, "total_events_dropped": s.Dropped,
		"total_retries": retries, "last_error": last, "requests_made": append([]sent{}, in.requests...),
	})
}

func (a *Adapter) reset(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("test_id")
	a.mu.Lock()
	in := a.tests[id]
	delete(a.tests, id)
	a.mu.Unlock()
	if in != nil {
		in.end()
	}
	answer(w, map[string]any{"success": true})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // to a caller who is gone
}

func fail(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"success": false, "error": err.Error()})
}
