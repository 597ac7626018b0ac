package app

import (
	"context"
	"net"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
)

// openOTLP creates the OpenTelemetry handler. Its tokens are those of ingest.
// gRPC has its own port, if configured.
func (a *App) openOTLP(ctx context.Context) (err error) {
	a.otlp, err = otlp.New(otlp.Config{
		Project: a.ingest.Project, Append: a.events.Admit(true),
		Logger: a.log.With("part", "otlp"), Registerer: a.metrics,
	})
	if err != nil || a.cfg.OTLPGRPCListen == "" || !a.cfg.Has(config.RoleIngest) {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", a.cfg.OTLPGRPCListen)
	if err != nil {
		return listenError(a.cfg.OTLPGRPCListen, "otlp-grpc-listen", err)
	}
	addr := l.Addr().String()
	a.run(closeFront, "otlp grpc", func(ctx context.Context) error {
		if l == nil { // it broke
			if l, err = new(net.ListenConfig).Listen(ctx, "tcp", addr); err != nil {
				return err
			}
		}
		s, on := a.otlp.GRPC(), l
		l = nil
		served := make(chan error, 1)
		go func() { served <- s.Serve(a.conns.Other(on)) }()
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
		}
		cut := time.AfterFunc(a.cfg.ShutdownGrace*2/3, s.Stop)
		defer cut.Stop()
		s.GracefulStop()
		return nil
	})
	a.log.Info("OTLP over gRPC", "listen", addr)
	return nil
}
