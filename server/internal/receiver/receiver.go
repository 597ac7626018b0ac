// Package receiver is the HTTP shell that ingest and otlp share: defaults, CORS
// preflights, memory of requests, storing of events, metrics and logs.
package receiver

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/httpbody"
)

// Appender stores events: the pipeline and the journal.
type Appender interface {
	// Append stores the events. It returns nil only if all are stored, and keeps
	// nothing of them: their raw values lie in buffers that are reused.
	Append(ctx context.Context, events ...*event.Event) error
}

// Config configures a [Shell].
type Config struct {
	Name       string   // the metrics' subsystem: "ingest"
	Unit       string   // what requests carry, in metrics and messages: "events"
	Labels     []string // further labels of the request metrics
	Append     Appender
	Memory     int64                 // bytes that all requests together may hold
	Logger     *slog.Logger          // Defaults to none
	Registerer prometheus.Registerer // Defaults to none
	Now        func() time.Time      // Defaults to time.Now
	Collectors []prometheus.Collector
}

// Shell is safe for concurrent use.
type Shell struct {
	Now      func() time.Time
	Memory   *httpbody.Memory
	Warnings *httpbody.Warnings

	append   Appender
	unit     string
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	refused  *prometheus.CounterVec
	accepted prometheus.Counter
}

// New returns a shell and registers its metrics and c.Collectors.
func New(c Config) (*Shell, error) {
	if c.Append == nil {
		return nil, fmt.Errorf("%s: Config.Append is nil", c.Name)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "hedgerow", Subsystem: c.Name, Name: name, Help: help}
	}
	s := &Shell{
		Now: c.Now, Memory: httpbody.NewMemory(c.Memory), Warnings: httpbody.NewWarnings(c.Logger, c.Now), append: c.Append, unit: c.Unit,
		requests: prometheus.NewCounterVec(counter("requests_total", "Requests by class of the response status."), append(c.Labels, "status")),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "hedgerow", Subsystem: c.Name, Name: "request_seconds", Help: "Time to respond to a request, including the journal's acknowledgement.",
			Buckets: []float64{1e-4, 5e-4, 1e-3, 2e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 5, 30}}, c.Labels),
		refused:  prometheus.NewCounterVec(counter("requests_refused_total", "Requests rejected as a whole, by reason."), []string{"reason"}),
		accepted: prometheus.NewCounter(counter(c.Unit+"_total", "Accepted "+c.Unit+": they are in the journal.")),
	}
	if len(c.Labels) == 0 {
		s.seconds.WithLabelValues() // exported before the first request
	}
	if c.Registerer == nil {
		return s, nil
	}
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "hedgerow", Subsystem: c.Name, Name: "memory_bytes", Help: "Bytes held by current requests."}, func() float64 { return float64(s.Memory.Used()) })
	for _, m := range append([]prometheus.Collector{s.requests, s.seconds, s.refused, s.accepted, held}, c.Collectors...) {
		if err := c.Registerer.Register(m); err != nil {
			return nil, fmt.Errorf("register metrics of %s: %w", c.Name, err)
		}
	}
	return s, nil
}

// Preflight sets the CORS headers. It reports true if it has answered the request.
func (s *Shell) Preflight(w http.ResponseWriter, r *http.Request) bool {
	httpbody.CORS(w, r)
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusOK)
		return true
	}
	return false
}

// Observe counts a request that has been answered; labels are those of Config.Labels.
func (s *Shell) Observe(status int, took time.Duration, labels ...string) {
	class := "none"
	if status >= 100 {
		class = strconv.Itoa(status/100) + "xx"
	}
	s.seconds.WithLabelValues(labels...).Observe(took.Seconds())
	s.requests.WithLabelValues(append(labels, class)...).Inc()
}

// Refuse counts and logs a refused request, and sets Retry-After.
func (s *Shell) Refuse(h http.Header, bad *httpbody.Refusal) {
	s.refused.WithLabelValues(bad.Reason).Inc()
	if bad.Status >= 400 && bad.Reason != httpbody.ReasonClientGone {
		s.Warnings.Warn("request "+bad.Reason, "request refused", "status", bad.Status, "err", bad.Message)
	}
	if wait := bad.RetryAfter(); wait != "" {
		h.Set("Retry-After", wait)
	}
}

// Store appends events to the journal. nil means that all of them are stored.
func (s *Shell) Store(ctx context.Context, events []*event.Event) *httpbody.Refusal {
	err := s.append.Append(ctx, events...)
	if err == nil {
		s.accepted.Add(float64(len(events)))
		return nil
	}
	switch e := event.AsError(err); {
	case ctx.Err() != nil:
		return httpbody.Refuse(http.StatusServiceUnavailable, httpbody.ReasonClientGone, "the request ended before the %s were stored", s.unit)
	case e.Code == event.CodeFull:
		s.Warnings.Warn(httpbody.ReasonJournalFull, "the journal is full: "+s.unit+" are refused", "err", err)
		return httpbody.Refuse(http.StatusServiceUnavailable, httpbody.ReasonJournalFull, "hedgerow's journal is full: try again later")
	case e.Code == event.CodeInvalid, e.Code == event.CodeTooLarge:
		return httpbody.Refuse(e.HTTPStatus(), httpbody.ReasonInvalid, "%s", e.Message)
	default:
		s.Warnings.Warn(httpbody.ReasonUnavailable, s.unit+" could not be stored", "err", err)
		return httpbody.Refuse(http.StatusServiceUnavailable, httpbody.ReasonUnavailable, "hedgerow could not store the %s: try again", s.unit)
	}
}

// StoreEach is [Shell.Store] for events of which some may be invalid: those are
// returned in rejected, by index, and the others are stored. If the journal
// rejects the batch, each event is appended alone; it recognizes stored ones by
// their uuid.
func (s *Shell) StoreEach(ctx context.Context, events []*event.Event) (rejected map[int]*httpbody.Refusal, bad *httpbody.Refusal) {
	if len(events) == 0 {
		return nil, nil
	}
	bad = s.Store(ctx, events)
	if bad == nil || bad.Reason != httpbody.ReasonInvalid {
		return nil, bad
	}
	rejected = make(map[int]*httpbody.Refusal)
	for i, e := range events {
		switch bad := s.Store(ctx, []*event.Event{e}); {
		case bad == nil:
		case bad.Reason == httpbody.ReasonInvalid:
			rejected[i] = bad
		default:
			return rejected, bad
		}
	}
	return rejected, nil
}
