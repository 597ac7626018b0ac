package ingest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
	"github.com/hedgerow/hedgerow/server/internal/httpbody"
)

// futureCutoff is PostHog's: later timestamps indicate a wrong clock.
const futureCutoff = 23 * time.Hour

// rawEvent is an event object of a v0 or v1 body, split into members but not
// validated.
type rawEvent struct {
	raw        json.RawMessage
	index      int // in the batch
	name       json.RawMessage
	uuid       json.RawMessage
	distinctID json.RawMessage
	timestamp  json.RawMessage
	offset     json.RawMessage
	properties json.RawMessage
	set        json.RawMessage
	setOnce    json.RawMessage
	token      string // api_key, $token or token

	// v1 only
	sessionID json.RawMessage
	windowID  json.RawMessage
	options   json.RawMessage
}

func newRawEvent(raw json.RawMessage, index int) rawEvent {
	in := rawEvent{raw: raw, index: index}
	var apiKey, dollarToken, token json.RawMessage
	for key, v := range rawjson.Members(raw) {
		switch string(key) {
		case "event":
			in.name = v
		case "uuid":
			in.uuid = v
		case "distinct_id", "$distinct_id":
			in.distinctID = v
		case "timestamp":
			in.timestamp = v
		case "offset":
			in.offset = v
		case "properties":
			in.properties = v
		case "$set":
			in.set = v
		case "$set_once":
			in.setOnce = v
		case "api_key":
			apiKey = v
		case "$token":
			dollarToken = v
		case "token":
			token = v
		case "session_id":
			in.sessionID = v
		case "window_id":
			in.windowID = v
		case "options":
			in.options = v
		}
	}
	for _, v := range []json.RawMessage{apiKey, dollarToken, token} {
		if in.token = rawjson.Text(v); in.token != "" {
			break
		}
	}
	return in
}

// envelope is what the events of a request share.
type envelope struct {
	project    string
	now        time.Time
	sentAt     time.Time // by the client's clock; zero if missing
	historical bool      // historical_migration: timestamps are kept

	equal map[[sha256.Size]byte]int  // number of equal events without a uuid
	props map[string]json.RawMessage // reused for one LLM event's properties at a time
}

// id derives the uuid of an event without one, so that a repeated request gives the
// same: from the project, the event's bytes, and the client's timestamp of the event
// or batch. Equal events in one batch get different ones, by their position. An
// event without any client timestamp may be a distinct event that looks the same,
// such as a click: it gets a random uuid.
func (m *envelope) id(in *rawEvent) string {
	at := m.sentAt
	if t, err := event.ParseTime(rawjson.Text(in.timestamp)); err == nil {
		at = t
	}
	if at.IsZero() || at.UnixMilli() < 0 {
		return event.NewID()
	}
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s\x00%d\x00", m.project, at.UnixNano())
	_, _ = h.Write(in.raw)
	sum := [sha256.Size]byte(h.Sum(nil))
	if m.equal == nil {
		m.equal = make(map[[sha256.Size]byte]int)
	}
	n := m.equal[sum]
	m.equal[sum]++
	return event.DerivedID(fmt.Sprintf("%x %d", sum, n), at)
}

// stamp converts the event's time to hedgerow's clock (contract section 1.2).
// This happens once, on arrival, so that time spent in a queue does not count
// as clock skew. The result may be ahead of now: see settle.
func (m *envelope) stamp(timestamp, offset json.RawMessage, ignoreSentAt bool) (time.Time, *httpbody.Refusal) {
	t := m.now
	if s := rawjson.Text(timestamp); s != "" {
		var err error
		if timestamp[0] != '"' {
			return t, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonInvalid, "the timestamp is not a string: send it as 2026-01-31T12:00:00.000Z")
		}
		if t, err = event.ParseTime(s); err != nil {
			return t, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonInvalid, "the timestamp is not an ISO 8601 time: send it as 2026-01-31T12:00:00.000Z")
		}
		if !m.sentAt.IsZero() && !ignoreSentAt && !m.historical {
			t = t.Add(m.now.Sub(m.sentAt))
		}
	} else if ms, ok := integer(offset); ok && ms >= 0 && ms < 1<<42 {
		t = m.now.Add(-time.Duration(ms) * time.Millisecond)
	}
	return t.UTC(), nil
}

// settle finishes an event: a timestamp too far in the future becomes now, and is
// reported as out of range.
func (m *envelope) finish(e *event.Event) {
	if e.Timestamp.After(m.now.Add(futureCutoff)) {
		e.Timestamp = m.now
		e.OutOfRange("timestamp")
	}
}

func integer(v json.RawMessage) (n int64, ok bool) {
	return n, len(v) > 0 && json.Unmarshal(v, &n) == nil
}

// room returns an empty map for the properties of e. setProperties leaves few in it
// for LLM events, which therefore share one map per request.
func (m *envelope) room(e *event.Event) map[string]json.RawMessage {
	if !e.IsLLM() || m.props == nil {
		p := make(map[string]json.RawMessage, 24)
		if e.IsLLM() {
			m.props = p
		}
		return p
	}
	clear(m.props)
	return m.props
}

// propertyMap reads an event's properties into p, which is empty. Values point into
// the body.
func (in *rawEvent) propertyMap(p map[string]json.RawMessage) (map[string]json.RawMessage, *httpbody.Refusal) {
	if !isNull(in.properties) {
		if in.properties[0] != '{' {
			return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonInvalid, "\"properties\" is not an object")
		}
		for key, v := range rawjson.Members(in.properties) {
			p[keyText(key)] = v
		}
	}
	if in.set != nil && p["$set"] == nil {
		p["$set"] = in.set
	}
	if in.setOnce != nil && p["$set_once"] == nil {
		p["$set_once"] = in.setOnce
	}
	return p, nil
}

// build creates the event of a v0 request.
func (in *rawEvent) build(m *envelope, engage bool) (*event.Event, *httpbody.Refusal) {
	if in.raw[0] != '{' {
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonInvalid, "the event is not an object")
	}
	e := &event.Event{Source: event.SourceIngest, Historical: m.historical}
	if !isNull(in.name) && in.name[0] != '"' {
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonInvalid, "the event's name is not a string")
	}
	// Only v1 rejects long names. Here they are cut, as PostHog does.
	if e.Name = event.FirstChars(rawjson.Text(in.name), event.MaxNameLen); e.Name == "" && engage {
		e.Name = "$identify"
	}
	if e.Name == "" {
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonInvalid, "event submitted without an event name")
	}
	p, bad := in.propertyMap(m.room(e))
	if bad != nil {
		return nil, bad
	}
	if e.DistinctID = distinctID(in.distinctID); e.DistinctID == "" {
		e.DistinctID = distinctID(p["distinct_id"])
	}
	if e.DistinctID == "" {
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonInvalid, "event submitted without a distinct_id")
	}
	switch id, err := uuid.Parse(rawjson.Text(in.uuid)); {
	case rawjson.Text(in.uuid) == "":
		e.UUID = m.id(in)
	case err != nil || id == uuid.Nil:
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonInvalid, "the uuid is not a UUID: leave it out, or send one of version 7")
	default:
		e.UUID = id.String()
	}
	ignore, _ := truthy(p["$ignore_sent_at"])
	if e.Timestamp, bad = m.stamp(in.timestamp, in.offset, ignore); bad != nil {
		return nil, bad
	}
	setProperties(e, p)
	m.finish(e)
	return e, nil
}

// distinctID converts to a string, as PostHog does: 200 characters, no NUL.
func distinctID(v json.RawMessage) string {
	s := rawjson.Text(v)
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\ufffd")
	}
	return event.FirstChars(s, event.MaxDistinctIDLen)
}

// setProperties sets the event's fields from its properties. LLM properties become
// fields. Other events keep their properties unchanged; the few that people filter
// and group by are copied to fields where that does not alter them.
func setProperties(e *event.Event, p map[string]json.RawMessage) {
	e.MarkRawValid() // scan.go has been through the body
	if e.IsLLM() {
		e.SetWireProperties(p)
		e.Provider = event.ProviderName(e.Provider)
		// @mastra/posthog names a generation by $ai_generation_id only, which its children
		// name as their parent.
		if id := rawjson.Text(e.Properties["$ai_generation_id"]); e.SpanID == "" && e.IsCosted() {
			e.SpanID = event.CleanID(id)
		}
		readCompletion(e)
		readRawUsage(e)
		// The older name of the output: as a property it would outlive the content
		// retention.
		if v := e.Properties["$ai_output"]; !isNull(v) && e.Content.Output == nil && !e.Private {
			e.Content.Output = v
			delete(e.Properties, "$ai_output")
		}
		if len(e.Properties) > 0 { // p is reused
			left := make(map[string]json.RawMessage, len(e.Properties)) // a clone would be as large as p was
			maps.Copy(left, e.Properties)
			e.Properties = left
		}
		return
	}
	for _, f := range []struct {
		name string
		to   *string
	}{{"surface", &e.Surface}, {"environment", &e.Environment}, {"task_type", &e.TaskType},
		{"$ai_trace_id", &e.TraceID}, {"$ai_session_id", &e.SessionID}, {"$ai_prompt_name", &e.PromptName}} {
		if s, ok := word(p[f.name]); ok && (f.name[0] != '$' || event.CleanID(s) == s) {
			*f.to = s
			delete(p, f.name)
		}
	}
	if g, ok := words(p["$groups"]); ok {
		e.Groups = g
		delete(p, "$groups")
	}
	for name, v := range p {
		key, ok := strings.CutPrefix(name, "$feature/")
		if !ok || len(key) == 0 || len(key) > maxWord || len(e.Flags) == maxWords {
			continue
		}
		s, ok := word(v)
		if b := string(v); b == "true" || b == "false" {
			s, ok = b, true
		} else if s == "true" || s == "false" {
			ok = false // it would be sent as a boolean
		}
		if ok {
			if e.Flags == nil {
				e.Flags = make(map[string]string)
			}
			e.Flags[key] = s
			delete(p, name)
		}
	}
	if len(p) > 0 {
		e.Properties = p
	}
}

const (
	maxWord  = 100 // characters; enrich.Normalise cuts longer ones
	maxWords = 20
)

// word returns a JSON string's text if no later stage would change it: printable
// ASCII without escapes, trimmed and short.
func word(v json.RawMessage) (string, bool) {
	if len(v) < 3 || len(v) > maxWord+2 || v[0] != '"' || v[1] == ' ' || v[len(v)-2] == ' ' {
		return "", false
	}
	for _, c := range v[1 : len(v)-1] {
		if c < ' ' || c > '~' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return "", false
		}
	}
	return string(v[1 : len(v)-1]), true
}

// words returns an object whose values are words.
func words(v json.RawMessage) (map[string]string, bool) {
	if len(v) == 0 || v[0] != '{' {
		return nil, false
	}
	out := make(map[string]string)
	for key, item := range rawjson.Members(v) {
		s, ok := word(item)
		k, keyOK := word(slices.Concat([]byte{'"'}, key, []byte{'"'}))
		if !ok || !keyOK || len(out) == maxWords {
			return nil, false
		}
		out[k] = s
	}
	return out, len(out) > 0
}
