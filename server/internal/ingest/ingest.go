package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/httpbody"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/receiver"
)

// Doer sends requests to PostHog; an [http.Client] is one. It must refuse addresses
// that the operator does not allow. Requests go only to hosts of connections and to
// PostHog's asset hosts.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Config configures a [Handler].
type Config struct {
	// Projects returns the current settings. It is called for every request and must
	// not do I/O. Required.
	Projects func() *project.Snapshot

	// Append stores the events. Required.
	Append receiver.Appender

	// Flags sends requests other than capture to a project's PostHog: flags,
	// their definitions and the browser's settings. With nil, responses are
	// those of a project without a connection.
	Flags Doer

	// OutboundID returns the distinct id that a connection's PostHog has for a user: a
	// hash if the connection hashes ids. nil: the id itself.
	OutboundID func(c project.Connection, distinctID string) string

	// Personal reports whether a person property identifies a person. If ids
	// are hashed, flag requests omit those properties. nil: none does.
	Personal func(property string) bool

	// FlagRequest and FlagQuery return the parts of a flag request, and of the query
	// of other requests, that may be sent to a connection's PostHog. They must not
	// modify their arguments. nil: all of it.
	FlagRequest func(c project.Connection, asked map[string]json.RawMessage) map[string]json.RawMessage
	FlagQuery   func(c project.Connection, query map[string][]string) map[string][]string

	// OwnFlags returns a project's flags that hedgerow evaluates itself. It must not
	// do I/O. nil: none.
	OwnFlags func(projectID string) []flag.Definition

	Limits     Limits
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

// Limits are the limits of requests. Zero fields have defaults, which follow
// contract section 1.4 or are larger: events that are too large for PostHog are
// stored whole and reduced when they are sent.
type Limits struct {
	httpbody.Limits       // Body is for v0
	BodyV1          int64 // bytes of a v1 body on the wire. Defaults to 10 MiB
	Multipart       int64 // bytes of all parts of a multipart event. Defaults to 25 MiB
	EventBytes      int   // bytes of one event. Defaults to 8 MiB
	Events          int   // events of one request. Defaults to 10000
}

func (l Limits) withDefaults() Limits {
	l.Limits = l.Limits.Defaults()
	if l.BodyV1 <= 0 {
		l.BodyV1 = 10 << 20
	}
	if l.Multipart <= 0 {
		l.Multipart = 25 << 20
	}
	if l.EventBytes <= 0 {
		l.EventBytes = event.MaxEventBytes
	}
	if l.Events <= 0 {
		l.Events = 10_000
	}
	return l
}

// exchange holds the buffers of one request until its events are in the journal.
type exchange struct{ *httpbody.Exchange }

// Handler serves PostHog's capture protocol. It is safe for concurrent use.
type Handler struct {
	*receiver.Shell
	c      Config
	limits Limits
	relay  *relay
	tokens atomic.Pointer[tokens]

	rejected *prometheus.CounterVec
	bytes    prometheus.Counter
}

// New returns a handler.
func New(c Config) (*Handler, error) {
	if c.Projects == nil {
		return nil, errors.New("ingest: Config.Projects is nil")
	}
	const ns, sub = "hedgerow", "ingest"
	h := &Handler{
		c: c, limits: c.Limits.withDefaults(),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "events_rejected_total", Help: "Events rejected from requests whose other events were accepted, by reason."}, []string{"reason"}),
		bytes:    prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "body_bytes_total", Help: "Bytes of request bodies on the wire."}),
	}
	var err error
	h.Shell, err = receiver.New(receiver.Config{Name: sub, Unit: "events", Labels: []string{"route"}, Append: c.Append, Memory: h.limits.Memory,
		Logger: c.Logger, Registerer: c.Registerer, Now: c.Now, Collectors: []prometheus.Collector{h.rejected, h.bytes}})
	if err != nil {
		return nil, err
	}
	h.relay = newRelay(c.Flags, h.Now)
	if h.c.OutboundID == nil {
		h.c.OutboundID = func(_ project.Connection, id string) string { return id }
	}
	if h.c.Personal == nil {
		h.c.Personal = func(string) bool { return false }
	}
	if h.c.FlagRequest == nil {
		h.c.FlagRequest = func(_ project.Connection, asked map[string]json.RawMessage) map[string]json.RawMessage { return asked }
	}
	if h.c.FlagQuery == nil {
		h.c.FlagQuery = func(_ project.Connection, query map[string][]string) map[string][]string { return query }
	}
	return h, nil
}

// route is one path of PostHog's API, without its trailing slash.
type route struct {
	name  string // the path, for metrics
	serve func(*Handler, http.ResponseWriter, *http.Request)
}

// aiBatch accepts what /batch accepts, by POST only.
const aiBatch = "/i/v0/ai/batch"

var routes = map[string]func(*Handler, http.ResponseWriter, *http.Request){
	"/batch":                     (*Handler).serveV0,
	"/i/v0/e":                    (*Handler).serveV0,
	"/e":                         (*Handler).serveV0,
	"/capture":                   (*Handler).serveV0,
	"/track":                     (*Handler).serveV0,
	"/engage":                    (*Handler).serveV0,
	aiBatch:                      (*Handler).serveV0,
	"/i/v0/ai":                   (*Handler).serveMultipart,
	"/i/v1/analytics/events":     (*Handler).serveV1,
	"/s":                         (*Handler).serveReplay,
	"/_readiness":                serveText,
	"/_liveness":                 serveText,
	"/flags":                     (*Handler).serveFlags,
	"/decide":                    (*Handler).serveFlags,
	"/flags/definitions":         (*Handler).serveDefinitions,
	"/api/surveys":               (*Handler).serveList,
	"/api/web_experiments":       (*Handler).serveList,
	"/api/early_access_features": (*Handler).serveList,
	"/api/product_tours":         (*Handler).serveList,

	"/api/feature_flag/local_evaluation": (*Handler).serveDefinitions,
}

func find(path string) (route, bool) {
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	if serve, ok := routes[path]; ok {
		return route{path, serve}, true
	}
	if _, _, ok := arrayPath(path); ok {
		return route{"/array", (*Handler).serveArray}, true
	}
	if remoteConfig(path) {
		return route{"remote_config", (*Handler).serveRemoteConfig}, true
	}
	if asset(path) {
		return route{"/static", (*Handler).serveAsset}, true
	}
	return route{}, false
}

// Handles reports whether a path is one of PostHog's that this handler serves, with
// or without a trailing slash. OTLP's /i/v0/ai/otel is not.
func (h *Handler) Handles(path string) bool {
	_, ok := find(path)
	return ok
}

// ServeHTTP responds as PostHog does.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rt, ok := find(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	start := time.Now()
	sw := &statusWriter{ResponseWriter: w}
	defer func() { h.Observe(sw.status, time.Since(start), rt.name) }()
	if !h.Preflight(sw, r) {
		rt.serve(h, sw, r)
	}
}

// tokens maps tokens to projects, for one snapshot.
type tokens struct {
	snap *project.Snapshot
	by   map[string]target
}

// target is the project of a token.
type target struct {
	project string
	conn    *project.Connection // the connection whose PostHog key the token is; nil for hedgerow's own
}

// resolve finds the project of a token: hedgerow's project token, the PostHog
// project key of an enabled connection (so that an application can keep its key), or
// an API key with the scope ingest.
func (h *Handler) resolve(token string) (target, *httpbody.Refusal) {
	snap := h.c.Projects()
	t := h.tokens.Load()
	if t == nil || t.snap != snap {
		t = &tokens{snap, make(map[string]target)}
		// A key with connections in two projects belongs to the first by name.
		for _, p := range snap.Projects() {
			for _, c := range snap.Connections(p.ID) {
				key := c.ProjectKey.Reveal()
				if _, taken := t.by[key]; c.Enabled && key != "" && !taken {
					t.by[key] = target{p.ID, &c}
				}
			}
		}
		for _, p := range snap.Projects() {
			if p.Token != "" {
				t.by[p.Token] = target{project: p.ID}
			}
		}
		h.tokens.Store(t)
	}
	if to, ok := t.by[token]; ok {
		return to, nil
	}
	switch p, key, ok := snap.ProjectByAPIKey(token); {
	case ok && key.May().Has(project.ScopeIngest):
		return target{project: p.ID}, nil
	case ok:
		return target{}, httpbody.Refuse(http.StatusForbidden, httpbody.ReasonToken, "API key is not valid here: %s; send hedgerow's project token (phc_hedgerow_…), or a key with that scope", project.MissingScope(key.May(), project.ScopeIngest).Message)
	case token == "":
		return target{}, httpbody.Refuse(http.StatusUnauthorized, httpbody.ReasonToken, "event submitted without an api_key: send hedgerow's project token (phc_hedgerow_…)")
	case strings.HasPrefix(token, "phx_"):
		return target{}, httpbody.Refuse(http.StatusUnauthorized, httpbody.ReasonToken, "API key is not valid: personal_api_key; send hedgerow's project token (phc_hedgerow_…)")
	}
	return target{}, httpbody.Refuse(http.StatusUnauthorized, httpbody.ReasonToken, "API key is not valid: no project of this hedgerow has it; send hedgerow's project token (phc_hedgerow_…), or connect the PostHog project whose key this is")
}

// Project returns the id of the project of a token: hedgerow's project token, the
// PostHog project key of an enabled connection, or an API key with the scope ingest.
// The error is an [*event.Error] for the client.
func (h *Handler) Project(token string) (string, error) {
	to, bad := h.resolve(token)
	if bad != nil {
		code := event.CodeUnauthorized
		if bad.Status == http.StatusForbidden {
			code = event.CodeForbidden
		}
		return "", event.NewError(code, bad.Message, "", nil)
	}
	return to.project, nil
}

// clientIP returns the client's address if it is public, as PostHog would have seen
// it; else "".
func clientIP(r *http.Request) string {
	ip, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ",")
	if ip = strings.TrimSpace(ip); ip == "" {
		ip, _, _ = net.SplitHostPort(r.RemoteAddr)
	}
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	if a = a.Unmap().WithZone(""); !a.IsGlobalUnicast() || a.IsPrivate() {
		return ""
	}
	return a.String()
}

// setIP sets $ip, so that PostHog does not use hedgerow's address for the user.
func setIP(e *event.Event, quoted json.RawMessage) {
	if quoted == nil || e.Properties["$ip"] != nil {
		return
	}
	if off, _ := truthy(e.Properties["$geoip_disable"]); off {
		return
	}
	if e.Properties == nil {
		e.Properties = make(map[string]json.RawMessage, 1)
	}
	e.Properties["$ip"] = quoted
}

func quotedIP(r *http.Request) json.RawMessage {
	ip := clientIP(r)
	if ip == "" {
		return nil
	}
	return json.RawMessage(strconv.Quote(ip))
}

func serveText(_ *Handler, w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("capture"))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // of maps and strings: it cannot fail
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// statusWriter records the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
