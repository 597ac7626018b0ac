package posthog

import "net/http"

// NewHTTPClient returns a client for requests to PostHog that other packages
// make: it rejects addresses that are not public unless insecure is set, uses
// no proxy and follows no redirect.
func NewHTTPClient(c ClientConfig, insecure bool) *http.Client {
	c.defaults()
	h := newHTTPClient(c, insecure)
	h.Timeout = c.Timeout
	return h
}
