package event_test

import (
	"testing"

	"github.com/hedgerow/hedgerow/event"
)

func TestProviderName(t *testing.T) {
	for from, want := range map[string]string{
		"openai": "openai", "openai.responses": "openai", "openai.chat": "openai", "OpenAI": "openai", "anthropic.messages": "anthropic",
		"gcp.gemini": "gemini", "google": "gemini", "google.generative-ai": "gemini", "google.vertex.chat": "google-vertex", "gcp.vertex.agent": "google-vertex",
		"vertex.anthropic.messages": "google-vertex", "aws.bedrock": "amazon-bedrock", "azure-openai.chat": "azure", "az.ai.inference": "azure", "xai.chat": "xai",
		"strands-agents": "", "": "", "my.models": "my.models", "in-house": "in-house", ".chat": ".chat", "openai.embedding": "openai",
	} {
		if got := event.ProviderName(from); got != want {
			t.Errorf("%q is %q, want %q", from, got, want)
		}
		if got := event.ProviderName(want); got != want {
			t.Errorf("%q becomes %q when converted again", want, got)
		}
	}
}

func TestProviderOfModel(t *testing.T) {
	for model, want := range map[string]string{
		"gpt-4.1-mini-2025-04-14": "openai", "o3-mini": "openai", "claude-sonnet-4-5": "anthropic", "us.anthropic.claude-sonnet-4-20250514-v1:0": "amazon-bedrock",
		"amazon.nova-pro-v1:0": "amazon-bedrock", "us.deepseek.r1-v1:0": "amazon-bedrock", "in.moonshotai.kimi-k3": "amazon-bedrock", "deepseek-chat": "", "gemini-2.5-flash": "gemini", "gpt-oss-120b": "", "llama-3.3-70b": "", "": "",
	} {
		if got := event.ProviderOfModel(model); got != want {
			t.Errorf("model %q: provider %q, want %q", model, got, want)
		}
	}
}
