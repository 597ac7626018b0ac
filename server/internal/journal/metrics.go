package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are hedgerow_journal_…: counters, and gauges that are read from the
// store at each scrape.
type metrics struct {
	j   *Journal
	reg prometheus.Registerer

	appended      prometheus.Counter
	restarts      prometheus.Counter
	givenUp       *prometheus.CounterVec
	refused       *prometheus.CounterVec
	dead          *prometheus.CounterVec
	appendSeconds prometheus.Histogram

	up, bytes, maxBytes, events                      *prometheus.Desc
	qPending, qAckPending, qRedelivered, qLag, qDead *prometheus.Desc
}

func newMetrics(j *Journal) (*metrics, error) {
	m := &metrics{
		j:   j,
		reg: j.c.Registerer,
		appended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hedgerow_journal_appended_total", Help: "Events stored."}),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hedgerow_journal_restarts_total", Help: "How often the store broke and was started again."}),
		givenUp: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hedgerow_journal_given_up_total", Help: "Approximate number of events that a queue skipped so that the journal could accept new ones."}, []string{"queue"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hedgerow_journal_refused_total", Help: "Events not stored, by the error's code."}, []string{"code"}),
		dead: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hedgerow_journal_dead_total", Help: "Events that a queue moved to the dead letters."}, []string{"queue"}),
		appendSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hedgerow_journal_append_seconds", Help: "Time of an append, all of its events acknowledged.",
			Buckets: []float64{25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 1}}),

		up:           prometheus.NewDesc("hedgerow_journal_up", "1 while the journal takes events, 0 while it does not work.", nil, nil),
		bytes:        prometheus.NewDesc("hedgerow_journal_bytes", "Events on disk.", nil, nil),
		maxBytes:     prometheus.NewDesc("hedgerow_journal_max_bytes", "Size limit beyond which events are rejected.", nil, nil),
		events:       prometheus.NewDesc("hedgerow_journal_events", "Events on disk, acknowledged ones that are kept included.", nil, nil),
		qPending:     prometheus.NewDesc("hedgerow_journal_queue_pending", "Events not yet delivered to the queue.", []string{"queue"}, nil),
		qAckPending:  prometheus.NewDesc("hedgerow_journal_queue_ack_pending", "Events delivered and not ended.", []string{"queue"}, nil),
		qRedelivered: prometheus.NewDesc("hedgerow_journal_queue_redelivered", "Events delivered more than once and not ended.", []string{"queue"}, nil),
		qLag:         prometheus.NewDesc("hedgerow_journal_queue_lag_seconds", "Age of the oldest event that the queue has not ended.", []string{"queue"}, nil),
		qDead:        prometheus.NewDesc("hedgerow_journal_queue_dead", "Dead letters of the queue.", []string{"queue"}, nil),
	}
	if m.reg == nil {
		return m, nil
	}
	if err := m.reg.Register(m); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.reg != nil {
		m.reg.Unregister(m)
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.appended.Describe(ch)
	m.restarts.Describe(ch)
	m.givenUp.Describe(ch)
	m.refused.Describe(ch)
	m.dead.Describe(ch)
	m.appendSeconds.Describe(ch)
	for _, d := range []*prometheus.Desc{m.up, m.bytes, m.maxBytes, m.events, m.qPending, m.qAckPending, m.qRedelivered, m.qLag, m.qDead} {
		ch <- d
	}
}

// scrapeWait limits how long a scrape waits for the store.
const scrapeWait = 2 * time.Second

// Collect implements prometheus.Collector. It omits gauges that are not
// available: a scrape must not fail because the journal does.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.appended.Collect(ch)
	m.restarts.Collect(ch)
	m.givenUp.Collect(ch)
	m.refused.Collect(ch)
	m.dead.Collect(ch)
	m.appendSeconds.Collect(ch)
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	up := 1.0
	if !m.j.Health().Working() {
		up = 0
	}
	gauge(m.up, up)
	gauge(m.maxBytes, float64(m.j.c.MaxBytes))
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWait)
	defer cancel()
	if st, err := m.j.Stats(ctx); err == nil {
		gauge(m.bytes, float64(st.Bytes))
		gauge(m.events, float64(st.Events))
	}
	if queues, err := m.j.Queues(ctx); err == nil {
		for _, q := range queues {
			gauge(m.qPending, float64(q.Pending), q.Name)
			gauge(m.qAckPending, float64(q.AckPending), q.Name)
			gauge(m.qRedelivered, float64(q.Redelivered), q.Name)
			gauge(m.qLag, q.OldestUnacked.Seconds(), q.Name)
		}
	}
	if dead, err := m.j.DeadCounts(ctx); err == nil {
		for queue, n := range dead {
			gauge(m.qDead, float64(n), queue)
		}
	}
}
