package enrich_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/enrich"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

// kept is a journal that keeps what it was given, as frames.
type kept struct {
	mu     sync.Mutex
	events []*event.Event
	calls  int
	err    error
}

func (k *kept) Append(_ context.Context, events ...*event.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	for _, e := range events {
		b, err := e.AppendFrame(nil)
		if err != nil {
			return err
		}
		if len(b) > event.MaxEventBytes {
			return fmt.Errorf("a frame of %d bytes", len(b))
		}
		d, err := event.DecodeFrame(b)
		if err != nil {
			return err
		}
		k.events = append(k.events, d)
	}
	return k.err
}

const openAIKey = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKL"

func call() *event.Event {
	return &event.Event{
		UUID: event.NewID(), ProjectID: "default", Name: event.Generation, Timestamp: at,
		Provider: " OpenAI ", ModelAsked: "gpt-4.1-mini", Model: " gpt-4.1-mini-2025-04-14 ",
		Usage:      event.Usage{Input: event.Some[int64](1000), Output: event.Some[int64](500)},
		HTTPStatus: 200,
		Content: event.Content{
			Input:  json.RawMessage(`[{"role":"user","content":"my key is ` + openAIKey + `"}]`),
			Output: json.RawMessage(`[{"role":"assistant","content":"keep it to yourself"}]`),
		},
	}
}

func TestOrder(t *testing.T) {
	var seen []string
	next := &kept{}
	e := enrich.Enricher{
		Now: func() time.Time { return at },
		Price: func(e *event.Event) {
			seen = append(seen, "price")
			if e.Provider != "openai" || e.Model != "gpt-4.1-mini-2025-04-14" {
				t.Errorf("pricing sees provider %q and model %q, want them normalised", e.Provider, e.Model)
			}
			if !strings.Contains(string(e.Content.Input), openAIKey) {
				t.Error("privacy ran before pricing")
			}
			price.Default().Price(e)
		},
		Policy: func(id string) privacy.HomePolicy {
			seen = append(seen, "policy of "+id)
			return privacy.HomePolicy{KeepContent: true}
		},
		Next: next,
	}
	if err := e.Append(t.Context(), call()); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(seen, ", "), "price, policy of default"; got != want {
		t.Errorf("order %q, want %q", got, want)
	}
	got := next.events[0]
	if !got.Cost.Total.Known || !got.Cost.Total.Value.IsPositive() {
		t.Errorf("cost %+v, want a known one", got.Cost)
	}
	if in := string(got.Content.Input); strings.Contains(in, openAIKey) || !strings.Contains(in, "my key is") {
		t.Errorf("input %s, want it kept without the key", in)
	}
	if got.InputChars.Or(0) == 0 || got.OutputCategory == "" {
		t.Error("nothing was derived of the content")
	}
}

func TestAppendHandsOnOneBatchInOrderAndTheResult(t *testing.T) {
	full := event.NewError(event.CodeFull, "full", "", nil)
	next := &kept{err: full}
	a, b := call(), call()
	err := (&enrich.Enricher{Next: next}).Append(t.Context(), a, nil, b)
	if !errors.Is(err, full) {
		t.Errorf("error %v, want the journal's own", err)
	}
	if next.calls != 1 || len(next.events) != 2 || next.events[0].UUID != a.UUID || next.events[1].UUID != b.UUID {
		t.Errorf("%d calls with %d events, want one with both in order", next.calls, len(next.events))
	}
	if err := (&enrich.Enricher{Next: next}).Append(t.Context()); err != nil || next.calls != 1 {
		t.Errorf("no events: %v and %d calls", err, next.calls)
	}
}

func TestPolicyDropsContent(t *testing.T) {
	next := &kept{}
	e := enrich.Enricher{Next: next, Policy: func(string) privacy.HomePolicy { return privacy.HomePolicy{} }}
	if err := e.Append(t.Context(), call()); err != nil {
		t.Fatal(err)
	}
	if got := next.events[0]; !got.Content.IsZero() || !got.Private {
		t.Errorf("content %+v, private %v", got.Content, got.Private)
	}
}

// A stage that panics on one event of a batch harms neither that event's place
// in the journal nor the others.
func TestPanic(t *testing.T) {
	const secret = "the user's own words"
	for stage, breakIt := range map[string]func(n *enrich.Enricher, bad *event.Event){
		"price": func(n *enrich.Enricher, bad *event.Event) {
			n.Price = func(e *event.Event) {
				e.Cost.Total = event.Some(decimal.New(1, 0))
				if e == bad {
					panic(secret)
				}
			}
		},
		"privacy": func(n *enrich.Enricher, bad *event.Event) {
			n.SetAtHome(func(e *event.Event, p privacy.HomePolicy) {
				if e == bad {
					panic(errors.New(secret))
				}
				privacy.AtHome(e, p)
			})
		},
		"policy": func(n *enrich.Enricher, bad *event.Event) {
			calls := 0
			n.Policy = func(string) privacy.HomePolicy {
				if calls++; calls == 2 {
					panic(secret)
				}
				return privacy.HomePolicy{KeepContent: true}
			}
		},
	} {
		t.Run(stage, func(t *testing.T) {
			var log bytes.Buffer
			counts := new(counted)
			next := &kept{}
			n := enrich.Enricher{Next: next, Logger: slog.New(slog.NewTextHandler(&log, nil)), Metrics: counts}
			events := []*event.Event{call(), call(), call()}
			bad := events[1]
			bad.ErrorMessage, bad.SpanName = secret, secret
			bad.Content.Input, _ = json.Marshal(secret)
			if err := bad.SetProperty("note", secret); err != nil {
				t.Fatal(err)
			}
			breakIt(&n, bad)
			if err := n.Append(t.Context(), events...); err != nil {
				t.Fatal(err)
			}
			if len(next.events) != 3 {
				t.Fatalf("%d events went on, want 3", len(next.events))
			}
			for i, e := range next.events {
				if err := e.Validate(); err != nil {
					t.Errorf("event %d: %v", i, err)
				}
				if i != 1 && (e.Content.IsZero() || e.Private) {
					t.Errorf("event %d lost its content through its neighbour", i)
				}
			}
			got := next.events[1]
			switch stage {
			case "price":
				if got.Cost.Total.Known || got.Content.IsZero() {
					t.Errorf("cost %+v, content %d bytes; want no half cost, and the content", got.Cost, got.Content.Size())
				}
			default:
				frame, err := got.AppendFrame(nil)
				if err != nil {
					t.Fatal(err)
				}
				if bytes.Contains(frame, []byte(secret)) {
					t.Error("text that could not be scrubbed went on")
				}
				if !got.Private || got.Usage.Input.Or(0) != 1000 || got.Properties[enrich.Note] == nil {
					t.Errorf("private %v, usage %+v, properties %v; want the counts kept and a note", got.Private, got.Usage, got.Properties)
				}
				stage = "privacy"
			}
			if !strings.Contains(log.String(), "stage="+stage) || !strings.Contains(log.String(), bad.UUID) || strings.Contains(log.String(), secret) {
				t.Errorf("the log must name the stage and the uuid and nothing of the event:\n%s", log.String())
			}
			if got := fmt.Sprint(counts.panics); got != "map["+stage+":1]" {
				t.Errorf("counted %q, want one of stage %s", got, stage)
			}
			if got := counts.events; got != 3 {
				t.Errorf("counted %d events, want 3", got)
			}
		})
	}
}

// counted counts what an Enricher does.
type counted struct {
	mu     sync.Mutex
	events int
	panics map[string]int
}

func (c *counted) Enriched(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events += n
}

func (c *counted) Panicked(stage string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.panics == nil {
		c.panics = make(map[string]int)
	}
	c.panics[stage]++
}

// An event beyond the journal's bound is shrunk, not lost.
func TestTooLarge(t *testing.T) {
	long := strings.Repeat("words and words ", 1<<20)
	quoted, _ := json.Marshal(long)
	var many bytes.Buffer
	many.WriteString(`[0`)
	for range 3_000_000 {
		many.WriteString(`,"ab"`)
	}
	many.WriteByte(']')
	for name, change := range map[string]func(*event.Event){
		"one long string":    func(e *event.Event) { e.Content.Input = quoted },
		"many short strings": func(e *event.Event) { e.Content.Output = many.Bytes() },
		"a property": func(e *event.Event) {
			e.Properties = map[string]json.RawMessage{"p": quoted, "q": json.RawMessage("1")}
		},
		"an error message": func(e *event.Event) { e.ErrorMessage = long },
		"ids":              func(e *event.Event) { e.DistinctID, e.User, e.TraceID = long, long, long },
	} {
		t.Run(name, func(t *testing.T) {
			next := &kept{}
			e := call()
			change(e)
			if err := (&enrich.Enricher{Next: next}).Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			got := next.events[0]
			if err := got.Validate(); err != nil {
				t.Error(err)
			}
			for _, part := range [][]byte{got.Content.Input, got.Content.Output} {
				if !json.Valid(part) {
					t.Errorf("content of %d bytes is no longer JSON", len(part))
				}
			}
			if name == "one long string" && !strings.Contains(string(got.Content.Input), "[truncated]") {
				t.Error("nothing says that the input was cut")
			}
			if name == "a property" && (string(got.Properties["q"]) != "1" || got.Properties[enrich.Note] == nil) {
				t.Errorf("%d properties, want the small one kept and a note", len(got.Properties))
			}
		})
	}
}

func TestAppendConcurrently(t *testing.T) {
	next := &kept{}
	n := enrich.Enricher{Next: next, Price: price.Default().Price, Metrics: new(counted)}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if err := n.Append(context.Background(), call(), call()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(next.events) != 320 {
		t.Errorf("%d events, want 320", len(next.events))
	}
}

// Whatever a door hands over, Append does not panic, and what has a project and
// a name comes out acceptable, can be encoded, and stays as it is when enriched
// again.
func FuzzAppend(f *testing.F) {
	frame := func(e *event.Event) []byte {
		b, err := e.AppendFrame(nil)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(frame(call()))
	f.Add([]byte(`{"event":"$ai_generation","uuid":"x","distinct_id":"` + strings.Repeat("é", 300) + `","timestamp":"0001-01-01","properties":{"$ai_http_status":429,"$ai_input_tokens":-1,"status":"Ok","a":{"b":[1]},"$ai_input":[["` + openAIKey + `"]]}}`))
	f.Add([]byte("{\"event\":\"\xff\x00\",\"properties\":{\"\":1,\"$feature/x\":true,\"$groups\":{\"a\":\"b\"}}}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := event.DecodeFrame(b)
		if err != nil {
			if e, err = event.UnmarshalPostHog(b); err != nil {
				return
			}
		}
		e.ProjectID = "p"
		next := &kept{}
		var log bytes.Buffer
		n := enrich.Enricher{Next: next, Price: price.Default().Price, Logger: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return at }}
		if err := n.Append(t.Context(), e); err != nil {
			t.Fatalf("not encodable: %v", err)
		}
		if log.Len() > 0 {
			t.Fatalf("a stage panicked: %s", log.String())
		}
		if e.Name == "" {
			return
		}
		if err := e.Validate(); err != nil {
			t.Fatal(err)
		}
		if _, err := e.MarshalPostHog(event.Wire{}); err != nil {
			t.Fatal(err)
		}
		once, _ := e.AppendFrame(nil)
		enrich.Normalise(e, at)
		twice, _ := e.AppendFrame(nil)
		if !bytes.Equal(once, twice) {
			t.Fatalf("normalising again changes it:\n%s\n%s", once, twice)
		}
	})
}

type discard struct{}

func (discard) Append(context.Context, ...*event.Event) error { return nil }

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			text, _ := json.Marshal(strings.Repeat("How do I make a hedge grow faster? ", size/35))
			content := json.RawMessage(`[{"role":"user","content":` + string(text) + `}]`)
			n := enrich.Enricher{Next: discard{}, Price: price.Default().Price, Policy: func(string) privacy.HomePolicy { return privacy.HomePolicy{KeepContent: true} }}
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				e := call()
				e.Content.Input = content
				if err := n.Append(b.Context(), e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNormalise(b *testing.B) {
	text, _ := json.Marshal(strings.Repeat("How do I make a hedge grow faster? ", 117))
	e := call()
	e.Content.Input = json.RawMessage(`[{"role":"user","content":` + string(text) + `}]`)
	b.ReportAllocs()
	for b.Loop() {
		enrich.Normalise(e, at)
	}
}

// prompts stands for the registry.
type prompts func(e *event.Event, instructions func() []string, said []event.Said)

func (p prompts) Attribute(e *event.Event, instructions func() []string, conversation func() ([]event.Said, bool)) {
	said, _ := conversation()
	p(e, instructions, said)
}

// Prompts see the instructions before privacy takes them away, and one that
// panics leaves the event as its caller made it.
func TestPrompts(t *testing.T) {
	e := call()
	e.Content.Input = json.RawMessage(`[{"role":"system","content":"Be kind."},{"role":"user","content":"hello"},{"role":"developer","content":[{"type":"text","text":"Be brief."}]}]`)
	if err := e.SetProperty("$ai_instructions", "Be there."); err != nil {
		t.Fatal(err)
	}
	next := &kept{}
	var saw []string
	var heard []event.Said
	n := enrich.Enricher{Next: next, Policy: func(string) privacy.HomePolicy { return privacy.HomePolicy{} },
		Prompts: prompts(func(e *event.Event, instructions func() []string, said []event.Said) {
			saw, heard, e.PromptName = instructions(), said, "greet"
		})}
	if err := n.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(saw, "|"), "Be there.|Be kind.|Be brief."; got != want {
		t.Errorf("instructions %q, want %q", got, want)
	}
	if len(heard) != 1 || heard[0] != (event.Said{Role: "user", Text: "hello"}) {
		t.Errorf("the conversation is %q", heard)
	}
	if got := next.events[0]; got.PromptName != "greet" || !got.Content.IsZero() || got.PromptHash != event.HashInstructions(saw) {
		t.Errorf("kept prompt %q, hash %q, content %v", got.PromptName, got.PromptHash, got.Content)
	}
	n.Prompts = prompts(func(*event.Event, func() []string, []event.Said) { panic("broken") })
	e = call()
	e.PromptName, e.PromptVersion = "mine", "3"
	if err := n.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if got := next.events[1]; got.PromptName != "mine" || got.PromptVersion != "3" {
		t.Errorf("after a panic the event says %s@%s", got.PromptName, got.PromptVersion)
	}
}
