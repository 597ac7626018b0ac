package posthog

import (
	"log/slog"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are hedgerow_posthog_…, made from the stats when someone scrapes.
type metrics struct {
	m                                *Manager
	seconds                          prometheus.Histogram
	requests, events, inFlight       *prometheus.Desc
	lag, held, success, troubleState *prometheus.Desc
	withheld                         *prometheus.Desc
}

func newMetrics(m *Manager) *metrics {
	conn := []string{"connection"}
	return &metrics{
		m: m,
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hedgerow_posthog_request_seconds", Help: "Time of a delivery request to PostHog, failed ones included.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}}),
		requests:     prometheus.NewDesc("hedgerow_posthog_requests_total", "Delivery requests by outcome.", []string{"connection", "outcome"}, nil),
		events:       prometheus.NewDesc("hedgerow_posthog_events_total", "Events by outcome; quota counts sent ones that PostHog said it dropped.", []string{"connection", "outcome"}, nil),
		withheld:     prometheus.NewDesc("hedgerow_posthog_withheld_properties_total", "Properties left out of events because they quote the content of the call.", conn, nil),
		inFlight:     prometheus.NewDesc("hedgerow_posthog_in_flight", "Delivery requests in flight.", conn, nil),
		lag:          prometheus.NewDesc("hedgerow_posthog_lag_seconds", "Age of the oldest event that is out of the queue and not delivered.", conn, nil),
		held:         prometheus.NewDesc("hedgerow_posthog_held", "Events out of the queue and not delivered.", conn, nil),
		success:      prometheus.NewDesc("hedgerow_posthog_last_success_timestamp_seconds", "When PostHog last took events; 0 for never.", conn, nil),
		troubleState: prometheus.NewDesc("hedgerow_posthog_state", "1 for the connection's present state.", []string{"connection", "state"}, nil),
	}
}

func (m *metrics) register(reg prometheus.Registerer, log *slog.Logger) {
	if reg == nil {
		return
	}
	if err := reg.Register(m); err != nil {
		log.Warn("metrics of the PostHog delivery are not available", "err", err)
	}
}

func (m *metrics) unregister(reg prometheus.Registerer) {
	if reg != nil {
		reg.Unregister(m)
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.requests, m.events, m.withheld, m.inFlight, m.lag, m.held, m.success, m.troubleState} {
		ch <- d
	}
	m.seconds.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.seconds.Collect(ch)
	m.m.mu.Lock()
	all := maps.Clone(m.m.stats)
	m.m.mu.Unlock()
	now := m.m.c.Now()
	for id, s := range all {
		count := func(d *prometheus.Desc, n int64, outcome string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), id, outcome)
		}
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{id}, labels...)...)
		}
		count(m.requests, s.reqOK.Load(), "ok")
		count(m.requests, s.reqRetry.Load(), "retry")
		count(m.requests, s.reqRefused.Load(), "refused")
		count(m.requests, s.reqBad.Load(), "invalid")
		count(m.requests, s.reqBig.Load(), "too_large")
		count(m.requests, s.reqNoRoute.Load(), "no_route")
		count(m.requests, s.reqCanceled.Load(), "canceled")
		count(m.events, s.sent.Load(), "sent")
		count(m.events, s.retried.Load(), "retried")
		count(m.events, s.dead.Load(), "dead")
		count(m.events, s.filtered.Load(), "filtered")
		count(m.events, s.quota.Load(), "quota")
		ch <- prometheus.MustNewConstMetric(m.withheld, prometheus.CounterValue, float64(s.withheld.Load()), id)
		st := s.status(now)
		gauge(m.inFlight, float64(s.inFlight.Load()))
		gauge(m.lag, st.Lag.Seconds())
		gauge(m.held, float64(st.Held))
		gauge(m.success, unixSeconds(st.LastSuccess))
		gauge(m.troubleState, 1, st.State)
	}
}

func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1e3
}
