package ingest

import (
	"encoding/json"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
	"github.com/hedgerow/hedgerow/server/internal/httpbody"
)

// resultV1 is the result of one event in v1.
type resultV1 struct {
	Result  string `json:"result"` // ok, warning (accepted without out-of-range numbers) or drop; retry applies to the whole request
	Details string `json:"details,omitempty"`
}

// optionsV1 are the options of a v1 event and their former property names.
var optionsV1 = map[string]string{
	"cookieless_mode":         "$cookieless_mode",
	"disable_skew_correction": "$ignore_sent_at",
	"process_person_profile":  "$process_person_profile",
	"product_tour_id":         "$product_tour_id",
}

// errorsV1 are the error codes of v1's error bodies, by status.
var errorsV1 = map[int]string{
	http.StatusBadRequest:            "request_parsing_error",
	http.StatusUnauthorized:          "missing_authorization",
	http.StatusForbidden:             "permission_denied",
	http.StatusMethodNotAllowed:      "method_not_allowed",
	http.StatusRequestTimeout:        "body_read_timeout",
	http.StatusRequestEntityTooLarge: "payload_too_large",
	http.StatusUnsupportedMediaType:  "unsupported_content_type",
	http.StatusServiceUnavailable:    "service_unavailable",
	http.StatusInternalServerError:   "internal_error",
}

// serveV1 serves /i/v1/analytics/events (contract section 1.6).
func (h *Handler) serveV1(w http.ResponseWriter, r *http.Request) {
	if id := r.Header.Get("PostHog-Request-Id"); id != "" && len(id) <= 64 {
		w.Header().Set("PostHog-Request-Id", id)
	}
	w.Header().Set("Date", h.Now().UTC().Format(http.TimeFormat))
	x := exchange{h.Memory.Open(r.Context())}
	defer x.End()
	results, bad := h.captureV1(w, r, x)
	if bad == nil {
		writeJSON(w, http.StatusOK, map[string]any{"results": results})
		return
	}
	h.Refuse(w.Header(), bad)
	tag := errorsV1[bad.Status]
	if tag == "" {
		tag = errorsV1[http.StatusBadRequest]
	}
	writeJSON(w, bad.Status, map[string]string{"error": tag, "error_description": bad.Message, "error_uri": "https://posthog.com/docs/api/capture"})
}

func (h *Handler) captureV1(w http.ResponseWriter, r *http.Request, x exchange) (map[string]resultV1, *httpbody.Refusal) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST, OPTIONS")
		return nil, httpbody.Refuse(http.StatusMethodNotAllowed, httpbody.ReasonMethod, "use POST")
	}
	token, to, bad := h.bearer(r)
	if bad != nil {
		return nil, bad
	}
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if media, _, err := mime.ParseMediaType(ct); err != nil || media != "application/json" {
			return nil, httpbody.Refuse(http.StatusUnsupportedMediaType, httpbody.ReasonUnsupported, "unsupported content type: send application/json")
		}
	}
	raw, bad := x.Receive(w, r, h.limits.BodyV1, h.limits.Timeout)
	if bad != nil {
		return nil, bad
	}
	h.bytes.Add(float64(len(raw)))
	enc, bad := httpbody.Encoding(r.Header.Get("Content-Encoding"), raw, false)
	if bad != nil {
		return nil, bad
	}
	if raw, bad = x.Decode(enc, raw, h.limits.Decoded); bad != nil {
		return nil, bad
	}
	if bad = x.check(raw); bad != nil {
		return nil, bad
	}
	var createdAt, batch json.RawMessage
	historical := false
	for key, v := range rawjson.Members(raw) {
		switch string(key) {
		case "created_at":
			createdAt = v
		case "batch":
			batch = v
		case "historical_migration":
			historical, _ = truthy(v)
		}
	}
	if isNull(batch) || batch[0] != '[' {
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "the body is not {\"created_at\":…,\"batch\":[…]}")
	}
	if _, err := event.ParseTime(rawjson.Text(createdAt)); err != nil {
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "created_at is missing, or not an RFC 3339 time")
	}
	in, bad := split(batch, h.limits)
	if bad != nil {
		return nil, bad
	}
	m := &envelope{project: to.project, now: h.Now().UTC(), historical: historical}
	if s := r.Header.Get("PostHog-Request-Timestamp"); s != "" {
		if t, err := event.ParseTime(s); err == nil {
			m.sentAt = t
		}
	}
	ip, lib := quotedIP(r), sdkInfo(r.Header.Get("PostHog-Sdk-Info"))
	results := make(map[string]resultV1, len(in))
	events := make([]*event.Event, 0, len(in))
	drop := func(id, details string, why *httpbody.Refusal) {
		results[id] = resultV1{"drop", details}
		h.rejected.WithLabelValues(why.Reason).Inc()
		h.Warnings.Warn("event "+why.Reason, "ingest: event rejected", "route", "/i/v1/analytics/events", "project", to.project, "uuid", id, "err", why.Message)
	}
	for i := range in {
		e, id, bad := in[i].buildV1(m)
		switch {
		case bad != nil && id == "":
			return nil, bad // an event that the response cannot name
		case bad != nil:
			drop(id, "invalid_event", bad)
		case len(in[i].raw) > h.limits.EventBytes:
			drop(id, "ai_event_too_big", httpbody.TooLarge("the event", int64(h.limits.EventBytes)))
		default:
			h.adopt(e, to, token)
			setIP(e, ip)
			lib.set(e)
			events = append(events, e)
			results[id] = resultV1{Result: "ok"}
		}
	}
	refused, bad := h.StoreEach(r.Context(), events)
	if bad != nil {
		return nil, bad
	}
	for i, e := range events {
		if why := refused[i]; why != nil {
			drop(e.UUID, "invalid_event", why)
		} else if cachedResponse := e.Warned(); len(cachedResponse) > 0 {
			results[e.UUID] = resultV1{"warning", strings.Join(cachedResponse, "; ")}
		}
	}
	return results, nil
}

// bearer resolves the token in the Authorization header.
func (h *Handler) bearer(r *http.Request) (string, target, *httpbody.Refusal) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", target{}, httpbody.Refuse(http.StatusUnauthorized, httpbody.ReasonToken, "send hedgerow's project token as Authorization: Bearer phc_hedgerow_…")
	}
	to, bad := h.resolve(token)
	return token, to, bad
}

// buildV1 creates the event of a v1 batch. id identifies it in the response:
// its uuid, or what was sent as one. A missing uuid is generated.
func (in *rawEvent) buildV1(m *envelope) (e *event.Event, id string, bad *httpbody.Refusal) {
	if in.raw[0] != '{' {
		return nil, "", httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "event %d is not an object", in.index)
	}
	id = rawjson.Text(in.uuid)
	switch u, err := uuid.Parse(id); {
	case id == "":
		id = m.id(in)
	case err != nil || u == uuid.Nil:
		if len(id) > 64 {
			return nil, "", httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "the uuid of event %d is not a UUID", in.index)
		}
		return nil, id, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonInvalid, "the uuid is not a UUID")
	default:
		id = u.String()
	}
	isString := func(v json.RawMessage) bool { return len(v) > 2 && v[0] == '"' }
	invalid := func(what string) (*event.Event, string, *httpbody.Refusal) {
		return nil, id, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonInvalid, "%s", what)
	}
	e = &event.Event{UUID: id, Source: event.SourceIngest, Historical: m.historical, Name: rawjson.Text(in.name), DistinctID: rawjson.Text(in.distinctID)}
	switch {
	case !isString(in.name) || utf8.RuneCountInString(e.Name) > event.MaxNameLen:
		return invalid("the event's name is missing, not a string, or longer than 200 characters")
	case !isString(in.distinctID) || utf8.RuneCountInString(e.DistinctID) > event.MaxDistinctIDLen:
		return invalid("the distinct_id is missing, not a string, or longer than 200 characters")
	case !isString(in.timestamp):
		return invalid("the timestamp is missing")
	case !isNull(in.options) && in.options[0] != '{':
		return invalid("\"options\" is not an object")
	}
	e.DistinctID = distinctID(in.distinctID)
	p, bad := in.propertyMap(m.room(e))
	if bad != nil {
		return nil, id, bad
	}
	ignore := false
	for key, v := range rawjson.Members(in.options) {
		property, known := optionsV1[string(key)]
		if !known || isNull(v) {
			continue
		}
		if property != "$product_tour_id" {
			yes, ok := truthy(v)
			if !ok {
				continue // as in PostHog: non-booleans are omitted
			}
			if v = json.RawMessage("false"); yes {
				v = json.RawMessage("true")
			}
			ignore = ignore || yes && property == "$ignore_sent_at"
		} else if v[0] != '"' {
			continue
		}
		p[property] = v
	}
	if isString(in.sessionID) {
		p["$session_id"] = in.sessionID
	}
	if isString(in.windowID) {
		p["$window_id"] = in.windowID
	}
	if e.Timestamp, bad = m.stamp(in.timestamp, nil, ignore); bad != nil {
		return nil, id, bad
	}
	setProperties(e, p)
	m.finish(e)
	return e, id, nil
}

// sdk is the SDK's name and version, which v1 clients send in a header and v0
// clients in every event.
type sdk struct{ name, version json.RawMessage }

func sdkInfo(header string) (s sdk) {
	name, version, _ := strings.Cut(header, "/")
	if n, err := json.Marshal(name); err == nil && name != "" && len(name) <= 100 {
		s.name = n
	}
	if v, err := json.Marshal(version); err == nil && version != "" && len(version) <= 100 {
		s.version = v
	}
	return s
}

func (s sdk) set(e *event.Event) {
	if s.name == nil || e.Properties["$lib"] != nil {
		return
	}
	if e.Properties == nil {
		e.Properties = make(map[string]json.RawMessage, 2)
	}
	e.Properties["$lib"] = s.name
	if s.version != nil {
		e.Properties["$lib_version"] = s.version
	}
}
