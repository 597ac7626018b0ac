package hedgerow_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

// call captures one call with content, tags and properties.
func call(ctx context.Context, r *rig) {
	ctx = hedgerow.WithTags(hedgerow.WithTrace(ctx, "trace-1"), "production", "experiment-v2", "user-request")
	r.CaptureGeneration(ctx, hedgerow.Generation{
		Provider: "openai", Model: "gpt-4.1-mini-2025-04-14", Asked: "gpt-4.1-mini", Input: prompt, Output: "no, " + prompt, Latency: time.Second,
		Usage:      hedgerow.Usage{Input: hedgerow.Some(1000), Output: hedgerow.Some(500)},
		Properties: hedgerow.Properties{"plan": "pro", "note": strings.Repeat("a long text ", 20), "list": []int{1}},
	})
}

// Every option of the exporter's complete configuration, with its default and its
// effect at PostHog.
func TestOptions(t *testing.T) {
	one := func(t *testing.T, r *rig) simposthog.Event {
		t.Helper()
		call(t.Context(), r)
		r.flush(t)
		got := r.ph.Events()
		if len(got) != 1 {
			t.Fatalf("%d events", len(got))
		}
		return got[0]
	}
	defaults := func(c *hedgerow.Config) { c.SendContent = false }
	t.Run("defaults", func(t *testing.T) {
		bubble(t, defaults, func(t *testing.T, r *rig) {
			e := one(t, r)
			for name, want := range map[string]string{
				"$ai_provider": "openai", "$ai_model": "gpt-4.1-mini-2025-04-14", "$ai_input_tokens": "1000", "$ai_output_tokens": "500", "$ai_latency": "1",
				"$ai_input": "", "$ai_output_choices": "", "$process_person_profile": "false", "$ai_trace_id": "trace-1",
				"production": "true", "experiment-v2": "true", "user-request": "true", "plan": "pro", "input_length": "32", "output_length": "36",
				"$ai_input_cost_usd": "0.0004", "$ai_output_cost_usd": "0.0008", "$ai_total_cost_usd": "0.0012", "$ai_cost_passthrough": "true",
			} {
				if got := e.Text(name); got != want || !e.Has(name) {
					t.Errorf("%s is %q, want %q (there: %v)", name, got, want, e.Has(name))
				}
			}
			if e.Name != event.Generation || e.DistinctID != "anonymous" || strings.Contains(string(e.Raw), "blackthorn") {
				t.Errorf("%s", e.Raw)
			}
			for _, name := range []string{"trace_url", "surface", "environment", "retry_count", "hedgerow_cost_incomplete", "note", "list", "tags"} {
				if e.Has(name) {
					t.Errorf("%s is %s", name, e.Properties[name])
				}
			}
			for _, name := range []string{"note", "list"} {
				if !strings.Contains(r.log.String(), "property="+name+" ") {
					t.Errorf("the log does not report that %s is withheld: %s", name, r.log)
				}
			}
		})
	})
	t.Run("host", func(t *testing.T) {
		c, err := hedgerow.New(hedgerow.Config{APIKey: simposthog.Token})
		if err != nil || hedgerow.DefaultHost != "https://us.i.posthog.com" {
			t.Error(err)
		}
		_ = c.Close(t.Context())
	})
	batches := func(t *testing.T, set func(*hedgerow.Config), at int, every time.Duration) {
		bubble(t, set, func(t *testing.T, r *rig) {
			for range at - 1 {
				call(t.Context(), r)
			}
			start := time.Now()
			synctest.Wait()
			if n := r.ph.Count(); n != 0 {
				t.Errorf("%d events arrived before %d were there", n, at)
			}
			if err := r.ph.WaitFor(t.Context(), at-1); err != nil || time.Since(start) != every {
				t.Errorf("they waited %v, want %v (%v)", time.Since(start), every, err)
			}
			start = time.Now()
			for range at {
				call(t.Context(), r)
			}
			if err := r.ph.WaitFor(t.Context(), 2*at-1); err != nil || time.Since(start) != 0 {
				t.Errorf("%d events waited %v (%v)", at, time.Since(start), err)
			}
		})
	}
	t.Run("flushAt and flushInterval", func(t *testing.T) {
		batches(t, defaults, 20, 10*time.Second)
		batches(t, func(c *hedgerow.Config) { c.FlushAt, c.FlushInterval = 3, time.Minute }, 3, time.Minute)
	})
	t.Run("serverless", func(t *testing.T) {
		batches(t, func(c *hedgerow.Config) { c.Serverless = true }, 10, 2*time.Second)
		batches(t, func(c *hedgerow.Config) { c.Serverless, c.FlushAt = true, 5 }, 5, 2*time.Second)
	})
	t.Run("defaultDistinctId", func(t *testing.T) {
		bubble(t, func(c *hedgerow.Config) { c.DefaultDistinctID = "visitor" }, func(t *testing.T, r *rig) {
			if e := one(t, r); e.DistinctID != "visitor" || e.Text("$process_person_profile") != "false" {
				t.Errorf("%s", e.Raw)
			}
		})
	})
	t.Run("content", func(t *testing.T) {
		for _, tt := range []struct{ send, privacy, leaves bool }{{true, false, true}, {true, true, false}, {false, true, false}} {
			bubble(t, func(c *hedgerow.Config) { c.SendContent, c.PrivacyMode = tt.send, tt.privacy }, func(t *testing.T, r *rig) {
				e := one(t, r)
				if strings.Contains(string(e.Raw), "blackthorn") != tt.leaves || e.Has("list") != tt.send && !tt.privacy || e.Text("$ai_total_cost_usd") != "0.0012" || e.Text("plan") != "pro" {
					t.Errorf("%+v: %s", tt, e.Raw)
				}
			})
		}
		bubble(t, nil, func(t *testing.T, r *rig) {
			call(hedgerow.WithPrivacy(t.Context()), r)
			r.flush(t)
			if e := r.ph.Events()[0]; strings.Contains(string(e.Raw), "blackthorn") {
				t.Errorf("%s", e.Raw)
			}
		})
		bubble(t, func(c *hedgerow.Config) { c.SendContent = false; c.SendProperties = []string{"note", "list"} }, func(t *testing.T, r *rig) {
			if e := one(t, r); !e.Has("note") || !e.Has("list") || strings.Contains(string(e.Raw), "blackthorn") {
				t.Errorf("%s", e.Raw)
			}
		})
		// A hedgerow server applies its own rules and gets the content.
		bubble(t, func(c *hedgerow.Config) { c.SendContent = false; c.APIKey = homeToken }, func(t *testing.T, r *rig) {
			e := one(t, r)
			if !strings.Contains(string(e.Raw), "blackthorn") || e.Has("$ai_total_cost_usd") || !e.Has("note") {
				t.Errorf("%s", e.Raw)
			}
		})
	})
	t.Run("trace_url", func(t *testing.T) {
		for schema, want := range map[hedgerow.Schema]int{hedgerow.SchemaPostHog: 1, hedgerow.SchemaBoth: 3} {
			bubble(t, func(c *hedgerow.Config) { c.UIBaseURL, c.Schema = "https://hedgerow.example.com/", schema }, func(t *testing.T, r *rig) {
				call(t.Context(), r)
				r.flush(t)
				got := r.ph.Events()
				if len(got) != want {
					t.Fatalf("%d events", len(got))
				}
				for _, e := range got {
					if e.Text("trace_url") != "https://hedgerow.example.com/traces/trace-1" {
						t.Errorf("%s", e.Raw)
					}
				}
			})
		}
	})
	t.Run("environment", func(t *testing.T) {
		bubble(t, func(c *hedgerow.Config) { c.Environment = "production" }, func(t *testing.T, r *rig) {
			if e := one(t, r); e.Text("environment") != "production" {
				t.Errorf("%s", e.Raw)
			}
		})
	})
	t.Run("logLevel", func(t *testing.T) {
		for level, want := range map[slog.Level]string{slog.LevelDebug: "DEBUG INFO", slog.LevelInfo: "INFO", slog.LevelWarn: "", slog.LevelError: ""} {
			bubble(t, func(c *hedgerow.Config) { c.SendContent, c.LogLevel = false, level }, func(t *testing.T, r *rig) {
				r.ph.Fail(simposthog.Fault{Status: 503})
				one(t, r)
				seen := map[string]bool{}
				for line := range strings.Lines(r.log.String()) {
					_, rest, _ := strings.Cut(line, "level=")
					word, _, _ := strings.Cut(rest, " ")
					seen[word] = true
				}
				if got := strings.Join(slices.Sorted(maps.Keys(seen)), " "); got != want {
					t.Errorf("level %s logs %q, want %q", level, got, want)
				}
				if level == slog.LevelDebug {
					for _, says := range []string{"event queued", "flush begins", "delivery starts", "retrying delivery", "delivered", "flush ended"} {
						if !strings.Contains(r.log.String(), says) {
							t.Errorf("the log lacks %q: %s", says, r.log)
						}
					}
				}
				if strings.Contains(r.log.String(), "blackthorn") || strings.Contains(r.log.String(), simposthog.Token) {
					t.Errorf("log: %s", r.log)
				}
			})
		}
		// A rejected key is logged as an error, dropped events as a warning.
		bubble(t, func(c *hedgerow.Config) { c.LogLevel = slog.LevelWarn }, func(t *testing.T, r *rig) {
			r.ph.Fail(simposthog.Fault{Status: 401})
			call(t.Context(), r)
			_ = r.Flush(t.Context())
			if s := r.log.String(); !strings.Contains(s, "level=ERROR") || !strings.Contains(s, "level=WARN") {
				t.Errorf("%s", s)
			}
		})
	})
}

// The same call in each schema.
func TestSchemas(t *testing.T) {
	for schema, want := range map[hedgerow.Schema]string{
		"":                       "$ai_generation",
		hedgerow.SchemaPostHog:   "$ai_generation",
		hedgerow.SchemaLLMEvents: "llm_request_started llm_request_completed",
		hedgerow.SchemaBoth:      "llm_request_started llm_request_completed $ai_generation",
	} {
		for _, spool := range []bool{false, true} {
			dir := ""
			if spool {
				dir = t.TempDir()
			}
			r := newRig(t, func(c *hedgerow.Config) { c.Schema, c.SpoolDir = schema, dir })
			call(t.Context(), r)
			_, span := r.StartSpan(hedgerow.WithTrace(t.Context(), "trace-1"), "search")
			if schema == hedgerow.SchemaLLMEvents {
				span.End() // has no event in the schema
			}
			r.flush(t)
			var names []string
			for _, e := range r.ph.Events() {
				names = append(names, e.Name)
				if ai := strings.HasPrefix(e.Name, "$ai_"); ai != (e.Route == "/i/v0/ai/batch") {
					t.Errorf("%s was sent to %s", e.Name, e.Route)
				}
				if e.Name == "llm_request_completed" {
					props(t, e, map[string]string{"trace_id": `"trace-1"`, "provider": `"openai"`, "model": `"gpt-4.1-mini-2025-04-14"`, "latency_ms": "1000",
						"input_tokens": "1000", "output_tokens": "500", "estimated_cost_usd": "0.0012", "status": `"success"`, "production": "true", "$process_person_profile": "false"})
				}
				if strings.HasPrefix(e.Name, "llm_") && (strings.Contains(string(e.Raw), "blackthorn") || e.DistinctID != "anonymous") {
					t.Errorf("%s", e.Raw)
				}
			}
			if got := strings.Join(names, " "); got != want {
				t.Errorf("schema %q, spool %v: %s, want %s", schema, spool, got, want)
			}
			if s := r.Stats(); s.Queued != 0 || s.Bytes != 0 || s.Spooled != 0 || s.Lost() != 0 {
				t.Errorf("%+v", s)
			}
		}
	}
	// A failed call.
	r := newRig(t, func(c *hedgerow.Config) { c.Schema = hedgerow.SchemaLLMEvents })
	r.CaptureGeneration(t.Context(), hedgerow.Generation{Provider: "openai", Model: "gpt-4.1-mini", Err: errors.New(prompt), ErrorType: "rate_limit_error", HTTPStatus: 429})
	r.flush(t)
	got := r.ph.Named("llm_request_failed")
	if len(got) != 1 || got[0].Text("status") != "error" || got[0].Text("error_type") != "rate_limit_error" || got[0].Has("estimated_cost_usd") || strings.Contains(string(got[0].Raw), "blackthorn") {
		t.Errorf("%+v", got)
	}
}

// A model without a price has no cost, and one with half a price at least that.
func TestCosts(t *testing.T) {
	r := newRig(t, nil)
	usage := hedgerow.Usage{Input: hedgerow.Some(10), Output: hedgerow.Some(10)}
	r.CaptureGeneration(t.Context(), hedgerow.Generation{Provider: "acme", Model: "my-model", Usage: usage})
	r.CaptureGeneration(t.Context(), hedgerow.Generation{Provider: "openai", Model: "text-embedding-3-small", Usage: usage})
	r.CaptureGeneration(t.Context(), hedgerow.Generation{Provider: "openai", Model: "gpt-4.1-mini"}) // no counts
	r.CaptureGeneration(t.Context(), hedgerow.Generation{Provider: "openai", Model: "gpt-4.1-mini", Usage: usage, CostUSD: 0.5})
	r.flush(t)
	for i, want := range []map[string]string{
		{"$ai_total_cost_usd": "", "$ai_input_cost_usd": "", "$ai_cost_passthrough": "", "hedgerow_cost_incomplete": ""},
		{"$ai_total_cost_usd": "0.0000002", "$ai_input_cost_usd": "0.0000002", "$ai_output_cost_usd": "", "$ai_cost_passthrough": "true", "hedgerow_cost_incomplete": "true"},
		{"$ai_total_cost_usd": "", "$ai_input_cost_usd": "", "hedgerow_cost_incomplete": ""},
		{"$ai_total_cost_usd": "0.5", "$ai_cost_model_source": `"passthrough"`, "hedgerow_cost_incomplete": ""},
	} {
		props(t, r.ph.Events()[i], want)
	}
}

// A wrong key or host is reported before anything is sent.
func TestKeyAndHost(t *testing.T) {
	for _, tt := range []struct{ key, host, want string }{
		{simposthog.Token, "https://eu.i.posthog.com", ""},
		{simposthog.Token, "http://127.0.0.1:8000", ""},
		{simposthog.Token, "http://[::1]:8000", ""},
		{simposthog.Token, "http://localhost:8000", ""},
		{simposthog.Token, "http://posthog.internal", "clear text"},
		{simposthog.Token, "http://us.i.posthog.com", "clear text"},
		{simposthog.Token, "http://localhost.example.com", "clear text"},
		{homeToken, "http://hedgerow:4100", ""},
		{homeToken, "https://us.i.posthog.com", "PostHog's"},
		{"abc", "", "phc_"},
		{"pk_live_1", "https://eu.i.posthog.com", "phc_"},
		{"phx_1", "", "personal"},
		{"hr_1", "", "hedgerow API key"},
	} {
		c, err := hedgerow.New(hedgerow.Config{APIKey: tt.key, Host: tt.host})
		var e *event.Error
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s %s: %v", tt.key, tt.host, err)
		case tt.want != "" && (!errors.As(err, &e) || e.Hint == "" || !strings.Contains(e.Message, tt.want)):
			t.Errorf("%s %s: %v, want an error that says %q, with a hint", tt.key, tt.host, err, tt.want)
		}
		_ = c.Close(t.Context())
	}
	t.Setenv("HEDGEROW_ALLOW_INSECURE_POSTHOG", "1")
	c, err := hedgerow.New(hedgerow.Config{APIKey: simposthog.Token, Host: "http://posthog.internal"})
	if err != nil {
		t.Error(err)
	}
	_ = c.Close(t.Context())
	for _, base := range []string{"hedgerow.example.com", "ftp://a.b", "https://a.b?c=d", "https://u:p@a.b"} {
		if _, err := hedgerow.New(hedgerow.Config{APIKey: simposthog.Token, UIBaseURL: base}); err == nil || !strings.Contains(err.Error(), "UIBaseURL") {
			t.Errorf("%s: %v", base, err)
		}
	}
	if _, err := hedgerow.New(hedgerow.Config{APIKey: simposthog.Token, Schema: "other"}); err == nil || !strings.Contains(err.Error(), "schema") {
		t.Errorf("%v", err)
	}
	if _, err := hedgerow.NewPrompts(hedgerow.PromptsConfig{Key: "hr_1", Host: "https://us.i.posthog.com"}); err == nil || !strings.Contains(err.Error(), "stored in hedgerow") {
		t.Errorf("%v", err)
	}
}

// LogLevel applies even if the logger's handler has a higher level, as slog's
// default does.
func TestLogLevelWithDefaultLogger(t *testing.T) {
	var log strings.Builder
	ph := newReceiver()
	c, err := hedgerow.New(hedgerow.Config{
		APIKey: simposthog.Token, Host: host, HTTPClient: &http.Client{Transport: ph.Transport()}, LogLevel: slog.LevelDebug,
		Logger: slog.New(slog.NewTextHandler(&locked{w: &log}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Capture(t.Context(), "prompt_shared", nil)
	if err := c.Close(t.Context()); err != nil || !strings.Contains(log.String(), "level=DEBUG") {
		t.Errorf("%v %s", err, log.String())
	}
}

// Config.Surface is on every event that names none.
func TestSurface(t *testing.T) {
	bubble(t, func(c *hedgerow.Config) { c.Surface = "Playbook" }, func(t *testing.T, r *rig) {
		call(t.Context(), r)
		r.Capture(t.Context(), "prompt_shared", nil)
		r.Capture(t.Context(), "prompt_shared", hedgerow.Properties{"surface": "Compose"})
		r.Capture(hedgerow.WithSurface(t.Context(), "Guide"), "prompt_shared", nil)
		r.flush(t)
		got := map[string]int{}
		for _, e := range r.ph.Events() {
			got[e.Text("surface")]++
		}
		if got["Playbook"] != 2 || got["Compose"] != 1 || got["Guide"] != 1 {
			t.Errorf("%v", got)
		}
	})
}
