package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/listen"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
)

// limitConfig are the settings of the listeners that callers reach over a network.
type limitConfig struct {
	GatewayListen            string
	MaxConnections           int // 0: by the limit of open files
	MaxConnectionsPerAddress int // 0: a quarter of them
	ReadHeaderTimeout        time.Duration
	IdleTimeout              time.Duration
	MaxHeaderSize            string
	MinUploadRate            string // a second
}

func (c *limitConfig) flags() []cli.Flag {
	str := func(dst *string, name, def, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Value: def, Usage: usage, Sources: cli.EnvVars(envName(name)), Destination: dst}
	}
	dur := func(dst *time.Duration, name string, def time.Duration, usage string) cli.Flag {
		return &cli.DurationFlag{Name: name, Value: def, Usage: usage, Sources: cli.EnvVars(envName(name)), Destination: dst}
	}
	number := func(dst *int, name, usage string) cli.Flag {
		return &cli.IntFlag{Name: name, Usage: usage, Sources: cli.EnvVars(envName(name)), Destination: dst}
	}
	return []cli.Flag{
		str(&c.GatewayListen, "gateway-listen", "", "address that serves the gateway alone, which --listen then does not serve (default: --listen serves it)"),
		number(&c.MaxConnections, "max-connections", "connections of callers at a time; 0: as many as the limit of open files leaves room for, 20000 at most"),
		number(&c.MaxConnectionsPerAddress, "max-connections-per-address", "of these, how many one address may have; loopback and trusted proxies may have all; 0: a quarter"),
		dur(&c.ReadHeaderTimeout, "read-header-timeout", 10*time.Second, "longest time for a request's headers to arrive"),
		dur(&c.IdleTimeout, "idle-timeout", 2*time.Minute, "how long a connection may wait for its next request"),
		str(&c.MaxHeaderSize, "max-header-size", "256KiB", "bytes of a request's headers together"),
		str(&c.MinUploadRate, "min-upload-rate", "1KiB", "bytes a second that a request's body has to bring, over 30 seconds of waiting for it; 0 lets it be as slow as it is"),
	}
}

func (c *limitConfig) validate() error {
	switch {
	case c.MaxConnections < 0 || c.MaxConnections > 0 && c.MaxConnections < 8:
		return configError(fmt.Sprintf("max_connections: %d are too few", c.MaxConnections), "leave it out, or allow 8 at least", nil)
	case c.MaxConnectionsPerAddress < 0:
		return configError("max_connections_per_address must not be negative", "leave it out for a quarter of max_connections", nil)
	case c.ReadHeaderTimeout < 0 || c.IdleTimeout < 0:
		return configError("read_header_timeout and idle_timeout must not be negative", "write them as 10s or 2m", nil)
	}
	if n, err := parseSize(c.MaxHeaderSize); c.MaxHeaderSize != "" && (err != nil || n < 8<<10 || n > 16<<20) {
		return configError(fmt.Sprintf("max_header_size: %q is not a size between 8 KiB and 16 MiB", c.MaxHeaderSize), "write a number with a unit, for example 256KiB", err)
	}
	if _, err := c.uploadRate(); err != nil {
		return configError(fmt.Sprintf("min_upload_rate: %q is not a size", c.MinUploadRate), "write a number with a unit, for example 1KiB, or 0", err)
	}
	return nil
}

func (c *limitConfig) uploadRate() (int64, error) {
	if c.MinUploadRate == "" || c.MinUploadRate == "0" {
		return 0, nil
	}
	return parseSize(c.MinUploadRate)
}

// openConnections shares the descriptors out, and listens where the gateway alone
// is served.
func (a *app) openConnections(ctx context.Context) error {
	files, err := raiseFiles()
	if err != nil || files == 0 {
		files = 1024 // what every system grants
	}
	a.share = listen.ForFiles(files, a.cfg.MaxConnections)
	if a.cfg.MaxConnections > a.share.Connections {
		a.log.Warn("max_connections is more than the limit of open files leaves room for, and is cut down", "max_connections", a.cfg.MaxConnections, "allowed", a.share.Connections, "limit_of_open_files", files)
	}
	proxies, err := a.cfg.proxies()
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
	if err != nil || a.cfg.GatewayListen == "" || !a.cfg.has(roleGateway) {
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
func (a *app) server(h http.Handler) *http.Server {
	rate, _ := a.cfg.uploadRate() // validated
	header := 256 << 10
	if a.cfg.MaxHeaderSize != "" {
		header = int(mustSize(a.cfg.MaxHeaderSize))
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			least := rate
			if a.timesItself(r) {
				least = listen.OwnTime
			}
			r, end := listen.Body(w, r, least)
			defer end()
			h.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: a.cfg.ReadHeaderTimeout,
		IdleTimeout:       a.cfg.IdleTimeout,
		MaxHeaderBytes:    header,
		ErrorLog:          slog.NewLogLogger(a.log.With("part", "http").Handler(), slog.LevelDebug),
	}
	a.conns.Watch(srv)
	return srv
}

// listenAgain listens where a listener did that broke.
func (a *app) listenAgain(l net.Listener) func() (net.Listener, error) {
	return func() (net.Listener, error) {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", l.Addr().String())
		if err != nil {
			return nil, err
		}
		return a.conns.HTTP(l), nil
	}
}

// serveGateway serves the gateway alone, where that is wanted.
func (a *app) serveGateway() {
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
	a.log.Info("the gateway is served apart", "listen", a.gatewayListener.Addr().String())
}

// atMain serves the gateway at the main address, or says where it is.
func (a *app) atMain(w http.ResponseWriter, r *http.Request) {
	if a.gatewayListener != nil {
		api.WriteError(w, event.NewError(event.CodeNotFound, "the gateway is served apart", "send calls to "+a.gatewayURL(), nil))
		return
	}
	a.gateway.ServeHTTP(w, r)
}

// gatewayAddr is where the gateway listens.
func (a *app) gatewayAddr() string {
	if a.gatewayListener != nil {
		return a.gatewayListener.Addr().String()
	}
	return a.listener.Addr().String()
}

// gatewayURL is the base URL of the gateway's routes.
func (a *app) gatewayURL() string {
	if a.gatewayListener != nil {
		return "http://" + displayAddr(a.gatewayAddr())
	}
	return a.cfg.PublicURL
}

// timesItself reports whether a request goes to a part that bounds how long its
// body may take.
func (a *app) timesItself(r *http.Request) bool {
	return a.cfg.has(roleIngest) && (a.ingest.Handles(r.URL.Path) || otlp.IsPath(r.URL.Path))
}
