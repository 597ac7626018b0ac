package app

import (
	"context"

	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/disk"
)

// openDisk begins to watch the free space of the data folder.
func (a *App) openDisk(context.Context) error {
	limit, err := disk.ParseLimit(a.cfg.MinFreeDisk, config.ParseSize)
	if err != nil {
		return err // validate has accepted it
	}
	a.disk = &disk.Guard{
		Dir: a.cfg.Data, Limit: limit, Logger: a.log.With("part", "disk"),
		Usage: func(dir string) (disk.Usage, error) { return disk.Of(standing(dir)) },
		OnLevel: func(l disk.Level) {
			if l >= disk.Low {
				a.retainSoon()
			}
		},
	}
	a.disk.Look() // before the first event
	if err := a.metrics.Register(a.disk); err != nil {
		return err
	}
	a.reports.add(a.disk.Health)
	a.run(closeLast, "disk guard", a.disk.Run)
	return nil
}

// retainSoon makes retention run as soon as it may.
func (a *App) retainSoon() {
	select {
	case a.retain <- struct{}{}:
	default:
	}
}
