package event_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
)

// Status, error type and error code of each provider and receiver.
func TestSettleOutcome(t *testing.T) {
	prop := func(v string) map[string]json.RawMessage {
		return map[string]json.RawMessage{"error_code": json.RawMessage(v)}
	}
	for _, tt := range []struct {
		name string
		in   event.Event
		want string // "" is a success
	}{
		{"success", event.Event{HTTPStatus: 200, StopReason: "stop"}, ""},
		{"status success", event.Event{Status: event.StatusSuccess, StopReason: "content_filter"}, ""},

		{"OpenAI's filter", event.Event{StopReason: "content_filter"}, "blocked content_filter content_filter"},
		{"Azure's filter", event.Event{HTTPStatus: 400, IsError: true, ErrorType: "content_filter", ErrorCode: "content_filter"}, "blocked content_filter content_filter"},
		{"Anthropic's refusal", event.Event{HTTPStatus: 200, StopReason: "refusal"}, "blocked refusal refusal"},
		{"Gemini's finish reason", event.Event{HTTPStatus: 200, StopReason: "SAFETY"}, "blocked content_filter SAFETY"},
		{"Bedrock's guardrail", event.Event{StopReason: "guardrail_intervened"}, "blocked content_filter guardrail_intervened"},
		{"Vercel's SDK", event.Event{StopReason: "content-filter"}, "blocked content_filter content-filter"},
		{"blocked, unknown cause", event.Event{Status: "Blocked"}, "blocked content_filter content_filter"},

		{"OpenAI's code", event.Event{HTTPStatus: 429, ErrorType: "tokens", ErrorCode: "rate_limit_exceeded"}, "error tokens rate_limit_exceeded"},
		{"Anthropic's type", event.Event{HTTPStatus: 529, ErrorType: "overloaded_error"}, "error overloaded_error overloaded_error"},
		{"Google's status", event.Event{HTTPStatus: 429, ErrorType: "RESOURCE_EXHAUSTED"}, "error RESOURCE_EXHAUSTED RESOURCE_EXHAUSTED"},
		{"Bedrock's exception", event.Event{Provider: "aws.bedrock", IsError: true, ErrorType: "ThrottlingException"}, "error ThrottlingException ThrottlingException"},
		{"a class of a client", event.Event{IsError: true, ErrorType: "RateLimitError"}, "error RateLimitError unknown"},
		{"a class with its package", event.Event{IsError: true, ErrorType: "java.net.unknown"}, "error java.net.unknown unknown"},
		{"a caller's number", event.Event{IsError: true, ErrorType: "BadRequestError", Properties: prop("1302")}, "error BadRequestError 1302"},
		{"a caller's HTTP status", event.Event{IsError: true, ErrorType: "RateLimitError", Properties: prop("429")}, "error RateLimitError unknown"},
		{"HTTP status alone", event.Event{HTTPStatus: 502}, "error bad_gateway unknown"},
		{"a malformed request", event.Event{HTTPStatus: 422}, "validation_failed unprocessable_entity unknown"},
		{"an HTTP status as type", event.Event{HTTPStatus: 500, ErrorType: "500"}, "error 500 unknown"},
		{"timeout", event.Event{IsError: true, ErrorType: event.ErrTypeTimeout}, "timeout timeout unknown"},
		{"a gateway's timeout", event.Event{HTTPStatus: 504}, "timeout gateway_timeout unknown"},
		{"refused connection", event.Event{IsError: true, ErrorType: event.ErrTypeUnreachable, ErrorCode: "ECONNREFUSED"}, "error connection_error ECONNREFUSED"},
		{"no details", event.Event{IsError: true}, "error  unknown"},
		{"status timeout", event.Event{Status: event.StatusTimeout}, "timeout timeout unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.in
			e.SettleOutcome()
			got := strings.Join([]string{string(e.Status), e.ErrorType, e.ErrorCode}, " ")
			if tt.want == "" {
				tt.want = "success  "
			}
			if failed := tt.want != "success  "; got != tt.want || e.IsError != failed {
				t.Errorf("got %q, error %t; want %q", got, e.IsError, tt.want)
			}
			again := e
			again.SettleOutcome()
			if again.Status != e.Status || again.ErrorType != e.ErrorType || again.ErrorCode != e.ErrorCode || again.ErrorMessage != e.ErrorMessage {
				t.Errorf("settling twice changes the event: %+v", again)
			}
		})
	}
}
