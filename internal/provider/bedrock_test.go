package provider_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// TestBedrockCosts prices the exchanges with Bedrock, by the rates of its price list in
// dollars per million tokens.
func TestBedrockCosts(t *testing.T) {
	want := map[string]string{ // "" is unknown
		"nova_invoke":             "0.00022",    // flex: 100 × 0.4 + 1000 cached × 0.1 + 50 × 1.6
		"nova_stream":             "0.00006306", // 427 × 0.06 + 156 × 0.24
		"titan_invoke":            "0.0000018",  // 3 × 0.2 + 2 × 0.6
		"titan_stream":            "0.000007",   // 5 × 0.2 + 10 × 0.6
		"titan_embed":             "0.00000008", // 4 × 0.02
		"nova_embed":              "0.000000675",
		"llama_invoke":            "0.00000864", // 12 × 0.72
		"llama_stream":            "0.00000864",
		"mistral_invoke":          "0.0000028", // 12 × 0.15 + 5 × 0.2
		"mistral_stream":          "0.0000028",
		"mistral_chat":            "0.0003",   // 90 × 2 + 20 × 6
		"cohere_command_r":        "0.000021", // 30 × 0.5 + 4 × 1.5
		"cohere_command_r_stream": "0.0000335",
		"cohere_command":          "0.000022",  // 6 × 1 + 8 × 2
		"cohere_embed":            "0.0000007", // 7 × 0.1
		"cohere_rerank":           "0.002",     // a query
		"cohere_rerank_long":      "",          // of unknown parts
		"jamba_invoke":            "0.000054",  // 11 × 2 + 4 × 8
		"jamba_stream":            "0.000054",
		"j2_invoke":               "",             // no counts
		"deepseek_invoke":         "0.0001269",    // 14 × 1.35 + 20 × 5.4
		"qwen_invoke":             "0.0000070875", // priority: 11 × 0.2625 + 4 × 1.05
		"gpt_oss_stream":          "0.0000237",    // 70 × 0.15 + 22 × 0.6
		"openai_chat":             "0.0000237",
		"openai_stream":           "0.0000237",
		"profile_claude":          "0.0000605", // by the name in the answer, in a region: 1.1 × (10 × 1 + 5 × 5 + 200 cached × 0.1)
		"profile_llama":           "",          // no name
		"mistral_cut":             "",          // estimated
	}
	for _, x := range exchanges(t) {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(x.path), "bedrock_"), ".txt")
		total, ok := want[name]
		if !ok || !strings.Contains(x.path, "bedrock_") {
			continue
		}
		delete(want, name)
		e := provider.Parse(&x.call)
		price.Default().Price(e)
		got := ""
		if e.Cost.Total.Known {
			got = e.Cost.Total.Value.String()
		}
		if got != total {
			t.Errorf("%s: total %q, want %q; unpriced %q", name, got, total, e.Cost.Unpriced)
		}
	}
	if len(want) > 0 {
		t.Errorf("no exchanges for %v", want)
	}
}

// A profile of a region costs more than the global one, also where the answer has
// Claude's bare name.
func TestBedrockRegion(t *testing.T) {
	total := func(id string) string {
		e := provider.Parse(&provider.Call{
			Provider: "amazon-bedrock", Dialect: provider.OpenAI, Method: "POST", Path: "/model/" + id + "/invoke", Status: 200, Start: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC),
			Request:  []byte(`{"anthropic_version":"bedrock-2023-05-31","messages":[]}`),
			Response: []byte(`{"type":"message","model":"claude-sonnet-4-5-20250929","content":[{"type":"text","text":"x"}],"usage":{"input_tokens":1000,"output_tokens":0}}`),
		})
		price.Default().Price(e)
		return e.Cost.Total.Value.String()
	}
	if us, global := total("us.anthropic.claude-sonnet-4-5-20250929-v1:0"), total("global.anthropic.claude-sonnet-4-5-20250929-v1:0"); us != "0.0033" || global != "0.003" {
		t.Errorf("us %s, global %s", us, global)
	}
}

func TestBedrockOperation(t *testing.T) {
	for _, c := range []struct{ model, want string }{
		{"anthropic.claude-sonnet-4-6", "messages"}, {"us-gov.anthropic.claude-3-haiku-20240307-v1:0", "messages"},
		{"amazon.nova-micro-v1:0", "converse"}, {"apac.amazon.nova-2-lite-v1:0", "converse"},
		{"arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0", "converse"},
		{"arn:aws:bedrock:us-east-1:123:inference-profile/us.meta.llama3-3-70b-instruct-v1:0", "invoke_model"},
		{"arn:aws:bedrock:us-east-1:123:application-inference-profile/a1b2", ""}, {"arn:aws:bedrock:us-east-1:123:imported-model/a1b2", ""},
		{"amazon.nova-canvas-v1:0", ""}, {"amazon.nova-sonic-v1:0", ""}, {"amazon.titan-image-generator-v2:0", ""}, {"amazon.titan-tg1-large", "invoke_model"},
		{"amazon.titan-embed-image-v1", "embeddings"}, {"cohere.embed-v4:0", "embeddings"}, {"global.cohere.embed-v4:0", "embeddings"},
		{"amazon.rerank-v1:0", "rerank"}, {"cohere.command-r-plus-v1:0", "invoke_model"},
		{"global.moonshotai.kimi-k3", "invoke_model"}, {"google.gemma-3-12b-it", "invoke_model"}, {"writer.palmyra-x5-v1:0", "invoke_model"},
		{"twelvelabs.pegasus-1-2-v1:0", ""}, {"luma.ray-v2:0", ""}, {"m", ""},
	} {
		for _, verb := range []string{"invoke", "invoke-with-response-stream"} {
			if got := provider.Operation(provider.OpenAI, "POST", "/model/"+c.model+"/"+verb); got != c.want {
				t.Errorf("%s, %s: %q, want %q", c.model, verb, got, c.want)
			}
		}
	}
}

// The formats of requests to an ARN that does not name the model.
func TestBedrockHidden(t *testing.T) {
	for _, c := range []struct{ body, operation, name string }{
		{`{"anthropic_version":"bedrock-2023-05-31","messages":[]}`, "messages", event.Generation},
		{`{"messages":[{"role":"user","content":[{"text":"Hi"}]}]}`, "converse", event.Generation},
		{`{"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`, "invoke_model", event.Generation},
		{`{"inputText":"Hi","textGenerationConfig":{}}`, "invoke_model", event.Generation},
		{`{"texts":["Hi"],"input_type":"search_query"}`, "embeddings", event.Embedding},
		{`{"inputText":"Hi"}`, "", event.Span}, // Titan's text or its embeddings
		{`{"prompt":"a hedge"}`, "", event.Span},
		{`not JSON`, "", event.Span},
	} {
		e := provider.Parse(&provider.Call{Provider: "amazon-bedrock", Dialect: provider.OpenAI, Method: "POST", Path: "/model/arn:aws:bedrock:us-east-1:123:provisioned-model/a1b2/invoke", Status: 200, Request: []byte(c.body)})
		if e.Operation != c.operation || e.Name != c.name || !strings.HasPrefix(e.ModelAsked, "arn:") {
			t.Errorf("%s: operation %q, event %s, model %q", c.body, e.Operation, e.Name, e.ModelAsked)
		}
	}
}
