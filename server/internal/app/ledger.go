package app

import (
	"context"

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

// ledgerPage returns a connection's ledger.
func (a *App) ledgerPage(ctx context.Context, c project.Connection) (ledger.Page, error) {
	l, err := a.openLedger(ctx)
	if err != nil {
		return ledger.Page{}, err
	}
	return l.Page(ctx, c.ID)
}
