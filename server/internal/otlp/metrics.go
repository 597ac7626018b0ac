package otlp

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/server/internal/httpbody"
)

type metrics struct {
	requests *prometheus.CounterVec
	seconds  prometheus.Histogram
	refused  *prometheus.CounterVec
	accepted prometheus.Counter
	rejected prometheus.Counter
	skipped  prometheus.Counter

	discarded prometheus.Counter // log records
}

func newMetrics(r prometheus.Registerer, mem *httpbody.Memory) (*metrics, error) {
	const ns, sub = "hedgerow", "otlp"
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "requests_total", Help: "Requests by class of the answer's status."}, []string{"status"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: "request_seconds", Help: "Time to answer a request, the journal's acknowledgement included.",
			Buckets: []float64{1e-4, 5e-4, 1e-3, 2e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 5, 30}}),
		refused:  prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "requests_refused_total", Help: "Requests of which nothing was taken, by reason."}, []string{"reason"}),
		accepted: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "spans_total", Help: "Spans taken: the journal has them."}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "spans_rejected_total", Help: "Spans that could not be taken though others of their request were."}),
		skipped:  prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "spans_skipped_total", Help: "Spans that tell nothing of LLMs and were passed over."}),
	}
	m.discarded = prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "log_records_discarded_total", Help: "Log records that bear no content of an LLM call's span: accepted and discarded."})
	if r == nil {
		return m, nil
	}
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "memory_bytes", Help: "Bytes that requests under way hold."}, func() float64 { return float64(mem.Used()) })
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.refused, m.accepted, m.rejected, m.skipped, m.discarded, held} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) request(status int, d time.Duration) {
	m.requests.WithLabelValues(strconv.Itoa(status/100) + "xx").Inc()
	m.seconds.Observe(d.Seconds())
}
