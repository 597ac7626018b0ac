package otelexport_test

import (
	"slices"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/otelexport"
)

// The options of the client hold for spans too: straight to PostHog content and
// unknown attributes stay, the cost is known, and the schema decides the events.
func TestExporterStraightToPostHog(t *testing.T) {
	for schema, want := range map[hedgerow.Schema]string{
		hedgerow.SchemaPostHog:   "$ai_generation $ai_span $ai_span",
		hedgerow.SchemaLLMEvents: "llm_request_completed llm_request_started",
		hedgerow.SchemaBoth:      "$ai_generation $ai_span $ai_span llm_request_completed llm_request_started",
	} {
		c, ph := newClient(t, func(c *hedgerow.Config) {
			c.SendContent, c.Schema, c.UIBaseURL, c.SendAttributes = false, schema, "https://hedgerow.example.com", []string{"feature"}
		})
		tp := sdktrace.NewTracerProvider(sdktrace.WithBatcher(otelexport.NewExporter(c)), sdktrace.WithResource(res))
		id := record(t.Context(), tp)
		if err := tp.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range ph.Events() {
			names = append(names, e.Name)
			if s := string(e.Raw); strings.Contains(s, "blackthorn") || strings.Contains(s, "secret") || strings.Contains(s, "nothing there") {
				t.Errorf("content left: %s", s)
			}
			if e.Text("trace_url") != "https://hedgerow.example.com/traces/"+id || e.DistinctID != "anonymous" || e.Text("$process_person_profile") != "false" || e.Text("environment") != "staging" {
				t.Errorf("%s", e.Raw)
			}
			wanted := map[string]string{}
			switch e.Name {
			case "$ai_generation":
				wanted = map[string]string{"$ai_input_cost_usd": "0.0000036", "$ai_output_cost_usd": "0.0000048", "$ai_total_cost_usd": "0.0000084", "production": "true", "experiment-v2": "true", "feature": "search"}
			case "llm_request_completed":
				wanted = map[string]string{"estimated_cost_usd": "0.0000084", "latency_ms": "1500", "production": "true", "status": "success", "trace_id": id, "feature": "search"}
			}
			for name, want := range wanted {
				if got := e.Text(name); got != want {
					t.Errorf("%s: %s is %q, want %q", e.Name, name, got, want)
				}
			}
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("schema %s: %s, want %s", schema, got, want)
		}
	}
	// An attribute that no one named stays.
	c, ph := newClient(t, func(c *hedgerow.Config) { c.SendContent = false })
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(otelexport.NewProcessor(c)), sdktrace.WithResource(res))
	record(t.Context(), tp)
	if err := tp.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range ph.Events() {
		if e.Has("feature") {
			t.Errorf("%s", e.Raw)
		}
	}
}
