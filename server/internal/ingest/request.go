package ingest

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
	"github.com/hedgerow/hedgerow/server/internal/httpbody"
)

// request is a parsed v0 body, not yet validated.
type request struct {
	token  string // of the batch
	sentAt time.Time
	events []rawEvent

	historical bool // historical_migration
}

// parse reads the forms that PostHog accepts: an array of events, a batch object,
// one event, and the {"data": …} wrapper of some SDKs.
func (x exchange) parse(p payload, l Limits, engage bool) (*request, *httpbody.Refusal) {
	if bad := x.check(p.json); bad != nil {
		return nil, bad
	}
	r := &request{sentAt: p.sentAt}
	if p.json[0] == '[' {
		return r, r.take(p.json, l)
	}
	if p.json[0] != '{' {
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "failed to parse request: neither an object nor an array")
	}
	var apiKey, token, sentAt, batch, data, name json.RawMessage
	for key, v := range rawjson.Members(p.json) {
		switch string(key) {
		case "api_key":
			apiKey = v
		case "token":
			token = v
		case "sent_at":
			sentAt = v
		case "batch":
			batch = v
		case "data":
			data = v
		case "event":
			name = v
		case "historical_migration":
			r.historical, _ = truthy(v)
		}
	}
	if r.token = rawjson.Text(apiKey); r.token == "" {
		r.token = rawjson.Text(token)
	}
	if s := rawjson.Text(sentAt); s != "" {
		t, err := event.ParseTime(s)
		if err != nil {
			return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "failed to parse request: sent_at is not an ISO 8601 time")
		}
		r.sentAt = t
	}
	var bad *httpbody.Refusal
	switch {
	case !isNull(batch):
		bad = r.take(batch, l)
	case !isNull(name) || engage && isNull(data):
		r.events = []rawEvent{newRawEvent(p.json, 0)}
	case !isNull(data):
		bad = r.take(data, l)
	default:
		bad = httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "request is missing events: send one event, an array of events, or {\"api_key\":…,\"batch\":[…]}")
	}
	return r, bad
}

func (r *request) take(array json.RawMessage, l Limits) *httpbody.Refusal {
	if array[0] != '[' {
		return httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "failed to parse request: the events are not an array")
	}
	var bad *httpbody.Refusal
	r.events, bad = split(array, l)
	return bad
}

// split finds the events of a batch.
func split(array json.RawMessage, l Limits) ([]rawEvent, *httpbody.Refusal) {
	var events []rawEvent
	for raw := range rawjson.Elements(array) {
		if len(events) == l.Events {
			return nil, httpbody.Refuse(http.StatusRequestEntityTooLarge, httpbody.ReasonTooLarge, "maximum event size exceeded: at most %d events in one request are accepted", l.Events)
		}
		if events == nil {
			events = make([]rawEvent, 0, min(l.Events, 1+len(array)/len(raw))) // estimated from the first
		}
		events = append(events, newRawEvent(raw, len(events)))
	}
	if len(events) == 0 {
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "request is missing events: the batch is empty")
	}
	return events, nil
}

// perMember is the memory of a decoded object member, in addition to its bytes.
const perMember = 96

// check validates a body and reserves the memory for decoding it.
func (x exchange) check(b []byte) *httpbody.Refusal {
	n, err := check(b)
	if err != nil {
		return httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "failed to parse request: %v", err)
	}
	return x.Take(int64(n) * perMember)
}
