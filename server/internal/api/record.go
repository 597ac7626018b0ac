package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
)

// Appender appends events durably: enrich before the journal.
type Appender interface {
	// Append stores the events. It returns nil only when all are stored. It may
	// change them.
	Append(ctx context.Context, events ...*event.Event) error
}

// source is the [event.Event.Source] of events that come through this endpoint.
const source = "api"

// maxEvents bounds the events of one request.
const maxEvents = 1000

// EventInput is a product event or an outcome: prompt_shared, llm_output_rated,
// llm_task_completed, or any name of the caller's own.
type EventInput struct {
	Event           string                     `json:"event"`
	UUID            string                     `json:"uuid"`
	Timestamp       string                     `json:"timestamp"`
	DistinctID      string                     `json:"distinct_id"`
	TraceID         string                     `json:"trace_id"`
	SessionID       string                     `json:"session_id"`
	Surface         string                     `json:"surface"`
	Environment     string                     `json:"environment"`
	TaskType        string                     `json:"task_type"`
	PromptName      string                     `json:"prompt_name"`
	PromptVersion   string                     `json:"prompt_version"`
	PromptVersionID string                     `json:"prompt_version_id"`
	Tags            []string                   `json:"tags"`
	Properties      map[string]json.RawMessage `json:"properties"`
}

// recordEvents takes one event or a list. A 2xx means that the journal has all
// of them; after any other answer some may be there, and sending the same uuids
// again counts none twice.
func (a *API) recordEvents(r *http.Request, p Principal) (any, error) {
	if a.c.Append == nil {
		return nil, errNoServer()
	}
	inputs, err := readList[EventInput](r, `{"event":"prompt_shared","distinct_id":"user_1","properties":{…}}`)
	if err != nil {
		return nil, err
	}
	now := a.now().UTC()
	events := make([]*event.Event, len(inputs))
	for i := range inputs {
		e, err := inputs[i].event(now)
		if err != nil {
			return nil, atIndex(err, i, len(inputs))
		}
		e.ProjectID = p.ProjectID
		if e.AdoptLabels(); e.TakesSurface() {
			e.Surface = p.Surface
		}
		events[i] = e
	}
	return a.store(r.Context(), events)
}

func errNoServer() error {
	return event.NewError(event.CodeUnavailable, "no server is running on this data folder: events are not accepted", "start hedgerow serve and send the event again", nil)
}

// store appends events and returns the uuids they are stored under.
func (a *API) store(ctx context.Context, events []*event.Event) (any, error) {
	if err := a.c.Append.Append(ctx, events...); err != nil {
		return nil, err
	}
	uuids := make([]string, len(events))
	warnings := make(map[string][]string)
	for i, e := range events {
		uuids[i] = e.UUID
		if said := e.Warned(); len(said) > 0 {
			warnings[e.UUID] = said
		}
	}
	out := map[string]any{"accepted": len(events), "uuids": uuids}
	if len(warnings) > 0 {
		out["warnings"] = warnings
	}
	return out, nil
}

// readList reads one object, or a list of them, strictly. example is one, for
// the hints.
func readList[T any](r *http.Request, example string) ([]T, error) {
	var body json.RawMessage
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if body[0] != '[' {
		in, err := readOne[T](body, example)
		return []T{in}, err
	}
	var list []json.RawMessage
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, event.NewError(event.CodeInvalid, "the list of events cannot be read", "send a JSON list of objects", err)
	}
	switch {
	case len(list) == 0:
		return nil, event.Invalid("the list has no events", "send at least one, such as "+example)
	case len(list) > maxEvents:
		return nil, event.NewError(event.CodeTooLarge, fmt.Sprintf("the list has %d events, more than %d", len(list), maxEvents), "send fewer at a time", nil)
	}
	out := make([]T, len(list))
	for i, item := range list {
		in, err := readOne[T](item, example)
		if err != nil {
			return nil, atIndex(err, i, len(list))
		}
		out[i] = in
	}
	return out, nil
}

func readOne[T any](b json.RawMessage, example string) (in T, err error) {
	if len(b) == 0 || b[0] != '{' {
		return in, event.Invalid("the event is not an object", "send "+example)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err = dec.Decode(&in)
	var typ *json.UnmarshalTypeError
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return in, nil
	case errors.As(err, &typ) && typ.Field != "":
		return in, event.Invalid(fmt.Sprintf("%q is a JSON %s, not %s", typ.Field, kind(typ.Value), want(typ.Field)), "GET /api/v1/openapi.json describes the fields")
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		return in, event.Invalid("an event has no field "+short(strings.TrimPrefix(err.Error(), "json: unknown field ")), `put your own values into "properties"`)
	}
	return in, event.NewError(event.CodeInvalid, "the event cannot be read", "see GET /api/v1/openapi.json", err)
}

// kind is the word for a JSON value's type, without the value that encoding/json
// appends to numbers.
func kind(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}

func want(field string) string {
	switch field {
	case "properties":
		return "an object"
	case "tags":
		return "a list of strings"
	case "eval_score":
		return "a number"
	case "eval_passed", "accepted_output", "edited_output":
		return "true or false"
	}
	return "a string"
}

// event makes the event, or says what is wrong with it.
func (in *EventInput) event(now time.Time) (*event.Event, error) {
	e := &event.Event{Name: strings.TrimSpace(in.Event), DistinctID: strings.TrimSpace(in.DistinctID), Timestamp: now, Source: source}
	switch {
	case e.Name == "":
		return nil, event.Invalid("the event has no name", `set "event", such as "prompt_shared"`)
	case strings.HasPrefix(e.Name, "$"):
		return nil, event.Invalid("the name "+short(quoted(e.Name))+" is PostHog's own", "name product events without $; send calls through the gateway, the capture routes (/batch/) or OpenTelemetry")
	case e.DistinctID == "" && e.Name == event.FirstValue:
		return nil, event.Invalid(event.FirstValue+" names no user", `set "distinct_id": it is counted once for each user`)
	case e.DistinctID == "" && strings.TrimSpace(in.TraceID) == "" && len(in.Properties["trace_id"]) == 0:
		return nil, event.Invalid("the event names neither a user nor a trace", `set "distinct_id", or "trace_id" for an outcome of a call`)
	case utf8.RuneCountInString(e.Name) > event.MaxNameLen:
		return nil, event.Invalid("the event's name is longer than 200 characters", "use a short fixed name and put details into properties")
	case utf8.RuneCountInString(e.DistinctID) > event.MaxDistinctIDLen:
		return nil, event.Invalid("the distinct id is longer than 200 characters", "use a stable short id, or a hash of the long one")
	}
	switch id, err := uuid.Parse(in.UUID); {
	case in.UUID == "":
		e.UUID = event.NewID()
	case err != nil || id == uuid.Nil:
		return nil, event.Invalid("the event's uuid is not a UUID", `leave "uuid" out, or send one of version 7`)
	default:
		e.UUID = id.String()
	}
	if in.Timestamp != "" {
		t, err := event.ParseTime(in.Timestamp)
		if err != nil {
			return nil, event.Invalid("the event's timestamp is not an ISO 8601 time", "send it as 2026-01-31T12:00:00.000Z, or leave it out for now")
		}
		e.Timestamp = t
	}
	if in.Properties == nil {
		in.Properties = make(map[string]json.RawMessage)
	}
	// Fields win over properties of the same name.
	for _, f := range []struct{ name, value string }{
		{"trace_id", in.TraceID}, {"session_id", in.SessionID}, {"surface", in.Surface}, {"environment", in.Environment}, {"task_type", in.TaskType},
		{"prompt_name", in.PromptName}, {"prompt_version", in.PromptVersion}, {"prompt_version_id", in.PromptVersionID},
	} {
		if f.value != "" {
			delete(in.Properties, f.name)
		}
	}
	e.SetWireProperties(in.Properties)
	for _, f := range []struct {
		to    *string
		value string
	}{
		{&e.TraceID, in.TraceID}, {&e.SessionID, in.SessionID}, {&e.Surface, in.Surface}, {&e.Environment, in.Environment}, {&e.TaskType, in.TaskType},
		{&e.PromptName, in.PromptName}, {&e.PromptVersion, in.PromptVersion}, {&e.PromptVersionID, in.PromptVersionID},
	} {
		if f.value != "" {
			*f.to = f.value
		}
	}
	e.Tags = in.Tags
	return e, nil
}

// atIndex adds to an error which event of a list it is about.
func atIndex(err error, i, of int) error {
	var e *event.Error
	if of == 1 || !errors.As(err, &e) {
		return err
	}
	c := *e
	c.Message = fmt.Sprintf("event %d of the list: %s", i, c.Message)
	return &c
}

// short bounds what an error repeats of its caller's words.
func short(s string) string {
	const most = 80 // bytes
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
