package app

import (
	"context"

	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
	"github.com/hedgerow/hedgerow/server/internal/pipeline"
)

// openReceivers creates gateway, ingest and otlp. They do not need the journal or
// the settings yet, and report what is unavailable.
func (a *App) openReceivers(ctx context.Context) error {
	if err := a.openPipeline(ctx); err != nil {
		return err
	}
	a.openFlags()
	a.run(closeCalls, "feature flags", a.flags.Run)
	c := a.gatewayConfig(a.events)
	var err error
	if c.Cloud, err = a.cloud(ctx); err != nil {
		return err
	}
	g, err := gateway.New(c)
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

// openPipeline makes what all receivers append to. It takes events once openIntake
// has let it.
func (a *App) openPipeline(context.Context) (err error) {
	a.events, err = pipeline.New(pipeline.Config{Price: a.Price, Surface: a.surface, Policy: a.StoragePolicy, Disk: a.disk, Registerer: a.metrics, Logger: a.log.With("part", "pipeline")})
	return err
}

// ownFlags are the flags that the project's rollouts decide on their own.
func (a *App) ownFlags(projectID string) []flag.Definition {
	if p := a.library.Load(); p != nil {
		return p.OwnFlags(projectID)
	}
	return nil
}
