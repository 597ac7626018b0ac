package gateway_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// ownSecrets have the exact form of keys that hedgerow creates.
const (
	realKey   = "hr_0123456789abcdefghijABCDEFGHIJ0123456789"
	realToken = "phc_hedgerow_0123456789abcdefghijABCDEFGHIJ01"
)

// requestLog keeps each request as it arrived, including trailers.
type requestLog struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
}

func newRequestLog(t testing.TB) *requestLog {
	d := &requestLog{}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head, _ := httputil.DumpRequest(r, false)
		body, _ := io.ReadAll(r.Body)
		d.mu.Lock()
		d.seen = append(d.seen, string(head)+string(body)+fmt.Sprint(r.Trailer))
		d.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{}`)
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *requestLog) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.seen
	d.seen = nil
	return out
}

// TestOwnKeysAreNotForwarded puts a hedgerow key or a project token into every
// part of a request, alone and together, on every kind of route: it never
// reaches the provider in any form.
func TestOwnKeysAreNotForwarded(t *testing.T) {
	up := newRequestLog(t)
	all := map[string]gateway.Upstream{"mine": {BaseURL: up.URL}}
	for name := range gateway.DefaultUpstreams() {
		all[name] = gateway.Upstream{BaseURL: up.URL}
	}
	r := start(t, gateway.Config{Upstreams: all, Authorize: func(key string, _ *http.Request) (gateway.Grant, error) {
		switch key {
		case "":
			return gateway.Grant{ProjectID: "only"}, nil
		case realKey:
			return gateway.Grant{ProjectID: "good", ProviderKey: func(name string) (string, bool) { return providerKey, name != "groq" }}, nil
		}
		return gateway.Grant{}, event.NewError(event.CodeUnauthorized, "unknown hedgerow key", "", nil)
	}})
	routes := []string{"/v1/models", "/v1/messages", "/v1/anything/else", "/openai/v1/chat/completions", "/anthropic/v1/messages", "/gemini/v1beta/models", "/azure/r/openai/v1/models",
		"/openrouter/api/v1/models", "/groq/openai/v1/models", "/mine/v1/models", "/mine/x%2Fy",
		"/vertex/v1/projects/p/locations/us-east5/publishers/anthropic/models/m:rawPredict"}
	type request struct {
		path, query string
		header      http.Header
		trailer     bool
	}
	basic := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	places := map[string]func(q *request, own string){
		"X-Hedgerow-Key": func(q *request, own string) { q.header.Add("X-Hedgerow-Key", own) },
		"bearer":         func(q *request, own string) { q.header.Add("Authorization", "Bearer "+own) },
		"bearer, spaces": func(q *request, own string) { q.header.Add("Authorization", "bearer   "+own) },
		"token scheme":   func(q *request, own string) { q.header.Add("Authorization", "Token "+own) },
		"bare":           func(q *request, own string) { q.header.Add("Authorization", own) },
		"basic user":     func(q *request, own string) { q.header.Add("Authorization", basic(own, "")) },
		"basic password": func(q *request, own string) { q.header.Add("Authorization", basic("user", own)) },
		"proxy":          func(q *request, own string) { q.header.Add("Proxy-Authorization", "Bearer "+own) },
		"x-api-key":      func(q *request, own string) { q.header.Add("X-Api-Key", own) },
		"api-key":        func(q *request, own string) { q.header.Add("Api-Key", own) },
		"x-goog-api-key": func(q *request, own string) { q.header.Add("X-Goog-Api-Key", own) },
		"second line": func(q *request, own string) {
			q.header.Add("X-Api-Key", "sk-own")
			q.header.Add("X-Api-Key", own)
		},
		"query key":         func(q *request, own string) { q.query += "&key=" + own },
		"query api_key":     func(q *request, own string) { q.query += "&api_key=" + own },
		"query other":       func(q *request, own string) { q.query += "&other=" + own },
		"query escaped":     func(q *request, own string) { q.query += "&key=" + strings.ReplaceAll(own, "_", "%5F") },
		"query other, esc.": func(q *request, own string) { q.query += "&o%74her=x%20" + strings.ReplaceAll(own, "_", "%5f") },
		"query name":        func(q *request, own string) { q.query += "&" + own },
		"cookie":            func(q *request, own string) { q.header.Add("Cookie", "a=1; k="+own+"; b=2") },
		"subprotocol": func(q *request, own string) {
			q.header.Add("Sec-Websocket-Protocol", "realtime, openai-insecure-api-key."+own)
		},
		"subprotocol else":  func(q *request, own string) { q.header.Add("Sec-Websocket-Protocol", own+", realtime") },
		"any header":        func(q *request, own string) { q.header.Add("X-Team", own) },
		"text in a header":  func(q *request, own string) { q.header.Add("Referer", "http://127.0.0.1/?key="+own+"&x=1") },
		"escaped in header": func(q *request, own string) { q.header.Add("X-Team", url.QueryEscape(" "+own)+"%20") },
		"escaped twice": func(q *request, own string) {
			q.header.Add("X-Team", strings.ReplaceAll(own, "_", "%255F"))
			q.query += "&key=" + strings.ReplaceAll(own, "_", "%255f")
		},
		"escaped three times": func(q *request, own string) { q.query += "&other=" + strings.ReplaceAll(own, "_", "%25255F") },
		"base64": func(q *request, own string) {
			q.header.Add("X-Team", "team="+base64.StdEncoding.EncodeToString([]byte("?>"+own))+"; x")
			q.query += "&other=" + base64.RawURLEncoding.EncodeToString([]byte("?>"+own))
		},
		"bearer base64": func(q *request, own string) {
			q.header.Add("Authorization", "Bearer "+base64.StdEncoding.EncodeToString([]byte(own)))
		},
		"basic third": func(q *request, own string) { q.header.Add("Authorization", basic("user", "password:"+own)) },
		"path":        func(q *request, own string) { q.path += "/" + own },
		"trailer":     func(q *request, own string) { q.trailer = true },
	}
	var names []string
	for name := range places {
		names = append(names, name)
	}
	check := func(t *testing.T, route, own string, where ...string) {
		t.Helper()
		q := request{path: route, header: http.Header{"User-Agent": {"test"}, "X-Plain": {"hr_department and the chr_x"}}, query: "alt=sse"}
		for _, name := range where {
			places[name](&q, own)
		}
		body := io.Reader(strings.NewReader(`{"model":"m"}`))
		if q.trailer {
			body = io.MultiReader(body) // of unknown length, so that trailers are sent
		}
		req, err := http.NewRequestWithContext(t.Context(), "POST", r.url+q.path+"?"+q.query, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = q.header
		req.Header.Set("Content-Type", "application/octet-stream")
		if q.trailer {
			req.Trailer = http.Header{"X-Api-Key": {own}, "X-Checksum": {"1"}}
		}
		got := do(t, client(t), req)
		for _, seen := range up.take() {
			for _, form := range []string{own, own[3:], strings.ReplaceAll(own, "_", "%5F"), strings.ReplaceAll(own, "_", "%5f"), basic(own, "")[6:46], basic("user", own)[6:46], basic("user", "password:"+own)[6:46],
				base64.StdEncoding.EncodeToString([]byte(own))[:40], base64.StdEncoding.EncodeToString([]byte("?>" + own))[:40], base64.RawURLEncoding.EncodeToString([]byte("?>" + own))[:40]} {
				if strings.Contains(seen, form) {
					t.Errorf("%s, %q in %v arrived:\n%s", route, own, where, seen)
				}
			}
			if !strings.Contains(seen, "X-Plain: hr_department and the chr_x") || !strings.Contains(seen, "alt=sse") {
				t.Errorf("%s, in %v: a header that is not a key was removed:\n%s", route, where, seen)
			}
		}
		if got.err != nil || got.status != 200 && got.status != 401 && got.status != 400 {
			t.Errorf("%s, %q in %v: %d %s %v", route, own, where, got.status, got.body, got.err)
		}
	}
	for _, own := range []string{realKey, realToken} {
		for _, route := range routes {
			for _, name := range names {
				check(t, route, own, name)
			}
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		own := []string{realKey, realToken}[rnd.IntN(2)]
		rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		check(t, routes[rnd.IntN(len(routes))], own, names[:1+rnd.IntN(4)]...)
	}
	r.quiet(t)
	for _, e := range r.sink.all() {
		if strings.Contains(fmt.Sprintf("%+v", *e), realKey) || strings.Contains(fmt.Sprintf("%+v", *e), realToken) {
			t.Fatal("an event contains a key")
		}
	}
}

// TestProjectTokenIsRefused checks the error for a client that uses the project
// token as a key, and that a call with the key of a project without a provider
// key is not forwarded.
func TestProjectTokenIsRefused(t *testing.T) {
	up := newRequestLog(t)
	r := start(t, at(up.URL))
	for _, header := range []string{"Authorization: Bearer " + realToken, "X-Api-Key: " + realToken, "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(realToken+":"))} {
		got := call(t, "POST", r.url+"/openai/v1/chat/completions", chatBody, "Content-Type: application/json", header)
		if got.status != 401 || !strings.Contains(got.body, "project token") || !strings.Contains(got.body, "hr_") {
			t.Errorf("%s: %d %s", header, got.status, got.body)
		}
	}
	if got := call(t, "POST", r.url+"/openai/v1/chat/completions", chatBody, "Content-Type: application/json", "Authorization: Bearer "+realKey); got.status != 401 || !strings.Contains(got.body, "has no key for openai") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if seen := up.take(); len(seen) > 0 {
		t.Errorf("forwarded: %v", seen)
	}
}
