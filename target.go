package hedgerow

import (
	"net/http"
	"strings"

	"github.com/hedgerow/hedgerow/internal/provider"
)

// target is the destination of a call.
type target struct {
	name    string // "" if there is none
	dialect provider.Dialect
	base    string // base + path is the URL without its query
	path    string
	usage   bool // chat completion streams always have token counts
}

// providerOf identifies the provider of a request. For an unknown host it uses
// headers and path; sure reports that the request certainly is an LLM call. The
// name is "" if it is not.
func (c *Client) providerOf(req *http.Request, sure bool) target {
	host, path := strings.ToLower(req.URL.Host), req.URL.Path
	t := target{base: req.URL.Scheme + "://" + req.URL.Host, path: path}
	name := strings.ToLower(req.URL.Hostname())
	for _, k := range provider.Hosts {
		// Regions precede a host: eu.api.openai.com, RESOURCE.openai.azure.com; Google's
		// have a dash: us-central1-aiplatform.googleapis.com.
		if rest, ok := strings.CutSuffix(name, k.Name); ok && (rest == "" || rest[len(rest)-1] == '.' || rest[len(rest)-1] == '-' && k.Dialect == provider.Gemini) {
			t.name, t.dialect, t.usage = k.Provider, k.Dialect, k.ReportsUsage
			return t
		}
	}
	// A prefix of /v1 belongs to the deployment, not to the API.
	for _, begin := range [...]string{"/v1/", "/v1beta/", "/api/"} {
		if i := strings.Index(path, begin); i > 0 {
			t.base, t.path = t.base+path[:i], path[i:]
			break
		} else if i == 0 {
			break
		}
	}
	t.name = c.c.Providers[host]
	if t.name == "" {
		t.name = c.c.Providers[name]
	}
	t.dialect = provider.OpenAI
	switch {
	case len(req.Header["Anthropic-Version"]) > 0:
		t.dialect = provider.Anthropic
	case strings.Contains(path, ":generateContent"), strings.Contains(path, ":streamGenerateContent"), len(req.Header["X-Goog-Api-Key"]) > 0:
		t.dialect = provider.Gemini
	}
	if t.name != "" {
		return t
	}
	if !sure && t.dialect == provider.OpenAI {
		switch provider.Operation(t.dialect, req.Method, t.path) {
		case "chat", "completions", "fim", "responses", "embeddings", "images", "speech", "transcriptions", "translations":
		case "messages":
			t.dialect = provider.Anthropic
		case "ollama_chat", "ollama_generate":
			// Many applications have an unrelated /api/chat.
			if !ollama(req, host) {
				return target{}
			}
		default:
			return target{}
		}
	}
	if t.name = string(t.dialect); ollama(req, host) || t.path == "/api/embed" || t.path == "/api/embeddings" {
		t.name = "ollama"
	}
	return t
}

// ollama recognizes Ollama by its port, or by the Accept header that only its
// Go clients send.
func ollama(req *http.Request, host string) bool {
	return strings.HasSuffix(host, ":11434") || strings.Contains(req.Header.Get("Accept"), "ndjson")
}
