package ingest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/ingest"
)

// upstream is PostHog: it records requests and returns the response that is
// set.
type upstream struct {
	mu       sync.Mutex
	asked    []*http.Request
	bodies   []string
	response func(r *http.Request, body string) (status int, response string, err error)
}

func (u *upstream) Do(r *http.Request) (*http.Response, error) {
	b, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	u.asked, u.bodies = append(u.asked, r), append(u.bodies, string(b))
	f := u.response
	u.mu.Unlock()
	status, response, err := f(r, string(b))
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Etag": {`"v1"`}}, Body: io.NopCloser(strings.NewReader(response))}, nil
}

func (u *upstream) says(status int, response string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.response = func(*http.Request, string) (int, string, error) { return status, response, nil }
}

func (u *upstream) breaks() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.response = func(*http.Request, string) (int, string, error) { return 0, "", errors.New("no route to host") }
}

func (u *upstream) count() int { u.mu.Lock(); defer u.mu.Unlock(); return len(u.asked) }

func (u *upstream) last(t *testing.T) (*http.Request, string) {
	t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.asked) == 0 {
		t.Fatal("no request to PostHog")
	}
	return u.asked[len(u.asked)-1], u.bodies[len(u.bodies)-1]
}

// flagsHandler is a handler whose clock is *at.
func flagsHandler(t *testing.T) (h *ingest.Handler, u *upstream, at *time.Time) {
	u = &upstream{}
	at = new(time.Time)
	*at = now
	h, _ = newHandler(t, ingest.Config{Flags: u, Now: func() time.Time { return *at }})
	return h, u, at
}

func objectIn(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var v map[string]any
	decode(t, b, &v)
	return v
}

func TestFlagsAreRelayed(t *testing.T) {
	h, u, at := flagsHandler(t)
	u.says(200, `{"flags":{"beta":{"key":"beta","enabled":true}},"errorsWhileComputingFlags":false,"requestId":"r"}`)
	ask := []byte(`{"token":"` + settings.def.Token + `","distinct_id":"d","person_properties":{"plan":"pro"}}`)
	w := call(h, "POST", "/flags/?v=2&compression=gzip", gzipOf(ask), "X-Forwarded-For", "203.0.113.9")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"beta"`) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	r, body := u.last(t)
	if r.Method != "POST" || r.URL.String() != "http://127.0.0.1:1/flags/?v=2" || r.Header.Get("X-Forwarded-For") != "203.0.113.9" || r.Header.Get("Content-Type") != "application/json" ||
		body != `{"distinct_id":"d","person_properties":{"plan":"pro"},"token":"`+posthogKey+`"}` {
		t.Errorf("asked %s %s %v %s", r.Method, r.URL, r.Header, body)
	}
	// The same request in another spelling is served from the cache, for a
	// while.
	respelt := []byte(`{"distinct_id":"d", "api_key":"` + posthogKey + `", "person_properties":{"plan":"pro"}}`)
	call(h, "POST", "/flags?v=2", []byte("data="+string(base64Of(respelt))), "Content-Type", "application/x-www-form-urlencoded", "X-Forwarded-For", "203.0.113.9")
	if u.count() != 1 {
		t.Errorf("asked %d times", u.count())
	}
	call(h, "POST", "/flags/?v=2", []byte(`{"token":"`+settings.def.Token+`","distinct_id":"other"}`))
	if u.count() != 2 {
		t.Error("another user got the first one's response")
	}
	*at = at.Add(6 * time.Second)
	call(h, "POST", "/flags/?v=2", ask, "X-Forwarded-For", "203.0.113.9")
	if u.count() != 3 {
		t.Error("a stale response was used")
	}
	// While PostHog fails, the last good response is used.
	*at = at.Add(time.Minute)
	for _, trouble := range []func(){u.breaks, func() { u.says(502, "<html>") }, func() { u.says(200, "<html>") }, func() { u.says(302, "") }} {
		trouble()
		if w := call(h, "POST", "/flags/?v=2", ask, "X-Forwarded-For", "203.0.113.9"); w.Code != 200 || !strings.Contains(w.Body.String(), `"beta"`) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

// No failure of PostHog may break the application.
func TestFlagsWithoutPostHog(t *testing.T) {
	h, u, _ := flagsHandler(t)
	for name, trouble := range map[string]func(){"Breaks": u.breaks, "500": func() { u.says(500, "") }, "401": func() { u.says(401, `{"code":"invalid_api_key"}`) }, "429": func() { u.says(429, "{}") }, "HTML": func() { u.says(200, "<html>") }} {
		trouble()
		w := call(h, "POST", "/flags/?v=2", []byte(`{"token":"`+settings.def.Token+`","distinct_id":"`+name+`"}`))
		if v := objectIn(t, w.Body.Bytes()); w.Code != 200 || v["errorsWhileComputingFlags"] != true || v["flags"] == nil {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	asked := u.count()
	for target, want := range map[string]string{
		"/flags/?v=2": `flags:map[]`, "/flags/?v=2&config=true": `sessionRecording:false`, "/decide/?v=3": `featureFlags:map[]`, "/decide/": `featureFlags:[]`, "/decide/?v=4": `flags:map[]`,
	} {
		w := call(h, "POST", target, []byte(`{"token":"`+settings.bare.Token+`","distinct_id":"d"}`))
		v := objectIn(t, w.Body.Bytes())
		key, value, _ := strings.Cut(want, ":")
		if w.Code != 200 || v["errorsWhileComputingFlags"] != false || v["requestId"] == "" || toString(v[key]) != value {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	for target, want := range map[string]string{
		"/flags/definitions?token=" + settings.bare.Token: `{"cohorts":{},"flags":[],"group_type_mapping":{}}`, "/api/feature_flag/local_evaluation/?send_cohorts&token=" + settings.bare.Token: `{"cohorts":{},"flags":[],"group_type_mapping":{}}`,
		"/api/surveys/?token=" + settings.bare.Token: `{"surveys":[]}`, "/api/early_access_features?token=" + settings.bare.Token: `{"earlyAccessFeatures":[]}`, "/api/web_experiments/?token=" + settings.bare.Token: `{"experiments":[]}`, "/api/product_tours/?token=" + settings.bare.Token: `{"product_tours":[]}`,
	} {
		if w := call(h, "GET", target, nil, "Authorization", "Bearer "+personalKey); w.Code != 200 || strings.TrimSpace(w.Body.String()) != want {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	if u.count() != asked {
		t.Error("request to PostHog for a project without a connection")
	}
	for _, c := range []struct{ method, target, body string }{
		{"POST", "/flags/?v=2", `{"distinct_id":"d"}`}, {"POST", "/flags/?v=2", `{"token":"phc_nobody"}`}, {"GET", "/array/phc_nobody/config", ""}, {"GET", "/flags/definitions", ""}, {"GET", "/api/surveys", ""},
	} {
		if w := call(h, c.method, c.target, []byte(c.body)); w.Code != 401 || objectIn(t, w.Body.Bytes())["code"] != "invalid_api_key" {
			t.Errorf("%s: %d %s", c.target, w.Code, w.Body)
		}
	}
	if w := call(h, "POST", "/flags/", []byte("{")); w.Code != 400 || objectIn(t, w.Body.Bytes())["type"] != "validation_error" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	bare, _ := newHandler(t, ingest.Config{}) // no Doer at all
	if w := call(bare, "POST", "/flags/?v=2", []byte(`{"token":"`+posthogKey+`","distinct_id":"d"}`)); w.Code != 200 || objectIn(t, w.Body.Bytes())["errorsWhileComputingFlags"] != false {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func toString(v any) string {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			return "map[]"
		}
	case []any:
		if len(v) == 0 {
			return "[]"
		}
	case bool:
		if !v {
			return "false"
		}
		return "true"
	}
	return "?"
}

func TestDefinitions(t *testing.T) {
	h, u, at := flagsHandler(t)
	u.says(200, `{"flags":[{"id":1,"key":"beta"}],"group_type_mapping":{},"cohorts":{}}`)
	for target, path := range map[string]string{"/flags/definitions": "/flags/definitions", "/api/feature_flag/local_evaluation/": "/api/feature_flag/local_evaluation/"} {
		// The caller's own personal key is checked by PostHog; a hedgerow key
		// is replaced by the connection's.
		for auth, want := range map[string]string{"phx_callers_own": "Bearer phx_callers_own", settings.member: "Bearer " + personalKey} {
			w := call(h, "GET", target+"?token="+settings.def.Token+"&send_cohorts=true", nil, "Authorization", "Bearer "+auth)
			r, _ := u.last(t)
			if w.Code != 200 || !strings.Contains(w.Body.String(), `"beta"`) || r.URL.Path != path || r.URL.Query().Get("token") != posthogKey || r.URL.Query().Get("send_cohorts") != "true" || r.Header.Get("Authorization") != want {
				t.Errorf("%d %s: asked %s with %s", w.Code, w.Body, r.URL, r.Header.Get("Authorization"))
			}
		}
	}
	if n := u.count(); n != 4 {
		t.Errorf("asked %d times", n)
	}
	get := func(header ...string) int {
		return call(h, "GET", "/flags/definitions?token="+settings.def.Token+"&send_cohorts=true", nil, append(header, "Authorization", "Bearer phx_callers_own")...).Code
	}
	if code := get("If-None-Match", `"v1"`); code != 304 || u.count() != 4 {
		t.Errorf("%d, asked %d times", code, u.count())
	}
	if w := call(h, "GET", "/flags/definitions?token="+settings.def.Token, nil); w.Code != 401 {
		t.Errorf("without a key: %d %s", w.Code, w.Body)
	}
	*at = at.Add(time.Minute)
	u.breaks()
	if code := get(); code != 200 {
		t.Errorf("while PostHog is unavailable: %d, want the last response", code)
	}
	if w := call(h, "GET", "/flags/definitions?token="+settings.def.Token, nil, "Authorization", "Bearer phx_another"); w.Code != 503 {
		t.Errorf("nothing cached and PostHog unavailable: %d, want 503, so that SDKs keep their flags", w.Code)
	}
	u.says(402, `{"detail":"quota"}`)
	if code := get(); code != 402 {
		t.Errorf("over quota: %d", code)
	}
}

// TestRemoteConfig has a flag's payload as a setting, which server SDKs request
// with a personal key.
func TestRemoteConfig(t *testing.T) {
	h, u, at := flagsHandler(t)
	u.says(200, `"{\"limit\":5}"`)
	const path = "/api/projects/@current/feature_flags/my%20flag/remote_config"
	for _, slash := range []string{"", "/"} {
		for auth, want := range map[string]string{"phx_callers_own": "Bearer phx_callers_own", settings.member: "Bearer " + personalKey} {
			w := call(h, "GET", path+slash+"?token="+settings.def.Token, nil, "Authorization", "Bearer "+auth)
			r, _ := u.last(t)
			if w.Code != 200 || w.Body.String() != `"{\"limit\":5}"` || slash == "" && (r.URL.String() != "http://127.0.0.1:1"+path+"?token="+posthogKey || r.Header.Get("Authorization") != want) {
				t.Errorf("%d %s: asked %s with %s", w.Code, w.Body, r.URL, r.Header.Get("Authorization"))
			}
		}
	}
	if u.count() != 2 {
		t.Errorf("%d requests, want one per key", u.count())
	}
	get := func(token, auth string) int {
		return call(h, "GET", path+"?token="+token, nil, "Authorization", auth).Code
	}
	if code := get(settings.bare.Token, "Bearer phx_own"); code != 404 {
		t.Errorf("without PostHog: %d", code)
	}
	if code := get("phc_unknown", "Bearer phx_own"); code != 401 {
		t.Errorf("another's token: %d", code)
	}
	if code := get(settings.def.Token, ""); code != 401 {
		t.Errorf("without a key: %d", code)
	}
	*at = at.Add(2 * time.Hour)
	u.breaks()
	if code := get(settings.def.Token, "Bearer phx_own"); code != 503 {
		t.Errorf("PostHog unavailable: %d", code)
	}
	u.says(403, `{"code":"permission_denied"}`)
	if code := get(settings.def.Token, "Bearer phx_bad"); code != 403 {
		t.Errorf("rejected by PostHog: %d", code)
	}
	if w := call(h, "POST", path, nil); w.Code != 405 || w.Header().Get("Allow") == "" {
		t.Errorf("POST: %d", w.Code)
	}
	for _, other := range []string{"/api/projects/1/feature_flags/a/remote_config", "/api/projects/@current/feature_flags//remote_config", "/api/projects/@current/feature_flags/a/b/remote_config", "/api/projects/@current/feature_flags"} {
		if h.Handles(other) {
			t.Errorf("%s is handled", other)
		}
	}
}

func TestBrowserSettings(t *testing.T) {
	h, u, _ := flagsHandler(t)
	u.says(200, `{"token":"`+posthogKey+`","sessionRecording":{"endpoint":"/s/"},"hasFeatureFlags":true,"surveys":[{"id":"</script>"}]}`)
	w := call(h, "GET", "/array/"+settings.def.Token+"/config", nil)
	v := objectIn(t, w.Body.Bytes())
	if w.Code != 200 || v["token"] != settings.def.Token || v["sessionRecording"] != false || v["hasFeatureFlags"] != true {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if r, _ := u.last(t); r.URL.String() != "http://127.0.0.1:1/array/"+posthogKey+"/config" {
		t.Errorf("asked %s", r.URL)
	}
	w = call(h, "GET", "/array/"+settings.def.Token+"/config.js", nil)
	js := w.Body.String()
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "application/javascript") || !strings.Contains(js, `c["`+settings.def.Token+`"]={config:{`) || strings.Contains(js, posthogKey) || strings.Contains(js, "</script>") {
		t.Errorf("%d %s", w.Code, js)
	}
	w = call(h, "GET", "/array/"+settings.bare.Token+"/config", nil)
	if v := objectIn(t, w.Body.Bytes()); w.Code != 200 || v["hasFeatureFlags"] != false || v["sessionRecording"] != false {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, script := range []string{"/static/array.js?v=1", "/static/1.345.6/recorder.js", "/static/web-vitals-soft-navs.js"} {
		if w := call(h, "GET", script, nil); w.Code != 302 || w.Header().Get("Location") != "http://127.0.0.1:1"+script {
			t.Errorf("%s: %d %s", script, w.Code, w.Header().Get("Location"))
		}
	}
	for _, path := range []string{"/static/app/array.js", "/static/1.2.3/app.js", "/static/1.2.3", "/static/array.css", "/static/1.2.3/4/array.js", "/static/.js"} {
		if h.Handles(path) {
			t.Errorf("%s is handled as a script of posthog-js", path)
		}
	}
	for host, want := range map[string]string{"https://eu.i.posthog.com": "https://eu-assets.i.posthog.com", "https://us-assets.i.posthog.com": "https://us-assets.i.posthog.com", "https://app.posthog.com": "https://us-assets.i.posthog.com", "https://ph.example.com": "https://ph.example.com"} {
		if got := ingest.AssetHost(host); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}

// However many requests are concurrent, PostHog gets one, and the cache is
// bounded.
func TestRelayIsGentle(t *testing.T) {
	h, u, _ := flagsHandler(t)
	release := make(chan struct{})
	u.response = func(*http.Request, string) (int, string, error) { <-release; return 200, `{"flags":{}}`, nil }
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if w := call(h, "POST", "/flags/?v=2", []byte(`{"token":"`+settings.def.Token+`","distinct_id":"d"}`)); w.Code != 200 {
				t.Errorf("%d", w.Code)
			}
		})
	}
	for u.count() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if n := u.count(); n > 2 { // one that arrives after the first response finds the cache
		t.Errorf("asked %d times", n)
	}
	large, _ := json.Marshal(map[string]any{"flags": map[string]any{}, "x": string(bytes.Repeat([]byte("x"), 1<<20))})
	u.says(200, string(large))
	for i := range 40 {
		call(h, "POST", "/flags/?v=2", []byte(`{"token":"`+settings.def.Token+`","distinct_id":"`+strings.Repeat("u", i+1)+`"}`))
	}
	if entries, size := ingest.CacheSize(h); entries > 2000 || size > 32<<20 {
		t.Errorf("%d responses, %d bytes are cached", entries, size)
	}
}
