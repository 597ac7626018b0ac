package main

import (
	"context"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/enrich"
	"github.com/hedgerow/hedgerow/internal/ingest"
	"github.com/hedgerow/hedgerow/internal/posthog"
)

// openEnricher makes what stands behind every door: a call that comes through
// two of them is joined, then enriched, then put into the journal; a milestone is
// put there once.
func (a *app) openEnricher(ctx context.Context) (err error) {
	kv, err := a.journal.KeyValue(ctx, claimsBucket, 1)
	if err != nil {
		return dataError(err)
	}
	once := &enrich.Once{Claims: claims{kv}, Next: a.journal, Logger: a.log.With("part", "enrich")}
	enricher := &enrich.Enricher{
		Price:  func(e *event.Event) { a.prices.Load().Price(e) },
		Policy: a.homePolicy, Next: once, Logger: a.log.With("part", "enrich"), Metrics: enrich.NewMetrics(a.metrics),
	}
	a.doors, err = ingest.NewJoiner(enricher, nil, a.metrics)
	return err
}

// openIngest opens the door for PostHog's SDKs.
func (a *app) openIngest(context.Context) (err error) {
	client := posthog.NewHTTPClient(posthog.ClientConfig{}, a.cfg.AllowInsecurePostHog)
	a.onClose("PostHog relay", func(context.Context) error { client.CloseIdleConnections(); return nil })
	a.ingest, err = ingest.New(ingest.Config{
		Projects: a.registry.Snapshot, Append: a.doors, Flags: client,
		Logger: a.log.With("part", "ingest"), Registerer: a.metrics,
	})
	return err
}
