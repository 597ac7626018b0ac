package join_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/join"
)

func generation(source, completion string) *event.Event {
	return &event.Event{
		UUID: event.NewID(), ProjectID: "default", Name: event.Generation, Source: source, Timestamp: now, DistinctID: "u-" + source, TraceID: "t-" + source, ParentID: "p-" + source,
		Model: "gpt-4.1", CompletionID: completion, Usage: event.Usage{Input: event.Some[int64](7)}, Latency: event.Some(time.Second),
		Content:    event.Content{Input: json.RawMessage(`[]`)},
		Properties: map[string]json.RawMessage{"mine": json.RawMessage(`1`), "$ai_usage": json.RawMessage(`{"a":1}`)},
	}
}

// TestJoinerAwaitsGateway: a wrapper that reports a call at once is faster than the
// gateway, whose record is the one that counts all the same.
func TestJoinerAwaitsGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		j, err := join.NewJoiner(k, join.JoinerConfig{Gateway: func(u string) bool { return u == "http://gw/" }})
		if err != nil {
			t.Fatal(err)
		}
		wrapped := func(id string) *event.Event {
			e := generation(event.SourceIngest, id)
			e.BaseURL, e.Timestamp = "http://gw/", time.Now().Add(-time.Second)
			return e
		}
		second, call := wrapped("msg_1"), generation(event.SourceGateway, "msg_1")
		call.Timestamp = second.Timestamp
		done := make(chan error, 1)
		go func() { done <- j.Append(t.Context(), second) }()
		synctest.Wait()
		other := generation(event.SourceGateway, "msg_other")
		other.Usage.Input = event.Some[int64](8)
		for _, e := range []*event.Event{other, call} {
			time.Sleep(100 * time.Millisecond)
			if err := j.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if call.Name != event.Generation || second.Name != event.Span || string(second.Properties[join.JoinedTo]) != `"`+call.UUID+`"` {
			t.Errorf("the gateway's is a %s, the wrapper's a %s", call.Name, second.Name)
		}
		for name, c := range map[string]struct {
			e    *event.Event
			wait time.Duration
		}{"NoRecordComes": {wrapped("msg_2"), 500 * time.Millisecond}, "Elsewhere": {generation(event.SourceIngest, "msg_3"), 0}, "LongAgo": {wrapped("msg_4"), 0}} {
			if name == "LongAgo" {
				c.e.Timestamp = time.Now().Add(-time.Minute)
			}
			start := time.Now()
			if err := j.Append(t.Context(), c.e); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took != c.wait || c.e.Name != event.Generation {
				t.Errorf("%s: waited %v, became %s", name, took, c.e.Name)
			}
		}
	})
}

func TestJoiner(t *testing.T) {
	k := &kept{}
	at := now
	j, err := join.NewJoiner(k, join.JoinerConfig{Now: func() time.Time { return at }, Registerer: prometheus.NewRegistry(),
		Gateway: func(u string) bool { return strings.HasPrefix(u, "http://gw/") }})
	if err != nil {
		t.Fatal(err)
	}
	add := func(e *event.Event) *event.Event {
		t.Helper()
		k.reset()
		if err := j.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		return k.events(t)[0]
	}
	first := add(generation(event.SourceGateway, "chatcmpl-1"))
	second := generation(event.SourceIngest, "chatcmpl-1")
	again := second.Clone()
	got := add(second)
	if first.Name != event.Generation || got.Name != event.Span || string(got.Properties[join.JoinedTo]) != `"`+first.UUID+`"` || got.Usage != (event.Usage{}) || !got.Content.IsZero() ||
		got.TraceID != "t-ingest" || got.ParentID != "p-ingest" || got.DistinctID != "u-ingest" || string(got.Properties["mine"]) != "1" || got.Properties["$ai_usage"] != nil || got.SpanName != "gpt-4.1" || got.CompletionID != "chatcmpl-1" {
		t.Errorf("joined %+v", got)
	}
	if got := add(again); got.Name != event.Span {
		t.Errorf("the same event again became %s", got.Name)
	}
	if got := add(generation(event.SourceIngest, "chatcmpl-1")); got.Name != event.Generation {
		t.Error("a third event with the id is a call of its own: a simulated provider answers with one id always")
	}
	// The other way round, and what is no repetition.
	add(generation(event.SourceIngest, "msg_2"))
	if got := add(generation(event.SourceGateway, "msg_2")); got.Name != event.Span || got.DistinctID != "u-gateway" {
		t.Errorf("gateway second: %+v", got)
	}
	for name, e := range map[string]*event.Event{"OtherProject": generation(event.SourceOTLP, "msg_3"), "SameDoor": generation(event.SourceGateway, "msg_3"), "NoID": generation(event.SourceIngest, "")} {
		add(generation(event.SourceGateway, "msg_3"))
		if name == "OtherProject" {
			e.ProjectID = "other"
		}
		if got := add(e); got.Name != event.Generation {
			t.Errorf("%s was joined", name)
		}
	}
	// Some wrappers do not say which completion it was, but that they called the
	// gateway.
	call := add(generation(event.SourceGateway, "msg_9"))
	unnamed := generation(event.SourceIngest, "")
	unnamed.BaseURL = "http://gw/anthropic"
	elsewhere := unnamed.Clone()
	elsewhere.UUID, elsewhere.BaseURL = event.NewID(), "https://api.anthropic.com"
	if got := add(elsewhere); got.Name != event.Generation {
		t.Error("a call to the provider itself was joined")
	}
	other := unnamed.Clone()
	other.UUID, other.Usage.Input = event.NewID(), event.Some[int64](8)
	if got := add(other); got.Name != event.Generation {
		t.Error("a call with other counts was joined")
	}
	if got := add(unnamed); got.Name != event.Span {
		t.Errorf("%s was not joined to %s", got.UUID, call.UUID)
	}
	// What was not stored has not been seen.
	k.err = func(*event.Event) error { return errors.New("full") }
	lost := generation(event.SourceGateway, "msg_4")
	if j.Append(t.Context(), lost) == nil {
		t.Fatal("no error")
	}
	k.err = nil
	if got := add(generation(event.SourceIngest, "msg_4")); got.Name != event.Generation {
		t.Error("joined to an event that was not stored")
	}
	add(generation(event.SourceGateway, "msg_5"))
	at = at.Add(2 * time.Hour)
	if got := add(generation(event.SourceIngest, "msg_5")); got.Name != event.Generation {
		t.Error("joined to a call of hours ago")
	}
}

// A joiner that begins knows what the one before it had seen, joined pairs and
// single halves.
func TestJoinerRemembers(t *testing.T) {
	c := join.JoinerConfig{Now: func() time.Time { return now }, Gateway: func(u string) bool { return u == "http://gw/" }}
	k := &kept{}
	before, err := join.NewJoiner(k, c)
	if err != nil {
		t.Fatal(err)
	}
	single, paired, old := generation(event.SourceGateway, "chatcmpl-1"), generation(event.SourceGateway, ""), generation(event.SourceGateway, "chatcmpl-3")
	paired.Usage.Input = event.Some[int64](99)
	old.Timestamp = now.Add(-2 * join.JoinWindow)
	half := generation(event.SourceIngest, "")
	half.BaseURL, half.Usage.Input = "http://gw/", event.Some[int64](99)
	if err := before.Append(t.Context(), single, paired, half, old); err != nil {
		t.Fatal(err)
	}
	stored := k.events(t)
	if stored[2].Name != event.Span {
		t.Fatalf("the pair was not joined: %+v", stored[2])
	}
	after, err := join.NewJoiner(k, c)
	if err != nil {
		t.Fatal(err)
	}
	after.Remember(stored...)
	after.Remember(stored...)
	send := func(completion, base string, tokens int64) string {
		t.Helper()
		k.reset()
		e := generation(event.SourceIngest, completion)
		e.BaseURL, e.Usage.Input = base, event.Some(tokens)
		if err := after.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		e = k.events(t)[0]
		return strings.Trim(string(e.Properties[join.JoinedTo]), `"`)
	}
	if got := send("chatcmpl-1", "", 7); got != single.UUID {
		t.Errorf("the call of before is joined to %q, not %q", got, single.UUID)
	}
	if got := send("chatcmpl-1", "", 7); got != "" {
		t.Errorf("a second wrapper is joined to %q", got)
	}
	if got := send("", "http://gw/", 99); got != "" {
		t.Errorf("a call whose other half has come already is joined to %q", got)
	}
	if got := send("chatcmpl-3", "", 7); got != "" {
		t.Errorf("a call of two hours ago is joined to %q", got)
	}
}
