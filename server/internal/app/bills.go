package app

import (
	"context"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/reconcile"
)

// billTimeout bounds one page of a provider's admin API, billRetention is how often
// bills are deleted that a project no longer keeps.
const (
	billTimeout   = time.Minute
	billRetention = time.Hour
)

// openBills opens the imported bills of providers and, in a server, what fetches them.
func (a *App) openBills(ctx context.Context) error {
	imports, err := a.journal.KeyValue(ctx, reconcile.ImportsBucket, 1)
	if err != nil {
		return err
	}
	days, err := a.journal.KeyValue(ctx, reconcile.DaysBucket, 1)
	if err != nil {
		return err
	}
	registry, err := reconcile.Open(ctx, reconcile.Buckets{Imports: imports, Days: days}, reconcile.Options{
		LastGood: a.cfg.LastGood(reconcile.ImportsBucket), Audit: a.Registry.Audit, Logger: a.log.With("part", "reconcile"),
		Keep: func(projectID string) time.Duration { return a.retention(projectID).Metrics },
	})
	if err != nil {
		return config.DataError(err)
	}
	a.Bills = &reconcile.Bills{Registry: registry, Calls: a.Query, Prices: func() reconcile.Prices { return a.prices.Load() }, Settings: a.Registry}
	a.watch(registry)
	a.onClose(closeData, "bills", func(context.Context) error { return registry.Close() })
	if a.listener == nil {
		return nil
	}
	// An admin key is sent only to public addresses, even if PostHog's is not.
	client := posthog.NewHTTPClient(posthog.ClientConfig{Timeout: billTimeout}, false)
	a.onClose(closeLast, "bills of providers", func(context.Context) error { client.CloseIdleConnections(); return nil })
	a.Bills.Fetcher = &reconcile.Fetcher{Client: client}
	a.runSink("retention of bills", func(ctx context.Context) error {
		tick := time.NewTicker(billRetention)
		defer tick.Stop()
		for {
			if err := registry.Retain(ctx); err != nil && ctx.Err() == nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
	return nil
}
