package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/internal/provider"
)

// TestEdited sends small and large bodies with edits: what is read is the
// result of [provider.Apply], and of the announced length.
func TestEdited(t *testing.T) {
	for _, pad := range []int{0, oneCopy} {
		b := []byte(`{"session":"s","a":"` + strings.Repeat("x", pad) + `","stream":true,"trace":{}}`)
		p := provider.PlanEdits(b, func(name []byte) bool { return string(name) == "session" || string(name) == "trace" }, true)
		body, n := edited(b, p.Edits)
		for range 2 { // a call on a dead connection is retried
			read, err := io.ReadAll(body())
			if err != nil || int64(len(read)) != n || !bytes.Equal(read, provider.Apply(b, p.Edits)) || bytes.Equal(read, b) {
				t.Errorf("sent %.80q of length %d, announced %d: %v", read, len(read), n, err)
			}
		}
	}
}

// FuzzRoute sends paths to every kind of upstream: whatever the path, the call
// goes to the configured host and below the configured path, with the caller's
// part unchanged.
func FuzzRoute(f *testing.F) {
	g, err := New(Config{
		Append: &journal{}, Authorize: func(string, *http.Request) (Grant, error) { return Grant{}, nil },
		Upstreams: map[string]Upstream{"deep": {BaseURL: "https://deep.example/a/v1"}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = g.Close(f.Context()) })
	for _, s := range []string{"/openai/v1/models?x=1", "/v1/messages", "/azure/res/openai/a%2Fb", "/azure/a%2Fb/c", "/deep/v1/x", "/deep/a/v1/x", "/deep/v1%2Fx", "/deep//v1", "/openai/%2e%2e/x", "/azure/evil.example%23/x", "//openai", "/openai", "/deep/%61/v1/y", "/openai/é%20?"} {
		f.Add(s)
	}
	hosts := []string{"api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com", "openrouter.ai", "api.groq.com", "api.mistral.ai", "api.deepseek.com", "api.x.ai", "api.perplexity.ai", "api.together.xyz", "api.fireworks.ai", "deep.example"}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || u.Opaque != "" || u.Scheme != "" || !strings.HasPrefix(target, "/") {
			return
		}
		in := &http.Request{Method: "GET", URL: u, Header: http.Header{}}
		rt, refusal := g.route(in)
		if refusal != nil {
			rec := httptest.NewRecorder()
			(&exchange{g: g, w: rec, in: in, route: rt}).refuse(refusal)
			if rec.Code < 400 || !json.Valid(rec.Body.Bytes()) {
				t.Fatalf("refused with %d %s", rec.Code, rec.Body)
			}
			return
		}
		resource, azure := strings.CutSuffix(rt.host, ".openai.azure.com")
		if !slices.Contains(hosts, rt.host) && (!azure || !validResource(resource)) {
			t.Fatalf("%q goes to %q", target, rt.host)
		}
		sent := (&url.URL{Scheme: rt.up.scheme, Host: rt.host, Path: rt.path, RawPath: rt.rawPath, RawQuery: u.RawQuery, ForceQuery: u.ForceQuery}).RequestURI()
		back, err := url.ParseRequestURI(sent)
		if err != nil || !strings.HasPrefix(sent, "/") && sent != "" {
			t.Fatalf("%q is sent as %q: %v", target, sent, err)
		}
		if back.RawQuery != u.RawQuery || !strings.HasPrefix(back.Path+"/", rt.up.path+"/") {
			t.Fatalf("%q is sent as %q, not below %q", target, sent, rt.up.path)
		}
		if rest := strings.TrimPrefix(back.EscapedPath(), rt.up.path); rest != "/" && !strings.HasSuffix(u.EscapedPath(), rest) {
			t.Fatalf("%q is sent as %q", target, sent)
		}
		if slices.Contains(strings.Split(back.Path, "/"), "..") {
			t.Fatalf("%q is sent as %q", target, sent)
		}
	})
}
