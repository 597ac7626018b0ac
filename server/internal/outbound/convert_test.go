package outbound

import (
	"cmp"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// The events sent to a connection; the schema without text has none even if
// the connection sends content.
func TestShape(t *testing.T) {
	const word = "xyzzy"
	call := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Generation, DistinctID: "u", Timestamp: time.Unix(1_780_000_000, 0), TraceID: "t", SpanID: "s",
		Surface: "Guide", IsError: true, Status: event.StatusError, ErrorType: "failed on " + word, ErrorMessage: word, Model: "m",
		Properties: map[string]json.RawMessage{"user_prompt": json.RawMessage(`"` + word + `"`), "plan": json.RawMessage(`"pro"`)},
		Content:    event.Content{Input: json.RawMessage(`"` + word + `"`), Output: json.RawMessage(`"` + word + `"`)}}
	product := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: "prompt_shared", DistinctID: "u", Timestamp: call.Timestamp}
	for _, tt := range []struct {
		schema  project.Schema
		filter  project.Filter
		e       *event.Event
		private bool
		want    string // names; a + after those with the text
	}{
		{project.SchemaPostHog, project.Filter{}, call, true, "$ai_generation"},
		{project.SchemaPostHog, project.Filter{}, call, false, "$ai_generation+"},
		{project.SchemaLLMEvents, project.Filter{}, call, false, "llm_request_started llm_request_failed"},
		{project.SchemaBoth, project.Filter{}, call, false, "$ai_generation+ llm_request_started llm_request_failed"},
		{project.SchemaBoth, project.Filter{}, call, true, "$ai_generation llm_request_started llm_request_failed"},
		{project.SchemaBoth, project.Filter{Events: []string{event.Generation}}, call, true, "$ai_generation llm_request_started llm_request_failed"},
		{project.SchemaBoth, project.Filter{Events: []string{"llm_request_failed", "prompt_shared"}}, call, true, "llm_request_failed"},
		{project.SchemaBoth, project.Filter{Events: []string{"llm_request_completed"}}, call, true, ""},
		{project.SchemaPostHog, project.Filter{Events: []string{"prompt_shared"}}, call, true, ""},
		{project.SchemaBoth, project.Filter{Surfaces: []string{"Test"}}, call, true, ""},
		{project.SchemaLLMEvents, project.Filter{Events: []string{"prompt_shared"}}, product, true, "prompt_shared"},
		{project.SchemaBoth, project.Filter{}, product, false, "prompt_shared"},
	} {
		c := project.NewConnection("default", "main")
		c.Schema, c.Filter, c.PrivacyMode, c.Environment, c.Surface = tt.schema, tt.filter, tt.private, "staging", "Shop"
		var got []string
		for _, out := range Convert(c, project.Project{ID: "default"}, tt.e).Events {
			b, err := out.MarshalPostHog(event.Wire{})
			if err != nil {
				t.Fatal(err)
			}
			name := out.Name
			if strings.Contains(string(b), word) {
				name += "+"
			}
			if !strings.Contains(string(b), `"environment":"staging"`) {
				t.Errorf("%s lacks the connection's environment: %s", name, b)
			}
			if surface := cmp.Or(tt.e.Surface, "Shop"); !strings.Contains(string(b), `"surface":"`+surface+`"`) {
				t.Errorf("%s lacks the surface %s: %s", name, surface, b)
			}
			got = append(got, name)
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s of schema %s, filter %v, private %t: %q, want %q", tt.e.Name, tt.schema, tt.filter, tt.private, s, tt.want)
		}
	}
}
