package ingest

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/server/internal/httpbody"
)

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	refused  *prometheus.CounterVec
	rejected *prometheus.CounterVec
	accepted prometheus.Counter
	bytes    prometheus.Counter
}

func newMetrics(r prometheus.Registerer, mem *httpbody.Memory) (*metrics, error) {
	const ns, sub = "hedgerow", "ingest"
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "requests_total", Help: "Requests by route and class of the answer's status."}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: "request_seconds", Help: "Time to answer a request, the journal's acknowledgement included.",
			Buckets: []float64{1e-4, 5e-4, 1e-3, 2e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 5, 30}}, []string{"route"}),
		refused:  prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "requests_refused_total", Help: "Requests of which nothing was taken, by reason."}, []string{"reason"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "events_rejected_total", Help: "Events that were not taken though others of their request were, by reason."}, []string{"reason"}),
		accepted: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "events_total", Help: "Events taken: the journal has them."}),
		bytes:    prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "body_bytes_total", Help: "Bytes of bodies, as they were on the wire."}),
	}
	if r == nil {
		return m, nil
	}
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "memory_bytes", Help: "Bytes that requests under way hold."}, func() float64 { return float64(mem.Used()) })
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.refused, m.rejected, m.accepted, m.bytes, held} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) request(route string, status int, d time.Duration) {
	class := "none"
	if status >= 100 {
		class = strconv.Itoa(status/100) + "xx"
	}
	m.requests.WithLabelValues(route, class).Inc()
	m.seconds.WithLabelValues(route).Observe(d.Seconds())
}

func (m *metrics) refuse(reason string) { m.refused.WithLabelValues(reason).Inc() }
func (m *metrics) reject(reason string) { m.rejected.WithLabelValues(reason).Inc() }
