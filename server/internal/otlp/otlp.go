package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
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
)

// Appender stands behind the door: enrich, then the journal.
type Appender interface {
	// Append stores the events. It returns nil only when all are stored.
	Append(ctx context.Context, events ...*event.Event) error
}

// Config says what a door is made of.
type Config struct {
	// Project finds the project of a token: a project token, an API key that may
	// write, or the PostHog project key of a connection. It is called for every
	// request and must not do I/O. Its error is told to the client. Required.
	Project func(token string) (projectID string, err error)

	// Append takes the events. Required.
	Append Appender

	Limits     Limits
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

// Limits bound what is taken. A zero field has its default.
type Limits struct {
	httpbody.Limits
	Spans int // spans of one request. Defaults to 50000
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

// exchange is what one request holds until it is answered.
type exchange struct{ *httpbody.Exchange }

// Handler is the door. It is safe for concurrent use.
type Handler struct {
	c       Config
	limits  Limits
	log     *slog.Logger
	now     func() time.Time
	memory  *httpbody.Memory
	metrics *metrics
	logged  *logged

	warnings *httpbody.Warnings
}

// New returns a door.
func New(c Config) (*Handler, error) {
	switch {
	case c.Project == nil:
		return nil, errors.New("otlp: Config.Project is nil")
	case c.Append == nil:
		return nil, errors.New("otlp: Config.Append is nil")
	}
	h := &Handler{c: c, limits: c.Limits.withDefaults(), log: c.Logger, now: c.Now}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.now == nil {
		h.now = time.Now
	}
	h.memory = httpbody.NewMemory(h.limits.Memory)
	h.logged = newLogged(h.now)
	h.warnings = httpbody.NewWarnings(h.log, h.now)
	var err error
	if h.metrics, err = newMetrics(c.Registerer, h.memory); err != nil {
		return nil, fmt.Errorf("register metrics of otlp: %w", err)
	}
	return h, nil
}

// IsPath reports whether a path is one of OTLP's, whatever stands before it and
// however it is spelled. They are a [Handler]'s, and none of them may reach the
// gateway, whose paths look alike.
func IsPath(path string) bool { return signalOf(path) != none }

// form is how a request is encoded, and so its answer.
type form bool

const (
	asProto form = false
	asJSON  form = true
)

func (f form) marshal(m proto.Message) (contentType string, body []byte) {
	if f == asJSON {
		b, _ := protojson.Marshal(m) // of a message made here: it cannot fail
		return "application/json", b
	}
	b, _ := proto.Marshal(m)
	return "application/x-protobuf", b
}

// ServeHTTP answers as the OTLP specification has it: the signal's
// Export…ServiceResponse, or a google.rpc.Status, encoded as the request was.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	httpbody.CORS(w, r)
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusOK)
		return
	}
	x := exchange{h.memory.Open(r.Context())}
	defer x.End()
	answer, f, bad := h.export(w, r, x)
	code := http.StatusOK
	var contentType string
	var answered []byte
	if bad == nil {
		contentType, answered = f.marshal(answer)
	} else {
		code = bad.Status
		h.refuse(bad)
		if s := bad.RetryAfter(); s != "" {
			w.Header().Set("Retry-After", s)
		}
		contentType, answered = f.marshal(&status.Status{Code: int32(rpcCode(bad)), Message: bad.Message})
	}
	h.metrics.request(code, time.Since(start))
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
		return nil, f, httpbody.Refuse(http.StatusUnsupportedMediaType, httpbody.ReasonUnsupported, "this content type is not taken: send application/x-protobuf or application/json")
	}
	if err != nil {
		return nil, f, httpbody.Refuse(http.StatusUnsupportedMediaType, httpbody.ReasonUnsupported, "the content type cannot be read: send application/x-protobuf or application/json")
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
	answer, bad := h.take(r.Context(), x, s, project, f, raw)
	return answer, f, bad
}

// refuse counts a refusal and says it in the log.
func (h *Handler) refuse(bad *httpbody.Refusal) {
	h.metrics.refused.WithLabelValues(bad.Reason).Inc()
	h.warnings.Warn(bad.Reason, "a request was refused", "status", bad.Status, "err", bad.Message)
}

// take takes a request, whichever way it came, and returns the answer.
func (h *Handler) take(ctx context.Context, x exchange, s signal, project string, f form, raw []byte) (proto.Message, *httpbody.Refusal) {
	switch s {
	case traces:
		return h.takeSpans(ctx, x, project, f, raw)
	case logs:
		return h.takeLogs(ctx, x, project, f, raw)
	}
	return s.answer(), nil // accepted and discarded, unread
}

// takeSpans stores the spans of a request.
func (h *Handler) takeSpans(ctx context.Context, x exchange, project string, f form, raw []byte) (proto.Message, *httpbody.Refusal) {
	req, bad := x.decode(f, raw, h.limits)
	if bad != nil {
		return nil, bad
	}
	c := converter{project: project, logged: h.logged}
	c.convert(req)
	h.metrics.skipped.Add(float64(c.skipped))
	refused, bad := h.store(ctx, c.events)
	if bad != nil {
		return nil, bad
	}
	h.metrics.rejected.Add(float64(c.rejected + refused.n))
	answer := &collector.ExportTraceServiceResponse{}
	if n := c.rejected + refused.n; n > 0 {
		why := c.why
		if why == "" {
			why = refused.why
		}
		h.warnings.Warn("rejected", "spans of a request were rejected", "spans", n, "err", why)
		answer.PartialSuccess = &collector.ExportTracePartialSuccess{RejectedSpans: int64(n), ErrorMessage: fmt.Sprintf("%d spans were rejected, the first because %s", n, why)}
	}
	return answer, nil
}

// read reads a request's body and, where it will be looked at, undoes its encoding.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, x exchange, decode bool) ([]byte, *httpbody.Refusal) {
	raw, bad := x.Receive(w, r, h.limits.Body, h.limits.Timeout)
	if bad != nil {
		if bad.Status == http.StatusRequestTimeout {
			bad.Status = http.StatusServiceUnavailable // OTLP's exporters try no 408 again
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

// rpcCode is the code of google.rpc.Status, which is gRPC's, for a refusal.
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

// project finds out for whom a request is: its bearer token says so.
func (h *Handler) project(authorization string) (string, *httpbody.Refusal) {
	scheme, token, _ := strings.Cut(authorization, " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", httpbody.Refuse(http.StatusUnauthorized, httpbody.ReasonToken, "there is no project token: send the header Authorization: Bearer with hedgerow's project token (phc_hedgerow_…)")
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

// rejections are spans that the journal will not have for what they are.
type rejections struct {
	n   int
	why string
}

// store appends the events. Where the journal refuses one for what it is, the
// others are appended one by one; those that it has already are known by their
// uuid. A nil refusal is the promise: all but the rejected are on disk.
func (h *Handler) store(ctx context.Context, events []*event.Event) (rejections, *httpbody.Refusal) {
	if len(events) == 0 {
		return rejections{}, nil
	}
	bad := h.append(ctx, events)
	if bad == nil || bad.Reason != httpbody.ReasonInvalid {
		return rejections{}, bad
	}
	var out rejections
	for _, e := range events {
		switch bad := h.append(ctx, []*event.Event{e}); {
		case bad == nil:
		case bad.Reason == httpbody.ReasonInvalid:
			if out.n++; out.why == "" {
				out.why = bad.Message
			}
		default:
			return out, bad
		}
	}
	return out, nil
}

func (h *Handler) append(ctx context.Context, events []*event.Event) *httpbody.Refusal {
	err := h.c.Append.Append(ctx, events...)
	if err == nil {
		h.metrics.accepted.Add(float64(len(events)))
		return nil
	}
	switch e := event.AsError(err); {
	case ctx.Err() != nil:
		return httpbody.Refuse(http.StatusServiceUnavailable, httpbody.ReasonClientGone, "the request ended before the spans were stored")
	case e.Code == event.CodeFull:
		h.warnings.Warn(httpbody.ReasonJournalFull, "spans are refused: the journal is full", "err", err)
		return httpbody.Refuse(http.StatusServiceUnavailable, httpbody.ReasonJournalFull, "hedgerow's journal is full: try again later")
	case e.Code == event.CodeInvalid, e.Code == event.CodeTooLarge:
		return httpbody.Refuse(e.HTTPStatus(), httpbody.ReasonInvalid, "%s", e.Message)
	default:
		h.warnings.Warn(httpbody.ReasonUnavailable, "spans could not be stored", "err", err)
		return httpbody.Refuse(http.StatusServiceUnavailable, httpbody.ReasonUnavailable, "hedgerow could not store the spans: try again")
	}
}
