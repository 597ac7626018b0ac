package provider

import (
	"net/http"
	"strconv"
)

// HeaderRetryCount is the request header in which the SDKs of OpenAI and
// Anthropic count the attempts of a call: 0 on the first.
const HeaderRetryCount = "X-Stainless-Retry-Count"

// RetryCount returns the number of earlier attempts of a call, as its client
// counts them. ok is false if it does not.
func RetryCount(h http.Header) (n int, ok bool) {
	v := h[HeaderRetryCount]
	if len(v) == 0 || len(v[0]) > 6 {
		return 0, false
	}
	n, err := strconv.Atoi(v[0])
	return n, err == nil && n >= 0
}

// retryCount records the number of earlier attempts as the property
// retry_count. It is absent if the client does not count them.
func (p *parser) retryCount() {
	if n, ok := RetryCount(p.c.RequestHeader); ok {
		_ = p.e.SetProperty("retry_count", n) // marshalling a number cannot fail
	}
}
