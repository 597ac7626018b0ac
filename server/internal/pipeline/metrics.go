package pipeline

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	events  prometheus.Counter
	panics  *prometheus.CounterVec
	dropped prometheus.Counter
}

// newMetrics registers the metrics. A nil r registers nothing.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hedgerow_enrich_events_total",
			Help: "Events that were normalised, priced and scrubbed.",
		}),
		panics: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hedgerow_enrich_panics_total",
			Help: "Events for which a stage panicked; the event is kept, without content where privacy failed.",
		}, []string{"stage"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hedgerow_disk_content_dropped_total",
			Help: "Events whose content was not kept because the disk was nearly full.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.events, m.panics, m.dropped} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
