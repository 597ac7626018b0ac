package provider_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/internal/provider"
)

// TestRefusesUsage checks that a call is retried without stream_options if the
// error may refer to them, and that any other response remains complete.
func TestRefusesUsage(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   bool
	}{
		{400, `{"error":{"message":"Unrecognized request argument supplied: stream_options","param":null}}`, true},
		{422, `{"detail":[{"loc":["body","stream_options"],"msg":"extra fields"}]}`, true},
		{400, `{"error":{"message":"Bad Request","type":"invalid_request_error","param":null,"code":null}}`, true},
		{400, `{"object":"error","message":"Extra inputs are not permitted","code":400}`, true},
		{400, `Bad Request`, true},
		{400, ``, true},
		{422, `{"message":"Unknown field","type":"invalid_request","code":"1210"}`, true},
		{400, `{"error":{"message":"Invalid request","param":"messages"}}`, false},
		{400, `{"error":{"message":"Unsupported value","code":"unsupported_value"}}`, false},
		{400, `{"error":{"message":"This model's maximum context length is 8192 tokens","code":null}}`, false},
		{401, `Bad Request`, false},
		{200, `{}`, false},
	} {
		res := &http.Response{StatusCode: c.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.body))}
		if got := provider.RefusesUsage(res, nil); got != c.want {
			t.Errorf("%d %s: %v", c.status, c.body, got)
		} else if b, _ := io.ReadAll(res.Body); !c.want && string(b) != c.body {
			t.Errorf("%d %s: the remaining body is %s", c.status, c.body, b)
		}
	}
}
