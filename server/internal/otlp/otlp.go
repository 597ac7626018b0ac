package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/httpbody"
	"github.com/hedgerow/hedgerow/server/internal/receiver"
)

// Config configures a [Handler].
type Config struct {
	// Project returns the project of a token: a project token, an API key with write
	// access, or the PostHog project key of a connection. It is called for every
	// request and must not do I/O. Its error is sent to the client. Required.
	Project func(token string) (projectID string, err error)

	// Append stores the events. Required.
	Append receiver.Appender

	Limits     Limits
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

// Limits bound requests. A zero field has its default.
type Limits struct {
	httpbody.Limits
	Spans int // spans per request. Defaults to 50000
	Depth int // nesting of attribute values. Defaults to 64
}

func (l Limits) withDefaults() Limits {
	l.Limits = l.Limits.Defaults()
	if l.Spans <= 0 {
		l.Spans = 50_000
	}
	if l.Depth <= 0 {
		l.Depth = 64
	}
	return l
}

// exchange holds the memory of one request until its response is sent.
type exchange struct{ *httpbody.Exchange }

// Handler receives OTLP. It is safe for concurrent use.
type Handler struct {
	*receiver.Shell
	c      Config
	limits Limits
	logged *logged
	recent *recent

	rejected  prometheus.Counter
	skipped   prometheus.Counter
	discarded prometheus.Counter // log records
}

// New returns a handler.
func New(c Config) (*Handler, error) {
	if c.Project == nil {
		return nil, errors.New("otlp: Config.Project is nil")
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "hedgerow", Subsystem: "otlp", Name: name, Help: help})
	}
	h := &Handler{
		c: c, limits: c.Limits.withDefaults(),
		rejected:  counter("spans_rejected_total", "Spans rejected from requests whose other spans were accepted."),
		skipped:   counter("spans_skipped_total", "Spans without LLM data, which are skipped."),
		discarded: counter("log_records_discarded_total", "Log records without content of an LLM span: accepted and discarded."),
	}
	var err error
	h.Shell, err = receiver.New(receiver.Config{Name: "otlp", Unit: "spans", Append: c.Append, Memory: h.limits.Memory,
		Logger: c.Logger, Registerer: c.Registerer, Now: c.Now, Collectors: []prometheus.Collector{h.rejected, h.skipped, h.discarded}})
	if err != nil {
		return nil, err
	}
	h.logged, h.recent = newLogged(h.Now), newRecent()
	return h, nil
}

// IsPath reports whether a path belongs to OTLP, whatever precedes it and in
// any capitalisation. Such requests are for a [Handler] and must not reach the
// gateway, whose paths look alike.
func IsPath(path string) bool { return signalOf(path) != none }

// form is the encoding of a request and of its response.
type form bool

const (
	asProto form = false
	asJSON  form = true
)

func (f form) marshal(m proto.Message) (contentType string, body []byte) {
	if f == asJSON {
		b, _ := protojson.Marshal(m) // a message created here: it cannot fail
		return "application/json", b
	}
	b, _ := proto.Marshal(m)
	return "application/x-protobuf", b
}

// ServeHTTP responds as the OTLP specification requires: with the signal's
// Export…ServiceResponse, or a google.rpc.Status, encoded as the request was.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	if h.Preflight(w, r) {
		return
	}
	x := exchange{h.Memory.Open(r.Context())}
	defer x.End()
	response, f, bad := h.export(w, r, x)
	code := http.StatusOK
	var contentType string
	var answered []byte
	if bad == nil {
		contentType, answered = f.marshal(response)
	} else {
		code = bad.Status
		h.Refuse(w.Header(), bad)
		contentType, answered = f.marshal(&status.Status{Code: int32(rpcCode(bad)), Message: bad.Message})
	}
	h.Observe(code, time.Since(start))
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(answered)))
	w.WriteHeader(code)
	_, _ = w.Write(answered)
}

func (h *Handler) export(w http.ResponseWriter, r *http.Request, x exchange) (proto.Message, form, *httpbody.Refusal) {
	f := asProto
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if media == "application/json" {
		f = asJSON
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST, OPTIONS")
		return nil, f, httpbody.Refuse(http.StatusMethodNotAllowed, httpbody.ReasonMethod, "use POST")
	}
	switch {
	case media == "application/json", media == "application/x-protobuf", media == "application/protobuf":
	default:
		return nil, f, httpbody.Refuse(http.StatusUnsupportedMediaType, httpbody.ReasonUnsupported, "unsupported content type: send application/x-protobuf or application/json")
	}
	if err != nil {
		return nil, f, httpbody.Refuse(http.StatusUnsupportedMediaType, httpbody.ReasonUnsupported, "the content type is malformed: send application/x-protobuf or application/json")
	}
	project, bad := h.project(r.Header.Get("Authorization"))
	if bad != nil {
		return nil, f, bad
	}
	s := signalOf(r.URL.Path)
	raw, bad := h.read(w, r, x, s == traces || s == logs)
	if bad != nil {
		return nil, f, bad
	}
	response, bad := h.take(r.Context(), x, s, project, f, raw)
	return response, f, bad
}

// take handles a request of either transport and returns the response.
func (h *Handler) take(ctx context.Context, x exchange, s signal, project string, f form, raw []byte) (proto.Message, *httpbody.Refusal) {
	switch s {
	case traces:
		return h.takeSpans(ctx, x, project, f, raw)
	case logs:
		return h.takeLogs(ctx, x, project, f, raw)
	}
	return s.response(), nil // accepted and discarded, not parsed
}

// takeSpans stores the spans of a request.
func (h *Handler) takeSpans(ctx context.Context, x exchange, project string, f form, raw []byte) (proto.Message, *httpbody.Refusal) {
	req, bad := x.decode(f, raw, h.limits)
	if bad != nil {
		return nil, bad
	}
	c := converter{project: project, logged: h.logged, recent: h.recent}
	c.convert(req)
	h.skipped.Add(float64(c.skipped))
	refused, why, bad := h.store(ctx, c.events)
	if bad != nil {
		return nil, bad
	}
	h.rejected.Add(float64(c.rejected + refused))
	response := &collector.ExportTraceServiceResponse{}
	if n := c.rejected + refused; n > 0 {
		if c.why != "" {
			why = c.why
		}
		h.Warnings.Warn("rejected", "spans of a request were rejected", "spans", n, "err", why)
		response.PartialSuccess = &collector.ExportTracePartialSuccess{RejectedSpans: int64(n), ErrorMessage: fmt.Sprintf("%d spans were rejected, the first because %s", n, why)}
	}
	return response, nil
}

// read reads a request's body, and decompresses it if decode is set.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, x exchange, decode bool) ([]byte, *httpbody.Refusal) {
	raw, bad := x.Receive(w, r, h.limits.Body, h.limits.Timeout)
	if bad != nil {
		if bad.Status == http.StatusRequestTimeout {
			bad.Status = http.StatusServiceUnavailable // OTLP exporters do not retry 408
		}
		return nil, bad
	}
	if !decode {
		return raw, nil
	}
	enc, bad := httpbody.Encoding(r.Header.Get("Content-Encoding"), raw, true)
	if bad != nil {
		return nil, bad
	}
	return x.Decode(enc, raw, h.limits.Decoded)
}

// rpcCode is the code of a refusal in google.rpc.Status, which is gRPC's.
func rpcCode(r *httpbody.Refusal) codes.Code {
	switch r.Status {
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusRequestEntityTooLarge:
		return codes.ResourceExhausted
	case http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType:
		return codes.Unimplemented
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	case http.StatusBadRequest:
		return codes.InvalidArgument
	}
	return codes.Internal
}

// project returns the project of a request's bearer token.
func (h *Handler) project(authorization string) (string, *httpbody.Refusal) {
	scheme, token, _ := strings.Cut(authorization, " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", httpbody.Refuse(http.StatusUnauthorized, httpbody.ReasonToken, "missing project token: send the header Authorization: Bearer with hedgerow's project token (phc_hedgerow_…)")
	}
	id, err := h.c.Project(token)
	if err != nil {
		e := event.AsError(err)
		message := e.Message
		if e.Hint != "" {
			message += ": " + e.Hint
		}
		return "", httpbody.Refuse(e.HTTPStatus(), httpbody.ReasonToken, "%s", message)
	}
	return id, nil
}

// store appends the events to the journal, and returns the number of rejected
// events and the reason of the first.
func (h *Handler) store(ctx context.Context, events []*event.Event) (n int, why string, bad *httpbody.Refusal) {
	rejected, bad := h.StoreEach(ctx, events)
	if len(rejected) > 0 {
		why = rejected[slices.Min(slices.Collect(maps.Keys(rejected)))].Message
	}
	return len(rejected), why, bad
}
