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

func TestPlanEdits(t *testing.T) {
	const ask = `"stream_options":{"include_usage":true}`
	all := wishes{stripTrace: true, stripUser: true, askUsage: true}
	for _, c := range []struct {
		name, in, want string
		w              wishes
	}{
		{"nothing to do", `{"a":1}`, `{"a":1}`, all},
		{"asks", `{"stream":true}`, `{"stream":true,` + ask + `}`, all},
		{"asks in the middle", `{"a":1, "stream" : true , "b":2}`, `{"a":1, "stream" : true,` + ask + ` , "b":2}`, all},
		{"no stream", `{"stream":false}`, `{"stream":false}`, all},
		{"stream as a word", `{"stream":"true"}`, `{"stream":"true"}`, all},
		{"twice", `{"stream":true,"stream":true}`, `{"stream":true,"stream":true}`, all},
		{"options null", `{"stream":true,"stream_options":null}`, `{"stream":true,"stream_options":{"include_usage":true}}`, all},
		{"options empty", `{"stream":true,"stream_options":{ }}`, `{"stream":true,"stream_options":{"include_usage":true }}`, all},
		{"options of another kind", `{"stream":true,"stream_options":[1]}`, `{"stream":true,"stream_options":[1]}`, all},
		{"options broken", `{"stream":true,"stream_options":{"a":}}`, `{"stream":true,"stream_options":{"a":}}`, all},
		{"asked already", `{"stream":true,"stream_options":{"include_usage":true}}`, `{"stream":true,"stream_options":{"include_usage":true}}`, all},
		{"asked in escapes", `{"str\u0065am":true}`, `{"str\u0065am":true,` + ask + `}`, all},
		{"turned off", `{"stream":true,"stream_options":{"x":1,"include_usage":false}}`, `{"stream":true,"stream_options":{"x":1,"include_usage":true}}`, all},
		{"nested stream", `{"a":{"stream":true},"b":"stream"}`, `{"a":{"stream":true},"b":"stream"}`, all},
		{"strips the first", `{"session_id":"s","a":1}`, `{"a":1}`, all},
		{"strips the last", `{"a":1 , "session_id":"s" }`, `{"a":1 }`, all},
		{"strips the only", `{ "session_id":"s" }`, `{  }`, all},
		{"strips all", `{"user":"u","trace":{"a":[1,{"b":"}"}]},"session_id":"s"}`, `{}`, all},
		{"strips some", `{"user":"u","a":1,"trace":{},"session_id":"s","b":2,"user":"v"}`, `{"a":1,"b":2}`, all},
		{"strips and asks", `{"session_id":"s","stream":true,"trace":{}}`, `{"stream":true,` + ask + `}`, all},
		{"strips before the options", `{"stream":true,"trace":{},"stream_options":{}}`, `{"stream":true,"stream_options":{"include_usage":true}}`, all},
		{"keeps the user", `{"user":"u","trace":1}`, `{"user":"u"}`, wishes{stripTrace: true}},
		{"no wishes", `{"user":"u","trace":1,"stream":true}`, `{"user":"u","trace":1,"stream":true}`, wishes{}},
		{"not an object", `[{"stream":true}]`, `[{"stream":true}]`, all},
		{"not JSON", `{"stream":true`, `{"stream":true`, all},
		{"more after the end", `{"stream":true}{}`, `{"stream":true}{}`, all},
		{"fault in what would be cut", `{"trace":{]},"a":1}`, `{"trace":{]},"a":1}`, all},
		{"text with quotes", `{"m":"say \"stream\":true\\","stream":true}`, `{"m":"say \"stream\":true\\","stream":true,` + ask + `}`, all},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := planEdits([]byte(c.in), c.w)
			if got := string(provider.Apply([]byte(c.in), p.edits)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			checkEdits(t, []byte(c.in), c.w)
		})
	}
}

// checkEdits says what must hold of every body.
func checkEdits(t *testing.T, b []byte, w wishes) {
	t.Helper()
	p := planEdits(b, w)
	at := 0
	for _, e := range p.edits {
		if e.From < at || e.To < e.From || e.To > len(b) {
			t.Fatalf("edits %+v overlap or lie outside of %d bytes", p.edits, len(b))
		}
		at = e.To
	}
	got := provider.Apply(b, p.edits)
	body, n := edited(b, p.edits)
	if read, err := io.ReadAll(body()); err != nil || int64(len(read)) != n || !bytes.Equal(read, got) {
		t.Fatalf("sent %q of length %d, want %q", read, n, got)
	}
	if json.Valid(got) != json.Valid(b) {
		t.Fatalf("%q is valid: %v; %q: %v", b, json.Valid(b), got, json.Valid(got))
	}
	var before, after map[string]json.RawMessage
	if json.Unmarshal(b, &before) != nil || before == nil {
		if json.Valid(b) && !bytes.Equal(got, b) {
			t.Fatalf("%q is no object and became %q", b, got)
		}
		return
	}
	if err := json.Unmarshal(got, &after); err != nil {
		t.Fatal(err)
	}
	if w.stripTrace {
		delete(before, "trace")
		delete(before, "session_id")
	}
	if w.stripUser {
		delete(before, "user")
	}
	if p.asked {
		var o struct {
			IncludeUsage bool `json:"include_usage"`
		}
		if err := json.Unmarshal(after["stream_options"], &o); err != nil || !o.IncludeUsage {
			t.Fatalf("%q does not ask: %v", got, err)
		}
		if string(before["stream"]) != "true" {
			t.Fatalf("%q is no stream and became %q", b, got)
		}
		delete(before, "stream_options")
		delete(after, "stream_options")
		if plain := provider.Apply(b, p.without); json.Valid(plain) != json.Valid(b) || bytes.Contains(plain, []byte(`"include_usage":true`)) && !bytes.Contains(b, []byte(`"include_usage":true`)) {
			t.Fatalf("without asking, %q became %q", b, plain)
		}
	}
	if len(before) != len(after) {
		t.Fatalf("%q became %q", b, got)
	}
	for k, v := range before {
		if !bytes.Equal(after[k], v) {
			t.Fatalf("%q: %q became %q", k, v, after[k])
		}
	}
}

// FuzzEdit plans edits of any body.
func FuzzEdit(f *testing.F) {
	for _, s := range []string{
		`{"model":"m","stream":true,"messages":[{"role":"user","content":"a \"b\" \\"}],"user":"u","session_id":"s","trace":{"a":[1,2,{}]}}`,
		`{"stream":true,"stream_options":{"include_usage":false,"x":1}}`, `{"stream":true,"stream_options":null}`, ` { "trace" : 1 , "user" : 2 , "a" : 3 } `,
		`{"a":1,"trace":{},"trace":{}}`, `{"str\u0065am":true}`, `{}`, `[]`, `{"stream":true,"stream_options":{}}`, `{"trace":"\`, `{"":1,"user":[}`,
	} {
		f.Add([]byte(s), byte(7))
	}
	f.Fuzz(func(t *testing.T, b []byte, w byte) {
		checkEdits(t, b, wishes{stripTrace: w&1 != 0, stripUser: w&2 != 0, askUsage: w&4 != 0})
	})
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
