package provider

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// knownMembers are the request members of the APIs, by provider; all others
// have OpenAI's. Only OpenRouter has session_id and trace.
var knownMembers = map[string]string{
	"openai": `model messages input instructions stream stream_options temperature top_p n stop max_tokens max_completion_tokens max_output_tokens tools tool_choice
		parallel_tool_calls response_format text reasoning reasoning_effort seed logit_bias logprobs top_logprobs presence_penalty frequency_penalty user metadata
		safety_identifier prompt_cache_key service_tier store verbosity modalities audio dimensions encoding_format previous_response_id include truncation`,
	"openrouter": `model models messages input instructions stream stream_options temperature top_p top_k stop max_tokens tools tool_choice parallel_tool_calls
		response_format reasoning seed user metadata provider transforms route plugins usage session_id trace`,
	"anthropic": `model messages system max_tokens stream temperature top_p top_k stop_sequences tools tool_choice metadata thinking service_tier container mcp_servers output_config`,
	"gemini":    `model contents systemInstruction generationConfig safetySettings tools toolConfig cachedContent labels content requests taskType title outputDimensionality`,
	"mistral": `model messages input stream temperature top_p max_tokens stop random_seed tools tool_choice parallel_tool_calls response_format presence_penalty
		frequency_penalty n prediction prompt_mode reasoning_effort safe_prompt metadata encoding_format output_dimension`,
}

// refusesUnknown rejects a request with unknown members, as strict providers
// do, and reports whether it did.
func (c *call) refusesUnknown(body []byte) bool {
	var members map[string]json.RawMessage
	if !c.b.KnownOnly || c.r.Method != http.MethodPost || json.Unmarshal(body, &members) != nil {
		return false
	}
	known, ok := knownMembers[c.rec.Provider]
	if !ok {
		known = knownMembers["openai"]
	}
	names := strings.Fields(known)
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(names, name) {
			c.fail(http.StatusBadRequest, BadRequest, "Unrecognized request argument supplied: "+name)
			return true
		}
	}
	return false
}
