package main

import (
	"context"

	"github.com/hedgerow/hedgerow/internal/otlp"
)

// openOTLP opens the door for OpenTelemetry. Its tokens are those of ingest.
func (a *app) openOTLP(context.Context) (err error) {
	a.otlp, err = otlp.New(otlp.Config{
		Project: a.ingest.Project, Append: a.doors,
		Logger: a.log.With("part", "otlp"), Registerer: a.metrics,
	})
	return err
}
