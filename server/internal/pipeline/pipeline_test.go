package pipeline_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/enrich"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/disk"
	"github.com/hedgerow/hedgerow/server/internal/pipeline"
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

var at = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// open returns a pipeline before next.
func open(t testing.TB, next pipeline.Appender, c pipeline.Config) *pipeline.Pipeline {
	t.Helper()
	p, err := pipeline.New(c)
	if err != nil {
		t.Fatal(err)
	}
	p.Open(next, nil)
	return p
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
	p := open(t, next, pipeline.Config{
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
		Policy: func(id string) privacy.StoragePolicy {
			seen = append(seen, "policy of "+id)
			return privacy.StoragePolicy{KeepContent: true}
		},
	})
	if err := p.Append(t.Context(), call()); err != nil {
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
	p := open(t, next, pipeline.Config{})
	err := p.Append(t.Context(), a, nil, b)
	if !errors.Is(err, full) {
		t.Errorf("error %v, want the journal's own", err)
	}
	if next.calls != 1 || len(next.events) != 2 || next.events[0].UUID != a.UUID || next.events[1].UUID != b.UUID {
		t.Errorf("%d calls with %d events, want one with both in order", next.calls, len(next.events))
	}
	if err := p.Append(t.Context()); err != nil || next.calls != 1 {
		t.Errorf("no events: %v and %d calls", err, next.calls)
	}
}

func TestPolicyDropsContent(t *testing.T) {
	next := &kept{}
	p := open(t, next, pipeline.Config{Policy: func(string) privacy.StoragePolicy { return privacy.StoragePolicy{} }})
	if err := p.Append(t.Context(), call()); err != nil {
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
	for stage, breakIt := range map[string]func(c *pipeline.Config, bad *event.Event) (atHome func(*event.Event, privacy.StoragePolicy)){
		"price": func(c *pipeline.Config, bad *event.Event) func(*event.Event, privacy.StoragePolicy) {
			c.Price = func(e *event.Event) {
				e.Cost.Total = event.Some(decimal.New(1, 0))
				if e == bad {
					panic(secret)
				}
			}
			return privacy.ApplyStorage
		},
		"privacy": func(_ *pipeline.Config, bad *event.Event) func(*event.Event, privacy.StoragePolicy) {
			return func(e *event.Event, p privacy.StoragePolicy) {
				if e == bad {
					panic(errors.New(secret))
				}
				privacy.ApplyStorage(e, p)
			}
		},
		"policy": func(c *pipeline.Config, _ *event.Event) func(*event.Event, privacy.StoragePolicy) {
			calls := 0
			c.Policy = func(string) privacy.StoragePolicy {
				if calls++; calls == 2 {
					panic(secret)
				}
				return privacy.StoragePolicy{KeepContent: true}
			}
			return privacy.ApplyStorage
		},
	} {
		t.Run(stage, func(t *testing.T) {
			var log bytes.Buffer
			metrics := prometheus.NewRegistry()
			next := &kept{}
			c := pipeline.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Registerer: metrics}
			events := []*event.Event{call(), call(), call()}
			bad := events[1]
			bad.ErrorMessage, bad.SpanName = secret, secret
			bad.Content.Input, _ = json.Marshal(secret)
			if err := bad.SetProperty("note", secret); err != nil {
				t.Fatal(err)
			}
			atHome := breakIt(&c, bad)
			p := open(t, next, c)
			p.SetAtHome(atHome)
			if err := p.Append(t.Context(), events...); err != nil {
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
			if n, broken := counted(t, metrics); n != 3 || broken != "map["+stage+":1]" {
				t.Errorf("counted %v events and panics %s, want 3 and one of stage %s", n, broken, stage)
			}
		})
	}
}

// counted reads the metrics: events, and panics by stage.
func counted(t *testing.T, r *prometheus.Registry) (events float64, panics string) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	stages := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "hedgerow_enrich_events_total":
				events = m.GetCounter().GetValue()
			case "hedgerow_enrich_panics_total":
				stages[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return events, fmt.Sprint(stages)
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
			if err := open(t, next, pipeline.Config{}).Append(t.Context(), e); err != nil {
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
	n := open(t, next, pipeline.Config{Price: price.Default().Price})
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

// Whatever a receiver hands over, Append does not panic, and what has a project and
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
		if w, err := e.MarshalPostHog(event.Wire{}); err != nil || !json.Valid(w) {
			return // no frame that AppendFrame has written
		}
		e.ProjectID = "p"
		next := &kept{}
		var log bytes.Buffer
		n := open(t, next, pipeline.Config{Price: price.Default().Price, Logger: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return at }})
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
		if w, err := e.MarshalPostHog(event.Wire{}); err != nil || !json.Valid(w) {
			t.Fatalf("%v: %s", err, w)
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
			n := open(b, discard{}, pipeline.Config{Price: price.Default().Price, Policy: func(string) privacy.StoragePolicy { return privacy.StoragePolicy{KeepContent: true} }})
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

// prompts is a double of the registry.
type prompts func(e *event.Event, instructions func() []string, said []event.ChatMessage)

func (p prompts) Attribute(e *event.Event, instructions func() []string, conversation func() ([]event.ChatMessage, bool)) {
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
	var heard []event.ChatMessage
	n := open(t, next, pipeline.Config{Policy: func(string) privacy.StoragePolicy { return privacy.StoragePolicy{} }})
	n.Open(next, prompts(func(e *event.Event, instructions func() []string, said []event.ChatMessage) {
		saw, heard, e.PromptName = instructions(), said, "greet"
	}))
	if err := n.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(saw, "|"), "Be there.|Be kind.|Be brief."; got != want {
		t.Errorf("instructions %q, want %q", got, want)
	}
	if len(heard) != 1 || heard[0] != (event.ChatMessage{Role: "user", Text: "hello"}) {
		t.Errorf("the conversation is %q", heard)
	}
	if got := next.events[0]; got.PromptName != "greet" || !got.Content.IsZero() || got.PromptHash != event.HashInstructions(saw) {
		t.Errorf("kept prompt %q, hash %q, content %v", got.PromptName, got.PromptHash, got.Content)
	}
	n.Open(next, prompts(func(*event.Event, func() []string, []event.ChatMessage) { panic("broken") }))
	e = call()
	e.PromptName, e.PromptVersion = "mine", "3"
	if err := n.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if got := next.events[1]; got.PromptName != "mine" || got.PromptVersion != "3" {
		t.Errorf("after a panic the event says %s@%s", got.PromptName, got.PromptVersion)
	}
}

// TestSurface has a project's default surface on what names none, and labels found
// wherever they stand.
func TestSurface(t *testing.T) {
	props := func(name, v string) map[string]json.RawMessage {
		return map[string]json.RawMessage{name: json.RawMessage(v)}
	}
	for name, c := range map[string]struct {
		e             *event.Event
		surface, envi string
	}{
		"a call":                   {&event.Event{Name: event.Generation, Source: event.SourceIngest}, "Shop", ""},
		"a call's property":        {&event.Event{Name: event.Generation, Properties: props("surface", `"Mine"`)}, "Mine", ""},
		"a call's field":           {&event.Event{Name: event.Generation, Surface: "Key", Properties: props("surface", `"Mine"`)}, "Key", ""},
		"an attribute of a span":   {&event.Event{Name: event.Span, Source: event.SourceOTLP, Properties: props("deployment.environment", `"prod"`)}, "Shop", "prod"},
		"an outcome of a trace":    {&event.Event{Name: "rated", Source: "api", Properties: map[string]json.RawMessage{"trace_id": json.RawMessage(`"t"`), "$environment": json.RawMessage(`"prod"`)}}, "", "prod"},
		"an event of the API":      {&event.Event{Name: "shared", Source: "api"}, "Shop", ""},
		"a product event":          {&event.Event{Name: "$pageview", Source: event.SourceIngest, Properties: props("$environment", `"prod"`)}, "", ""},
		"another project's call":   {&event.Event{ProjectID: "other", Name: event.Generation}, "", ""},
		"a product event's labels": {&event.Event{Name: "click", Source: event.SourceIngest, Properties: props("environment", `"Büro"`)}, "", "Büro"},
	} {
		t.Run(name, func(t *testing.T) {
			k := &kept{}
			n := open(t, k, pipeline.Config{Now: func() time.Time { return at }, Surface: func(id string) string { return map[string]string{"default": "Shop"}[id] }})
			c.e.ProjectID, c.e.Timestamp = cmp.Or(c.e.ProjectID, "default"), at
			if err := n.Append(t.Context(), c.e); err != nil {
				t.Fatal(err)
			}
			if got := k.events[0]; got.Surface != c.surface || got.Environment != c.envi {
				t.Errorf("surface %q, environment %q; want %q, %q", got.Surface, got.Environment, c.surface, c.envi)
			}
		})
	}
}

// What is appended before the pipeline is open is refused as "unavailable", and
// after a failure the disk is looked at.
func TestOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		guard := &disk.Guard{Limit: disk.Size(100), Usage: func(string) (disk.Usage, error) { looks++; return disk.Usage{Free: 900, Total: 1000}, nil }, Every: time.Hour}
		go func() { _ = guard.Run(t.Context()) }()
		p, err := pipeline.New(pipeline.Config{Disk: guard})
		if err != nil {
			t.Fatal(err)
		}
		if e := event.AsError(p.Append(t.Context(), call())); p.IsOpen() || e == nil || e.Code != event.CodeUnavailable || e.Hint == "" {
			t.Errorf("before it is open: %v", e)
		}
		next := &kept{}
		p.Open(next, nil)
		for want, fails := range []error{nil, errors.New("no space left")} {
			next.err = fails
			err := p.Append(t.Context(), call())
			synctest.Wait()
			if !p.IsOpen() || !errors.Is(err, fails) || looks != want+1 {
				t.Errorf("open: %v, error %v, %d looks at the disk, want %d", p.IsOpen(), err, looks, want+1)
			}
		}
	})
}

// While the disk has its reserve only, callers that can send again are refused, and
// what the gateway appends loses its content.
func TestFullDisk(t *testing.T) {
	free := int64(900)
	guard := &disk.Guard{Limit: disk.Size(100), Usage: func(string) (disk.Usage, error) { return disk.Usage{Free: free, Total: 1000}, nil }}
	next := &kept{}
	p := open(t, next, pipeline.Config{Disk: guard})
	for _, c := range []struct {
		free             int64
		admitted, spared bool
	}{{900, true, false}, {10, false, true}, {900, true, false}} {
		free = c.free
		guard.Look()
		next.events = nil
		err := p.Admit(true).Append(t.Context(), call())
		if e := event.AsError(err); (err == nil) != c.admitted || err != nil && (e.Code != event.CodeUnavailable || e.Hint == "") {
			t.Errorf("%d free: admitted with %v", c.free, err)
		}
		if err := p.Append(t.Context(), call()); err != nil {
			t.Fatal(err)
		}
		got := next.events[len(next.events)-1]
		if got.Content.IsZero() != c.spared || (string(got.Properties["content_dropped"]) == `"disk"`) != c.spared || got.OutputCategory == "" {
			t.Errorf("%d free: content %v, properties %v, output is %q", c.free, got.Content, got.Properties, got.OutputCategory)
		}
	}
}
