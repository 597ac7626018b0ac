package provider

import (
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// rawPredicts reports whether a method of Vertex AI passes a body on to a
// publisher's own API: the body has the publisher's format, and the path names
// the model.
func rawPredicts(method string) bool { return method == "rawPredict" || method == "streamRawPredict" }

// countsTokens is the model in the path of Claude's token count on Vertex AI;
// the body has the real one.
const countsTokens = "count-tokens"

// vertexOperation returns the operation of rawPredict, streamRawPredict and
// predict of a model
// (https://docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models),
// or "" for models whose format is not known.
func vertexOperation(path, model, method string) string {
	_, after, _ := strings.Cut(path, "/publishers/")
	publisher, _, _ := strings.Cut(after, "/")
	switch {
	case method == "predict" && publisher == "google" && strings.Contains(model, "embedding"):
		return opEmbeddings
	case !rawPredicts(method):
	case publisher == "anthropic" && model == countsTokens:
		return opCountTokens
	case publisher == "anthropic":
		return opMessages
	case publisher == "mistralai" && strings.Contains(model, "ocr"):
		return opOCR
	case publisher == "mistralai", publisher == "ai21":
		return opChat
	}
	return ""
}

// onVertex reports whether a path is one of [vertexOperation]'s.
func onVertex(path string) bool {
	_, method, ok := geminiMethod(path)
	return ok && (rawPredicts(method) || method == "predict")
}

// predictRequest reads a member of an embeddings request by predict:
// {"instances":[{"content":"…","task_type":"…"}],"parameters":{…}}.
func (p *parser) predictRequest(name string, v gjson.Result) {
	switch name {
	case "instances":
		out := []byte{'['}
		v.ForEach(func(_, i gjson.Result) bool {
			if t := i.Get("content"); t.Type == gjson.String {
				if len(out) > 1 {
					out = append(out, ',')
				}
				out = append(out, t.Raw...)
			}
			return true
		})
		if len(out) > 1 {
			p.e.Content.Input = clean(append(out, ']'))
		}
		if t := v.Get("0.task_type"); t.Type == gjson.String {
			p.parameter("task_type", t)
		}
	case "parameters":
		v.ForEach(func(k, v gjson.Result) bool {
			if n := snake(k.Str); v.Type != gjson.Null && (n == "output_dimensionality" || n == "auto_truncate") {
				p.parameter(n, v)
			}
			return true
		})
	}
}

// predictResponse reads a member of its response. The count is that of all
// texts.
func (p *parser) predictResponse(name string, v gjson.Result) {
	switch name {
	case "predictions":
		v.ForEach(func(_, one gjson.Result) bool {
			var n event.Int
			if count(one.Get("embeddings.statistics.token_count"), &n); n.Known {
				p.counts.prompt = event.Some(p.counts.prompt.Or(0) + n.Value)
			}
			return true
		})
	case "metadata":
		if n := v.Get("billableCharacterCount"); n.Type == gjson.Number {
			p.meta("billable_character_count", raw(n))
		}
	}
}
