package posthog

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/project"
)

// CheckHost reports whether a PostHog host may be saved: https://, and neither
// an address nor a name that is known not to be public. Names are resolved only
// when they are dialled, where every address is looked at again; a name that
// changes its address after the check (DNS rebinding) gains nothing.
func CheckHost(host string, insecure bool) error {
	_, err := project.NormalizeHost(host, insecure)
	return err
}

// blocked holds what netip's predicates leave out of the addresses that are not
// public, and the forms in which an IPv4 address can hide in an IPv6 one.
var blocked = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // carrier-grade NAT; 100.100.100.200 is Alibaba's metadata
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"), // 6to4 relays
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("168.63.129.16/32"), // Azure's host agent
	netip.MustParsePrefix("::/96"),            // IPv4-compatible
	netip.MustParsePrefix("64:ff9b::/96"),     // NAT64
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), // Teredo and other protocol assignments
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), // 6to4
	netip.MustParsePrefix("3fff::/20"),
	netip.MustParsePrefix("5f00::/16"),
	netip.MustParsePrefix("fec0::/10"), // site-local
}

// publicAddr reports whether an address lies on the public internet.
func publicAddr(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	return a.IsValid() && a.IsGlobalUnicast() && !a.IsPrivate() && !a.IsLoopback() &&
		!slices.ContainsFunc(blocked, func(p netip.Prefix) bool { return p.Contains(a) })
}

// blockedError says that a name has led to an address that is off limits.
type blockedError struct{ addr netip.Addr }

func (e *blockedError) Error() string {
	return fmt.Sprintf("the address %v is not public", e.addr)
}

// guardedDialer refuses every address that is not public, at the moment of
// connecting: after names have been resolved.
func guardedDialer(insecure bool) *net.Dialer {
	d := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	if !insecure {
		d.ControlContext = func(_ context.Context, network, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil || network != "tcp4" && network != "tcp6" {
				return event.NewError(event.CodeForbidden, "this address is not dialled", "", err)
			}
			if !publicAddr(ap.Addr()) {
				return &blockedError{ap.Addr()}
			}
			return nil
		}
	}
	return d
}
