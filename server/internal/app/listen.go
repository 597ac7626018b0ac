package app

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
	"github.com/hedgerow/hedgerow/server/internal/web"
)

// openListener runs first: a port in use is reported before anything is
// touched. Callers that connect from here on wait until serve.
func (a *App) openListener(ctx context.Context) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", a.cfg.Listen)
	if err != nil {
		return listenError(a.cfg.Listen, "listen", err)
	}
	a.listener = l
	a.onClose(closeFront, "listener", func(context.Context) error { _ = l.Close(); return nil })
	if a.cfg.PublicURL == "" {
		a.cfg.PublicURL = a.cfg.Scheme() + "://" + displayAddr(l.Addr().String())
	}
	a.cfg.PublicURL = strings.TrimRight(a.cfg.PublicURL, "/")
	return nil
}

// listenError adds a hint to the error of an address that cannot be listened
// on.
func listenError(addr, flag string, err error) error {
	hint := "choose another address with --" + flag
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "another program, perhaps another hedgerow, uses it; stop it, or choose another address with --" + flag
	case errors.Is(err, fs.ErrPermission):
		hint = "ports below 1024 need privileges; choose a higher one with --" + flag
	}
	return config.Exit(config.ExitListen, event.NewError(event.CodeUnavailable, "cannot listen on "+addr, hint, err))
}

// displayAddr is an address that a browser can open.
func displayAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// openPages makes pages, API and MCP, and puts API and MCP on the data folder's
// socket.
func (a *App) openPages(context.Context) error {
	a.StopRollout, a.CheckState, a.Keyless, a.Erasure = a.Prompts.StopRollout, a.checkState, a.keyless, a.newErasure()
	apiConfig := api.Config{
		Services: a.Services, Logger: a.log.With("part", "api"), Version: a.cfg.Version, PublicURL: a.cfg.PublicURL,
		Connections: deliveries{a}, DeadLetters: deadLetters{a}, Gaps: gaps{a}, Status: a.status, ReloadPrices: a.reloadPrices,
	}
	if a.listener != nil {
		apiConfig.Append = a.events.Admit(false)
	}
	tools := a.tools()
	local := a.socketHandler(api.Local(apiConfig), tools)
	l, err := a.listenSocket()
	switch {
	case err != nil && a.listener == nil:
		return err // nothing works without it
	case err != nil:
		a.log.Warn("the socket for the hedgerow command is not open yet: until then, the command works only while the server is stopped", "err", err)
	}
	a.serveOn("socket", &http.Server{Handler: local, ReadHeaderTimeout: 15 * time.Second}, l, a.listenSocket)
	if a.listener == nil || !a.cfg.Has(config.RoleWeb) {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", api.New(apiConfig))
	mux.Handle("/mcp", tools.HTTP())
	proxies, err := a.cfg.Proxies()
	if err != nil {
		return err
	}
	mux.Handle("/", web.New(web.Config{
		Services: a.Services, Connections: a.connectionRows, Delivery: deliveries{a}, Price: a.priceWords, PriceAge: a.priceAge, Live: a.live.subscribe, Logger: a.log.With("part", "web"),
		Eraser: eraser{a}, Providers: a.providers, PublicURL: a.cfg.PublicURL, GatewayURL: a.gatewayURL(), Proxies: proxies,
		Simulated: a.simulated, Dropped: a.dropped, Health: a.reports.all,
	}))
	var h http.Handler = mux
	a.pages.Store(&h)
	return nil
}

// serve lets calls in. It does nothing when it is called again.
func (a *App) serve() {
	if a.serving.Swap(true) {
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", a.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics, promhttp.HandlerOpts{}))
	if os.Getenv("HEDGEROW_DEBUG_PPROF") == "1" && config.IsLoopback(a.cfg.Listen) {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	}
	if a.cfg.Has(config.RoleWeb) {
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			if h := a.pages.Load(); h != nil {
				(*h).ServeHTTP(w, r)
				return
			}
			a.notYet(w, r)
		})
	}
	srv := a.server(a.route(mux))
	srv.RegisterOnShutdown(a.live.close) // pages that listen would else be waited for
	a.serveOn("server", srv, a.conns.HTTP(a.listener), a.listenAgain(a.listener))
	a.serveGateway()
}

// openGateway has the gateway serve once calls are recorded: they do not wait for what
// follows, such as a migration of the store.
func (a *App) openGateway(context.Context) error {
	a.serve()
	return nil
}

// notYet responds for pages and API while something that they need is not open.
func (a *App) notYet(w http.ResponseWriter, r *http.Request) {
	message, hint := "hedgerow is starting", "try again in a moment"
	if worst := worstOf(a.reports.all()); worst.Message != "" {
		message, hint = "hedgerow has not opened its data yet: "+worst.Message, worst.Hint
	}
	err := event.NewError(event.CodeUnavailable, message, hint, nil)
	if strings.HasPrefix(r.URL.Path, "/api/") || r.URL.Path == "/mcp" {
		api.WriteError(w, err)
		return
	}
	web.Unavailable(w, r, err)
}

// route keeps the gateway's paths off the mux, which would clean them: a
// provider's path is the provider's business. PostHog's paths come before all:
// the mux would redirect those with a trailing slash, and SDKs turn a redirected
// POST into a GET.
func (a *App) route(rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var from http.Handler
		switch {
		case a.cfg.Has(config.RoleIngest) && a.ingest.Handles(r.URL.Path):
			from = a.ingest
		case otlp.IsPath(r.URL.Path):
			if !a.cfg.Has(config.RoleIngest) { // never the gateway: telemetry has prompts in it
				api.WriteError(w, event.NewError(event.CodeNotFound, "this process does not accept telemetry", "send it to a process with the role ingest", nil))
				return
			}
			from = a.otlp
		case a.cfg.Has(config.RoleGateway) && a.gateway.Handles(r.URL.Path):
			a.atMain(w, r)
			return
		default:
			rest.ServeHTTP(w, r)
			return
		}
		// The token's project is not known yet: a 401 would make an SDK
		// drop events.
		if !a.projectsKnown() {
			api.WriteError(w, errNotOpen("the settings"))
			return
		}
		from.ServeHTTP(w, r)
	})
}

func (a *App) listenSocket() (net.Listener, error) {
	path := a.cfg.SocketPath()
	_ = os.Remove(path) // left by a killed process; the journal's lock shows that none is running
	l, err := new(net.ListenConfig).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, event.NewError(event.CodeUnavailable, "the data folder's file system does not support file modes", "choose a folder on a local file system with --data", err)
	}
	return l, nil
}

// serveOn serves until close, on l and, if that is nil or fails, on the
// listener of again. Calls in flight get two thirds of the grace period; then
// they are cut off, and the gateway records their partial answers.
func (a *App) serveOn(name string, srv *http.Server, l net.Listener, again func() (net.Listener, error)) {
	a.run(closeFront, name, func(ctx context.Context) error {
		if l == nil {
			var err error
			if l, err = again(); err != nil {
				return err
			}
		}
		err := serveHTTP(srv, l)
		if errors.Is(err, http.ErrServerClosed) {
			<-ctx.Done() // close stops the server first, and this loop right after
			return nil
		}
		l = nil
		return err
	})
	a.onClose(closeFront, name, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, a.cfg.ShutdownGrace*2/3)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			return srv.Close()
		}
		return nil
	})
}

// serveHTTP serves with TLS where the server has a certificate.
func serveHTTP(srv *http.Server, l net.Listener) error {
	if srv.TLSConfig != nil {
		return srv.ServeTLS(l, "", "")
	}
	return srv.Serve(l)
}

// openFolder creates the data folder. A folder that can never be used ends the
// process; if it cannot be created now, for example because the disk is full,
// the steps that need it retry.
func (a *App) openFolder(context.Context) error {
	err := os.MkdirAll(a.cfg.Data, 0o700)
	if err == nil {
		return nil
	}
	for _, never := range []error{syscall.ENOTDIR, fs.ErrExist, fs.ErrPermission, syscall.EROFS, syscall.ENAMETOOLONG} {
		if errors.Is(err, never) || a.listener == nil {
			return config.Exit(config.ExitData, event.NewError(event.CodeUnavailable, "the data folder "+a.cfg.Data+" cannot be made", "check that you can write to its parent folder, or choose another with --data", err))
		}
	}
	a.log.Error("the data folder cannot be created at the moment; hedgerow retries", "dir", a.cfg.Data, "err", err)
	return nil
}

// standing returns the folder, or its nearest existing parent.
func standing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return dir
		}
		dir = up
	}
}

// checkFolder rejects a folder of another program at the start.
func (a *App) checkFolder(context.Context) error { return a.cfg.RefuseForeign("") }
