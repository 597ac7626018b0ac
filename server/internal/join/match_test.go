package join_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/join"
)

// TestJoinNeedsMore has a second capture with the completion id of the first, which
// differs in one thing or another.
func TestJoinNeedsMore(t *testing.T) {
	const long, short = "chatcmpl-3af2caf059284c98a142c216e6f457c9", "chatcmpl-417"
	ollama := func(e *event.Event) {
		e.Provider, e.ModelAsked, e.Model, e.BaseURL = "ollama", "llama3.2", "llama3.2", "http://127.0.0.1:11434"
	}
	openai := func(e *event.Event) {
		e.Provider, e.ModelAsked, e.Model, e.BaseURL = "openai", "gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", "https://api.openai.com"
	}
	tokens := func(in, out int64) func(*event.Event) {
		return func(e *event.Event) { e.Usage.Input, e.Usage.Output = event.Some(in), event.Some(out) }
	}
	uncounted := func(e *event.Event) { e.Usage = event.Usage{} }
	from := func(provider, model, base string) func(*event.Event) {
		return func(e *event.Event) { e.Provider, e.Model, e.BaseURL = provider, model, base }
	}
	later := func(d time.Duration) func(*event.Event) {
		return func(e *event.Event) { e.Timestamp = e.Timestamp.Add(d) }
	}
	type list = []func(*event.Event)
	for name, c := range map[string]struct {
		id            string
		first, second list
		joined        bool
	}{
		"strangers at Ollama, other counts":           {short, list{ollama, tokens(26, 298)}, list{from("ollama", "llama3.2", "http://localhost:11434/v1"), tokens(31, 12)}, false},
		"strangers at Ollama, other models":           {short, list{ollama}, list{from("ollama", "qwen3:8b", "http://localhost:11434/v1")}, false},
		"strangers at Ollama, other sizes":            {short, list{ollama}, list{from("ollama", "llama3.2:3b", "http://localhost:11434/v1")}, false},
		"strangers at Ollama, half an hour apart":     {short, list{ollama}, list{from("ollama", "llama3.2", "http://localhost:11434/v1"), later(-30 * time.Minute)}, false},
		"strangers at Ollama, one without model":      {short, list{ollama}, list{from("ollama", "", "http://localhost:11434/v1")}, false},
		"another server of Ollama's form":             {short, list{ollama}, list{from("vllm", "llama3.2", "http://10.0.0.7:8000/v1")}, false},
		"one call of Ollama by its address":           {short, list{ollama}, list{from("openai", "llama3.2:latest", "http://localhost:11434/v1"), later(time.Second)}, true},
		"one call of Ollama through the gateway":      {short, list{ollama}, list{from("openai", "llama3.2", "http://gw/ollama/v1")}, true},
		"another provider":                            {long, list{openai}, list{from("groq", "gpt-4.1-mini", "https://api.groq.com/openai/v1")}, false},
		"another provider by name alone":              {long, list{openai}, list{from("anthropic", "gpt-4.1-mini", "")}, false},
		"another model":                               {long, list{openai}, list{from("openai", "gpt-4.1", "")}, false},
		"other counts, another time":                  {long, list{openai, tokens(7, 1)}, list{from("openai", "gpt-4.1-mini", ""), tokens(8, 1), later(-10 * time.Minute)}, false},
		"no counts, another time":                     {long, list{openai}, list{from("openai", "gpt-4.1-mini", ""), uncounted, later(-10 * time.Minute)}, false},
		"no counts, that time":                        {long, list{openai}, list{from("openai", "gpt-4.1-mini", ""), uncounted, later(time.Second)}, true},
		"equal counts, an old timestamp":              {long, list{openai}, list{from("openai", "gpt-4.1-mini", ""), later(-24 * time.Hour)}, true},
		"equal counts, an old timestamp, Groq's id":   {"chatcmpl-f51b2cd2-bef7-417e-964e-a08f0b513c22", list{openai}, list{from("openai", "gpt-4.1-mini", ""), later(-24 * time.Hour)}, true},
		"equal counts, an old timestamp, Gemini's id": {"mAitaLmkHPPlz7IP-tfUqQ4", list{openai}, list{from("openai", "gpt-4.1-mini", ""), later(-24 * time.Hour)}, true},
		"equal counts, an old timestamp, a number":    {"41-7", list{openai}, list{from("openai", "gpt-4.1-mini", ""), later(-24 * time.Hour)}, false},
		"dated name":                                {long, list{openai}, list{from("openai", "gpt-4.1-mini-2025-04-14", "https://api.openai.com/v1/")}, true},
		"the AI SDK's name of the provider":         {long, list{openai}, list{from("openai.responses", "gpt-4.1-mini", "")}, true},
		"a compatible client without an address":    {long, list{from("groq", "llama-3.3-70b", "https://api.groq.com")}, list{from("openai", "llama-3.3-70b", "")}, true},
		"Google's names":                            {long, list{from("vertex_ai", "gemini-2.5-flash-001", "")}, list{from("google.generative-ai", "models/gemini-2.5-flash", "")}, true},
		"Bedrock's names":                           {long, list{from("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "")}, list{from("aws.bedrock", "claude-sonnet-4-5", "")}, true},
		"OpenRouter's name of a model":              {long, list{from("openrouter", "openai/gpt-4.1-mini", "https://openrouter.ai")}, list{from("openrouter", "gpt-4.1-mini", "")}, true},
		"a capture that says neither, equal counts": {long, list{openai}, list{from("", "", "")}, true},
	} {
		for _, order := range []string{"gateway first", "wrapper first"} {
			t.Run(name+"/"+order, func(t *testing.T) {
				first, second := generation(event.SourceGateway, c.id), generation(event.SourceIngest, c.id)
				for e, changes := range map[*event.Event]list{first: c.first, second: c.second} {
					for _, change := range changes {
						change(e)
					}
				}
				if order == "wrapper first" {
					first, second = second, first
				}
				_, merges, _ := joining(t, join.JoinerConfig{Gateway: func(u string) bool { return strings.HasPrefix(u, "http://gw/") }}, 0, deliveries(same, first, second))
				if joined := len(merges) == 1; joined != c.joined {
					t.Errorf("joined: %v, want %v", joined, c.joined)
				}
			})
		}
	}
}

// Of two calls that look the same the one of that moment is joined.
func TestJoinPrefersTheMoment(t *testing.T) {
	old, recent, wrapped := generation(event.SourceGateway, ""), generation(event.SourceGateway, ""), generation(event.SourceIngest, "")
	old.Timestamp, wrapped.BaseURL = now.Add(-20*time.Minute), "http://gw/"
	_, merges, _ := joining(t, join.JoinerConfig{Gateway: func(u string) bool { return u == "http://gw/" }}, 0, deliveries(same, old, recent, wrapped))
	if len(merges) != 1 || merges[0].Call != recent.UUID {
		t.Errorf("joined to %+v, want %s and not %s", merges, recent.UUID, old.UUID)
	}
}
