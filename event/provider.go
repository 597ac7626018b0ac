package event

import "strings"

// ProviderName converts a provider's name in OpenTelemetry's conventions, an
// instrumentation or an SDK to hedgerow's, which the gateway's routes and
// PostHog use: gcp.gen_ai and google are gemini, openai.responses is openai.
// Names of agent frameworks, which are not providers, give "". Other names are
// kept, in lower case.
func ProviderName(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	for {
		if name, ok := providerNames[s]; ok {
			return name
		}
		// The AI SDK appends the API: openai.responses, google.vertex.chat.
		head, api, ok := cutLast(s, '.')
		if !ok || !providerAPIs[api] {
			return s
		}
		s = head
	}
}

// providerNames maps names in OpenTelemetry and libraries to hedgerow's, where
// they differ.
var providerNames = map[string]string{
	"aws.bedrock": "amazon-bedrock", "aws_bedrock": "amazon-bedrock", "bedrock": "amazon-bedrock", "aws": "amazon-bedrock", "amazon_bedrock": "amazon-bedrock",
	"bedrock_converse": "amazon-bedrock", "amazon bedrock": "amazon-bedrock",
	"azure.ai.openai": "azure", "azure.ai.inference": "azure", "az.ai.openai": "azure", "az.ai.inference": "azure", "azure_openai": "azure", "azure-openai": "azure", "azure openai": "azure", "azure_ai": "azure",
	"gcp.gemini": "gemini", "gcp.gen_ai": "gemini", "google": "gemini", "google_genai": "gemini", "google-gla": "gemini", "google.generative-ai": "gemini", "google_ai_studio": "gemini", "google_generativeai": "gemini", "google-genai": "gemini",
	"gcp.vertex_ai": "google-vertex", "gcp.vertex.agent": "google-vertex", "vertexai": "google-vertex", "vertex_ai": "google-vertex", "google_vertexai": "google-vertex", "google.vertex": "google-vertex", "vertex.ai": "google-vertex",
	"google-vertexai": "google-vertex", "vertex.anthropic": "google-vertex", "google-vertex-anthropic": "google-vertex", "google_anthropic_vertex": "google-vertex",
	"x_ai": "xai", "x-ai": "xai", "mistral_ai": "mistral", "mistralai": "mistral", "mistral ai": "mistral", "ibm.watsonx.ai": "watsonx", "togetherai": "together", "together_ai": "together", "fireworks_ai": "fireworks",
	"strands-agents": "", "strands_agents": "",
}

// providerAPIs are the APIs that the AI SDK and Mastra append to a provider's
// name.
var providerAPIs = map[string]bool{
	"chat": true, "completion": true, "responses": true, "messages": true, "embedding": true, "embeddings": true, "textembedding": true, "image": true, "video": true,
	"speech": true, "transcription": true, "reranking": true, "generative-ai": true, "interactions": true, "realtime": true,
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i <= 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// ProviderOfModel returns the provider in a model's name, for senders that name
// none: Bedrock's ids begin with the vendor, after a region; other names with
// the vendor's families. It returns "" if several providers offer the model.
func ProviderOfModel(model string) string {
	model = strings.ToLower(model)
	for _, region := range [...]string{"us.", "eu.", "apac.", "jp.", "au.", "in.", "us-gov.", "global."} {
		model = strings.TrimPrefix(model, region)
	}
	for _, f := range [...]struct{ prefix, provider string }{
		{"anthropic.", "amazon-bedrock"}, {"amazon.", "amazon-bedrock"}, {"meta.", "amazon-bedrock"}, {"cohere.", "amazon-bedrock"}, {"mistral.", "amazon-bedrock"},
		{"ai21.", "amazon-bedrock"}, {"deepseek.", "amazon-bedrock"}, {"google.", "amazon-bedrock"}, {"minimax.", "amazon-bedrock"}, {"moonshotai.", "amazon-bedrock"}, {"nvidia.", "amazon-bedrock"},
		{"openai.", "amazon-bedrock"}, {"qwen.", "amazon-bedrock"}, {"writer.", "amazon-bedrock"}, {"xai.", "amazon-bedrock"}, {"zai.", "amazon-bedrock"},
		{"claude-", "anthropic"}, {"gpt-", "openai"}, {"chatgpt-", "openai"}, {"o1", "openai"}, {"o3", "openai"}, {"o4-", "openai"}, {"text-embedding-3-", "openai"}, {"text-embedding-ada-", "openai"},
		{"gemini-", "gemini"}, {"grok-", "xai"},
	} {
		if strings.HasPrefix(model, f.prefix) && !strings.HasPrefix(model, "gpt-oss") {
			return f.provider
		}
	}
	return ""
}
