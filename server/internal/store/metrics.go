package store

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one store. All methods work on a nil receiver, for stores without
// a registerer.
type metrics struct {
	reg        prometheus.Registerer
	stored     prometheus.Counter
	duplicates prometheus.Counter
	writes     prometheus.Histogram
	queries    prometheus.Histogram
	refused    prometheus.Counter
	migration  prometheus.Gauge
	all        []prometheus.Collector
}

func newMetrics(reg prometheus.Registerer) *metrics {
	if reg == nil {
		return nil
	}
	m := &metrics{
		reg:        reg,
		stored:     prometheus.NewCounter(prometheus.CounterOpts{Name: "hedgerow_store_events_stored_total", Help: "Events written to the store."}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{Name: "hedgerow_store_duplicates_total", Help: "Events that were already in the store."}),
		writes: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hedgerow_store_write_seconds", Help: "Duration of a write transaction.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
		queries: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hedgerow_store_query_seconds", Help: "Duration of a query.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16)}),
		refused:   prometheus.NewCounter(prometheus.CounterOpts{Name: "hedgerow_store_queries_refused_total", Help: "Queries that were rejected because too many others waited, or that timed out waiting."}),
		migration: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hedgerow_store_migration_progress", Help: "Progress of the store's migration to this version's schema: 0 to 1, and 1 if there is none."}),
	}
	m.all = []prometheus.Collector{m.stored, m.duplicates, m.writes, m.queries, m.refused, m.migration}
	for _, c := range m.all {
		reg.MustRegister(c)
	}
	return m
}

func (m *metrics) unregister() {
	if m == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}

func (m *metrics) write(r WriteResult, d time.Duration) {
	if m == nil {
		return
	}
	m.stored.Add(float64(len(r.Stored)))
	m.duplicates.Add(float64(r.Duplicates))
	m.writes.Observe(d.Seconds())
}

func (m *metrics) migrated(share float64) {
	if m != nil {
		m.migration.Set(share)
	}
}

func (m *metrics) query(d time.Duration) {
	if m != nil {
		m.queries.Observe(d.Seconds())
	}
}

func (m *metrics) refuse() {
	if m != nil {
		m.refused.Inc()
	}
}
