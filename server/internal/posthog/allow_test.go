package posthog

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/project"
)

// TestAllowedAddresses dials allowed addresses and similar ones.
func TestAllowedAddresses(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		allow, host string
		ok          bool
	}{
		{"", "127.0.0.1", false},
		{"", "localhost", false},
		{"127.0.0.0/8", "127.0.0.1", true},
		{"127.0.0.0/8", "localhost", true}, // a name that leads into the network
		{"localhost", "localhost", true},
		{"localhost", "127.0.0.1", false},
		{"10.0.0.0/8", "localhost", false}, // a name that leads elsewhere than it did
		{"posthog.internal", "localhost", false},
	} {
		allow, err := project.ParseAllowedHosts(tt.allow)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := guard{allow: allow}.dial(context.Background(), "tcp4", net.JoinHostPort(tt.host, port))
		if err == nil {
			_ = conn.Close()
		}
		if off := (*blockedError)(nil); (err == nil) != tt.ok || err != nil && !errors.As(err, &off) {
			t.Errorf("%s with %q: %v", tt.host, tt.allow, err)
		}
		if err != nil && !strings.Contains(explain(err, "https://"+tt.host).hint, "posthog_allow_hosts") {
			t.Errorf("%s with %q: %+v does not name the setting", tt.host, tt.allow, explain(err, "https://"+tt.host))
		}
	}
}

// TestOwnAuthority is that the operator's authority counts for allowed hosts only.
func TestOwnAuthority(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Proto)) }))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	ca := x509.NewCertPool()
	ca.AddCert(srv.Certificate())
	for _, tt := range []struct {
		allow string
		ok    bool
	}{{"127.0.0.0/8", true}, {"127.0.0.1", true}, {"10.0.0.0/8", false}, {"example.com", false}} {
		allow, err := project.ParseAllowedHosts(tt.allow)
		if err != nil {
			t.Fatal(err)
		}
		h := newHTTPClient(ClientConfig{AllowHosts: allow, CA: ca}, true) // every address may be dialled
		res, err := h.Get(srv.URL)
		unknown := x509.UnknownAuthorityError{}
		switch {
		case (err == nil) != tt.ok || err != nil && !errors.As(err, &unknown):
			t.Errorf("%s: %v", tt.allow, err)
		case err == nil:
			if _ = res.Body.Close(); res.ProtoMajor != 2 {
				t.Errorf("%s: %s, want HTTP/2", tt.allow, res.Proto)
			}
		}
		h.CloseIdleConnections()
	}
}
