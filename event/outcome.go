package event

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Error types of responses that were withheld without an error from the
// provider. Other values of [Event.ErrorType] are listed at
// [ErrTypeClientGone].
const (
	ErrTypeFilter  = "content_filter" // a content filter or guardrail of the provider
	ErrTypeRefusal = "refusal"        // the model itself
)

// CodeUnknown is the [Event.ErrorCode] of a failed call without a code from the
// provider.
const CodeUnknown = "unknown"

// withheld has the stop reasons, error types and error codes, in lower case, of
// responses withheld by a filter (false) or by the model itself (true).
var withheld = map[string]bool{
	// OpenAI and compatible servers; Azure's inner code; the Vercel AI SDK's
	// spelling.
	"content_filter": false, "content-filter": false, "content_filter_error": false, "content_policy_violation": false, "moderation_blocked": false, "responsibleaipolicyviolation": false,
	"refusal": true, // OpenAI and Anthropic
	// Amazon Bedrock.
	"guardrail_intervened": false, "content_filtered": false,
	// Gemini: finish reasons and block reasons.
	"safety": false, "recitation": false, "blocklist": false, "prohibited_content": false, "spii": false, "model_armor": false,
	"image_safety": false, "image_prohibited_content": false, "image_recitation": false,
	// Cohere, Alibaba, Zhipu.
	"error_toxic": false, "data_inspection_failed": false, "sensitive": false,
}

// Blocked reports whether a provider's stop reason, error type or error code
// means that a content filter or the model withheld the response.
func Blocked(word string) bool {
	_, ok := withheld[strings.ToLower(word)]
	return ok
}

// failing has the stop reasons, in lower case, of failed responses; true if the
// model's output was malformed.
var failing = map[string]bool{
	"error": false, // OpenRouter, Mistral, Cohere, the Vercel AI SDK
	// DeepSeek; vLLM and SGLang; Cohere.
	"insufficient_system_resource": false, "abort": false, "timeout": false, "error_limit": false,
	// Gemini (genai: FinishReason).
	"malformed_function_call": true, "malformed_response": true, "unexpected_tool_call": true, "too_many_tool_calls": true, "missing_thought_signature": true,
	"no_image": false, "image_other": false, "language": false,
	// Amazon Bedrock's Converse.
	"malformed_model_output": true, "malformed_tool_use": true,
}

// Failed reports whether a provider's stop reason means that the response
// failed.
func Failed(stopReason string) bool {
	_, ok := failing[strings.ToLower(stopReason)]
	return ok
}

// StatusWord converts an HTTP status code to an error type: bad_gateway.
func StatusWord(status int) string {
	if s := http.StatusText(status); s != "" {
		return strings.ReplaceAll(strings.ToLower(s), " ", "_")
	}
	return "status_" + strconv.Itoa(status)
}

// SettleOutcome sets the outcome of a call or a step, whatever its receiver:
// IsError, Status, ErrorType and ErrorCode. Fields that are already set are kept.
// It is idempotent.
//
// Every status except success is an error. A withheld response has the status
// blocked, the provider's error type or [ErrTypeFilter] or [ErrTypeRefusal], and
// the provider's term, such as SAFETY, as its code. The code of other failures is
// the provider's code (rate_limit_exceeded), else the provider's type
// (overloaded_error), else [CodeUnknown]. It is never the HTTP status.
func (e *Event) SettleOutcome() {
	if e.HTTPStatus >= 400 {
		e.IsError = true
	}
	switch s := Status(strings.ToLower(string(e.Status))); s {
	case StatusSuccess, StatusError, StatusTimeout, StatusBlocked, StatusValidationFailed:
		e.Status = s
	default:
		e.Status = e.status()
	}
	if e.Status != StatusSuccess {
		e.IsError = true
	}
	if !e.IsError {
		return
	}
	if e.ErrorType == "" {
		e.ErrorType = e.typeOfFailure()
	}
	if e.ErrorCode == "" {
		e.ErrorCode = e.codeOfFailure()
	}
	if e.ErrorMessage != "" || e.Properties["$ai_error"] != nil {
		return
	}
	switch {
	case e.Status == StatusBlocked && e.ErrorType == ErrTypeRefusal:
		e.ErrorMessage = "the model refused to respond"
	case e.Status == StatusBlocked:
		e.ErrorMessage = "the provider's content filter withheld the response"
	case Failed(e.StopReason):
		e.ErrorMessage = "the response ended with the finish reason " + e.StopReason
	}
}

// status derives the status, the most specific field first.
func (e *Event) status() Status {
	switch {
	case e.ErrorType == ErrTypeTimeout, strings.EqualFold(e.StopReason, "timeout"), e.HTTPStatus == 408, e.HTTPStatus == 504, e.HTTPStatus == 524:
		return StatusTimeout
	case Blocked(e.StopReason), Blocked(e.ErrorType), Blocked(e.ErrorCode):
		return StatusBlocked
	case e.HTTPStatus == 400, e.HTTPStatus == 413, e.HTTPStatus == 422:
		return StatusValidationFailed
	case Failed(e.StopReason) && failing[strings.ToLower(e.StopReason)]:
		return StatusValidationFailed
	case Failed(e.StopReason), e.IsError:
		return StatusError
	}
	return StatusSuccess
}

func (e *Event) typeOfFailure() string {
	switch {
	case e.Status == StatusBlocked:
		if withheld[strings.ToLower(e.StopReason)] {
			return ErrTypeRefusal
		}
		return ErrTypeFilter
	case e.HTTPStatus >= 400:
		return StatusWord(e.HTTPStatus)
	case e.Status == StatusTimeout:
		return ErrTypeTimeout
	case strings.EqualFold(e.StopReason, "error"):
		return ErrTypeProvider
	case Failed(e.StopReason):
		return e.StopReason
	}
	return ""
}

func (e *Event) codeOfFailure() string {
	// A caller's number; a string is already in the field.
	if n := rawjson.Scalar(e.Properties["error_code"]); n != "" && !isHTTPStatus(n) {
		return n
	}
	if e.Status == StatusBlocked {
		for _, word := range []string{e.StopReason, e.ErrorType} {
			if Blocked(word) {
				return word
			}
		}
	}
	if e.providersWord() {
		return e.ErrorType
	}
	return CodeUnknown
}

// isHTTPStatus reports whether a code is a number that providers copy from the
// response's status code.
func isHTTPStatus(code string) bool {
	n, err := strconv.Atoi(code)
	return err == nil && n >= 100 && n < 600
}

// providersWord reports whether an error type was named by the provider, such as
// overloaded_error, RESOURCE_EXHAUSTED or Bedrock's ThrottlingException: not by
// hedgerow, not derived from an HTTP status, and not the class name of a client
// library.
func (e *Event) providersWord() bool {
	kind := e.ErrorType
	switch kind {
	case "", ErrTypeClientGone, ErrTypeTimeout, ErrTypeUnreachable, ErrTypeStream, ErrTypeTruncated, ErrTypeInvalid, ErrTypeProvider, "error", "_OTHER":
		return false
	}
	if isHTTPStatus(kind) || statusWords[kind] {
		return false
	}
	lower, upper := false, false
	for i := range len(kind) {
		switch c := kind[i]; {
		case c >= 'a' && c <= 'z':
			lower = true
		case c >= 'A' && c <= 'Z':
			upper = true
		case c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return lower != upper || strings.HasSuffix(kind, "Exception") && strings.Contains(e.Provider, "bedrock")
}

// statusWords are the results of [StatusWord].
var statusWords = func() map[string]bool {
	m := make(map[string]bool)
	for s := 400; s < 600; s++ {
		m[StatusWord(s)] = true
	}
	return m
}()
