package price_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/hedgerow/hedgerow/internal/price"
)

func TestMatch(t *testing.T) {
	tests := []struct{ provider, model, want string }{
		// Names as vendors write them.
		{"openai", "gpt-4.1-mini", "openai gpt-4.1-mini"},
		{"openai", "gpt-4o", "openai gpt-4o"},
		{"openai", "gpt-4o-mini", "openai gpt-4o-mini"},
		{"openai", "o3", "openai o3"},
		{"openai", "text-embedding-3-small", "openai text-embedding-3-small"},
		{"anthropic", "claude-sonnet-4-6", "anthropic claude-sonnet-4-6"},
		{"anthropic", "claude-opus-4-8", "anthropic claude-opus-4-8"},
		{"google", "gemini-2.5-pro", "google gemini-2.5-pro"},
		{"google", "gemini-2.5-flash", "google gemini-2.5-flash"},
		{"mistral", "mistral-large-latest", "mistral mistral-large-2512"},
		{"deepseek", "deepseek-chat", "deepseek deepseek-chat"},
		{"groq", "llama-3.3-70b-versatile", "groq llama-3.3-70b-versatile"},
		{"xai", "grok-4", "xai grok-4-0709"},
		{"perplexity", "sonar-pro", "perplexity sonar-pro"},
		{"cohere", "command-a-03-2025", "cohere command-a-03-2025"},
		{"together", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "together meta-llama/Llama-3.3-70B-Instruct-Turbo"},
		{"fireworks", "accounts/fireworks/models/gpt-oss-120b", "fireworks gpt-oss-120b"},
		{"cerebras", "gpt-oss-120b", "cerebras gpt-oss-120b"},

		// Dates.
		{"openai", "gpt-4.1-mini-2025-04-14", "openai gpt-4.1-mini"},
		{"openai", "gpt-4o-2024-08-06", "openai gpt-4o"},
		{"openai", "gpt-4o-2024-05-13", "openai gpt-4o-2024-05-13"}, // costs more
		{"anthropic", "claude-sonnet-4-5-20250929", "anthropic claude-sonnet-4-5"},
		{"anthropic", "claude-3-5-haiku-latest", "anthropic claude-3-5-haiku-latest"},
		{"openai", "gpt-4-0613", "openai gpt-4"},
		{"openai", "gpt-4.1-mini-2025-13-14", ""}, // no such month
		{"openai", "gpt-4.1-mini-20250431x", ""},

		// Case, points and dashes, brackets.
		{"OpenAI", "GPT-4.1-Mini", "openai gpt-4.1-mini"},
		{"anthropic", "claude-sonnet-4.6", "anthropic claude-sonnet-4-6"},
		{"anthropic", "claude-4.5-sonnet", "anthropic claude-sonnet-4-5"},
		{"anthropic", "claude-sonnet-4-5[1m]", "anthropic claude-sonnet-4-5"},
		{"openai", " gpt-4o ", "openai gpt-4o"},

		// Prefixes.
		{"", "openai/gpt-4.1-mini", "openai gpt-4.1-mini"},
		{"", "anthropic/claude-sonnet-4.6", "anthropic claude-sonnet-4-6"},
		{"", "gpt-4.1-mini", "openai gpt-4.1-mini"},
		{"", "claude-sonnet-4-6", "anthropic claude-sonnet-4-6"},
		{"", "gemini-2.5-pro", "google gemini-2.5-pro"},
		{"openai", "openai/gpt-4.1-mini", "openai gpt-4.1-mini"},
		{"openai", "anthropic/claude-sonnet-4.6", "anthropic claude-sonnet-4-6"}, // the OpenAI SDK at another base URL
		{"vercel", "anthropic/claude-sonnet-4.6", "anthropic claude-sonnet-4-6"},
		{"litellm", "bedrock/us.anthropic.claude-sonnet-4-6-v1:0", "amazon-bedrock regional.anthropic.claude-sonnet-4-6-v1:0"},
		{"google", "models/gemini-2.5-pro", "google gemini-2.5-pro"},
		{"vertex_ai", "publishers/google/models/gemini-2.5-flash", "google gemini-2.5-flash"},
		{"gcp.vertex_ai", "gemini-2.0-flash-001", "google vertex/gemini-2.0-flash"},
		{"google", "claude-sonnet-4-5@20250929", "google claude-sonnet-4-5"},
		{"mistral", "openai/gpt-4o", ""},

		// OpenRouter.
		{"openrouter", "openai/gpt-4.1-mini", "openrouter openai/gpt-4.1-mini"},
		{"openrouter", "anthropic/claude-sonnet-4.6", "openrouter anthropic/claude-sonnet-4.6"},
		{"openrouter", "openai/gpt-4.1-mini:nitro", "openrouter openai/gpt-4.1-mini"},
		{"openrouter", "openai/gpt-4o:online", "openrouter openai/gpt-4o"},
		{"openrouter", "meta-llama/llama-3.3-70b-instruct", "openrouter meta-llama/llama-3.3-70b-instruct"},
		{"openrouter", "meta-llama/llama-3.3-70b-instruct:free", "openrouter meta-llama/llama-3.3-70b-instruct:free"},
		{"openrouter", "nobody/never-heard-of:free", "openrouter nobody/never-heard-of:free"},
		{"openrouter", "nobody/never-heard-of", ""},
		{"", "openrouter/openai/gpt-4.1-mini", "openrouter openai/gpt-4.1-mini"},
		{"openai", "gpt-4.1-mini:free", ""}, // no such thing outside OpenRouter

		// Bedrock: us. and eu. cost a tenth more than global.
		{"bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon-bedrock regional.anthropic.claude-sonnet-4-5-20250929-v1:0"},
		{"aws", "eu.anthropic.claude-haiku-4-5-20251001-v1:0", "amazon-bedrock regional.anthropic.claude-haiku-4-5-20251001-v1:0"},
		{"aws.bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon-bedrock global.anthropic.claude-sonnet-4-5-20250929-v1:0"},
		{"bedrock", "amazon.nova-pro-v1:0", "amazon-bedrock amazon.nova-pro-v1:0"},
		{"bedrock", "us.amazon.nova-pro-v1:0:300k", "amazon-bedrock amazon.nova-pro-v1:0"},
		{"bedrock", "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon-bedrock regional.anthropic.claude-sonnet-4-5-20250929-v1:0"},
		{"bedrock", "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0", "amazon-bedrock amazon.nova-lite-v1:0"},
		{"bedrock", "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abc", ""},
		{"bedrock", "us.meta.llama3-1-70b-instruct-v1:0", "amazon-bedrock meta.llama3-1-70b-instruct-v1:0"},
		{"bedrock", "us.deepseek.r1-v1:0", "amazon-bedrock deepseek.r1-v1:0"},
		{"bedrock", "mistral.mistral-7b-instruct-v0:2", "amazon-bedrock mistral.mistral-7b-instruct-v0:2"},
		{"bedrock", "amazon.titan-embed-text-v2:0:8k", "amazon-bedrock amazon.titan-embed-text-v2:0"},
		{"bedrock", "openai.gpt-oss-20b-1:0", "amazon-bedrock openai.gpt-oss-20b-1:0"},
		{"", "us.xai.grok-4.6", "amazon-bedrock us.xai.grok-4.6"},
		{"", "global.moonshotai.kimi-k3", "amazon-bedrock global.moonshotai.kimi-k3"},
		{"bedrock", "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a1b2c3d4e5f6", ""},
		{"anthropic", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon-bedrock regional.anthropic.claude-sonnet-4-5-20250929-v1:0"},

		// Azure without aliases: names of deployments are the models' own, or unknown.
		{"azure", "gpt-4.1-mini", "openai gpt-4.1-mini"},
		{"azure", "gpt-35-turbo", "openai gpt-3.5-turbo"},
		{"azure", "prod-chat", ""},

		// Nothing is found inside names, and a server of one's own has no public price.
		{"openai", "my-gpt-4o", ""},
		{"openai", "gpt-4o-mine", ""},
		{"openai", "gpt", ""},
		{"openai", "", ""},
		{"", "", ""},
		{"ollama", "gpt-oss-120b", ""},
		{"my-vllm", "meta-llama/llama-3.3-70b-instruct", ""},
		{"openai", "/models/gpt-4o", ""},
		{"openai", strings.Repeat("gpt-4o", 100), ""},
		{"fireworks", "accounts/acme/models/gpt-oss-120b", ""},
		{"google", "tunedModels/gemini-2.5-pro", ""},
	}
	for _, tt := range tests {
		r, ok := price.Default().Match(tt.provider, tt.model)
		got := ""
		if ok {
			got = r.Provider + " " + r.Model
		}
		if got != tt.want {
			t.Errorf("Match(%q, %.80q) is %q, want %q", tt.provider, tt.model, got, tt.want)
		}
		// The second time the answer comes from the cache.
		if again, ok2 := price.Default().Match(tt.provider, tt.model); ok2 != ok || again.Model != r.Model {
			t.Errorf("Match(%q, %.80q) is %q, then %q", tt.provider, tt.model, r.Model, again.Model)
		}
	}
}

func TestFreeIsKnownToCostNothing(t *testing.T) {
	r, ok := price.Default().Match("openrouter", "nobody/never-heard-of:free")
	if !ok || !r.Free() {
		t.Errorf("%v, %t", r, ok)
	}
	if r, _ := price.Default().Match("openai", "text-embedding-3-small"); r.Free() {
		t.Error("a model without output price is not free")
	}
}

func TestMatchOwn(t *testing.T) {
	tab := price.Default().With(rows(t, `
- {model: acme-7b, aliases: [acme-small], input: 1, output: 2}
- {provider: openai, model: gpt-4o, input: 3, output: 4}
- {provider: azure, model: gpt-4o, input: 5, output: 6}
- {provider: my-vllm, model: meta-llama/llama-3.3-70b-instruct, input: 7, output: 8}
- {provider: amazon-bedrock, model: "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a1b2c3d4e5f6", input: 9, output: 10}
`)...).WithAliases("azure", map[string]string{"prod-chat": "gpt-4.1-mini", "Prod_Big": "gpt-4o", "odd": "no-such-model", "cl": "claude-sonnet-4-6"}).
		WithAliases("", map[string]string{"everywhere": "openai/o3"})
	tests := []struct{ provider, model, want string }{
		{"anyone", "acme-7b", "1"},
		{"openai", "ACME_7b-2026-01-31", "1"},
		{"my-vllm", "acme/acme-small", "1"},
		{"openai", "gpt-4o-2024-08-06", "3"},
		{"openai", "gpt-4o-2024-05-13", "3"}, // one's own price of the family wins over the table's of the day
		{"openrouter", "openai/gpt-4o", "2.5"},
		{"azure", "gpt-4o", "5"},
		{"my-vllm", "meta-llama/llama-3.3-70b-instruct", "7"},
		{"azure", "prod-chat", "0.4"},
		{"azure-openai", "PROD-CHAT", "0.4"},
		{"azure", "prod-big", "5"},
		{"azure", "odd", ""},
		{"bedrock", "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a1b2c3d4e5f6", "9"},
		{"bedrock", "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/f6e5d4c3b2a1", ""},
		{"openai", "prod-chat", ""},
		{"", "everywhere", "2"},
		{"groq", "everywhere", ""}, // o3 is not available at groq
	}
	for _, tt := range tests {
		got := ""
		if r, ok := tab.Match(tt.provider, tt.model); ok {
			got = perMillion(r.Input)
		}
		if got != tt.want {
			t.Errorf("Match(%q, %q) costs %q, want %q", tt.provider, tt.model, got, tt.want)
		}
	}
}

// TestMatchConcurrently is of use under the race detector.
func TestMatchConcurrently(t *testing.T) {
	tab := price.Default().With()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 6000 { // beyond the cache's bound
				name := "gpt-4o-" + strings.Repeat("x", i%3) + string(rune('a'+i%26)) + strings.Repeat("y", i%97) + strings.Repeat("z", i%61)
				if _, ok := tab.Match("openai", name); ok {
					t.Errorf("%s has a price", name)
				}
				if _, ok := tab.Match("openai", "gpt-4o"); !ok {
					t.Error("gpt-4o has no price")
				}
			}
		})
	}
	wg.Wait()
}

// FuzzMatch: any name matches at most one row, the same each time, and each of
// a row's names finds it again.
func FuzzMatch(f *testing.F) {
	for _, seed := range [][2]string{
		{"openai", "gpt-4.1-mini-2025-04-14"}, {"", "openrouter/openai/gpt-4o:free"}, {"bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0:128k"},
		{"google", "publishers/google/models/gemini-2.0-flash-001"}, {"azure", "arn:aws:bedrock:x:foundation-model/"}, {"openai.chat", "a/b/c/d@20250101[1m]"},
		{"x-ai", "-latest"}, {"vercel", "openai/openai/openai/openai/gpt-4o"}, {"", "."}, {"anthropic", "-v1"},
	} {
		f.Add(seed[0], seed[1])
	}
	tab := price.Default()
	f.Fuzz(func(t *testing.T, provider, model string) {
		r, ok := tab.Match(provider, model)
		again, ok2 := tab.Match(provider, model)
		if ok != ok2 || r.Model != again.Model {
			t.Fatalf("%v, %t, then %v, %t", r, ok, again, ok2)
		}
		if !ok {
			return
		}
		if r.Model == "" || r.Provider == "" || !r.Input.Known && !r.Output.Known {
			t.Fatalf("a match without price: %v", r)
		}
		if self, ok := tab.Match(r.Provider, r.Model); !ok || self.Model != r.Model {
			t.Fatalf("%s/%s leads to %s, %t", r.Provider, r.Model, self.Model, ok)
		}
	})
}

// TestPublishedNames: names seen in the wild, with what two public data sets say that
// they cost, input/output in USD per million tokens, or by the piece.
func TestPublishedNames(t *testing.T) {
	for _, tt := range []struct{ provider, model, want string }{
		{"anthropic", "claude-2.1", "8/24"},
		{"anthropic", "claude-fable-5-2", "8/40"},
		{"anthropic", "claude-haiku-5-5", "0.1/0.5"},
		{"anthropic", "claude-sonnet-5-5", "2/10"},
		{"azure", "gpt-4o-mini-eastus", "0.15/0.6"},
		{"azure", "my-gpt-4o-deployment", "2.5/10"},
		{"azure", "my-gpt-4o-finetuned", "none"},
		{"bedrock", "mistral.mistral-large-2402-v1:0", "4/12"},
		{"bedrock", "us.anthropic.claude-sonnet-5-5", "2.2/11"},
		{"cohere", "rerank-v3.5", "search_unit 0.002"},
		{"databricks", "databricks-claude-sonnet-4-5", "2.99999/15.00002"},
		{"deepseek", "deepseek-flash", "0.15/0.6"},
		{"google", "gemini-3.8-live", "0.75/4.5"},
		{"google", "gemini-4-argon", "2/10"},
		{"google", "gemini-flash-latest", "0.75/3.75"},
		{"groq", "whisper-large-v3-turbo", "hour 0.04"},
		{"minimax", "MiniMax-M2", "0.3/1.2"},
		{"openai", "ft:gpt-4.1-mini-2025-04-14:org::Bx1", "0.8/3.2"},
		{"openai", "ft:gpt-4.1-mini-2025-04-14:org:suffix:Bx1", "0.8/3.2"},
		{"openai", "gpt-6.1-sol", "2/10"},
		{"openai", "gpt-image-2.5-flare", "5/30"},
		{"openai", "omni-moderation-latest", "0/0"},
		{"openai", "sora-2", "hour 360"},
		{"openai", "tts-1", "character 0.000015"},
		{"openai", "whisper-1", "hour 0.36"},
		{"openrouter", "openai/gpt-6.1-sol", "2/10"},
		{"vertex", "meta/llama-4-maverick-17b-128e-instruct-maas", "0.35/1.15"},
		{"voyage", "voyage-3-large", "0.18/?"},
	} {
		got := "none"
		if r, ok := price.Default().Match(tt.provider, tt.model); ok {
			r = r.At(today)
			switch {
			case r.Input.Known || r.Output.Known:
				got = perMillion(r.Input) + "/" + perMillion(r.Output)
			case r.Hour.Known:
				got = "hour " + r.Hour.Value.String()
			case r.Character.Known:
				got = "character " + r.Character.Value.String()
			case r.SearchUnit.Known:
				got = "search_unit " + r.SearchUnit.Value.String()
			}
		}
		if got != tt.want {
			t.Errorf("%s at %s costs %s, want %s", tt.model, tt.provider, got, tt.want)
		}
	}
}
