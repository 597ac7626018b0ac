package app

import (
	"context"
	"time"

	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// openLedger opens the ledger of what left, if it is not open.
func (a *App) openLedger(ctx context.Context) (*ledger.Ledger, error) {
	if l := a.ledger.Load(); l != nil {
		return l, nil
	}
	kv, err := a.journal.KeyValue(ctx, ledger.Bucket, 1)
	if err != nil {
		return nil, err
	}
	a.ledger.CompareAndSwap(nil, ledger.New(ledger.Config{KV: kv, Logger: a.log.With("part", "ledger"), Known: func(id string) bool {
		_, ok := a.snapshot().Connection(id)
		return ok
	}}))
	return a.ledger.Load(), nil
}

const (
	takeOverDays  = 30
	takeOverRetry = 30 * time.Second
	takeOverWait  = time.Minute // for which deliveries to a connection of before wait for its names
)

// takeOver gives each connection of before the allow-list the names that it goes on
// sending, in the background and once. What fails is tried again, since the store
// may be on its way back.
func (a *App) takeOver(ctx context.Context) error {
	select {
	case <-a.known: // the settings are all there
	case <-ctx.Done():
		return nil
	}
	first := func() { a.tookOver.Do(func() { close(a.takenOver) }) }
	defer first()
	for wait := takeOverRetry; ; wait = min(2*wait, time.Hour) {
		failed := false
		for _, c := range a.snapshot().AllConnections() {
			if c.Rules >= project.RulesAllowList {
				continue
			}
			if err := a.takeOverNames(ctx, c); err != nil && ctx.Err() == nil {
				failed = true
				a.log.Warn("the names of properties that were sent before the upgrade could not be taken over; what is not in PostHog's list stays at home until they are",
					"connection", c.Name, "retry", wait, "err", err)
			}
		}
		first()
		if !failed {
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

func (a *App) takeOverNames(ctx context.Context, c project.Connection) error {
	var t privacy.TakeOver
	if err := a.Query.EachProperties(ctx, c.ProjectID, time.Now().AddDate(0, 0, -takeOverDays), t.Add); err != nil {
		return err
	}
	properties, attributes := t.Names()
	did, err := a.Registry.TakeOverNames(ctx, c.ProjectID, c.ID, properties, attributes)
	if err != nil {
		return err
	}
	if did {
		a.log.Info("what leaves for PostHog is an allow-list now; names that were sent before and are not content go on, until somebody keeps or stops them on the page of the connection",
			"connection", c.Name, "properties", len(properties), "attributes", len(attributes))
	}
	return nil
}

// awaitTakeOver waits until a connection of before has its names, for a while.
func (a *App) awaitTakeOver(ctx context.Context, c project.Connection) {
	if c.Rules >= project.RulesAllowList {
		return
	}
	t := time.NewTimer(takeOverWait)
	defer t.Stop()
	select {
	case <-a.takenOver:
	case <-t.C:
	case <-ctx.Done():
	}
}

// ledgerPage is what the ledger says of a connection.
func (a *App) ledgerPage(ctx context.Context, c project.Connection) (ledger.Page, error) {
	l, err := a.openLedger(ctx)
	if err != nil {
		return ledger.Page{}, err
	}
	return l.Page(ctx, c.ID)
}
