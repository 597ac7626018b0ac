package provider

import (
	"net/http"
	"strconv"
)

// HeaderRetryCount is the request header in which the SDKs of OpenAI and Anthropic
// count the tries of a call: 0 on the first.
const HeaderRetryCount = "X-Stainless-Retry-Count"

// RetryCount returns how often a call was tried before this try, as its client
// counts. ok is false where it does not.
func RetryCount(h http.Header) (n int, ok bool) {
	v := h[HeaderRetryCount]
	if len(v) == 0 || len(v[0]) > 6 {
		return 0, false
	}
	n, err := strconv.Atoi(v[0])
	return n, err == nil && n >= 0
}

// retryCount records the tries before this one as the property retry_count. It is
// absent where the client does not count them.
func (p *parser) retryCount() {
	if n, ok := RetryCount(p.c.RequestHeader); ok {
		_ = p.e.SetProperty("retry_count", n) // a number always marshals
	}
}
