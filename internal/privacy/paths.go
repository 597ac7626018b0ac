package privacy

import (
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// pathWords are the fixed segments of the providers' paths.
var pathWords = func() map[string]bool {
	m := make(map[string]bool)
	for _, word := range strings.Fields(`
		{id} alpha api beta compatible-mode inference openai paas
		admin_api_keys assistants audio audit_logs auth batchEmbedContents batches cachedContents calls cancel chat checkpoints client_secrets compact complete completions containers
		content conversations corpora costs count_tokens countTokens credits deployments edits embed embeddings endpoints evals events file_batches fileSearchStores files fim fine_tuning
		generate generation generations graders images input_items input_tokens invites items jobs key keys me messages models moderations operations organization organizations
		output_items parts pause permissions projects ps providers realtime remix rerank responses results resume run runs search sessions show skills speech steps
		submit_tool_outputs tags threads transcription_sessions transcriptions translations tunedModels uploads usage users validate variations vector_stores version versions videos`) {
		m[word] = true
	}
	return m
}()

// isVersion reports whether a segment is a version, such as v1 or v1beta.
func isVersion(seg string) bool {
	digits, ok := strings.CutPrefix(seg, "v")
	digits = strings.TrimSuffix(strings.TrimSuffix(digits, "alpha"), "beta")
	return ok && len(digits) > 0 && len(digits) < 3 && strings.Trim(digits, "0123456789") == ""
}

// knownPath returns the start of a path that consists of the providers' own
// segments and the call's model, which is sent anyway. The rest can be
// anything.
func knownPath(path string, e *event.Event) string {
	end := 0
	for end < len(path) && path[end] == '/' {
		seg, _, _ := strings.Cut(path[end+1:], "/")
		model, method, _ := strings.Cut(seg, ":") // Gemini's gemini-2.5-flash:countTokens
		ofModel := model != "" && (model == e.ModelAsked || model == e.Model) && (method == "" || pathWords[method])
		if !pathWords[seg] && !isVersion(seg) && !ofModel {
			break
		}
		end += 1 + len(seg)
	}
	return path[:end]
}

// shortenPath keeps only known parts of the path of a call that is not a
// generation or embedding. Content of such a call is not read, so the canary
// cannot check its path.
func shortenPath(e *event.Event) {
	if e.Name != event.Span || e.Source != event.SourceGateway && e.Source != event.SourceSDK || e.Method == "" {
		return
	}
	if path, ok := strings.CutPrefix(e.SpanName, e.Method+" /"); ok { // otherwise the caller named it
		e.SpanName = strings.TrimSuffix(e.Method+" "+knownPath("/"+path, e), " ")
	}
	if e.RequestURL == "" {
		return
	}
	base := strings.TrimRight(e.BaseURL, "/")
	path, _ := strings.CutPrefix(e.RequestURL, base)
	e.RequestURL = base + knownPath(path, e)
}
