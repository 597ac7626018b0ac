package posthog

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestPublicAddr(t *testing.T) {
	for addr, want := range map[string]bool{
		"8.8.8.8": true, "104.18.1.1": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true, "172.32.0.1": true, "100.128.0.1": true,

		"127.0.0.1": false, "127.255.0.9": false, "::1": false, "0.0.0.0": false, "0.1.2.3": false, "::": false,
		"10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false, "fd00::1": false, "fc00::1": false,
		"169.254.1.1": false, "169.254.169.254": false, "fe80::1": false, "fd00:ec2::254": false, "168.63.129.16": false,
		"100.64.0.1": false, "100.100.100.200": false, "100.127.255.255": false,
		"224.0.0.1": false, "239.1.1.1": false, "ff02::1": false, "255.255.255.255": false, "240.0.0.1": false,
		"192.0.0.1": false, "192.0.2.1": false, "198.18.0.1": false, "198.51.100.1": false, "203.0.113.1": false, "192.88.99.1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:169.254.169.254": false, "::127.0.0.1": false,
		"64:ff9b::7f00:1": false, "64:ff9b::8.8.8.8": false, "64:ff9b:1::1": false, "2002:7f00:1::": false, "2001:0:1::1": false,
		"2001:db8::1": false, "100::1": false, "fec0::1": false, "fe80::1%eth0": false,
	} {
		if got := publicAddr(netip.MustParseAddr(addr)); got != want {
			t.Errorf("publicAddr(%s) = %v, want %v", addr, got, want)
		}
	}
	if publicAddr(netip.Addr{}) {
		t.Error("the zero address is public")
	}
}

func TestCheckHost(t *testing.T) {
	for host, want := range map[string]bool{
		"": true, "us.i.posthog.com": true, "https://eu.i.posthog.com/": true, "https://e.example.com/ingest": true, "https://8.8.8.8": true,
		"http://us.i.posthog.com": false, "https://localhost": false, "https://127.0.0.1:8000": false, "https://[::1]": false, "https://10.1.2.3": false,
		"https://metadata.google.internal": false, "https://169.254.169.254": false, "https://0x7f.1": false, "https://2130706433": false,
		"https://[::ffff:127.0.0.1]": false, "https://[64:ff9b::7f00:1]": false, "https://user:pw@us.i.posthog.com": false, "ftp://us.i.posthog.com": false,
	} {
		if err := CheckHost(host, false, nil); (err == nil) != want {
			t.Errorf("CheckHost(%q) = %v, want ok %v", host, err, want)
		}
	}
	for _, host := range []string{"http://127.0.0.1:9000", "https://10.1.2.3"} {
		if err := CheckHost(host, true, nil); err != nil {
			t.Errorf("CheckHost(%q, insecure) = %v", host, err)
		}
	}
}

// A name that was public when it was saved may lead anywhere later: what counts
// is the address that is dialled.
func TestDialRefusesPrivateAddresses(t *testing.T) {
	hit := false
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hit = true }))
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		for _, insecure := range []bool{false, true} {
			hit = false
			c := newHTTPClient(ClientConfig{}, insecure)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+name+":"+port, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = do(c, req, 100, time.Now())
			c.CloseIdleConnections()
			if insecure && (err != nil || !hit) {
				t.Errorf("%s, insecure: %v", name, err)
			}
			if !insecure && (hit || explain(err, "https://"+name).code != CodeHostBlocked) {
				t.Errorf("%s: reached %v, error %v", name, hit, err)
			}
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	hit := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hit = true }))
	defer other.Close()
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	c := newHTTPClient(ClientConfig{}, true)
	defer c.CloseIdleConnections()
	a, err := postBatch(context.Background(), c, srv.URL, batchPath, "phc_x", "test", [][]byte{[]byte(`{}`)}, false, time.Now())
	if err != nil || a.status != http.StatusTemporaryRedirect || hit {
		t.Errorf("status %d, followed %v, error %v", a.status, hit, err)
	}
	if why := refusal(a, srv.URL); !strings.Contains(why, "redirect") {
		t.Errorf("refusal %q", why)
	}
}
