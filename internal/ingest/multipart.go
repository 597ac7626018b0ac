package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// maxEventPart bounds the part "event" of a multipart event, whose properties
// belong into a part of their own.
const maxEventPart = 32 << 10

// multipartEvents are the names that PostHog takes by multipart.
var multipartEvents = []string{event.Generation, event.Trace, event.Span, event.Embedding, event.Metric, event.Feedback}

// part is what the answer says of one part.
type part struct {
	Name     string `json:"name"`
	Length   int    `json:"length"`
	Type     string `json:"content-type"`
	Encoding string `json:"content-encoding,omitempty"`

	body []byte
}

// serveMultipart serves /i/v0/ai (contract section 1.5).
func (h *Handler) serveMultipart(w http.ResponseWriter, r *http.Request) {
	x := &exchange{lease: lease{m: h.memory}}
	defer x.end()
	parts, bad := h.captureMultipart(w, r, x)
	if bad != nil {
		h.fail(w, bad)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"accepted_parts": parts})
}

func (h *Handler) captureMultipart(w http.ResponseWriter, r *http.Request, x *exchange) ([]part, *refusal) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST, OPTIONS")
		return nil, refuse(http.StatusMethodNotAllowed, reasonMethod, "method not allowed")
	}
	token, to, bad := h.bearer(r)
	if bad != nil {
		return nil, bad
	}
	ct, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || ct != "multipart/form-data" || params["boundary"] == "" {
		return nil, refuse(http.StatusBadRequest, reasonMalformed, "the body must be multipart/form-data with a boundary")
	}
	limit := h.limits.Multipart + h.limits.Multipart/10
	body, bad := h.wire(w, r, x, limit)
	if bad != nil {
		return nil, bad
	}
	h.metrics.bytes.Add(float64(len(body)))
	enc, bad := encoding(r.Header.Get("Content-Encoding"), body)
	if bad != nil {
		return nil, bad
	}
	if body, bad = x.decode(enc, body, limit); bad != nil {
		return nil, bad
	}
	parts, bad := x.parts(body, params["boundary"], h.limits)
	if bad != nil {
		return nil, bad
	}
	e, bad := multipartEvent(parts, h.now)
	if bad != nil {
		return nil, bad
	}
	h.adopt(e, to, token)
	setIP(e, quotedIP(r))
	return parts, h.store(r.Context(), []*event.Event{e})
}

// parts reads the parts and checks that they are those that may be there.
func (x *exchange) parts(body []byte, boundary string, l Limits) ([]part, *refusal) {
	var parts []part
	var sum int64
	for mr := multipart.NewReader(bytes.NewReader(body), boundary); ; {
		p, err := mr.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, refuse(http.StatusBadRequest, reasonMalformed, "the multipart body is malformed, or ends too early")
		}
		name := p.FormName()
		switch {
		case len(parts) == 0 && name != "event":
			return nil, refuse(http.StatusBadRequest, reasonMalformed, "the first part must be named \"event\"")
		case len(parts) > 0 && name == "event":
			return nil, refuse(http.StatusBadRequest, reasonMalformed, "there is more than one part \"event\"")
		case name != "event" && name != "event.properties":
			return nil, refuse(http.StatusBadRequest, reasonMalformed, "a part is neither \"event\" nor \"event.properties\"")
		case slices.ContainsFunc(parts, func(q part) bool { return q.Name == name }):
			return nil, refuse(http.StatusBadRequest, reasonMalformed, "there is more than one part %q", name)
		}
		most := l.Multipart - sum
		if name == "event" {
			most = min(most, maxEventPart)
		}
		b, err := x.read(p, most, 0)
		switch {
		case errors.Is(err, errTooBig):
			return nil, tooLarge("the part \""+name+"\"", most)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, refuse(http.StatusBadRequest, reasonMalformed, "the multipart body ends too early")
		case err != nil:
			return nil, asRefusal(err)
		}
		q := part{Name: name, Length: len(b), Type: p.Header.Get("Content-Type"), Encoding: p.Header.Get("Content-Encoding")}
		sum += int64(len(b))
		enc, bad := encoding(q.Encoding, b)
		if bad != nil {
			return nil, bad
		}
		if q.body, bad = x.decode(enc, b, l.Multipart); bad != nil {
			return nil, bad
		}
		if bad = x.check(q.body); bad != nil {
			bad.message = "part \"" + name + "\": " + bad.message
			return nil, bad
		}
		if q.body = bytes.TrimSpace(q.body); q.body[0] != '{' {
			return nil, refuse(http.StatusBadRequest, reasonMalformed, "the part %q is not a JSON object", name)
		}
		parts = append(parts, q)
	}
	if len(parts) == 0 {
		return nil, refuse(http.StatusBadRequest, reasonMalformed, "the multipart body has no part \"event\"")
	}
	total := 0
	for _, q := range parts {
		total += len(q.body)
	}
	if total > l.EventBytes {
		return nil, tooLarge("the event", int64(l.EventBytes))
	}
	return parts, nil
}

func multipartEvent(parts []part, now func() time.Time) (*event.Event, *refusal) {
	in := newRawEvent(parts[0].body, 0)
	if len(parts) == 2 {
		if !isNull(in.properties) {
			return nil, refuse(http.StatusBadRequest, reasonMalformed, "the properties are in both parts")
		}
		in.properties = parts[1].body
	}
	if text(in.uuid) == "" {
		return nil, refuse(http.StatusBadRequest, reasonInvalid, "the event has no uuid")
	}
	m := moment{now: now().UTC()}
	for key, v := range members(in.raw) {
		if string(key) == "sent_at" && text(v) != "" {
			t, err := event.ParseTime(text(v))
			if err != nil {
				return nil, refuse(http.StatusBadRequest, reasonInvalid, "sent_at is not an ISO 8601 time")
			}
			m.sentAt = t
		}
	}
	if name := text(in.name); !slices.Contains(multipartEvents, name) {
		return nil, refuse(http.StatusBadRequest, reasonInvalid, "only $ai_generation, $ai_trace, $ai_span, $ai_embedding, $ai_metric and $ai_feedback are taken here")
	}
	model := json.RawMessage(nil)
	for key, v := range members(in.properties) {
		if string(key) == "$ai_model" {
			model = v
		}
	}
	if len(model) < 3 || model[0] != '"' {
		return nil, refuse(http.StatusBadRequest, reasonInvalid, "$ai_model is missing, empty, or not a string")
	}
	return in.build(m, false)
}
