package app

import (
	"context"

	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// openReceivers makes gateway, ingest and otlp. They need neither the journal nor
// the settings to be there: what depends on these says so until they are.
func (a *App) openReceivers(ctx context.Context) error {
	a.openFlags()
	a.run(closeCalls, "feature flags", a.flags.Run)
	g, err := gateway.New(a.gatewayConfig(a.intake))
	if err != nil {
		return config.Exit(config.ExitConfig, err)
	}
	a.gateway = g
	a.watch(g)
	a.onClose(closeCalls, "gateway", g.Close)
	if err := a.openIngest(); err != nil {
		return err
	}
	return a.openOTLP(ctx)
}

// ownFlags are the flags that the project's rollouts decide by themselves.
func (a *App) ownFlags(projectID string) []flag.Definition {
	if p := a.library.Load(); p != nil {
		return p.OwnFlags(projectID)
	}
	return nil
}
