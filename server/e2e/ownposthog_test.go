package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

// authority is a certificate authority for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	path string // its certificate, in PEM
}

func newAuthority(t *testing.T, name string, until time.Time) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, path: filepath.Join(t.TempDir(), "ca.pem")}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// serve is a server on an address of this machine, with a certificate of the authority.
func (a *authority) serve(t *testing.T, h http.Handler, addr string) *httptest.Server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "posthog"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP("127.0.0.2"), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv.Listener = l
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	srv.Config.ErrorLog = log.New(new(bytes.Buffer), "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

// TestOwnPostHog sends to a PostHog inside the network: rejected unless the
// operator listed it, and by HTTPS with an authority that is trusted for it
// only.
func TestOwnPostHog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const personal = "phx_own_0123456789"
	ph := simposthog.New(simposthog.Options{Projects: []simposthog.Project{{Name: "own", Token: phKey}},
		PersonalKeys: []simposthog.PersonalKey{{Key: personal, Scopes: []string{"*"}}}, KeepRequests: 1000})
	ca, other := newAuthority(t, "own authority", time.Now().Add(100*24*time.Hour)), newAuthority(t, "another", time.Now().Add(time.Hour))
	srv := ca.serve(t, ph, "127.0.0.1:0")
	host := srv.URL
	byName := strings.Replace(host, "127.0.0.1", "localhost", 1)
	strict := []string{"HEDGEROW_ALLOW_INSECURE_POSTHOG=0", "POSTHOG_API_KEY=", "POSTHOG_HOST="}
	var p *proc
	run := func(env ...string) {
		t.Helper()
		if p != nil {
			p.stop()
		}
		w.env = append(strict[:len(strict):len(strict)], env...)
		p = w.start()
	}
	connect := func(name, host string) (int, string) {
		t.Helper()
		return p.send(t.Context(), "PUT", "/api/v1/connections/"+name, `{"host":"`+host+`","project_key":"`+phKey+`","personal_key":"`+personal+`","flush_interval_seconds":0.1}`)
	}
	refused := func(name, host string, words ...string) {
		t.Helper()
		status, answer := connect(name, host)
		for _, word := range words {
			if status/100 != 4 || !strings.Contains(answer, word) {
				t.Errorf("%s: %d %s, want a refusal with %q", host, status, answer, word)
			}
		}
	}
	run()
	refused("own", host, "private or local", "posthog_allow_hosts")
	refused("own", byName, "posthog_allow_hosts")
	if n := len(ph.Requests()); n > 0 {
		t.Errorf("%d requests before it was allowed", n)
	}

	run("HEDGEROW_POSTHOG_ALLOW_HOSTS=127.0.0.1,::1")
	refused("own", host, "posthog_ca")
	refused("own", strings.Replace(host, "https://", "http://", 1), "not https://")
	refused("own", strings.Replace(host, "127.0.0.1", "127.0.0.2", 1), "posthog_allow_hosts")

	run("HEDGEROW_POSTHOG_ALLOW_HOSTS=127.0.0.1,::1", "HEDGEROW_POSTHOG_CA="+other.path)
	refused("own", host, "posthog_ca")
	if n := len(ph.Requests()); n > 0 {
		t.Errorf("%d requests without a trusted certificate", n)
	}

	// Allowed, in the configuration file.
	if err := os.WriteFile(filepath.Join(w.dir, "..", "hedgerow.yaml"), []byte("posthog_allow_hosts: 127.0.0.1, ::1\nposthog_ca: "+ca.path+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("HEDGEROW_CONFIG=" + filepath.Join(w.dir, "..", "hedgerow.yaml"))
	if status, answer := connect("own", host); status != 200 || !strings.Contains(answer, `"ok":true`) || strings.Contains(answer, `"ok":false`) {
		t.Fatalf("allowed and trusted: %d %s", status, answer)
	}
	token := p.token()
	p.call("POST", "/batch/", `{"api_key":"`+token+`","batch":[{"event":"inside","uuid":"0192c0de-0000-7000-9000-00000000c001","distinct_id":"u","properties":{"n":1}}]}`, nil)
	w.await(func() bool {
		for _, e := range ph.Events() {
			if e.Name == "inside" {
				return true
			}
		}
		return false
	}, func() string { return "the event did not arrive\n" + p.logs() })
	before := len(ph.Requests())
	p.call("POST", "/flags/?v=2", `{"api_key":"`+token+`","distinct_id":"u"}`, nil)
	if len(ph.Requests()) == before {
		t.Error("feature flags were not requested")
	}
	if status, answer := p.send(t.Context(), "POST", "/api/v1/connections/own/test", ""); status != 200 || strings.Contains(answer, `"ok":false`) {
		t.Errorf("the test: %d %s", status, answer)
	}
	// An unlisted name that resolves to a listed address: the test when saving
	// connects to it.
	if status, answer := connect("by-name", byName); status/100 == 2 && strings.Contains(answer, `"ok":false`) {
		t.Errorf("by name: %d %s", status, answer)
	}
	// Redirects are not followed.
	var hit atomic.Int32
	forbidden := ca.serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hit.Add(1) }), "127.0.0.2:0")
	redirect := ca.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, forbidden.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}), "127.0.0.1:0")
	if status, answer := connect("elsewhere", redirect.URL); status/100 == 2 {
		t.Errorf("a redirect: %d %s", status, answer)
	}
	if n := hit.Load(); n > 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
	if out, _ := w.run("doctor"); !strings.Contains(out, "127.0.0.1/32, ::1/128") || !strings.Contains(out, "own authority, valid until") {
		t.Errorf("doctor: %s", out)
	}
	// A revoked permission is enforced on the next connection.
	w.env = nil
	run()
	p.call("POST", "/batch/", `{"api_key":"`+token+`","batch":[{"event":"outside","uuid":"0192c0de-0000-7000-9000-00000000c002","distinct_id":"u","properties":{"n":1}}]}`, nil)
	var list struct {
		Connections []struct {
			Name     string
			Delivery struct {
				LastError string `json:"last_error"`
			}
		}
	}
	w.await(func() bool {
		p.get("/api/v1/connections", &list)
		for _, c := range list.Connections {
			if c.Name == "own" && strings.Contains(c.Delivery.LastError, "posthog_allow_hosts") {
				return true
			}
		}
		return false
	}, func() string { return "the connection does not report why nothing is sent" })
	p.stop()

	for _, env := range [][]string{{"HEDGEROW_POSTHOG_ALLOW_HOSTS=https://posthog.internal"}, {"HEDGEROW_POSTHOG_ALLOW_HOSTS=0.0.0.0/0"},
		{"HEDGEROW_POSTHOG_ALLOW_HOSTS=posthog.internal", "HEDGEROW_POSTHOG_CA=/nowhere/ca.pem"}, {"HEDGEROW_POSTHOG_CA=" + ca.path}} {
		cmd := exec.Command(binary, "serve")
		cmd.Env = append(w.environ(), env...)
		cmd.Dir = t.TempDir()
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "posthog_") {
			t.Errorf("%v: exit code %d, want 2 naming the setting: %s", env, cmd.ProcessState.ExitCode(), out)
		}
	}
}
