package project

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// AllowedHosts are the names and networks that PostHog may be at although they are
// not public, by the operator's word. A nil one allows none.
type AllowedHosts struct {
	names []string // in lower case, without a dot at the end
	nets  []netip.Prefix
}

// ParseAllowedHosts reads a list with commas between: names (posthog.internal), and
// addresses and networks (10.0.0.5, 10.1.0.0/16). An empty list is nil.
func ParseAllowedHosts(list string) (*AllowedHosts, error) {
	var a AllowedHosts
	for part := range strings.SplitSeq(list, ",") {
		part = strings.ToLower(strings.TrimSpace(part))
		if part == "" {
			continue
		}
		if ip, err := netip.ParseAddr(strings.Trim(part, "[]")); err == nil {
			ip = ip.Unmap()
			a.nets = append(a.nets, netip.PrefixFrom(ip, ip.BitLen()))
			continue
		}
		if strings.Contains(part, "/") {
			p, err := netip.ParsePrefix(part)
			if err != nil {
				return nil, fmt.Errorf("%q is not a network", part)
			}
			if p.Bits() == 0 {
				return nil, fmt.Errorf("%q covers every address", part)
			}
			a.nets = append(a.nets, p.Masked())
			continue
		}
		name := strings.TrimSuffix(part, ".")
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.Contains(name, "..") {
			return nil, fmt.Errorf("%q is not a host name, IP address or network", part)
		}
		a.names = append(a.names, name)
	}
	if len(a.names)+len(a.nets) == 0 {
		return nil, nil
	}
	return &a, nil
}

// Name reports whether a host is allowed by its name, wherever that leads.
func (a *AllowedHosts) Name(host string) bool {
	return a != nil && slices.Contains(a.names, strings.ToLower(strings.TrimSuffix(host, ".")))
}

// Addr reports whether an address is in one of the allowed networks.
func (a *AllowedHosts) Addr(ip netip.Addr) bool {
	ip = ip.Unmap()
	return a != nil && slices.ContainsFunc(a.nets, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// maySave reports whether a host that is not public may be saved. With
// networks, a name may resolve into one: the address is checked when
// dialing.
func (a *AllowedHosts) maySave(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return a.Addr(ip)
	}
	if last := host[strings.LastIndexByte(host, '.')+1:]; last == "" || last[0] >= '0' && last[0] <= '9' {
		return a.Name(host) // an address in another spelling
	}
	return a.Name(host) || a != nil && len(a.nets) > 0
}

// String is the list.
func (a *AllowedHosts) String() string {
	if a == nil {
		return ""
	}
	out := slices.Clone(a.names)
	for _, p := range a.nets {
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}

// AllowHint is what to do about a PostHog host that is not public.
const AllowHint = "use a public name; for a self-hosted PostHog inside the network, the operator lists it in posthog_allow_hosts (HEDGEROW_POSTHOG_ALLOW_HOSTS) and restarts hedgerow"
