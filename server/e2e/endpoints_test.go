package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// TestEndpoints requests every path that PostHog has, with and without trailing
// slash, with every method, from another origin; each responds itself, without
// a redirect, and accepted events are stored.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: time.Minute}
	call := func(method, path, body string, header ...string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, p.base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", "https://app.example")
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		return res, string(b)
	}
	bearer := []string{"Authorization", "Bearer " + phKey}
	n := 0
	one := func() string { // a different event each time
		n++
		return fmt.Sprintf(`{"api_key":%q,"event":"probe","distinct_id":"d","uuid":"0192c0de-0000-7000-8000-%012d","properties":{"n":%d}}`, phKey, n, n)
	}
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	part, _ := parts.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="event"`}, "Content-Type": {"application/json"}})
	fmt.Fprint(part, `{"event":"$ai_trace","uuid":"0192c0de-0000-7000-9000-000000000001","distinct_id":"d","timestamp":"2026-11-21T10:00:00Z","properties":{"$ai_model":"m","$ai_trace_id":"parts"}}`)
	_ = parts.Close()
	v1 := `{"created_at":"2026-11-21T10:00:00Z","batch":[{"event":"probe v1","uuid":"0192c0de-0000-7000-9000-000000000002","distinct_id":"d","timestamp":"2026-11-21T10:00:00Z","options":{},"properties":{}}]}`
	flags := `{"token":"` + phKey + `","distinct_id":"d"}`
	for _, r := range []struct {
		path   string
		post   func() (string, []string) // nil: 405
		get    string                    // the query; "-": 405
		status int                       // of a GET, if not 200
	}{
		{"/batch", nil, "data", 0}, {"/e", nil, "data", 0}, {"/i/v0/e", nil, "data", 0}, {"/capture", nil, "data", 0}, {"/track", nil, "data", 0}, {"/engage", nil, "data", 0},
		{"/i/v0/ai/batch", nil, "-", 0},
		{"/i/v0/ai", func() (string, []string) {
			return form.String(), append(bearer, "Content-Type", parts.FormDataContentType())
		}, "-", 0},
		{"/i/v1/analytics/events", func() (string, []string) { return v1, append(bearer, "Content-Type", "application/json") }, "-", 0},
		{"/i/v0/ai/otel", func() (string, []string) { return "{}", append(bearer, "Content-Type", "application/json") }, "-", 0},
		{"/v1/traces", func() (string, []string) { return "{}", append(bearer, "Content-Type", "application/json") }, "-", 0},
		{"/s", func() (string, []string) { return "recorded", nil }, "", 0},
		{"/flags", func() (string, []string) { return flags, nil }, "v=2&data=" + url.QueryEscape(flags), 0},
		{"/decide", func() (string, []string) { return flags, nil }, "v=3&data=" + url.QueryEscape(flags), 0},
		{"/array/" + phKey + "/config", func() (string, []string) { return "", nil }, "", 0}, {"/array/" + phKey + "/config.js", func() (string, []string) { return "", nil }, "", 0},
		{"/_readiness", func() (string, []string) { return "", nil }, "", 0}, {"/_liveness", func() (string, []string) { return "", nil }, "", 0},
		{"/api/surveys", func() (string, []string) { return "", nil }, "token=" + phKey, 0},
		{"/flags/definitions", func() (string, []string) { return "", nil }, "token=" + phKey, 401}, {"/api/feature_flag/local_evaluation", func() (string, []string) { return "", nil }, "token=" + phKey, 401},
		{"/static/array.js", func() (string, []string) { return "", nil }, "", 302},
	} {
		for _, slash := range []string{"", "/"} {
			if slash != "" && strings.HasPrefix(r.path, "/static/") {
				continue // a file
			}
			path := r.path + slash
			body, header := "", []string(nil)
			if r.post == nil {
				body = one()
			} else {
				body, header = r.post()
			}
			definitions := r.status == 401
			if res, said := call("POST", path, body, header...); (res.StatusCode != 200 && !(definitions && res.StatusCode == 405) && r.status != 302 && !strings.HasPrefix(r.path, "/api/surveys")) || res.StatusCode == 404 || res.StatusCode >= 500 {
				t.Errorf("POST %s: %d %s", path, res.StatusCode, said)
			} else if res.Header.Get("Access-Control-Allow-Origin") != "https://app.example" || res.Header.Get("Access-Control-Allow-Credentials") != "true" {
				t.Errorf("POST %s: no CORS: %v", path, res.Header)
			}
			query, want := r.get, 200
			switch {
			case r.get == "-":
				query, want = "", 405
			case r.get == "data":
				query = url.Values{"data": {base64.StdEncoding.EncodeToString([]byte(one()))}}.Encode()
			case r.status != 0:
				want = r.status
			}
			if res, said := call("GET", path+"?"+query, ""); res.StatusCode != want {
				t.Errorf("GET %s: %d %s, want %d", path, res.StatusCode, said, want)
			}
			res, _ := call("OPTIONS", path, "", "Access-Control-Request-Headers", "content-type,authorization", "Access-Control-Request-Method", "POST")
			for name, want := range map[string]string{"Access-Control-Allow-Origin": "https://app.example", "Access-Control-Allow-Headers": "content-type,authorization", "Access-Control-Allow-Methods": "GET, POST, OPTIONS", "Access-Control-Allow-Credentials": "true"} {
				if got := res.Header.Get(name); res.StatusCode != 200 || got != want {
					t.Errorf("OPTIONS %s: %d, %s is %q", path, res.StatusCode, name, got)
				}
			}
			for _, method := range []string{"PUT", "DELETE", "HEAD", "PATCH"} {
				if res, said := call(method, path, ""); res.StatusCode == 404 || res.StatusCode >= 500 || res.Header.Get("Location") != "" && r.status != 302 {
					t.Errorf("%s %s: %d %s", method, path, res.StatusCode, said)
				}
			}
		}
	}
	if got := p.awaitStored("event=probe", n); len(got) != n {
		t.Errorf("%d events stored, want %d", len(got), n)
	}
	p.awaitStored("event="+url.QueryEscape("probe v1"), 1)
	p.awaitStored("event="+url.QueryEscape(event.Trace), 1)

	// Other requests are served while bodies arrive that no client should send.
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(bytes.Repeat([]byte("a"), 200<<20))
	_ = z.Close()
	var hostile sync.WaitGroup
	for path, body := range map[string]string{"/batch/": zipped.String(), "/i/v0/ai/batch/": strings.Repeat("[", 1<<20), "/i/v1/analytics/events": zipped.String(), "/i/v0/ai/otel": zipped.String(), "/s/": zipped.String(), "/flags/": strings.Repeat("x", 2<<20)} {
		for range 3 {
			hostile.Go(func() {
				req, err := http.NewRequestWithContext(t.Context(), "POST", p.base+path, strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+phKey)
				req.Header.Set("Content-Encoding", "gzip")
				req.Header.Set("Content-Type", "application/json")
				res, err := client.Do(req)
				if err != nil {
					t.Errorf("%s: %v", path, err)
					return
				}
				defer res.Body.Close()
				said, _ := io.ReadAll(res.Body)
				if ok := path == "/s/" && res.StatusCode == 200; !ok && (res.StatusCode < 400 || res.StatusCode > 415 && res.StatusCode != 503 || len(said) == 0 || len(said) > 500) {
					t.Errorf("%s: %d %.200s", path, res.StatusCode, said)
				}
			})
		}
	}
	for range 20 {
		if res, said := call("POST", "/e/", one()); res.StatusCode != 200 && res.StatusCode != 503 {
			t.Errorf("a request in between: %d %s", res.StatusCode, said)
		} else if res.StatusCode == 503 {
			n-- // rejected with 503
		}
	}
	hostile.Wait()
	p.awaitStored("event=probe", n)
	p.stop()
}
