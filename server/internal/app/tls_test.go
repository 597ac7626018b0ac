package app

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/config"
)

// TestTLS serves with the certificate that is made for loopback addresses: a client that
// trusts it alone is answered under each of its names.
func TestTLS(t *testing.T) {
	a := newApp(&config.Config{Data: t.TempDir(), TLSCert: config.LoopbackCert, LogLevel: "error"})
	if err := a.openTLS(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(a.cfg.Data, "tls", "loopback.pem")
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(a.cfg.Data, "tls", "loopback.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{TLSConfig: a.tls, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Proto)) })}
	go func() { _ = serveHTTP(srv, l) }()
	t.Cleanup(func() { _ = srv.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost"} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
		resp, err := client.Get("https://" + net.JoinHostPort(host, port))
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		_ = resp.Body.Close()
		if resp.ProtoMajor != 1 {
			t.Errorf("%s: answered over %s", host, resp.Proto)
		}
	}
	// Its key cannot make a certificate that is trusted for another host.
	own, err := tls.LoadX509KeyPair(file, filepath.Join(a.cfg.Data, "tls", "loopback.key"))
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"localhost": true, "example.com": false} {
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{host}}
		der, err := x509.CreateCertificate(rand.Reader, leaf, own.Leaf, own.Leaf.PublicKey, own.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		if leaf, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); (err == nil) != want {
			t.Errorf("a certificate for %s: %v", host, err)
		}
	}
	// The next start uses the same certificate; one that expires soon is
	// replaced.
	if err := a.openTLS(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(file); string(again) != string(pem) {
		t.Error("the certificate was made twice")
	}
	if err := loopbackCert(file, filepath.Join(a.cfg.Data, "tls", "loopback.key"), time.Now().AddDate(0, 11, 15)); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(file); string(again) == string(pem) {
		t.Error("a certificate that ends in half a month was not made again")
	}
}

// TestLoopbackCertificateRenewed lets a year pass while the server runs.
func TestLoopbackCertificateRenewed(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	c := &certificate{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), loopback: true, now: func() time.Time { return now }}
	first, err := c.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	now = now.AddDate(0, 10, 0)
	if got, err := c.get(nil); err != nil || got != first {
		t.Errorf("after ten months: %v", err)
	}
	now = now.AddDate(0, 1, 15)
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 { // root can write anywhere
		if got, err := c.get(nil); err != nil || got != first {
			t.Errorf("where the folder cannot be written to: %v", err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// File systems may keep whole seconds only.
	c.stamp = [2]time.Time{}
	now = now.Add(certEvery)
	got, err := c.get(nil)
	if err != nil || got == first || !got.Leaf.NotAfter.After(now.AddDate(0, 11, 0)) {
		t.Errorf("half a month before it ends: %v, until %s", err, got.Leaf.NotAfter)
	}
}

// TestCertificateRenewed replaces the files of a certificate while it is in use.
func TestCertificateRenewed(t *testing.T) {
	dir := t.TempDir()
	c := &certificate{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	if _, err := c.get(nil); err == nil {
		t.Error("a missing certificate is no error")
	}
	now := time.Now()
	if err := loopbackCert(c.cert, c.key, now); err != nil {
		t.Fatal(err)
	}
	c.checked = time.Time{}
	first, err := c.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.checked = time.Time{}
	if got, err := c.get(nil); err != nil || got != first {
		t.Errorf("with half a key: %v", err)
	}
	if err := loopbackCert(c.cert, c.key, now); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{c.cert, c.key} { // file systems may keep whole seconds only
		if err := os.Chtimes(f, now, now.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	c.checked = time.Time{}
	if got, err := c.get(nil); err != nil || got == first {
		t.Errorf("the renewed certificate is not used: %v", err)
	}
}
