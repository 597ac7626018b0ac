package ingest

import (
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
	"github.com/hedgerow/hedgerow/server/internal/httpbody"
)

// rejected is a rejected event of a batch.
type rejected struct {
	Index int    `json:"index"`           // in the batch, from 0
	UUID  string `json:"uuid,omitempty"`  // as it was sent
	Event string `json:"event,omitempty"` // its name
	Error string `json:"error"`

	why *httpbody.Refusal
}

const (
	maxNamed      = 100 // rejected events named in a response
	maxNamedShort = 10  // in a plain text response
)

// serveV0 serves /batch and its variants (contract sections 1.2 and 1.3). Valid
// events are accepted and invalid ones listed, where PostHog would reject the
// batch.
func (h *Handler) serveV0(w http.ResponseWriter, r *http.Request) {
	route := strings.TrimSuffix(r.URL.Path, "/")
	if allowed := "GET, POST, OPTIONS"; r.Method != http.MethodPost && (r.Method != http.MethodGet || route == aiBatch) {
		if route == aiBatch {
			allowed = "POST, OPTIONS"
		}
		w.Header().Set("Allow", allowed)
		h.fail(w, httpbody.Refuse(http.StatusMethodNotAllowed, httpbody.ReasonMethod, "method not allowed"))
		return
	}
	x := exchange{h.Memory.Open(r.Context())}
	defer x.End()
	taken, bad, refusal := h.captureV0(w, r, route, x)
	switch {
	case refusal != nil:
		h.fail(w, refusal)
	case taken == 0:
		h.fail(w, allRejected(bad))
	case r.URL.Query().Get("beacon") == "1":
		w.WriteHeader(http.StatusNoContent)
	case len(bad) > 0:
		writeJSON(w, http.StatusOK, map[string]any{"status": "Ok", "accepted": taken, "rejected": bad[:min(len(bad), maxNamed)]})
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"Ok"}`)
	}
}

func (h *Handler) captureV0(w http.ResponseWriter, r *http.Request, route string, x exchange) (taken int, bad []rejected, _ *httpbody.Refusal) {
	query := r.URL.Query()
	var raw []byte
	if query.Get("data") == "" || r.Method == http.MethodPost {
		var refusal *httpbody.Refusal
		if raw, refusal = x.Receive(w, r, h.limits.Body, h.limits.Timeout); refusal != nil {
			return 0, nil, refusal
		}
	}
	h.bytes.Add(float64(len(raw)))
	p, refusal := x.readPayload(r, query, raw, h.limits.Decoded)
	if refusal != nil {
		return 0, nil, refusal
	}
	engage := route == "/engage"
	req, refusal := x.parse(p, h.limits, engage)
	if refusal != nil {
		return 0, nil, refusal
	}
	token, refusal := req.tokenOfAll()
	if refusal != nil {
		return 0, nil, refusal
	}
	to, refusal := h.resolve(token)
	if refusal != nil {
		return 0, nil, refusal
	}
	m := &envelope{project: to.project, now: h.Now().UTC(), sentAt: req.sentAt, historical: req.historical}
	ip := quotedIP(r)
	events := make([]*event.Event, 0, len(req.events))
	from := make([]int, 0, len(req.events)) // positions in the batch
	for i := range req.events {
		in := &req.events[i]
		e, refusal := in.build(m, engage)
		if refusal == nil && len(in.raw) > h.limits.EventBytes {
			refusal = httpbody.TooLarge("the event", int64(h.limits.EventBytes))
		}
		if refusal != nil {
			bad = append(bad, in.rejected(refusal))
			continue
		}
		h.adopt(e, to, token)
		setIP(e, ip)
		events, from = append(events, e), append(from, i)
	}
	refused, refusal := h.StoreEach(r.Context(), events)
	if refusal != nil {
		return 0, nil, refusal
	}
	for i, in := range from {
		if why := refused[i]; why != nil {
			bad = append(bad, req.events[in].rejected(why))
		}
	}
	for _, b := range bad {
		h.rejected.WithLabelValues(b.why.Reason).Inc()
		h.Warnings.Warn("event "+b.why.Reason, "ingest: event rejected", "route", route, "project", to.project, "event", b.Event, "uuid", b.UUID, "err", b.Error)
	}
	return len(events) - len(refused), bad, nil
}

// adopt assigns an event to its project.
func (h *Handler) adopt(e *event.Event, to target, token string) {
	e.ProjectID = to.project
	if to.conn == nil && rawjson.Text(e.Properties["token"]) == token {
		// posthog-js repeats the token in each event. Hedgerow's token must not reach
		// PostHog.
		delete(e.Properties, "token")
	}
}

func (in *rawEvent) rejected(why *httpbody.Refusal) rejected {
	name, id := rawjson.Text(in.name), rawjson.Text(in.uuid)
	return rejected{Index: in.index, UUID: id[:min(len(id), 64)], Event: strings.ToValidUTF8(name[:min(len(name), event.MaxNameLen)], ""), Error: why.Message, why: why}
}

// tokenOfAll returns the only token of a request.
func (r *request) tokenOfAll() (string, *httpbody.Refusal) {
	if r.token != "" {
		return r.token, nil
	}
	token := ""
	for i := range r.events {
		t := r.events[i].token
		if t == "" {
			for key, v := range rawjson.Members(r.events[i].properties) {
				if string(key) == "token" {
					t = rawjson.Text(v)
				}
			}
		}
		if t == "" {
			continue
		}
		if token != "" && t != token {
			return "", httpbody.Refuse(http.StatusUnauthorized, httpbody.ReasonToken, "events submitted with inconsistent api_key values")
		}
		token = t
	}
	return token, nil
}

// allRejected is the response if no event was accepted.
func allRejected(bad []rejected) *httpbody.Refusal {
	if len(bad) == 1 {
		return bad[0].why
	}
	status := bad[0].why.Status
	var s strings.Builder
	s.WriteString("no event was accepted")
	for i, b := range bad {
		if b.why.Status != status {
			status = http.StatusBadRequest
		}
		if i < maxNamedShort {
			s.WriteString("\nevent " + strconv.Itoa(b.Index) + ": " + b.Error)
		}
	}
	if len(bad) > maxNamedShort {
		s.WriteString("\nand " + strconv.Itoa(len(bad)-maxNamedShort) + " more")
	}
	return &httpbody.Refusal{Status: status, Reason: bad[0].why.Reason, Message: s.String()}
}

// fail responds with plain text, as PostHog's v0 routes do.
func (h *Handler) fail(w http.ResponseWriter, why *httpbody.Refusal) {
	h.Refuse(w.Header(), why)
	http.Error(w, why.Message, why.Status)
}

// serveReplay accepts and discards session recordings: browsers retry forever if
// they are refused.
func (h *Handler) serveReplay(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost && r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET, POST, OPTIONS")
		h.fail(w, httpbody.Refuse(http.StatusMethodNotAllowed, httpbody.ReasonMethod, "method not allowed"))
		return
	}
	_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 25<<20))
	if r.URL.Query().Get("beacon") == "1" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"status":"Ok"}`)
}
