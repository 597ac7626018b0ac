package provider

import (
	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// embeddingsResponse reads a member of an embeddings response (openai-go:
// CreateEmbeddingResponse). The vectors are not kept.
func (p *parser) embeddingsResponse(name string, v gjson.Result) {
	switch name {
	case "model":
		p.e.Model = or(event.FirstChars(text(v), 200), p.e.Model)
	case "id":
		p.e.CompletionID = or(event.FirstChars(text(v), 200), p.e.CompletionID)
	case "meta": // Cohere
		p.usageCohere(v)
	case "predictions", "metadata":
		if p.google {
			p.predictResponse(name, v)
		}
	case "usageMetadata":
		p.usageGemini(v)
	case "prompt_eval_count", "inputTextTokenCount": // Ollama; Amazon's Titan
		count(v, &p.e.Usage.Input)
	case "usage":
		p.usageOpenAI(v)
		if u := &p.e.Usage; !u.Input.Known && u.Total.Known { // Voyage and others report only a total
			u.Input = u.Total
		}
	}
}
