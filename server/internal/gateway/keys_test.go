package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

const (
	ownKey      = "sk-own-0123456789"
	hedgeKey    = "hr_good-0123456789"
	revokedKey  = "hr_revoked-0123456789"
	providerKey = "sk-kept-0123456789"
)

// authorize accepts one key and has a provider key for it. Calls without a key
// belong to the only project.
func authorize(key string, _ *http.Request) (gateway.Grant, error) {
	switch key {
	case "":
		return gateway.Grant{ProjectID: "only"}, nil
	case hedgeKey:
		return gateway.Grant{ProjectID: "good", ProviderKey: func(name string) (string, bool) { return providerKey, name != "groq" }}, nil
	}
	return gateway.Grant{}, event.NewError(event.CodeUnauthorized, "unknown hedgerow key", "create a new one", nil)
}

func TestKeys(t *testing.T) {
	up := newUpstreamCases(t)
	all := make(map[string]gateway.Upstream)
	for name := range gateway.DefaultUpstreams() {
		all[name] = gateway.Upstream{BaseURL: up.URL}
	}
	for _, c := range []struct {
		name    string
		path    string
		headers []string
		status  int
		project string
		arrives http.Header // of the credential headers
		query   string
		says    string
	}{
		{name: "own key", path: "/openai/v1/models", headers: []string{"Authorization: Bearer " + ownKey}, project: "only", arrives: http.Header{"Authorization": {"Bearer " + ownKey}}},
		{name: "no key", path: "/openai/v1/models", project: "only", arrives: http.Header{}},
		{name: "hedgerow key instead", path: "/openai/v1/models", headers: []string{"Authorization: Bearer " + hedgeKey}, project: "good", arrives: http.Header{"Authorization": {"Bearer " + providerKey}}},
		{name: "case of the scheme", path: "/openai/v1/models", headers: []string{"Authorization: bearer  " + hedgeKey}, project: "good", arrives: http.Header{"Authorization": {"Bearer " + providerKey}}},
		{name: "anthropic", path: "/anthropic/v1/messages", headers: []string{"X-Api-Key: " + hedgeKey}, project: "good", arrives: http.Header{"X-Api-Key": {providerKey}}},
		{name: "anthropic as a bearer", path: "/v1/messages", headers: []string{"Authorization: Bearer " + hedgeKey}, project: "good", arrives: http.Header{"X-Api-Key": {providerKey}}},
		{name: "azure", path: "/azure/r/openai/v1/models", headers: []string{"Api-Key: " + hedgeKey}, project: "good", arrives: http.Header{"Api-Key": {providerKey}}},
		{name: "gemini", path: "/gemini/v1beta/models", headers: []string{"X-Goog-Api-Key: " + hedgeKey}, project: "good", arrives: http.Header{"X-Goog-Api-Key": {providerKey}}},
		{name: "vertex, own token", path: "/vertex/v1/projects/p/locations/eu/x", headers: []string{"Authorization: Bearer ya29.token"}, project: "only", arrives: http.Header{"Authorization": {"Bearer ya29.token"}}},
		{name: "vertex", path: "/vertex/v1beta1/publishers/google/models", headers: []string{"Authorization: Bearer " + hedgeKey}, project: "good", arrives: http.Header{"X-Goog-Api-Key": {providerKey}}},
		{name: "bedrock, own key", path: "/bedrock/model/m/converse", headers: []string{"Authorization: Bearer ABSK-own"}, project: "only", arrives: http.Header{"Authorization": {"Bearer ABSK-own"}}},
		{name: "bedrock, key in the signature", path: "/bedrock/model/m/converse", headers: []string{"Authorization: AWS4-HMAC-SHA256 Credential=" + hedgeKey + "/20261130/eu-west-1/bedrock/aws4_request, SignedHeaders=host, Signature=ab", "X-Amz-Date: 20261130T000000Z"}, project: "good", arrives: http.Header{"Authorization": {"Bearer " + providerKey}}},
		{name: "bedrock, signed", path: "/bedrock/model/m/converse", headers: []string{"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261130/eu-west-1/bedrock/aws4_request, SignedHeaders=host, Signature=ab"}, status: 401, says: "a signed request cannot be forwarded"},
		{name: "gemini in the query", path: "/gemini/v1beta/models?alt=sse&key=" + hedgeKey + "&z=1", project: "good", arrives: http.Header{"X-Goog-Api-Key": {providerKey}}, query: "alt=sse&z=1"},
		{name: "own key in the query", path: "/gemini/v1beta/models?key=" + ownKey, project: "only", arrives: http.Header{}, query: "key=" + ownKey},
		{name: "both keys", path: "/openai/v1/models", headers: []string{"X-Hedgerow-Key: " + hedgeKey, "Authorization: Bearer " + ownKey}, project: "good", arrives: http.Header{"Authorization": {"Bearer " + ownKey}}},
		{name: "both in credential headers", path: "/anthropic/v1/models", headers: []string{"Authorization: Bearer " + hedgeKey, "X-Api-Key: " + ownKey}, project: "good", arrives: http.Header{"X-Api-Key": {ownKey}}},
		{name: "no key stored", path: "/groq/openai/v1/models", headers: []string{"Authorization: Bearer " + hedgeKey}, status: 401, says: "has no key for groq"},
		{name: "unknown", path: "/openai/v1/models", headers: []string{"Authorization: Bearer " + revokedKey}, status: 401, says: "unknown hedgerow key (create a new one)"},
		{name: "unknown, anthropic", path: "/anthropic/v1/messages", headers: []string{"X-Api-Key: " + revokedKey}, status: 401, says: "unknown hedgerow key"},
		{name: "unknown, gemini", path: "/gemini/v1beta/models", headers: []string{"X-Goog-Api-Key: " + revokedKey}, status: 401, says: "unknown hedgerow key"},
		{name: "unknown, with the own key", path: "/openai/v1/models", headers: []string{"X-Hedgerow-Key: " + revokedKey, "Authorization: Bearer " + ownKey}, status: 401, says: "unknown hedgerow key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			up.mu.Lock()
			up.last = received{}
			up.mu.Unlock()
			r := start(t, gateway.Config{Upstreams: all, Authorize: authorize})
			got := call(t, "GET", r.url+c.path, "", c.headers...)
			arrived := up.got()
			if c.status != 0 {
				if got.status != c.status || arrived.Method != "" || !strings.Contains(got.body, c.says) {
					t.Errorf("%d %s; arrived: %v", got.status, got.body, arrived)
				}
				var body struct {
					Type  string
					Error struct{ Type, Message, Status, Code any }
				}
				if err := json.Unmarshal([]byte(got.body), &body); err != nil {
					t.Fatal(err)
				}
				e := body.Error
				switch {
				case strings.HasPrefix(c.path, "/anthropic"):
					if body.Type != "error" || e.Type != "authentication_error" {
						t.Errorf("not Anthropic's error format: %s", got.body)
					}
				case strings.HasPrefix(c.path, "/gemini"):
					if e.Code != 401.0 || e.Status != "UNAUTHENTICATED" {
						t.Errorf("not Google's error format: %s", got.body)
					}
				case e.Type != "authentication_error" || e.Code != "unauthorized":
					t.Errorf("not OpenAI's error format: %s", got.body)
				}
				if n := r.metric(t, "hedgerow_gateway_requests_total", "outcome=refused"); n != 1 {
					t.Errorf("%v calls counted as refused", n)
				}
			} else {
				e := r.one(t)
				if got.status != 200 || e.ProjectID != c.project {
					t.Errorf("status %d, project %q, want %q", got.status, e.ProjectID, c.project)
				}
				for _, name := range []string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "X-Hedgerow-Key"} {
					if v, want := strings.Join(arrived.Header[name], "|"), strings.Join(c.arrives[name], "|"); v != want {
						t.Errorf("%s: arrived %q, want %q", name, v, want)
					}
				}
				if _, q, _ := strings.Cut(arrived.URI, "?"); q != c.query {
					t.Errorf("query %q, want %q", q, c.query)
				}
			}
			noKeys(t, r, arrived)
		})
	}
}

// noKeys checks that no key is where it must not be.
func noKeys(t *testing.T, r *rig, arrived received) {
	t.Helper()
	b, err := json.Marshal(r.sink.all())
	if err != nil {
		t.Fatal(err)
	}
	sent, _ := json.Marshal(arrived)
	for _, key := range []string{hedgeKey, revokedKey, ownKey, providerKey} {
		if strings.Contains(string(b), key) {
			t.Errorf("the event contains %s", key)
		}
		if strings.Contains(r.logs.String(), key) {
			t.Errorf("the log contains %s", key)
		}
		if strings.HasPrefix(key, "hr_") && strings.Contains(string(sent), key) {
			t.Errorf("%s arrived", key)
		}
	}
}

// TestKeysOfFailedCalls checks that errors contain no keys.
func TestKeysOfFailedCalls(t *testing.T) {
	r := start(t, gateway.Config{Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: refusedAddr(t)}, "gemini": {BaseURL: refusedAddr(t)}}, Authorize: authorize})
	for _, path := range []string{"/openai/v1/models?key=" + ownKey, "/gemini/v1beta/models?key=" + hedgeKey} {
		got := call(t, "GET", r.url+path, "", "Authorization: Bearer "+hedgeKey, "X-Hedgerow-Key: "+hedgeKey)
		if got.status != 502 || strings.Contains(got.body, ownKey) || strings.Contains(got.body, hedgeKey) {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	r.sink.await(t, 2)
	noKeys(t, r, received{})
}

// TestAuthorizeFails has an error that is not meant for the caller.
func TestAuthorizeFails(t *testing.T) {
	r := start(t, gateway.Config{Authorize: func(string, *http.Request) (gateway.Grant, error) { return gateway.Grant{}, errTest }})
	if got := call(t, "GET", r.url+"/openai/v1/models", ""); got.status != 500 || strings.Contains(got.body, errTest.Error()) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if n := len(r.sink.all()); n != 0 {
		t.Errorf("%d events of calls that were not forwarded", n)
	}
}
