package posthog

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/andybalholm/brotli"
	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

const (
	maxV1Wire = 10 << 20
	maxV1Body = 50 << 20
)

// result is the v1 result of one event.
type result struct {
	Result  string `json:"result"` // ok, warning, drop or retry
	Details string `json:"details,omitempty"`
}

// captureV1 serves /i/v1/analytics/events (contract section 1.6).
func (s *Server) captureV1(w http.ResponseWriter, r *http.Request, rec *Request, readErr error) {
	cors(w, r)
	h := w.Header()
	if id := r.Header.Get("PostHog-Request-Id"); id != "" {
		h.Set("PostHog-Request-Id", id)
	}
	h.Set("Date", s.o.Now().UTC().Format(http.TimeFormat))
	refuse := func(status int, tag, description string) {
		writeJSON(w, status, map[string]any{"error": tag, "error_description": description, "error_uri": "https://posthog.com/docs/api/capture"})
	}
	if r.Method != http.MethodPost {
		refuse(http.StatusMethodNotAllowed, "method_not_allowed", "use POST")
		return
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || checkToken(token) != nil {
		refuse(http.StatusUnauthorized, "missing_authorization", "a project token is needed as Bearer")
		return
	}
	if readErr == nil && len(rec.Body) > maxV1Wire {
		readErr = errTooBig
	}
	var body []byte
	if readErr == nil {
		body, readErr = decodeV1(r.Header.Get("Content-Encoding"), rec.Body)
	}
	switch {
	case errors.Is(readErr, errTooBig):
		refuse(http.StatusRequestEntityTooLarge, "payload_too_large", "the body is too large")
		return
	case errors.Is(readErr, errors.ErrUnsupported):
		refuse(http.StatusUnsupportedMediaType, "unsupported_content_type", "this content encoding is not supported")
		return
	case readErr != nil:
		refuse(http.StatusBadRequest, "request_parsing_error", "the body cannot be decoded")
		return
	}
	var in struct {
		CreatedAt string            `json:"created_at"`
		Batch     []json.RawMessage `json:"batch"`
	}
	if json.Unmarshal(body, &in) != nil || len(in.Batch) == 0 {
		refuse(http.StatusBadRequest, "request_parsing_error", "the body is not {created_at, batch}, or the batch is empty")
		return
	}
	if _, err := event.ParseTime(in.CreatedAt); err != nil {
		refuse(http.StatusBadRequest, "request_parsing_error", "created_at is missing or not a time")
		return
	}
	sentAt, _ := event.ParseTime(r.Header.Get("PostHog-Request-Timestamp"))
	results := make(map[string]result, len(in.Batch))
	var events []*Event
	for _, raw := range in.Batch {
		e, id, res := s.eventV1(raw, token, sentAt)
		if id == "" {
			refuse(http.StatusBadRequest, "request_parsing_error", "an event has no valid uuid")
			return
		}
		rec.UUIDs = append(rec.UUIDs, id)
		if results[id] = res; res.Result == "ok" {
			events = append(events, e)
		}
	}
	s.store(events)
	writeJSON(w, http.StatusOK, map[string]any{"results": results})
}

// eventV1 parses one event. id is "" if it has no valid uuid, which rejects the
// request.
func (s *Server) eventV1(raw json.RawMessage, token string, sentAt time.Time) (_ *Event, id string, _ result) {
	var in struct {
		Event      string                     `json:"event"`
		UUID       string                     `json:"uuid"`
		DistinctID string                     `json:"distinct_id"`
		Timestamp  string                     `json:"timestamp"`
		SessionID  *string                    `json:"session_id"`
		WindowID   *string                    `json:"window_id"`
		Options    map[string]json.RawMessage `json:"options"`
		Properties map[string]json.RawMessage `json:"properties"`
	}
	err := json.Unmarshal(raw, &in)
	u, uerr := uuid.Parse(in.UUID)
	if uerr != nil {
		return nil, "", result{}
	}
	id = u.String()
	if err != nil || in.Event == "" || in.DistinctID == "" || utf8.RuneCountInString(in.Event) > event.MaxNameLen || utf8.RuneCountInString(in.DistinctID) > maxDistinctIDLen {
		return nil, id, result{"drop", "invalid_event"}
	}
	now := s.o.Now().UTC()
	t, bad := stamp(in.Timestamp, nil, sentAt, rawjson.Text(in.Options["disable_skew_correction"]) == "true", now)
	if bad != nil || in.Timestamp == "" {
		return nil, id, result{"drop", "invalid_event"}
	}
	e := &Event{Token: token, UUID: id, Name: in.Event, DistinctID: in.DistinctID, Timestamp: t, SentTimestamp: in.Timestamp,
		Properties: in.Properties, Raw: raw, Route: v1Route, ReceivedAt: now}
	if e.Properties == nil {
		e.Properties = make(map[string]json.RawMessage)
	}
	for option, property := range map[string]string{"cookieless_mode": "$cookieless_mode", "disable_skew_correction": "$ignore_sent_at",
		"process_person_profile": "$process_person_profile", "product_tour_id": "$product_tour_id"} {
		if v, ok := in.Options[option]; ok {
			e.Properties[property] = v
		}
	}
	for property, v := range map[string]*string{"$session_id": in.SessionID, "$window_id": in.WindowID} {
		if v != nil {
			e.Properties[property], _ = json.Marshal(*v)
		}
	}
	s.mu.Lock()
	refuse, limited := s.refuse, s.limited(e.Name)
	s.mu.Unlock()
	switch {
	case strings.HasPrefix(e.Name, "$ai_") && len(raw) > MaxAIEvent:
		return nil, id, result{"drop", "ai_event_too_big"}
	case refuse != nil && refuse(*e) != "":
		return nil, id, result{"drop", "invalid_event"}
	case limited:
		s.mu.Lock()
		s.overQuota++
		s.mu.Unlock()
		return nil, id, result{"drop", "billing_limit_exceeded"}
	}
	return e, id, result{Result: "ok"}
}

// decodeV1 decompresses a body. The error is errors.ErrUnsupported for an
// unknown encoding.
func decodeV1(encoding string, b []byte) ([]byte, error) {
	var r io.Reader
	var err error
	switch in := bytes.NewReader(b); strings.ToLower(encoding) {
	case "", "identity":
		return b, nil
	case "gzip":
		r, err = gzip.NewReader(in)
	case "deflate": // zlib-wrapped
		r, err = zlib.NewReader(in)
	case "br":
		r = brotli.NewReader(in)
	case "zstd":
		d, zerr := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxV1Body))
		if zerr != nil {
			return nil, zerr
		}
		defer d.Close()
		r = d
	default:
		return nil, errors.ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	return readAll(r, maxV1Body)
}
