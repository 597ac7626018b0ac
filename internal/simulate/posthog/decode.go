package posthog

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Limits of the capture service (contract section 1.4).
const (
	MaxBody          = 20 << 20  // bytes of a v0 body, on the wire and decompressed
	MaxAIEvent       = 8 << 20   // bytes of an event on the AI route
	MaxAIEventBatch  = 983_040   // bytes of an $ai_ event on any other v0 route
	MaxAnalytics     = 1_000_000 // bytes of any other event
	futureCutoff     = 23 * time.Hour
	maxTokenLen      = 64
	maxDistinctIDLen = 200
)

// failure is a rejection: a status code and, on v0 routes, a plain text body.
type failure struct {
	status  int
	message string
}

func (f *failure) Error() string { return f.message }

func bad(format string, args ...any) *failure {
	return &failure{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

var errTooBig = errors.New("too big")

// payload finds the JSON in a v0 request, in the order of contract section 1.2:
// the query's data, or the body; a form's data field; base64; gzip by its magic
// number whatever the hints are. sentAt is the query's "_", in milliseconds.
func payload(q url.Values, contentType string, body []byte) (p []byte, sentAt time.Time, err *failure) {
	hint := q.Get("compression")
	if ms, err := strconv.ParseInt(q.Get("_"), 10, 64); err == nil {
		// Seconds would parse to a year before 2020 and are ignored.
		if t := time.UnixMilli(ms); t.Year() > 2020 && t.Year() < 10000 {
			sentAt = t.UTC()
		}
	}
	p = body
	if data := q.Get("data"); data != "" {
		p = []byte(spacesToPlus(data))
	} else if ct, _, _ := mime.ParseMediaType(contentType); ct == "application/x-www-form-urlencoded" && !isGzip(p) {
		form, ferr := url.ParseQuery(string(p))
		if ferr != nil || form.Get("data") == "" {
			return nil, sentAt, bad("failed to decode form data")
		}
		p = []byte(spacesToPlus(form.Get("data")))
		if h := form.Get("compression"); h != "" {
			hint = h
		}
	}
	if len(bytes.TrimSpace(p)) == 0 {
		return nil, sentAt, bad("no event submitted")
	}
	if h := strings.ToLower(hint); h == "lz64" || h == "lz-string" {
		return nil, sentAt, bad("this PostHog does not support lz-string")
	}
	if b, ok := strictBase64(p); ok {
		p = b
	}
	if isGzip(p) {
		if p, err = gunzip(p, MaxBody); err != nil {
			return nil, sentAt, err
		}
	}
	return p, sentAt, nil
}

func isGzip(b []byte) bool { return len(b) > 1 && b[0] == 0x1f && b[1] == 0x8b }

func gunzip(b []byte, limit int64) ([]byte, *failure) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, bad("failed to decode gzip data")
	}
	b, err = readAll(z, limit)
	switch {
	case errors.Is(err, errTooBig):
		return nil, &failure{http.StatusRequestEntityTooLarge, "maximum event size exceeded: decompressed body"}
	case err != nil:
		return nil, bad("failed to decode gzip data")
	}
	return b, nil
}

// readAll reads up to limit bytes; more is errTooBig.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, errTooBig
	}
	return b, err
}

// spacesToPlus restores plus signs in base64 that form decoding replaced by
// spaces.
func spacesToPlus(s string) string {
	if plus := strings.ReplaceAll(s, " ", "+"); plus != s {
		if _, ok := strictBase64([]byte(plus)); ok {
			return plus
		}
	}
	return s
}

// strictBase64 decodes p if all of it is base64, padding included.
func strictBase64(p []byte) ([]byte, bool) {
	p = bytes.TrimSpace(p)
	if len(p) < 4 || len(p)%4 != 0 {
		return nil, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(string(p))
	return b, err == nil
}

// request is a parsed v0 body, not yet validated.
type request struct {
	token  string // of the batch
	sentAt time.Time
	events []json.RawMessage

	historical bool
}

// parse parses the JSON shapes that capture accepts: an array of events, a
// batch object, one event, and the {"data": …} wrapper of some SDKs.
func parse(p []byte) (*request, *failure) {
	p = bytes.TrimSpace(p)
	if len(p) == 0 {
		return nil, bad("no event submitted")
	}
	if !utf8.Valid(p) {
		return nil, bad("failed to parse request: invalid unicode")
	}
	r := new(request)
	if p[0] == '[' {
		if json.Unmarshal(p, &r.events) != nil {
			return nil, bad("failed to parse request: malformed JSON array")
		}
		return r.check()
	}
	var o struct {
		APIKey json.RawMessage   `json:"api_key"`
		Token  json.RawMessage   `json:"token"`
		SentAt string            `json:"sent_at"`
		Batch  []json.RawMessage `json:"batch"`
		Data   []json.RawMessage `json:"data"`
		Event  json.RawMessage   `json:"event"`

		Historical bool `json:"historical_migration"`
	}
	if err := json.Unmarshal(p, &o); err != nil {
		return nil, bad("failed to parse request: malformed JSON object")
	}
	r.historical = o.Historical
	if r.token = rawjson.Text(o.APIKey); r.token == "" {
		r.token = rawjson.Text(o.Token)
	}
	if o.SentAt != "" {
		t, err := event.ParseTime(o.SentAt)
		if err != nil {
			return nil, bad("failed to parse request: bad sent_at")
		}
		r.sentAt = t
	}
	switch {
	case o.Batch != nil:
		r.events = o.Batch
	case o.Event != nil:
		r.events = []json.RawMessage{p}
	case o.Data != nil:
		r.events = o.Data
	}
	return r.check()
}

func (r *request) check() (*request, *failure) {
	if len(r.events) == 0 {
		return nil, bad("request is missing events")
	}
	return r, nil
}

// event parses one event of a v0 body. sentAt and now are for the clock-skew
// correction of contract section 1.2.
func (r *request) event(raw json.RawMessage, now time.Time) (*Event, *failure) {
	var in struct {
		Event      *string                    `json:"event"`
		UUID       *string                    `json:"uuid"`
		DistinctID json.RawMessage            `json:"distinct_id"`
		Timestamp  string                     `json:"timestamp"`
		Offset     *int64                     `json:"offset"`
		Properties map[string]json.RawMessage `json:"properties"`
		Set        json.RawMessage            `json:"$set"`
		SetOnce    json.RawMessage            `json:"$set_once"`
		APIKey     json.RawMessage            `json:"api_key"`
		DToken     json.RawMessage            `json:"$token"`
		Token      json.RawMessage            `json:"token"`
	}
	if json.Unmarshal(raw, &in) != nil {
		return nil, bad("failed to parse request: an event is not an object of the expected form")
	}
	if in.Event == nil || *in.Event == "" {
		return nil, bad("event submitted without an event name")
	}
	e := &Event{Name: *in.Event, SentTimestamp: in.Timestamp, Historical: r.historical, Raw: raw, Properties: in.Properties, ReceivedAt: now}
	if e.Properties == nil {
		e.Properties = make(map[string]json.RawMessage)
	}
	for name, v := range map[string]json.RawMessage{"$set": in.Set, "$set_once": in.SetOnce} {
		if v != nil && !e.Has(name) {
			e.Properties[name] = v
		}
	}
	id := in.DistinctID
	if rawjson.Text(id) == "" {
		id = e.Properties["distinct_id"]
	}
	if e.DistinctID = CleanDistinctID(id); e.DistinctID == "" {
		return nil, bad("event submitted without a distinct_id")
	}
	for _, v := range []json.RawMessage{in.APIKey, in.DToken, in.Token, e.Properties["token"]} {
		if e.Token = rawjson.Text(v); e.Token != "" {
			break
		}
	}
	var err *failure
	if e.UUID, err = readUUID(in.UUID); err != nil {
		return nil, err
	}
	ignore := e.Text("$ignore_sent_at") == "true"
	e.Timestamp, err = stamp(in.Timestamp, in.Offset, r.sentAt, ignore, now)
	return e, err
}

// CleanDistinctID returns a distinct id as PostHog stores it: text of at most
// 200 characters, with NUL replaced.
func CleanDistinctID(v json.RawMessage) string {
	s := strings.ReplaceAll(rawjson.Text(v), "\x00", "\ufffd")
	if utf8.RuneCountInString(s) > maxDistinctIDLen {
		s = string([]rune(s)[:maxDistinctIDLen])
	}
	return s
}

func readUUID(s *string) (string, *failure) {
	if s == nil || *s == "" {
		return event.NewID(), nil
	}
	u, err := uuid.Parse(*s)
	if err != nil {
		return "", bad("failed to parse request: UUID parsing failed")
	}
	return u.String(), nil
}

// stamp returns the time under which an event is stored.
func stamp(timestamp string, offset *int64, sentAt time.Time, ignoreSentAt bool, now time.Time) (time.Time, *failure) {
	t := now
	if timestamp != "" {
		var err error
		if t, err = event.ParseTime(timestamp); err != nil {
			return t, bad("failed to parse request: bad timestamp")
		}
		if !sentAt.IsZero() && !ignoreSentAt {
			t = t.Add(now.Sub(sentAt))
		}
	} else if offset != nil && *offset >= 0 && *offset < 1<<50 {
		t = now.Add(-time.Duration(*offset) * time.Millisecond)
	}
	if t.After(now.Add(futureCutoff)) {
		t = now
	}
	return t.UTC(), nil
}

// checkToken validates a token by its form only, as capture does.
func checkToken(token string) *failure {
	refuse := func(why string) *failure { return &failure{http.StatusUnauthorized, why} }
	switch {
	case token == "":
		return refuse("event submitted without an api_key")
	case len(token) > maxTokenLen:
		return refuse("API key is not valid: too_long")
	case strings.HasPrefix(token, "phx_"):
		return refuse("API key is not valid: personal_api_key")
	}
	for _, c := range []byte(token) {
		if c == 0 || c > 126 {
			return refuse("API key is not valid: not_ascii")
		}
	}
	return nil
}
