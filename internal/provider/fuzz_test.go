package provider_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// fuzzParse fuzzes one format's parser. Whatever the input, there is an event
// that can be encoded, with valid JSON as content and no negative count.
func fuzzParse(f *testing.F, dialect provider.Dialect, path string, matches func(*exchange) bool) {
	for _, x := range exchanges(f) {
		if matches(x) {
			f.Add(x.call.Request, x.call.Response, uint16(x.call.Status), x.call.ResponseHeader.Get("Content-Type"), uint16(0))
			f.Add(x.call.Request, x.call.Response, uint16(x.call.Status), x.call.ResponseHeader.Get("Content-Type"), uint16(len(x.call.Response)/2))
		}
	}
	for _, a := range answers(f) {
		if a.call.Dialect == dialect && matches(&exchange{call: a.call}) {
			f.Add(a.call.Request, a.call.Response, uint16(200), a.call.ResponseHeader.Get("Content-Type"), uint16(0))
			f.Add(a.call.Request, a.call.Response, uint16(200), a.call.ResponseHeader.Get("Content-Type"), uint16(len(a.call.Response)/3))
		}
	}
	f.Fuzz(func(t *testing.T, request, response []byte, status uint16, contentType string, cut uint16) {
		c := provider.Call{
			Provider: "p", Dialect: dialect, Method: "POST", Path: path, Status: int(status), Start: start,
			Request: request, Response: response, RequestHeader: http.Header{}, ResponseHeader: http.Header{"Content-Type": {contentType}},
		}
		if n := int(cut); n > 0 && n < len(response) {
			c.Response, c.ResponseTail, c.ResponseTruncated = response[:n], response[n:], true
		}
		e := provider.Parse(&c)
		e.ProjectID = "default"
		if err := e.Validate(); err != nil {
			t.Fatal(err)
		}
		_ = describe(t, e)
		u := e.Usage
		for _, n := range []event.Int{u.Input, u.Output, u.Total, u.CacheRead, u.CacheWrite, u.Reasoning, u.InputAudio, u.WebSearches} {
			if n.Known && n.Value < 0 {
				t.Fatalf("a negative count: %+v", u)
			}
		}
		b, err := e.MarshalPostHog(event.Wire{})
		if err != nil || !json.Valid(b) {
			t.Fatalf("cannot be encoded: %v", err)
		}
		if e.ParseError == "the parser failed on this exchange; its format is not known to hedgerow" {
			t.Fatal("the parser panicked")
		}
	})
}

func of(ops ...string) func(*exchange) bool {
	return func(x *exchange) bool {
		op := provider.Operation(x.call.Dialect, x.call.Method, x.call.Path)
		for _, o := range ops {
			if o == op {
				return true
			}
		}
		return false
	}
}

func FuzzChat(f *testing.F) {
	fuzzParse(f, provider.OpenAI, "/v1/chat/completions", of("chat", "completions", "fim"))
}

func FuzzResponses(f *testing.F) {
	fuzzParse(f, provider.OpenAI, "/v1/responses", of("responses", "responses_get"))
}

func FuzzMessages(f *testing.F) {
	fuzzParse(f, provider.Anthropic, "/v1/messages", of("messages", "count_tokens"))
}

func FuzzGemini(f *testing.F) {
	fuzzParse(f, provider.Gemini, "/v1beta/models/gemini-2.5-flash:streamGenerateContent", of("generate_content"))
}

func FuzzGeminiEmbeddings(f *testing.F) {
	fuzzParse(f, provider.Gemini, "/v1beta/models/gemini-embedding-001:batchEmbedContents", of("embeddings"))
}

func FuzzInteractions(f *testing.F) {
	fuzzParse(f, provider.Gemini, "/v1beta/interactions", of("interactions", "interactions_get"))
}

func FuzzInvokeModel(f *testing.F) {
	fuzzParse(f, provider.OpenAI, "/model/cohere.command-r-v1:0/invoke-with-response-stream", of("invoke_model"))
}

func FuzzConverse(f *testing.F) {
	fuzzParse(f, provider.OpenAI, "/model/amazon.nova-pro-v1:0/invoke-with-response-stream", of("converse"))
}

func FuzzRerank(f *testing.F) {
	fuzzParse(f, provider.OpenAI, "/model/cohere.rerank-v3-5:0/invoke", of("rerank"))
}

func FuzzEmbeddings(f *testing.F) {
	fuzzParse(f, provider.OpenAI, "/v1/embeddings", of("embeddings"))
}

func FuzzMedia(f *testing.F) {
	fuzzParse(f, provider.OpenAI, "/v1/images/generations", of("images", "transcriptions"))
}

// FuzzRedactBase64 checks that JSON stays valid and that short text is
// unchanged.
func FuzzRedactBase64(f *testing.F) {
	for _, x := range exchanges(f) {
		f.Add(x.call.Request)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := string(b)
		out := provider.RedactBase64(b)
		if string(b) != before {
			t.Fatal("the input was changed")
		}
		if json.Valid(b) && !json.Valid(out) {
			t.Fatalf("no longer valid: %s", out)
		}
	})
}

func FuzzOllama(f *testing.F) {
	fuzzParse(f, provider.OpenAI, "/api/chat", of("ollama_chat", "ollama_generate"))
}

func FuzzOllamaGenerate(f *testing.F) {
	fuzzParse(f, provider.OpenAI, "/api/generate", of("ollama_chat", "ollama_generate"))
}
