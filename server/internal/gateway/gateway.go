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
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// Config configures a [Gateway].
type Config struct {
	// Upstreams override and extend [DefaultUpstreams], by name; empty fields of an entry
	// use the known provider's values.
	Upstreams map[string]Upstream

	// Authorize returns the project of a call. key is the hedgerow key of the
	// call, or "". An [*event.Error] that it returns is sent to the caller. It
	// is called for every call and must not do I/O. Required.
	Authorize func(key string, r *http.Request) (Grant, error)

	// Append stores the events. Required.
	Append Appender

	// Telemetry reports whether a path belongs to OTLP. Such paths look like
	// provider paths but are never forwarded: the server routes them to its
	// OTLP handler, and the gateway rejects any that reach it. nil means no
	// path does.
	Telemetry func(path string) bool

	// Prompts renders the prompts that calls name. nil: prompts are not
	// available.
	Prompts Prompts

	// Submissions stores who submitted which batch. nil: only memory does.
	Submissions Submissions

	Cloud Cloud

	Limits     Limits
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil: no metrics
}

// Limits bound what the gateway holds in memory. A zero field has its default.
type Limits struct {
	RequestBytes   int   // JSON request bodies up to this size are read before forwarding. Defaults to 32 MiB
	RequestBudget  int64 // total of all buffered bodies. Defaults to 256 MiB
	ResponseHead   int   // bytes recorded from the start of a response. Defaults to 2 MiB
	ResponseTail   int   // bytes recorded from the end of a longer response. Defaults to 64 KiB
	ResponseBudget int64 // bytes recorded of all responses in progress. Defaults to 128 MiB
	Decoded        int64 // limit of a decompressed body, for capture only. Defaults to 16 MiB
	Queue          int   // finished calls waiting to be recorded. Defaults to 50000
	QueueBytes     int64 // their total size: bodies or content, plus 4 KiB for each that waits for the journal. Defaults to 256 MiB
	IdleUpstream   int   // idle connections to providers. Defaults to 1024
	Workers        int   // goroutines that record calls. Defaults to GOMAXPROCS
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
	cloud     Cloud
	telemetry func(path string) bool
	limits    Limits
	log       *slog.Logger
	metrics   *metrics
	capture   *capture
	requests  budget
	responses budget

	closing  context.Context // ends upgraded connections, which http.Server does not track
	upgrades sync.WaitGroup  // of them
	entering sync.Mutex      // held to add to upgrades, and while closing begins
	stop     context.CancelFunc
}

// New returns a gateway that is ready to serve. Call [Gateway.Close] to stop it.
func New(c Config) (*Gateway, error) {
	if c.Authorize == nil || c.Append == nil {
		return nil, errors.New("gateway: Authorize and Append are required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{
		authorize: c.Authorize, prompts: c.Prompts, cloud: c.Cloud, limits: c.Limits.withDefaults(), log: c.Logger, metrics: newMetrics(),
		upstreams: make(map[string]*upstream),
	}
	if g.telemetry = c.Telemetry; g.telemetry == nil {
		g.telemetry = func(string) bool { return false }
	}
	g.requests.limit, g.responses.limit = g.limits.RequestBudget, g.limits.ResponseBudget
	all := DefaultUpstreams()
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
	g.capture.batches.kept = c.Submissions
	g.closing, g.stop = context.WithCancel(context.Background())
	if err := g.register(c.Registerer); err != nil {
		g.stop()
		_ = g.capture.close(g.closing)
		return nil, fmt.Errorf("gateway: register metrics: %w", err)
	}
	return g, nil
}

// newTransport returns the transport to providers. It keeps up to idle
// connections and checks them, so that no call waits on a dead one. It never
// decompresses bodies, and respects HTTPS_PROXY and NO_PROXY.
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
		// Without pings a dead HTTP/2 connection is noticed only by the first
		// calls on it, after 15 s or more.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
	}
}

// Stats returns the state of capture.
func (g *Gateway) Stats() Stats { return g.capture.stats() }

// Close records the queued calls until ctx ends; the rest is dropped and
// counted. Call it after the last handler has returned: later calls are still
// forwarded, but not recorded. Responses that are in progress on a WebSocket
// have up to five seconds to finish.
func (g *Gateway) Close(ctx context.Context) error {
	g.entering.Lock()
	g.stop()
	g.entering.Unlock()
	ended := make(chan struct{})
	go func() { g.upgrades.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	err := g.capture.close(ctx)
	for _, u := range g.upstreams {
		u.transport.(*http.Transport).CloseIdleConnections()
	}
	if err != nil {
		return fmt.Errorf("gateway: record queued calls: %w", err)
	}
	return nil
}

// enterUpgrade has Close wait for an upgraded connection, unless it has begun.
func (g *Gateway) enterUpgrade() bool {
	g.entering.Lock()
	defer g.entering.Unlock()
	if g.closing.Err() != nil {
		return false
	}
	g.upgrades.Add(1)
	return true
}

// ServeHTTP forwards one call. It panics with [http.ErrAbortHandler] if the
// provider's response is cut off, so that the caller's is too.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{g: g, w: w, in: r, start: time.Now()}
	g.metrics.inFlight.Inc()
	defer g.metrics.inFlight.Dec()
	defer x.finish()
	x.serve()
}

// exchange is one call. Its methods are in the order in which serve calls them.
type exchange struct {
	g      *Gateway
	w      http.ResponseWriter
	in     *http.Request
	route  route
	cred   credentials
	key    string           // the project's stored provider key
	google string           // an access token of the server's
	aws    *aws.Credentials // sign the request
	verify bool             // of the caller's signature, with aws
	op     string
	body   requestBody
	plan   provider.Plan

	start    time.Time
	waited   time.Duration // for the provider and the caller
	outcome  string
	debug    bool
	starts   bool        // of exchanges are recorded
	upgraded bool        // Close waits for it
	lines    *batchLines // nil: the response is not the results of a batch

	rec      *record // nil until the provider is called
	recorder recorder
	total    int64 // bytes of the response
	sent     int64 // bytes that an upgraded connection sent to the provider
}

// wait adds the time since t to the waiting time, and returns the current time.
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
	if containsOwn(x.in.URL.Path) {
		x.refuse(event.Invalid("the path contains a hedgerow key or a project token", "send a hedgerow key in the header X-Hedgerow-Key, or instead of the provider's key"))
		return
	}
	x.cred = findCredentials(x.in)
	if x.cred.token {
		x.refuse(event.NewError(event.CodeUnauthorized, "a project token (phc_hedgerow_…) is for sending events and cannot be used for LLM calls", "send your provider's own key, or a hedgerow key (hr_…) of a project that stores the provider's key", nil))
		return
	}
	grant, err := x.g.authorize(x.cred.key, x.in)
	if err != nil {
		x.refuse(event.AsError(err))
		return
	}
	if refusal := x.chooseKey(grant); refusal != nil {
		x.refuse(refusal)
		return
	}
	x.rec = &record{projectID: grant.ProjectID, surface: grant.Surface, header: x.in.Header}
	if own := ownOf(x.in.Context()); own != nil {
		x.rec.uuid = own.UUID
	}
	x.rec.call = provider.Call{
		Provider: up.provider, Dialect: up.dialect, Method: x.in.Method, Path: x.route.below, BaseURL: x.route.base, Start: x.start,
		Attribution: grant.AttributionFields,
	}

	t := time.Now()
	x.body, err = x.g.readBody(x.in)
	x.wait(t)
	if err != nil {
		x.fail(err)
		return
	}
	if refusal := x.checkSignature(); refusal != nil {
		x.g.requests.give(x.body.held)
		x.rec = nil // nothing was sent
		x.refuse(refusal)
		return
	}
	if x.namesPrompt() {
		if refusal := x.render(); refusal != nil {
			x.g.requests.give(x.body.held)
			x.rec = nil // not an LLM call
			x.refuse(refusal)
			return
		}
	}
	x.planEdits(grant)
	x.debug = x.in.Header.Get(headerDebug) == "timing"
	if x.debug {
		x.rec.traceID = debugTrace(x.in.Header, x.plan.Trace)
	}
	x.starts = grant.RecordStart
	if x.starts && len(x.body.whole) > 0 {
		x.recordStart()
	}
	x.forward()
}

// recordStart records the start of the call. Whether the call is a generation
// is decided when the request is parsed, outside the caller's path.
func (x *exchange) recordStart() {
	if x.rec.traceID == "" {
		x.rec.traceID = debugTrace(x.in.Header, x.plan.Trace)
	}
	x.rec.spanID = event.NewID()
	start := *x.rec
	start.start = true
	start.call.Request, start.call.RequestBytes = x.body.whole, int64(len(x.body.whole))
	x.rec.startSent = x.g.capture.offer(&start)
}

// refuse responds to a call that is not forwarded.
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
	writeError(x.w, x.route.up, d, e)
}

// planEdits finds the edits of a buffered body. Only generating calls are
// edited: on other paths the same fields may have another meaning.
func (x *exchange) planEdits(grant Grant) {
	if len(x.body.whole) == 0 || encoded(x.in.Header.Get("Content-Encoding")) {
		return
	}
	up := x.route.up
	ask := (x.op == "chat" || x.op == "completions") && up.dialect == provider.OpenAI && !grant.SkipUsage && up.requestsUsage(x.route.base)
	if cut := x.rec.call.Strips(); cut != nil {
		x.plan = provider.PlanEdits(x.body.whole, cut, ask)
	}
}

// finish records the exchange once, however it ended.
func (x *exchange) finish() {
	g := x.g
	if x.upgraded {
		defer g.upgrades.Done()
	}
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

// addHeaders adds response headers that the caller has requested.
func (x *exchange) addHeaders(h http.Header) {
	added := time.Since(x.start) - x.waited
	h["X-Hedgerow-Added-Us"] = []string{strconv.FormatInt(added.Microseconds(), 10)}
	h["X-Hedgerow-Trace-Id"] = []string{x.rec.traceID}
}
