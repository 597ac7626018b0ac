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
	"github.com/hedgerow/hedgerow/internal/rawjson"
	"github.com/hedgerow/hedgerow/server/internal/httpbody"
)

// maxEventPart limits the part "event" of a multipart event, whose properties belong
// in their own part.
const maxEventPart = 32 << 10

// multipartEvents are the event names that PostHog accepts as multipart.
var multipartEvents = []string{event.Generation, event.Trace, event.Span, event.Embedding, event.Metric, event.Feedback}

// part is the response for one part.
type part struct {
	Name     string `json:"name"`
	Length   int    `json:"length"`
	Type     string `json:"content-type"`
	Encoding string `json:"content-encoding,omitempty"`

	body []byte
}

// serveMultipart serves /i/v0/ai (contract section 1.5).
func (h *Handler) serveMultipart(w http.ResponseWriter, r *http.Request) {
	x := exchange{h.Memory.Open(r.Context())}
	defer x.End()
	parts, bad := h.captureMultipart(w, r, x)
	if bad != nil {
		h.fail(w, bad)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"accepted_parts": parts})
}

func (h *Handler) captureMultipart(w http.ResponseWriter, r *http.Request, x exchange) ([]part, *httpbody.Refusal) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST, OPTIONS")
		return nil, httpbody.Refuse(http.StatusMethodNotAllowed, httpbody.ReasonMethod, "method not allowed")
	}
	token, to, bad := h.bearer(r)
	if bad != nil {
		return nil, bad
	}
	ct, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || ct != "multipart/form-data" || params["boundary"] == "" {
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "the body must be multipart/form-data with a boundary")
	}
	limit := h.limits.Multipart + h.limits.Multipart/10
	raw, bad := x.Receive(w, r, limit, h.limits.Timeout)
	if bad != nil {
		return nil, bad
	}
	h.bytes.Add(float64(len(raw)))
	enc, bad := httpbody.Encoding(r.Header.Get("Content-Encoding"), raw, false)
	if bad != nil {
		return nil, bad
	}
	if raw, bad = x.Decode(enc, raw, limit); bad != nil {
		return nil, bad
	}
	parts, bad := x.parts(raw, params["boundary"], h.limits)
	if bad != nil {
		return nil, bad
	}
	e, bad := multipartEvent(parts, h.Now)
	if bad != nil {
		return nil, bad
	}
	h.adopt(e, to, token)
	setIP(e, quotedIP(r))
	return parts, h.Store(r.Context(), []*event.Event{e})
}

// parts reads the parts and checks that they are allowed.
func (x exchange) parts(raw []byte, boundary string, l Limits) ([]part, *httpbody.Refusal) {
	var parts []part
	var sum int64
	for mr := multipart.NewReader(bytes.NewReader(raw), boundary); ; {
		p, err := mr.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "the multipart body is malformed, or ends too early")
		}
		name := p.FormName()
		switch {
		case len(parts) == 0 && name != "event":
			return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "the first part must be named \"event\"")
		case len(parts) > 0 && name == "event":
			return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "there is more than one part \"event\"")
		case name != "event" && name != "event.properties":
			return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "a part is neither \"event\" nor \"event.properties\"")
		case slices.ContainsFunc(parts, func(q part) bool { return q.Name == name }):
			return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "there is more than one part %q", name)
		}
		most := l.Multipart - sum
		if name == "event" {
			most = min(most, maxEventPart)
		}
		b, err := x.Read(p, most, 0)
		switch {
		case errors.Is(err, httpbody.ErrTooBig):
			return nil, httpbody.TooLarge("the part \""+name+"\"", most)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "the multipart body ends too early")
		case err != nil:
			return nil, httpbody.AsRefusal(err)
		}
		q := part{Name: name, Length: len(b), Type: p.Header.Get("Content-Type"), Encoding: p.Header.Get("Content-Encoding")}
		sum += int64(len(b))
		enc, bad := httpbody.Encoding(q.Encoding, b, false)
		if bad != nil {
			return nil, bad
		}
		if q.body, bad = x.Decode(enc, b, l.Multipart); bad != nil {
			return nil, bad
		}
		if bad = x.check(q.body); bad != nil {
			bad.Message = "part \"" + name + "\": " + bad.Message
			return nil, bad
		}
		if q.body = bytes.TrimSpace(q.body); q.body[0] != '{' {
			return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "the part %q is not a JSON object", name)
		}
		parts = append(parts, q)
	}
	if len(parts) == 0 {
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "the multipart body has no part \"event\"")
	}
	total := 0
	for _, q := range parts {
		total += len(q.body)
	}
	if total > l.EventBytes {
		return nil, httpbody.TooLarge("the event", int64(l.EventBytes))
	}
	return parts, nil
}

func multipartEvent(parts []part, now func() time.Time) (*event.Event, *httpbody.Refusal) {
	in := newRawEvent(parts[0].body, 0)
	if len(parts) == 2 {
		if !isNull(in.properties) {
			return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "the properties are in both parts")
		}
		in.properties = parts[1].body
	}
	if rawjson.Text(in.uuid) == "" {
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonInvalid, "the event has no uuid")
	}
	m := &envelope{now: now().UTC()}
	for key, v := range rawjson.Members(in.raw) {
		if string(key) == "sent_at" && rawjson.Text(v) != "" {
			t, err := event.ParseTime(rawjson.Text(v))
			if err != nil {
				return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonInvalid, "sent_at is not an ISO 8601 time")
			}
			m.sentAt = t
		}
	}
	if name := rawjson.Text(in.name); !slices.Contains(multipartEvents, name) {
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonInvalid, "only $ai_generation, $ai_trace, $ai_span, $ai_embedding, $ai_metric and $ai_feedback are accepted here")
	}
	model := json.RawMessage(nil)
	for key, v := range rawjson.Members(in.properties) {
		if string(key) == "$ai_model" {
			model = v
		}
	}
	if len(model) < 3 || model[0] != '"' {
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonInvalid, "$ai_model is missing, empty, or not a string")
	}
	return in.build(m, false)
}
