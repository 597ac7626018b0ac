package enrich

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what an [Enricher] does.
type Metrics struct {
	events prometheus.Counter
	panics *prometheus.CounterVec
}

// NewMetrics registers hedgerow_enrich_events_total and
// hedgerow_enrich_panics_total{stage}. A nil registerer gives metrics that
// nobody reads.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hedgerow_enrich_events_total",
			Help: "Events that were normalised, priced and scrubbed.",
		}),
		panics: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hedgerow_enrich_panics_total",
			Help: "Events for which a stage panicked; the event is kept, without content where privacy failed.",
		}, []string{"stage"}),
	}
	if r != nil {
		r.MustRegister(m.events, m.panics)
	}
	return m
}
