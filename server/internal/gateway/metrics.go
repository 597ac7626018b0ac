package gateway

import "github.com/prometheus/client_golang/prometheus"

// Reasons why a call was not recorded: the values of the label reason of
// hedgerow_gateway_capture_dropped_total and the keys of [Stats.Dropped].
const (
	dropQueueFull  = "queue_full"  // too many calls waiting
	dropQueueBytes = "queue_bytes" // too many bytes waiting
	dropAppend     = "append"      // the journal rejected this event, or failed three times
	dropClosed     = "closed"      // the gateway was closing
)

var dropReasons = []string{dropQueueFull, dropQueueBytes, dropAppend, dropClosed}

type metrics struct {
	requests *prometheus.CounterVec
	added    *prometheus.HistogramVec
	ttfb     *prometheus.HistogramVec
	inFlight prometheus.Gauge
	unread   *prometheus.CounterVec
	usage    *prometheus.CounterVec

	captured       prometheus.Counter
	dropped        *prometheus.CounterVec
	parseErrors    *prometheus.CounterVec
	panics         prometheus.Counter
	retries        prometheus.Counter
	contentDropped prometheus.Counter
	lag            prometheus.Histogram
}

func newMetrics() *metrics {
	name := func(n string) prometheus.Opts {
		return prometheus.Opts{Namespace: "hedgerow", Subsystem: "gateway", Name: n}
	}
	counter := func(n, help string, labels ...string) *prometheus.CounterVec {
		o := name(n)
		o.Help = help
		return prometheus.NewCounterVec(prometheus.CounterOpts(o), labels)
	}
	histogram := func(n, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		o := name(n)
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: o.Namespace, Subsystem: o.Subsystem, Name: o.Name, Help: help, Buckets: buckets}, labels)
	}
	one := func(v *prometheus.CounterVec) prometheus.Counter { return v.WithLabelValues() }
	m := &metrics{
		requests: counter("requests_total", "Calls by provider, operation and outcome: the class of the provider's status code, or client_disconnected, timeout, connection_error, stream_error, refused (by hedgerow itself).", "provider", "operation", "outcome"),
		added: histogram("added_seconds", "Latency that hedgerow added to a call, without time spent waiting for the provider and the caller; all routes.",
			[]float64{5e-6, 10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 50e-3, 250e-3, 1}, "provider"),
		ttfb: histogram("ttfb_seconds", "Time from sending a call to the provider to the start of its response.",
			[]float64{1e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2, 4, 8, 16, 32, 64, 128, 256}, "provider"),
		inFlight:       prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "hedgerow", Subsystem: "gateway", Name: "in_flight", Help: "Calls in progress."}),
		unread:         counter("bodies_unread_total", "JSON request bodies that were forwarded without being parsed, because of their size or the total size.", "reason"),
		usage:          counter("usage_asked_total", "Streams for which hedgerow requested usage, and whether the provider rejected it.", "outcome"),
		captured:       one(counter("capture_events_total", "Calls that became events in the journal.")),
		dropped:        counter("capture_dropped_total", "Calls that were not recorded, by reason. The calls themselves were not affected.", "reason"),
		parseErrors:    counter("capture_parse_errors_total", "Calls whose bodies could not be parsed; they are recorded without what the body contains.", "provider"),
		panics:         one(counter("capture_panics_total", "Calls whose parser panicked; they are recorded without what the body contains.")),
		contentDropped: one(counter("capture_content_dropped_total", "Calls recorded without content, because the journal was unavailable for too long.")),
		retries:        one(counter("capture_append_retries_total", "Appends to the journal that were retried.")),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "hedgerow", Subsystem: "gateway", Name: "capture_lag_seconds",
			Help: "Time from the end of a response until its event is in the journal.", Buckets: []float64{1e-4, 5e-4, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 500e-3, 1, 5, 30}}),
	}
	for _, r := range dropReasons {
		m.dropped.WithLabelValues(r)
	}
	return m
}

func (g *Gateway) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	m := g.metrics
	gauge := func(n, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "hedgerow", Subsystem: "gateway", Name: n, Help: help}, f)
	}
	for _, c := range []prometheus.Collector{
		m.requests, m.added, m.ttfb, m.inFlight, m.unread, m.usage, m.captured, m.dropped, m.parseErrors, m.panics, m.retries, m.contentDropped, m.lag,
		gauge("capture_queue_depth", "Calls waiting to be recorded or being recorded.", func() float64 { return float64(g.capture.depth.Load()) }),
		gauge("capture_queue_bytes", "Bytes held by calls waiting to be recorded.", func() float64 { return float64(g.capture.bytes.used.Load()) }),
		gauge("capture_step", "Step of capture: 0 normal, 1 calls wait in memory for the journal, 2 they wait without content, 3 calls are dropped.", func() float64 { return g.capture.stats().Step.number() }),
		gauge("request_bytes", "Bytes of request bodies held for calls in progress.", func() float64 { return float64(g.requests.used.Load()) }),
		gauge("response_bytes", "Bytes of responses held for calls in progress.", func() float64 { return float64(g.responses.used.Load()) }),
	} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

type outcome struct{ operation, status string }

// count counts a call. The counter of each outcome is looked up once.
func (g *Gateway) count(u *upstream, operation, status string) {
	name := "unknown"
	if u == nil {
		g.metrics.requests.WithLabelValues(name, operation, status).Inc()
		return
	}
	key := outcome{operation, status}
	c, ok := u.requests.Load(key)
	if !ok {
		c, _ = u.requests.LoadOrStore(key, g.metrics.requests.WithLabelValues(u.name, operation, status))
	}
	c.(prometheus.Counter).Inc()
}

var statusClasses = [...]string{"", "1xx", "2xx", "3xx", "4xx", "5xx"}

func statusClass(status int) string {
	if c := status / 100; c > 0 && c < len(statusClasses) {
		return statusClasses[c]
	}
	return "other"
}

func (s Step) number() float64 {
	switch s {
	case StepWaiting:
		return 1
	case StepNoContent:
		return 2
	case StepDropping:
		return 3
	}
	return 0
}
