package web

import (
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/services"
	"github.com/hedgerow/hedgerow/server/internal/web/account"
	"github.com/hedgerow/hedgerow/server/internal/web/charts"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
	"github.com/hedgerow/hedgerow/server/internal/web/prompts"
	"github.com/hedgerow/hedgerow/server/internal/web/search"
	"github.com/hedgerow/hedgerow/server/internal/web/settings"
	"github.com/hedgerow/hedgerow/server/internal/web/traces"
)

// Delivery is the delivery to PostHog, as the pages use it.
type Delivery interface {
	settings.Delivery
	settings.Backlog
	settings.Gaps
	traces.Delivery
	charts.Delivery
}

// Config is what the pages show and change.
type Config struct {
	services.Services

	Connections func(projectID string) []charts.Connection
	Delivery    Delivery
	// Live tells of new events of a project, many at once by one word; stop ends
	// it. nil leaves the pages as they were loaded.
	Live func(projectID string) (changed <-chan struct{}, stop func())
	// Price tells today's rates of a price row in words. nil leaves them out.
	Price func(provider, model string) string
	// PriceAge returns how old the prices are: "of 2026-11-21, 9 days old". nil leaves
	// it out.
	PriceAge   func() string
	Eraser     settings.Eraser        // nil leaves a deleted project's events to the store
	Providers  func() []string        // names of the gateway's routes, for the form of provider keys
	PublicURL  string                 // base of sign-in links and of the addresses for SDKs; https:// makes cookies Secure
	GatewayURL string                 // base of the gateway's routes. Defaults to PublicURL
	Proxies    []netip.Prefix         // whose X-Forwarded-For is trusted, in addition to loopback if PublicURL is of another host
	Logger     *slog.Logger           // Defaults to none
	Simulated  bool                   // says on every page that the data is simulated
	Dropped    func() uint64          // calls that passed but were not recorded
	Health     func() []health.Report // the state of the components; nil leaves it out
	Now        func() time.Time       // Defaults to time.Now
}

// Web is the handler of the pages.
type Web struct {
	*page.Site
	mux    *http.ServeMux
	static assets
	cross  *http.CrossOriginProtection
}

// New returns the pages.
func New(c Config) *Web {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Web{mux: http.NewServeMux(), static: loadAssets(dist), cross: http.NewCrossOriginProtection()}
	s.Site = &page.Site{
		Registry: c.Registry, Assets: s.static.Assets, Log: c.Logger, Now: c.Now, PublicURL: c.PublicURL,
		Feed: c.Live != nil, Simulated: c.Simulated, Dropped: c.Dropped, Health: c.Health,
	}
	charts := &charts.Pages{Site: s.Site, Query: c.Query, Delivery: c.Delivery, Merges: c.Store, Connections: c.Connections, Bills: c.Bills, GatewayURL: c.GatewayURL, Live: c.Live}
	traces := &traces.Pages{Site: s.Site, Query: c.Query, Datasets: c.Datasets, Delivery: c.Delivery, Erasure: c.Erasure, Price: c.Price}
	prompts := &prompts.Pages{
		Site: s.Site, Query: c.Query, Prompts: c.Prompts, Experiments: c.Experiments, Reports: c.Reports, StopRollout: c.StopRollout,
		Checks: c.Checks, Runner: c.Runner, CheckState: c.CheckState, Datasets: c.Datasets, Runs: c.Runs, Event: traces.Event,
	}
	settings := &settings.Pages{
		Site: s.Site, Store: c.Store, Alerts: c.Alerts, Keyless: c.Keyless, Delivery: c.Delivery, Backlog: c.Delivery,
		Gaps: c.Delivery, Eraser: c.Eraser, Providers: c.Providers, Repricer: c.Repricer, PriceAge: c.PriceAge,
	}
	search := &search.Pages{Site: s.Site, Query: c.Query, Named: prompts.Named}
	s.Routes = slices.Concat(charts.Routes(), traces.Routes(), prompts.Routes(), settings.Routes(), search.Routes(), account.New(s.Site, c.Proxies).Routes())
	short := squeeze()
	for _, rt := range s.Routes {
		switch {
		case rt.Open != nil:
			s.mux.HandleFunc(rt.Pattern, rt.Open)
		case rt.Stream:
			s.mux.Handle(rt.Pattern, s.Gate(rt))
		default:
			s.mux.Handle(rt.Pattern, short(s.Gate(rt)))
		}
	}
	s.mux.Handle("GET /static/", s.static)
	s.mux.Handle("GET /assets/", s.static)
	s.mux.HandleFunc("/", s.notFound)
	return s
}

// ServeHTTP serves the pages with security headers, and refuses what another
// site sends on behalf of a signed-in user.
func (s *Web) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	page.PageHeaders(h)
	// At localhost, it would apply to the servers of all ports, for a year.
	if host, _, _ := strings.Cut(r.Host, ":"); s.Secure(r) && host != "localhost" {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	if err := s.cross.Check(r); err != nil {
		s.Refuse(w, r, page.CrossSiteError())
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Web) notFound(w http.ResponseWriter, r *http.Request) {
	s.Refuse(w, r, event.NewError(event.CodeNotFound, "Page not found", "Start again from the overview.", nil))
}

// Unavailable answers for the pages where no [Web] can be made yet: with a page
// that says why, and with the files that such a page loads.
func Unavailable(w http.ResponseWriter, r *http.Request, err error) {
	files := loadAssets(dist)
	page.PageHeaders(w.Header())
	if strings.HasPrefix(r.URL.Path, "/static/") || strings.HasPrefix(r.URL.Path, "/assets/") {
		files.ServeHTTP(w, r)
		return
	}
	s := &page.Site{Log: slog.New(slog.DiscardHandler), Assets: files.Assets}
	s.Refuse(w, r, err)
}
