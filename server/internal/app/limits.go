package app

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/listen"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
)

// openConnections shares the descriptors out, and listens where the gateway alone
// is served.
func (a *App) openConnections(ctx context.Context) error {
	files, err := RaiseFiles()
	if err != nil || files == 0 {
		files = 1024 // granted by every system
	}
	a.share = listen.ForFiles(files, a.cfg.MaxConnections)
	if a.cfg.MaxConnections > a.share.Connections {
		a.log.Warn("max_connections exceeds what the open-file limit allows and is reduced", "max_connections", a.cfg.MaxConnections, "allowed", a.share.Connections, "limit_of_open_files", files)
	}
	proxies, err := a.cfg.Proxies()
	if err != nil {
		return err
	}
	a.conns, err = listen.New(listen.Config{
		Connections: a.share.Connections, PerAddress: a.cfg.MaxConnectionsPerAddress,
		Trusted: func(ip netip.Addr) bool {
			return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(ip) })
		},
		Logger: a.log.With("part", "connections"), Registerer: a.metrics,
	})
	if err != nil || a.cfg.GatewayListen == "" || !a.cfg.Has(config.RoleGateway) {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", a.cfg.GatewayListen)
	if err != nil {
		return listenError(a.cfg.GatewayListen, "gateway-listen", err)
	}
	a.gatewayListener = l
	a.onClose(closeFront, "gateway listener", func(context.Context) error { _ = l.Close(); return nil })
	return nil
}

// server is an HTTP server for callers, within the limits of connections.
func (a *App) server(h http.Handler) *http.Server {
	rate, _ := a.cfg.UploadRate() // validated
	header := 256 << 10
	if a.cfg.MaxHeaderSize != "" {
		header = int(config.MustSize(a.cfg.MaxHeaderSize))
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			least := rate
			if a.timesItself(r) {
				least = listen.HandlerDeadlines
			}
			r, end := listen.Body(w, r, least)
			defer end()
			h.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: a.cfg.ReadHeaderTimeout,
		IdleTimeout:       a.cfg.IdleTimeout,
		MaxHeaderBytes:    header,
		TLSConfig:         a.tls,
		ErrorLog:          slog.NewLogLogger(a.log.With("part", "http").Handler(), slog.LevelDebug),
	}
	a.conns.Watch(srv)
	return srv
}

// listenAgain listens where a listener did that broke.
func (a *App) listenAgain(l net.Listener) func() (net.Listener, error) {
	return func() (net.Listener, error) {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", l.Addr().String())
		if err != nil {
			return nil, err
		}
		return a.conns.HTTP(l), nil
	}
}

// serveGateway serves the gateway on its own address, if configured.
func (a *App) serveGateway() {
	if a.gatewayListener == nil {
		return
	}
	a.serveOn("gateway server", a.server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/healthz":
			_, _ = w.Write([]byte("ok\n"))
		case a.gateway.Handles(r.URL.Path):
			a.gateway.ServeHTTP(w, r)
		default:
			api.WriteError(w, event.NewError(event.CodeNotFound, "this address serves the gateway alone", "events, telemetry, pages and API are at "+a.cfg.PublicURL, nil))
		}
	})), a.conns.HTTP(a.gatewayListener), a.listenAgain(a.gatewayListener))
	a.log.Info("the gateway has its own address", "listen", a.gatewayListener.Addr().String())
}

// atMain serves the gateway at the main address, or names its address.
func (a *App) atMain(w http.ResponseWriter, r *http.Request) {
	if a.gatewayListener != nil {
		api.WriteError(w, event.NewError(event.CodeNotFound, "the gateway has its own address", "send calls to "+a.gatewayURL(), nil))
		return
	}
	a.gateway.ServeHTTP(w, r)
}

// gatewayAddr is where the gateway listens.
func (a *App) gatewayAddr() string {
	if a.gatewayListener != nil {
		return a.gatewayListener.Addr().String()
	}
	return a.listener.Addr().String()
}

// gatewayURL is the base URL of the gateway's routes.
func (a *App) gatewayURL() string {
	if a.gatewayListener != nil {
		return a.cfg.Scheme() + "://" + displayAddr(a.gatewayAddr())
	}
	return a.cfg.PublicURL
}

// timesItself reports whether the handler of a request limits how long its body
// may take.
func (a *App) timesItself(r *http.Request) bool {
	return a.cfg.Has(config.RoleIngest) && (a.ingest.Handles(r.URL.Path) || otlp.IsPath(r.URL.Path))
}
