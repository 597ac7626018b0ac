package gateway_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/tidwall/gjson"
	"golang.org/x/oauth2"

	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// amazonSecrets are the secrets of the AWS keys of these tests.
var amazonSecrets = map[string]string{"AKIAPROJECT": "project/secret+0", "AKIASERVER": "server-secret"}

// amazon answers as Bedrock does: requests whose signature it cannot verify get 403. It
// returns the key id of each accepted request, or the bearer key.
func amazon(t *testing.T) (base string, accepted func() []string) {
	t.Helper()
	var ids []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		authorization := r.Header.Get("Authorization")
		if bearer, ok := strings.CutPrefix(authorization, "Bearer "); ok {
			ids = append(ids, bearer)
			return
		}
		_, id, _ := strings.Cut(authorization, "Credential=")
		id, scope, _ := strings.Cut(id, "/")
		at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err != nil {
			http.Error(w, "no date", http.StatusForbidden)
			return
		}
		_, names, _ := strings.Cut(authorization, "SignedHeaders=")
		names, _, _ = strings.Cut(names, ",")
		again := &http.Request{Method: r.Method, Host: r.Host, URL: &url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath}, Header: make(http.Header)}
		for name := range strings.SplitSeq(names, ";") {
			switch name {
			case "host", "x-amz-date", "x-amz-security-token":
			case "content-length":
				again.ContentLength = r.ContentLength
			default:
				again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
			}
		}
		region := strings.Split(scope, "/")[1]
		signAmazon(t, again, string(body), id, amazonSecrets[id], region, at)
		if again.Header.Get("Authorization") != authorization || time.Since(at).Abs() > 5*time.Minute {
			http.Error(w, "SignatureDoesNotMatch", http.StatusForbidden)
			return
		}
		ids = append(ids, id+" "+region)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, func() []string { return ids }
}

func signAmazon(t *testing.T, r *http.Request, body, id, secret, region string, at time.Time) {
	t.Helper()
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, r, hex.EncodeToString(sum[:]), "bedrock", region, at); err != nil {
		t.Error(err)
	}
}

type noCredentials struct{}

func (noCredentials) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, errors.New("no role")
}

// TestAmazonSigned sends signed requests with every kind of credentials: what arrives at
// Bedrock is signed for Bedrock, or is refused before.
func TestAmazonSigned(t *testing.T) {
	server := credentials.NewStaticCredentialsProvider("AKIASERVER", amazonSecrets["AKIASERVER"], "")
	for _, c := range []struct {
		name       string
		id, secret string // of the caller's signature
		age        time.Duration
		change     string // the body that is sent in place of the signed one
		stored     string
		cloud      gateway.Cloud
		status     int
		arrives    string
	}{
		{name: "hedgerow key, stored AWS key", id: hedgeKey, secret: "unused", stored: "AKIAPROJECT:project/secret+0", status: 200, arrives: "AKIAPROJECT eu-west-1"},
		{name: "hedgerow key, stored API key", id: hedgeKey, secret: "unused", stored: "ABSK-stored", status: 200, arrives: "ABSK-stored"},
		{name: "hedgerow key, server's role", id: hedgeKey, secret: "unused", cloud: gateway.Cloud{AWS: server}, status: 200, arrives: "AKIASERVER eu-west-1"},
		{name: "hedgerow key, no role", id: hedgeKey, secret: "unused", cloud: gateway.Cloud{AWS: noCredentials{}}, status: 502},
		{name: "hedgerow key, nothing stored", id: hedgeKey, secret: "unused", status: 401},
		{name: "stored AWS key, verified", id: "AKIAPROJECT", secret: amazonSecrets["AKIAPROJECT"], stored: "AKIAPROJECT:project/secret+0", status: 200, arrives: "AKIAPROJECT eu-west-1"},
		{name: "stored AWS key, wrong secret", id: "AKIAPROJECT", secret: "guess", stored: "AKIAPROJECT:project/secret+0", status: 403},
		{name: "stored AWS key, old", id: "AKIAPROJECT", secret: amazonSecrets["AKIAPROJECT"], age: 6 * time.Minute, stored: "AKIAPROJECT:project/secret+0", status: 403},
		{name: "stored AWS key, another body", id: "AKIAPROJECT", secret: amazonSecrets["AKIAPROJECT"], change: `{"messages":[{}]}`, stored: "AKIAPROJECT:project/secret+0", status: 403},
		{name: "another AWS key", id: "AKIAOTHER", secret: "any", stored: "AKIAPROJECT:project/secret+0", status: 401},
		{name: "another AWS key, trusted", id: "AKIAOTHER", secret: "any", stored: "AKIAPROJECT:project/secret+0", cloud: gateway.Cloud{TrustSignatures: true}, status: 200, arrives: "AKIAPROJECT eu-west-1"},
		{name: "another AWS key, trusted, server's role", id: "AKIAOTHER", secret: "any", cloud: gateway.Cloud{TrustSignatures: true, AWS: server}, status: 200, arrives: "AKIASERVER eu-west-1"},
		{name: "another AWS key, trusted, nothing stored", id: "AKIAOTHER", secret: "any", cloud: gateway.Cloud{TrustSignatures: true}, status: 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			base, accepted := amazon(t)
			grant := gateway.Grant{ProjectID: "p", ProviderKey: func(string) (string, bool) { return c.stored, c.stored != "" }}
			r := start(t, gateway.Config{
				Upstreams: map[string]gateway.Upstream{"bedrock": {BaseURL: base}}, Cloud: c.cloud,
				Authorize: func(string, *http.Request) (gateway.Grant, error) { return grant, nil },
			})
			const body = `{"messages":[{"role":"user","content":[{"text":"How wide?"}]}]}`
			// boto3 escapes the colon of a model's id.
			req, err := http.NewRequestWithContext(t.Context(), "POST", r.url+"/bedrock/model/eu.anthropic.claude-v1%3A0/converse", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Amz-Sdk-Request", "attempt=1")
			signAmazon(t, req, body, c.id, c.secret, "eu-west-1", time.Now().Add(-c.age))
			if c.change != "" {
				req.Body, req.ContentLength = io.NopCloser(strings.NewReader(c.change)), int64(len(c.change))
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			said, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != c.status || strings.Join(accepted(), ",") != c.arrives {
				t.Errorf("status %d, want %d; arrived %v, want %q: %s", resp.StatusCode, c.status, accepted(), c.arrives, said)
			}
			// boto3 and the other SDKs of AWS show this member.
			if m := gjson.GetBytes(said, "message").Str; c.status != 200 && !strings.HasPrefix(m, "hedgerow: ") {
				t.Errorf("the message is %q: %s", m, said)
			}
			for _, secret := range []string{c.secret, amazonSecrets["AKIAPROJECT"], amazonSecrets["AKIASERVER"]} {
				if secret != "any" && secret != "unused" && strings.Contains(string(said)+r.logs.String(), secret) {
					t.Errorf("a secret is in the answer or the log")
				}
			}
		})
	}
}

// TestAmazonLarge has a body that is passed on unread, which cannot be signed.
func TestAmazonLarge(t *testing.T) {
	base, accepted := amazon(t)
	r := start(t, gateway.Config{
		Upstreams: map[string]gateway.Upstream{"bedrock": {BaseURL: base}}, Limits: gateway.Limits{RequestBytes: 1 << 10},
		Authorize: func(string, *http.Request) (gateway.Grant, error) {
			return gateway.Grant{ProjectID: "p", ProviderKey: func(string) (string, bool) { return "AKIAPROJECT:project/secret+0", true }}, nil
		},
	})
	got := call(t, "POST", r.url+"/bedrock/model/m/converse", `{"x":"`+strings.Repeat("a", 4<<10)+`"}`, "Authorization: Bearer "+hedgeKey, "Content-Type: application/json")
	if got.status != 413 || len(accepted()) != 0 {
		t.Errorf("status %d, %v arrived: %s", got.status, accepted(), got.body)
	}
}

// TestGoogleToken has a caller without a key of its own use the server's credentials.
func TestGoogleToken(t *testing.T) {
	arrived := ""
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { arrived = r.Header.Get("Authorization") }))
	t.Cleanup(srv.Close)
	for _, c := range []struct {
		source oauth2.TokenSource
		status int
		want   string
	}{
		{oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "ya29.server"}), 200, "Bearer ya29.server"},
		{nil, 401, ""},
	} {
		arrived = ""
		r := start(t, gateway.Config{
			Upstreams: map[string]gateway.Upstream{"vertex": {BaseURL: srv.URL}}, Cloud: gateway.Cloud{Google: c.source},
			Authorize: func(string, *http.Request) (gateway.Grant, error) { return gateway.Grant{ProjectID: "p"}, nil },
		})
		got := call(t, "POST", r.url+"/vertex/v1/projects/p/locations/eu/publishers/google/models/m:generateContent", "{}", "Authorization: Bearer "+hedgeKey)
		if got.status != c.status || arrived != c.want {
			t.Errorf("status %d, arrived %q: %s", got.status, arrived, got.body)
		}
	}
}
