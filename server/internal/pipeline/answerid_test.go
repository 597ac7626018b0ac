package pipeline

import (
	"encoding/json"
	"testing"

	"github.com/hedgerow/hedgerow/event"
)

// TestAnswerID has what clients send where the id is not $ai_completion_id.
func TestAnswerID(t *testing.T) {
	for name, c := range map[string]struct {
		e    event.Event
		want string
	}{
		"openai_agents":           {event.Event{Properties: map[string]json.RawMessage{"$ai_response_id": json.RawMessage(`"resp_54ae839e948f46c9a83d5fcca78295bb"`)}}, "resp_54ae839e948f46c9a83d5fcca78295bb"},
		"LiteLLM":                 {event.Event{Content: event.Content{Output: json.RawMessage(`{"id":"chatcmpl-3af2caf059284c98a142c216e6f457c9","choices":[]}`)}}, "chatcmpl-3af2caf059284c98a142c216e6f457c9"},
		"LiteLLM, without output": {event.Event{SpanID: "chatcmpl-3af2caf059284c98a142c216e6f457c9"}, "chatcmpl-3af2caf059284c98a142c216e6f457c9"},
		"Mastra's body":           {event.Event{Properties: map[string]json.RawMessage{"body": json.RawMessage(`"{\"id\": \"resp_708909dca4df45f4863d444b2c00720c\"}"`)}}, "resp_708909dca4df45f4863d444b2c00720c"},
		"Mastra's step":           {event.Event{Name: event.Span, Source: event.SourceIngest, Properties: map[string]json.RawMessage{"body": json.RawMessage(`{"id": "resp_708909dca4df45f4863d444b2c00720c"}`)}}, "resp_708909dca4df45f4863d444b2c00720c"},
		"another span":            {event.Event{Name: event.Span, Source: event.SourceIngest, Content: event.Content{Output: json.RawMessage(`{"id":"chatcmpl-3af2caf059284c98a142c216e6f457c9"}`)}}, ""},
		"its own wins":            {event.Event{CompletionID: "a", SpanID: "chatcmpl-3af2caf059284c98a142c216e6f457c9"}, "a"},
		"messages":                {event.Event{Content: event.Content{Output: json.RawMessage(`[{"id":"msg_3af2caf059284c98a142c216e6f457c9"}]`)}}, ""},
		"a span's own id":         {event.Event{SpanID: "span_775af853f8a44ca9aaf5b71f"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if c.e.Name == "" {
				c.e.Name = event.Generation
			}
			if readAnswerID(&c.e); c.e.CompletionID != c.want {
				t.Errorf("%q, want %q", c.e.CompletionID, c.want)
			}
		})
	}
}
