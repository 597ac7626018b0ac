package gateway

import (
	"net/http"
	"slices"
	"strings"
)

// A provider's answers share an origin with hedgerow's pages. This file keeps them
// from acting on it in a browser: whatever a provider, or who stands in its place,
// answers, it sets none of hedgerow's cookies, changes nothing of how browsers treat
// the origin, and is no page of it.

// ownCookies begins the name of each cookie of hedgerow's pages.
const ownCookies = "hedgerow"

// originWide are headers by which an answer changes what a browser does with all of
// an origin: they are the provider's to send for its own, not for this one.
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

// keepOrigin takes out of an answer's headers what acts on the origin. Values are
// shared with the provider's answer and not written to.
func keepOrigin(h http.Header) {
	for _, name := range originWide {
		delete(h, name)
	}
	if lines := h["Set-Cookie"]; slices.ContainsFunc(lines, setsOwnCookie) {
		replace(h, "Set-Cookie", slices.DeleteFunc(slices.Clone(lines), setsOwnCookie))
	}
}

// noPage has a browser treat an answer as a thing and not as a page of this origin.
// Of several policies the strictest part of each holds, so that the provider's own
// stays beside this one.
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

// setsOwnCookie reports whether a Set-Cookie line is for a cookie of hedgerow's. A
// line without a name is sent back as its value alone, which may look like a name
// with a value.
func setsOwnCookie(line string) bool {
	pair, _, _ := strings.Cut(line, ";")
	name, _, _ := strings.Cut(strings.TrimLeft(pair, "= \t"), "=")
	name = strings.ToLower(strings.TrimSpace(name))
	for _, prefix := range [...]string{"__host-", "__secure-", "__http-", "__host-http-"} {
		name = strings.TrimPrefix(name, prefix)
	}
	return strings.HasPrefix(name, ownCookies)
}
