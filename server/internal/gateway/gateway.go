package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// Config says what a gateway is made of.
type Config struct {
	// Upstreams are laid over [Known], by name: what an entry leaves empty is the
	// known provider's.
	Upstreams map[string]Upstream

	// Authorize tells which project a call belongs to. key is the hedgerow key
	// that came with it, "" if none did. An [*event.Error] that it returns is
	// what the caller gets to read. It is called for every call and must not do
	// I/O. Required.
	Authorize func(key string, r *http.Request) (Grant, error)

	// Append takes the events. Required.
	Append Appender

	// Telemetry reports whether a path is one of OTLP's. Those are never forwarded,
	// although they look like paths of a provider: whoever serves the gateway asks
	// its OTLP handler first, and the gateway refuses what comes to it all the same.
	// nil: no path is.
	Telemetry func(path string) bool

	// Prompts renders the prompts that calls name. nil: none are.
	Prompts Prompts

	Limits     Limits
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil: no metrics
}

// Limits bound what the gateway holds in memory. A zero field has its default.
type Limits struct {
	RequestBytes   int   // longest JSON request body that is read before it is forwarded. Defaults to 32 MiB
	RequestBudget  int64 // all of these together. Defaults to 256 MiB
	ResponseHead   int   // kept of the beginning of an answer. Defaults to 2 MiB
	ResponseTail   int   // kept of its end, where it is longer. Defaults to 64 KiB
	ResponseBudget int64 // all of these together, while calls are under way. Defaults to 128 MiB
	Decoded        int64 // a compressed body is decoded to this length, for capture. Defaults to 16 MiB
	Queue          int   // finished calls that wait to be recorded. Defaults to 50000
	QueueBytes     int64 // what they hold together: their bodies or content, and 4 KiB for each that waits for the journal. Defaults to 256 MiB
	IdleUpstream   int   // connections to providers that are kept open between two calls. Defaults to 1024
	Workers        int   // goroutines that record them. Defaults to GOMAXPROCS
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set64 := func(v *int64, def int64) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&l.RequestBytes, 32<<20)
	set64(&l.RequestBudget, 256<<20)
	set(&l.ResponseHead, 2<<20)
	set(&l.ResponseTail, 64<<10)
	set64(&l.ResponseBudget, 128<<20)
	set64(&l.Decoded, 16<<20)
	set(&l.Queue, 50_000)
	set64(&l.QueueBytes, 256<<20)
	set(&l.IdleUpstream, 1024)
	set(&l.Workers, runtime.GOMAXPROCS(0))
	return l
}

// Gateway is the proxy. It is an [http.Handler].
type Gateway struct {
	authorize func(key string, r *http.Request) (Grant, error)
	upstreams map[string]*upstream
	prompts   Prompts
	telemetry func(path string) bool
	limits    Limits
	log       *slog.Logger
	metrics   *metrics
	capture   *capture
	requests  budget
	responses budget

	closing context.Context // ends upgraded connections, which the server does not know of
	stop    context.CancelFunc
}

// New returns a gateway that is ready to serve. [Gateway.Close] ends it.
func New(c Config) (*Gateway, error) {
	if c.Authorize == nil || c.Append == nil {
		return nil, errors.New("gateway: Authorize and Append are required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{
		authorize: c.Authorize, prompts: c.Prompts, limits: c.Limits.withDefaults(), log: c.Logger, metrics: newMetrics(),
		upstreams: make(map[string]*upstream),
	}
	if g.telemetry = c.Telemetry; g.telemetry == nil {
		g.telemetry = func(string) bool { return false }
	}
	g.requests.limit, g.responses.limit = g.limits.RequestBudget, g.limits.ResponseBudget
	all := Known()
	maps.Copy(all, c.Upstreams)
	transports := make(map[time.Duration]http.RoundTripper)
	timeouts := make(map[time.Duration]bool)
	for _, u := range all {
		timeouts[u.Timeout] = true
	}
	idle := max(g.limits.IdleUpstream/len(timeouts), 1)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		u, err := newUpstream(name, all[name])
		if err != nil {
			return nil, err
		}
		timeout := all[name].Timeout
		if transports[timeout] == nil {
			transports[timeout] = newTransport(timeout, idle)
		}
		u.transport = transports[timeout]
		u.added, u.ttfb = g.metrics.added.WithLabelValues(name), g.metrics.ttfb.WithLabelValues(name)
		g.upstreams[name] = u
	}
	g.capture = newCapture(c.Append, g.metrics, g.log, g.limits.Queue, g.limits.QueueBytes, g.limits.Decoded, g.limits.Workers)
	g.closing, g.stop = context.WithCancel(context.Background())
	if err := g.register(c.Registerer); err != nil {
		g.stop()
		_ = g.capture.close(g.closing)
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return g, nil
}

// newTransport returns the way to providers. Connections are kept and looked
// after, idle of them at most, so that no call waits for a dead one; bodies are never decompressed;
// HTTPS_PROXY and NO_PROXY are heeded.
func newTransport(responseHeaderTimeout time.Duration, idle int) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          idle,
		MaxIdleConnsPerHost:   min(1024, idle),
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		ResponseHeaderTimeout: responseHeaderTimeout,
		DisableCompression:    true,
		WriteBufferSize:       16 << 10,
		// A dead HTTP/2 connection would otherwise be found out by the first
		// calls that use it, after 15 s and more.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
	}
}

// Stats tells how capture is doing.
func (g *Gateway) Stats() Stats { return g.capture.stats() }

// Close records what is queued, until ctx ends; what is left then is dropped and
// counted. Call it when no handler runs any more: calls that come later still
// pass, but are not recorded.
func (g *Gateway) Close(ctx context.Context) error {
	g.stop()
	err := g.capture.close(ctx)
	for _, u := range g.upstreams {
		u.transport.(*http.Transport).CloseIdleConnections()
	}
	if err != nil {
		return fmt.Errorf("record the last calls: %w", err)
	}
	return nil
}

// ServeHTTP passes one call through. It panics with [http.ErrAbortHandler] where
// the provider's answer broke off, so that the caller's does too.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{g: g, w: w, in: r, start: time.Now()}
	g.metrics.inFlight.Inc()
	defer g.metrics.inFlight.Dec()
	defer x.finish()
	x.serve()
}

// exchange is one call on its way. Its methods run in the order of their
// appearance in serve.
type exchange struct {
	g     *Gateway
	w     http.ResponseWriter
	in    *http.Request
	route route
	cred  credentials
	key   string // of the provider, kept for the project
	op    string
	body  requestBody
	plan  provider.Plan

	start   time.Time
	waited  time.Duration // for the provider and the caller
	outcome string
	debug   bool

	rec      *record // nil until the provider is about to be called
	recorder recorder
	total    int64 // bytes of the answer
	sent     int64 // bytes that an upgraded connection carried to the provider
}

// wait adds the time since t to what was spent waiting, and returns the present.
func (x *exchange) wait(t time.Time) time.Time {
	now := time.Now()
	x.waited += now.Sub(t)
	return now
}

func (x *exchange) serve() {
	var refusal *event.Error
	if x.route, refusal = x.g.route(x.in); refusal != nil {
		x.refuse(refusal)
		return
	}
	up := x.route.up
	x.op = provider.Operation(up.dialect, x.in.Method, x.route.below)
	if bearsOwn(x.in.URL.Path) {
		x.refuse(event.Invalid("the path has a hedgerow key or a project token in it", "send a key in the header X-Hedgerow-Key, or in the place of the provider's key"))
		return
	}
	x.cred = findCredentials(x.in)
	if x.cred.token {
		x.refuse(event.NewError(event.CodeUnauthorized, "a project token (phc_hedgerow_…) is for sending events and opens no provider", "send your provider's own key there, or a hedgerow key (hr_…) of a project that keeps the provider's", nil))
		return
	}
	grant, err := x.g.authorize(x.cred.key, x.in)
	if err != nil {
		x.refuse(event.AsError(err))
		return
	}
	if x.cred.inPlace && !x.cred.provider {
		ok := false
		if grant.ProviderKey != nil {
			x.key, ok = grant.ProviderKey(up.name)
		}
		if !ok {
			x.refuse(event.NewError(event.CodeUnauthorized, "the project keeps no key for "+up.name, "send the provider's own key and move hedgerow's to X-Hedgerow-Key, or store one with: hedgerow project provider-key "+up.name, nil))
			return
		}
	}
	x.rec = &record{projectID: grant.ProjectID, surface: grant.Surface, header: x.in.Header}
	if own := ownOf(x.in.Context()); own != nil {
		x.rec.uuid = own.UUID
	}
	x.rec.call = provider.Call{
		Provider: up.name, Dialect: up.dialect, Method: x.in.Method, Path: x.route.below, BaseURL: x.route.base, Start: x.start,
		Attribution: grant.AttributionFields,
	}

	t := time.Now()
	x.body, err = x.g.readBody(x.in)
	x.wait(t)
	if err != nil {
		x.fail(err)
		return
	}
	if x.asksPrompt() {
		if refusal := x.render(); refusal != nil {
			x.g.requests.give(x.body.held)
			x.rec = nil // it was no call of a model
			x.refuse(refusal)
			return
		}
	}
	x.planEdits(grant)
	x.debug = x.in.Header.Get(headerDebug) == "timing"
	if x.debug {
		x.rec.traceID = debugTrace(x.in.Header, x.plan.Trace)
	}
	if grant.TellStart && len(x.body.whole) > 0 {
		x.tellStart()
	}
	x.forward()
}

// tellStart has the beginning of the call recorded. Whether it is one that
// generates something turns out when the request is read, off the caller's path.
func (x *exchange) tellStart() {
	if x.rec.traceID == "" {
		x.rec.traceID = debugTrace(x.in.Header, x.plan.Trace)
	}
	x.rec.spanID = event.NewID()
	start := *x.rec
	start.start = true
	start.call.Request, start.call.RequestBytes = x.body.whole, int64(len(x.body.whole))
	x.rec.startSent = x.g.capture.offer(&start)
}

// refuse answers a call that goes nowhere.
func (x *exchange) refuse(e *event.Error) {
	x.outcome = "refused"
	if ownOf(x.in.Context()) != nil {
		x.w.Header().Set(refusedHeader, "1")
	}
	d := provider.OpenAI
	if x.route.up != nil {
		d = x.route.up.dialect
	} else if messages(x.in.URL.Path) {
		d = provider.Anthropic
	}
	writeError(x.w, d, e)
}

// planEdits finds what is to be changed of a body that was read. Only calls that
// generate something are touched: what other paths mean by a field is theirs.
func (x *exchange) planEdits(grant Grant) {
	if len(x.body.whole) == 0 || encoded(x.in.Header.Get("Content-Encoding")) {
		return
	}
	up := x.route.up
	ask := (x.op == "chat" || x.op == "completions") && up.dialect == provider.OpenAI && !grant.LeaveUsage && up.asksUsage(x.route.base)
	if cut := x.rec.call.Strips(); cut != nil {
		x.plan = provider.PlanEdits(x.body.whole, cut, ask)
	}
}

// finish makes the one record of the exchange, whatever way it ended.
func (x *exchange) finish() {
	g := x.g
	elapsed := time.Since(x.start)
	g.count(x.route.up, x.op, x.outcome)
	if x.route.up != nil {
		x.route.up.added.Observe((elapsed - x.waited).Seconds())
	}
	if x.rec == nil {
		return
	}
	call := &x.rec.call
	call.Latency = elapsed
	call.Request, call.RequestBytes = x.body.whole, int64(len(x.body.whole))+x.sent
	call.RequestTruncated = x.body.cut
	if s := x.body.stream; s != nil {
		call.Request, call.RequestBytes = s.end()
		call.RequestTruncated = int64(len(call.Request)) < call.RequestBytes || call.RequestBytes < x.body.length
	}
	call.ResponseTail = x.recorder.end()
	call.Response, call.ResponseBytes, call.ResponseTruncated = x.recorder.head, x.total, x.recorder.cut
	x.rec.head = x.recorder.head
	g.capture.offer(x.rec)
	g.requests.give(x.body.held)
}

// tell adds what a caller has asked to know to the answer's headers.
func (x *exchange) tell(h http.Header) {
	added := time.Since(x.start) - x.waited
	h["X-Hedgerow-Added-Us"] = []string{strconv.FormatInt(added.Microseconds(), 10)}
	h["X-Hedgerow-Trace-Id"] = []string{x.rec.traceID}
}
