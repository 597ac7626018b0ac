package main

import (
	"context"
	"net"

	"github.com/hedgerow/hedgerow/internal/otlp"
)

// openOTLP opens the door for OpenTelemetry. Its tokens are those of ingest. gRPC
// has a port of its own, if it is wanted.
func (a *app) openOTLP(ctx context.Context) (err error) {
	a.otlp, err = otlp.New(otlp.Config{
		Project: a.ingest.Project, Append: paced{a.doors, &a.pace},
		Logger: a.log.With("part", "otlp"), Registerer: a.metrics,
	})
	if err != nil || a.cfg.OTLPGRPCListen == "" || !a.cfg.has(roleIngest) {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", a.cfg.OTLPGRPCListen)
	if err != nil {
		return listenError(a.cfg.OTLPGRPCListen, "otlp-grpc-listen", err)
	}
	s := a.otlp.GRPC()
	go func() {
		if err := s.Serve(l); err != nil {
			a.log.Error("a server stopped", "part", "otlp grpc", "err", err)
		}
	}()
	a.onClose("otlp grpc", func(ctx context.Context) error {
		defer context.AfterFunc(ctx, s.Stop)()
		s.GracefulStop()
		return nil
	})
	a.log.Info("OTLP over gRPC", "listen", l.Addr().String())
	return nil
}
