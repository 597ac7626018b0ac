package provider

// Host is the API host of a provider.
type Host struct {
	Name         string // also matches subdomains
	Provider     string // its name in events
	Dialect      Dialect
	ReportsUsage bool // streams report usage even if it is not requested
}

// Route is the provider's name in the gateway's routes and settings: its name
// in events, unless it has a shorter one.
func (h *Host) Route() string {
	switch h.Provider {
	case "google-vertex":
		return "vertex"
	case "amazon-bedrock":
		return "bedrock"
	}
	return h.Provider
}

// Hosts are the known hosts; the first of a provider is its default.
//
// Mistral rejects stream_options altogether (openai/openai-agents-python#442); in
// OpenRouter it has no effect (its page "Usage Accounting").
var Hosts = []Host{
	{"api.openai.com", "openai", OpenAI, false},
	{"api.anthropic.com", "anthropic", Anthropic, true},
	{"generativelanguage.googleapis.com", "gemini", Gemini, true},
	{"aiplatform.googleapis.com", "google-vertex", Gemini, true},
	{"openrouter.ai", "openrouter", OpenAI, true},
	{"openai.azure.com", "azure", OpenAI, false},
	{"cognitiveservices.azure.com", "azure", OpenAI, false},
	{"api.groq.com", "groq", OpenAI, true},
	{"api.mistral.ai", "mistral", OpenAI, true},
	{"api.deepseek.com", "deepseek", OpenAI, true},
	{"api.x.ai", "xai", OpenAI, true},
	{"api.perplexity.ai", "perplexity", OpenAI, true},
	{"api.together.xyz", "together", OpenAI, false},
	{"api.fireworks.ai", "fireworks", OpenAI, false},
	{"bedrock-runtime.us-east-1.amazonaws.com", "amazon-bedrock", OpenAI, false}, // in OpenAI's format
	{"api.cohere.com", "cohere", OpenAI, false},
	{"ollama.com", "ollama", OpenAI, false},
}
