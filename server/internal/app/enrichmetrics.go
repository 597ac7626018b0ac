package app

import "github.com/prometheus/client_golang/prometheus"

// enrichMetrics are the [enrich.Metrics] of the server.
type enrichMetrics struct {
	events prometheus.Counter
	panics *prometheus.CounterVec
}

func newEnrichMetrics(r prometheus.Registerer) enrichMetrics {
	m := enrichMetrics{
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hedgerow_enrich_events_total",
			Help: "Events that were normalised, priced and scrubbed.",
		}),
		panics: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hedgerow_enrich_panics_total",
			Help: "Events for which a stage panicked; the event is kept, without content where privacy failed.",
		}, []string{"stage"}),
	}
	r.MustRegister(m.events, m.panics)
	return m
}

func (m enrichMetrics) Enriched(n int)        { m.events.Add(float64(n)) }
func (m enrichMetrics) Panicked(stage string) { m.panics.WithLabelValues(stage).Inc() }
