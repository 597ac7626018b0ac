package posthog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// CheckHost reports whether a PostHog host may be saved: https://, and no address
// or name that is known not to be public, unless allowed. Names are resolved only
// when they are dialed, where every address is checked again; a name that changes
// its address after the check (DNS rebinding) gains nothing.
func CheckHost(host string, insecure bool, allow *project.AllowedHosts) error {
	_, err := project.NormalizeHost(host, insecure, allow)
	return err
}

// blocked are ranges of non-public addresses that netip's predicates do not
// cover, and forms of IPv4 addresses inside IPv6 ones.
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

// publicAddr reports whether an address is on the public internet.
func publicAddr(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	return a.IsValid() && a.IsGlobalUnicast() && !a.IsPrivate() && !a.IsLoopback() &&
		!slices.ContainsFunc(blocked, func(p netip.Prefix) bool { return p.Contains(a) })
}

// blockedError is returned if a name resolves to a blocked address.
type blockedError struct{ addr netip.Addr }

func (e *blockedError) Error() string {
	return fmt.Sprintf("the address %v is not public", e.addr)
}

// guardedDialer rejects addresses that are not public when connecting,
// after names have been resolved. allowed accepts others.
func guardedDialer(insecure bool, allowed func(netip.Addr) bool) *net.Dialer {
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	if !insecure {
		d.ControlContext = func(_ context.Context, network, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil || network != "tcp4" && network != "tcp6" {
				return event.NewError(event.CodeForbidden, "this address is not dialled", "", err)
			}
			if !publicAddr(ap.Addr()) && !allowed(ap.Addr()) {
				return &blockedError{ap.Addr()}
			}
			return nil
		}
	}
	return d
}

const dialTimeout = 10 * time.Second

// guard dials PostHog: public addresses, and those that the operator allows.
type guard struct {
	insecure bool
	allow    *project.AllowedHosts
	ca       *x509.CertPool // for the latter; nil is the system's
}

// dial connects to address, a host and a port. A name that is allowed may lead
// anywhere; others only to public addresses and into the allowed networks.
func (g guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	allowed := g.allow.Addr
	if host, _, err := net.SplitHostPort(address); err == nil && g.allow.Name(host) {
		allowed = func(netip.Addr) bool { return true }
	}
	return guardedDialer(g.insecure, allowed).DialContext(ctx, network, address)
}

// dialTLS trusts the operator's own certificate authority only for addresses that
// the operator allows.
func (g guard) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	conn, err := g.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := tlsConfig()
	c.ServerName, c.NextProtos = host, []string{"h2", "http/1.1"}
	if at, ok := conn.RemoteAddr().(*net.TCPAddr); g.allow.Name(host) || ok && g.allow.Addr(at.AddrPort().Addr()) {
		c.RootCAs = g.ca
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	secure := tls.Client(conn, c)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// LoadCA reads the certificates of a PEM file and adds them to those that the system
// trusts.
func LoadCA(path string) (*x509.CertPool, []*x509.Certificate, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		pool.AddCert(cert)
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, nil, errors.New("it contains no PEM certificate")
	}
	return pool, certs, nil
}
