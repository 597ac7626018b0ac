package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// Keyless returns why a call needs a hedgerow key, or nil if it needs none: a
// program on this machine makes it, to a loopback address. DNS names that
// resolve to this machine, pages of other sites, and proxies that forward
// requests of others are rejected. A proxy that adds no forwarding headers
// cannot be distinguished from a program; behind one, require keys.
func Keyless(r *http.Request) *event.Error {
	switch {
	case !loopback(r.RemoteAddr):
		return needsKey("calls without a key are accepted from this machine only")
	case !localHost(r.Host):
		return needsKey("calls without a key are accepted at localhost, 127.0.0.1 and [::1] only, not under another name")
	case forwarded(r.Header):
		return needsKey("calls without a key are not accepted through a proxy")
	}
	origin := r.Header["Origin"]
	for _, o := range origin {
		if u, err := url.Parse(o); err != nil || !localHost(u.Host) {
			return needsKey("calls without a key are not accepted from pages of other sites")
		}
	}
	// A page of localhost that calls 127.0.0.1 is cross-site as well, but sends
	// an Origin.
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" && len(origin) == 0 {
		return needsKey("calls without a key are not accepted from pages of other sites")
	}
	return nil
}

func needsKey(why string) *event.Error {
	return event.NewError(event.CodeUnauthorized, "a hedgerow key is required: "+why, "send X-Hedgerow-Key: hr_… in addition to your provider's key; create one with: hedgerow project add-key", nil)
}

func loopback(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// localHost reports whether the host of a URL or request, with or without a
// port, is a loopback address or localhost.
func localHost(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	} else if strings.Trim(port, "0123456789") != "" {
		return false
	}
	if strings.EqualFold(strings.TrimSuffix(name, "."), "localhost") {
		return true
	}
	a, err := netip.ParseAddr(name)
	return err == nil && a.Unmap().IsLoopback()
}

// forwarded reports whether a proxy has forwarded the request.
func forwarded(h http.Header) bool {
	for k := range h {
		switch {
		case k == "Forwarded", k == "Via", k == "X-Real-Ip", k == "True-Client-Ip", k == "X-Client-Ip", k == "X-Cluster-Client-Ip", k == "Fastly-Client-Ip", k == "Fly-Client-Ip", k == "Cdn-Loop",
			strings.HasPrefix(k, "X-Forwarded"), strings.HasPrefix(k, "X-Original-Forwarded"), strings.HasPrefix(k, "Cf-"):
			return true
		}
	}
	return false
}
