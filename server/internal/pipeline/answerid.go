package pipeline

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// answerIDs are the places where clients put the provider's id of an answer other than
// $ai_completion_id. By it a call is known that the gateway has seen as well.
var answerIDs = []struct {
	client string
	read   func(*event.Event) string
}{
	{"posthog-python, openai_agents", func(e *event.Event) string { return quoted(e.Properties["$ai_response_id"]) }},
	{"LiteLLM's callback; OpenInference and Langfuse, whose output is the answer as it was", func(e *event.Event) string { return idOf(e.Content.Output) }},
	{"LiteLLM's callback", func(e *event.Event) string { return providers(e.SpanID) }},
	{"@mastra/posthog: the answer's body", bodyID},
}

// bodyID is the id in an answer's body.
func bodyID(e *event.Event) string { return idOf(e.Properties["body"]) }

// readAnswerID fills a call's completion id where its client put it elsewhere, and that
// of a step of @mastra/posthog. It comes before privacy, which may take the output away.
func readAnswerID(e *event.Event) {
	if e.Name == event.Span && e.Source == event.SourceIngest && e.CompletionID == "" {
		e.CompletionID = event.FirstChars(bodyID(e), event.MaxNameLen)
		return
	}
	if !e.IsCosted() || e.CompletionID != "" {
		return
	}
	for _, place := range answerIDs {
		if id := place.read(e); id != "" {
			e.CompletionID = event.FirstChars(id, event.MaxNameLen)
			return
		}
	}
}

// idOf is the id of an answer, as an object or as a text that holds one.
func idOf(raw json.RawMessage) string {
	if bytes.HasPrefix(raw, []byte(`"{`)) {
		raw = json.RawMessage(quoted(raw))
	}
	id := ""
	for key, v := range rawjson.Members(raw) {
		if string(key) == "id" {
			id = quoted(v)
		}
	}
	return providers(id)
}

// providers returns an id that has the form of a provider's: chatcmpl-…, resp_…, msg_….
func providers(id string) string {
	for _, prefix := range []string{"chatcmpl-", "cmpl-", "resp_", "msg_", "gen-"} {
		if strings.HasPrefix(id, prefix) && len(id) > len(prefix)+12 {
			return id
		}
	}
	return ""
}

func quoted(raw json.RawMessage) string {
	s, _ := rawjson.String(raw)
	return s
}
