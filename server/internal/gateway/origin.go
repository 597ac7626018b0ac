package gateway

import (
	"net/http"
	"slices"
	"strings"
)

// A provider's responses share an origin with hedgerow's pages. This file keeps
// them from affecting that origin in a browser: no response of a provider (or
// an impostor) can set hedgerow's cookies, change how browsers treat the
// origin, or act as one of its pages.

// ownCookies is the prefix of the cookies of hedgerow's pages.
const ownCookies = "hedgerow"

// originWide are headers that affect a whole origin in the browser: a provider
// may send them for its own origin only.
var originWide = [...]string{
	"Clear-Site-Data", "Strict-Transport-Security", "Public-Key-Pins", "Alt-Svc", "Service-Worker-Allowed",
	"Nel", "Report-To", "Reporting-Endpoints", "Accept-Ch", "Critical-Ch", "Set-Login", "Origin-Agent-Cluster",
}

const (
	headerPolicy = "Content-Security-Policy"
	headerSniff  = "X-Content-Type-Options"
)

var (
	sandbox = []string{"sandbox"}
	nosniff = []string{"nosniff"}
)

// keepOrigin removes such headers from a response. Values are shared with the
// provider's response and must not be modified.
func keepOrigin(h http.Header) {
	for _, name := range originWide {
		delete(h, name)
	}
	if lines := h["Set-Cookie"]; slices.ContainsFunc(lines, setsOwnCookie) {
		replace(h, "Set-Cookie", slices.DeleteFunc(slices.Clone(lines), setsOwnCookie))
	}
}

// noPage keeps a browser from rendering a response as a page of this origin.
// Browsers enforce all policies, so the provider's own remains in effect.
func noPage(h http.Header) {
	if own := h[headerPolicy]; len(own) == 0 {
		h[headerPolicy] = sandbox
	} else {
		h[headerPolicy] = append(own[:len(own):len(own)], "sandbox")
	}
	if len(h[headerSniff]) == 0 {
		h[headerSniff] = nosniff
	}
}

// setsOwnCookie reports whether a Set-Cookie line sets one of hedgerow's
// cookies. A line without a name is sent back as its value alone, which may
// look like name=value.
func setsOwnCookie(line string) bool {
	pair, _, _ := strings.Cut(line, ";")
	name, _, _ := strings.Cut(strings.TrimLeft(pair, "= \t"), "=")
	name = strings.ToLower(strings.TrimSpace(name))
	for _, prefix := range [...]string{"__host-", "__secure-", "__http-", "__host-http-"} {
		name = strings.TrimPrefix(name, prefix)
	}
	return strings.HasPrefix(name, ownCookies)
}
