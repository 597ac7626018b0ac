package privacy

import (
	"strconv"
	"strings"
)

// sentences are the causes of errors, by words in the provider's message or
// type. The first match is used.
var sentences = []struct {
	words []string // any of them, in lower case
	say   string
}{
	{[]string{"insufficient_quota", "exceeded your current quota", "quota exceeded", "billing", "insufficient credits", "insufficient balance", "credit balance", "payment required", "spend limit"}, "quota or credit exhausted"},
	{[]string{"rate limit", "rate_limit", "too many requests", "ratelimit", "resource_exhausted", "tokens per min", "requests per min"}, "rate limit reached"},
	{[]string{"context length", "context_length", "context window", "maximum context", "too many tokens", "prompt is too long", "input is too long", "string too long", "reduce the length"}, "input too long for the model"},
	{[]string{"request too large", "request_too_large", "payload too large", "entity too large", "maximum size"}, "request too large"},
	{[]string{"content policy", "content_policy", "content filter", "content_filter", "content management policy", "safety", "moderation", "flagged", "responsibleaipolicyviolation"}, "blocked by a content policy"},
	{[]string{"refused to answer", "refused to respond", "refusal"}, "the model refused"},
	{[]string{"api key", "api_key", "authentication", "unauthorized", "invalid x-api-key", "invalid_key", "credentials"}, "authentication failed"},
	{[]string{"truncated"}, "answer cut off"},
	{[]string{"invalid_answer"}, "answer not readable"},
	{[]string{"provider_error"}, "provider error"},
	{[]string{"permission", "forbidden", "not allowed", "access denied", "not authorized"}, "not permitted"},
	{[]string{"model_not_found", "no such model", "unknown model", "model not found", "unsupported model", "does not exist", "deprecated"}, "model not found or not available"},
	{[]string{"overloaded", "at capacity", "over capacity", "no healthy upstream", "currently loading", "server is busy"}, "provider overloaded"},
	{[]string{"tool_use", "tool_call", "tool_result", "function call", "tools."}, "tool calls not accepted"},
	{[]string{"unsupported parameter", "unknown parameter", "unrecognized request argument", "unsupported_value", "unsupported value", "extra inputs are not permitted", "unknown_parameter"}, "parameter not supported"},
	{[]string{"missing required", "field required", "is required", "missing_required"}, "required parameter missing"},
	{[]string{"json", "could not parse", "malformed", "parse"}, "request or answer malformed"},
	{[]string{"image", "audio", "media type", "file"}, "file or media not accepted"},
	{[]string{"deadline", "timed out", "timeout"}, "timed out"},
	{[]string{"client disconnected", "client_disconnected", "context canceled", "request canceled", "request was aborted"}, "caller hung up"},
	{[]string{"connection refused", "connection reset", "connection_error", "broken pipe", "no such host", "unexpected eof", "tls", "certificate", "network"}, "connection failed"},
	{[]string{"stream_error", "stream error", "incomplete stream"}, "stream broke off"},
	{[]string{"invalid_request", "invalid request", "invalid value", "invalid_type", "bad request", "validation", "invalid"}, "request not valid"},
	{[]string{"internal", "server_error", "server had an error", "bad gateway", "service unavailable", "unavailable"}, "provider error"},
}

// SafeError describes an error without any part of the message, because providers
// quote the prompt or a key in it. The result is one of a fixed list of sentences
// such as "rate limit reached", with the HTTP status if there is one, so that
// equal errors have equal texts and can be counted. It returns "" for an empty
// message.
func SafeError(errType, message string, status int) string {
	if message == "" {
		return ""
	}
	say := knownSentence(message)
	// The type first: it is the provider's and does not quote user text.
	for _, text := range []string{strings.ToLower(errType), strings.ToLower(cutText(message, 4096))} {
		if say == "" || isGeneric(say) {
			if s := about(text); s != "" && (say == "" || !isGeneric(s)) {
				say = s
			}
		}
	}
	if say == "" {
		say = "error"
	}
	if status >= 100 && status <= 999 {
		say += " (HTTP " + strconv.Itoa(status) + ")"
	}
	return say
}

// isGeneric reports whether a sentence should be replaced by a more specific one
// from the message.
func isGeneric(say string) bool { return say == "request not valid" || say == "provider error" }

// knownSentence returns the sentence if the message already is one.
func knownSentence(message string) string {
	if k := strings.LastIndex(message, " (HTTP "); k >= 0 {
		message = message[:k]
	}
	for _, s := range sentences {
		if s.say == message {
			return s.say
		}
	}
	return ""
}

func about(text string) string {
	for _, s := range sentences {
		for _, w := range s.words {
			if strings.Contains(text, w) {
				return s.say
			}
		}
	}
	return ""
}
