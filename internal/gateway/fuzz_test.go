package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// streams are recorded answers and the corners of the SSE format.
func streams(t testing.TB) [][]byte {
	t.Helper()
	files, err := filepath.Glob("../provider/providertest/testdata/*stream*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded streams: %v", err)
	}
	var all [][]byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	const (
		delta = `data: {"id":"c","choices":[{"index":0,"delta":{"content":"a\"usage\": {}"}}],"usage":null}`
		last  = `data: {"id":"c","choices":[],"usage":{"prompt_tokens":1}}`
	)
	for _, end := range []string{"\n", "\r\n", "\r"} {
		all = append(all,
			[]byte(delta+end+end+last+end+end+"data: [DONE]"+end+end),
			[]byte(": comment"+end+"event: x"+end+delta+end+"id: 1"+end+end+end+": c"+end+last+end+end),
			[]byte(last+end), []byte(delta+end), []byte(last), []byte(delta),
			[]byte("data: {\"usage\":null,"+end+"data: \"choices\":[]}"+end+end),
			[]byte(`data: {"usage":null}`+end+end+`data:{"usage" : null , "a":1}`+end+end+`data: {"a":1 , "usage" :null }`+end+end),
			[]byte(`data: {"a":1,"usage":null,"b":2,"usage":null}`+end+end+`data: {"choices":[ ],"usage":{},"usage":{}}`+end+end),
			[]byte(`data: {"choices":[],"usage":{}`+end+end+`data: {"choices":[],"usage":{}}x`+end+end),
		)
	}
	all = append(all, slices.Concat([]byte("data: {\"usage\":null,\"a\":\""), bytes.Repeat([]byte("x"), maxHeld), []byte("\"}\n\ndata: {\"usage\":null}\n\n")))
	return all
}

// strip runs a stream through the stripper, cut after every n bytes.
func strip(b []byte, sizes func(i int) int) []byte {
	var s usageStripper
	var out []byte
	for i := 0; len(b) > 0; i++ {
		n := min(max(sizes(i), 1), len(b))
		out = append(out, s.write(b[:n])...)
		b = b[n:]
	}
	return append(out, s.flush()...)
}

// FuzzStrip cuts a stream at any place: what comes out must not depend on it,
// hold nothing that did not come, and lack only what usage adds.
func FuzzStrip(f *testing.F) {
	for _, b := range streams(f) {
		f.Add(b, uint16(1), uint16(7))
	}
	f.Fuzz(func(t *testing.T, b []byte, x, y uint16) {
		whole := strip(b, func(int) int { return len(b) })
		for _, sizes := range []func(int) int{
			func(int) int { return 1 }, func(int) int { return int(x) % 97 }, func(i int) int { return []int{int(x), int(y)}[i%2] % 301 },
		} {
			if cut := strip(b, sizes); !bytes.Equal(cut, whole) && len(b) < maxHeld {
				t.Fatalf("cut otherwise, %q became %q, not %q", b, cut, whole)
			}
		}
		if !bytes.Contains(b, []byte(`"usage"`)) && !bytes.Contains(b, []byte(`\u`)) && !bytes.Equal(whole, b) {
			t.Fatalf("without usage, %q became %q", b, whole)
		}
		if i, ok := subsequence(whole, b); !ok {
			t.Fatalf("%q became %q, which from %d on did not come", b, whole, i)
		}
		if twice := strip(whole, func(int) int { return len(whole) }); len(b) < maxHeld && !bytes.Contains(b, []byte("usage\\")) && len(twice) > len(whole) {
			t.Fatalf("%q grew to %q", whole, twice)
		}
	})
}

// subsequence reports whether a can be had by deleting from b.
func subsequence(a, b []byte) (int, bool) {
	i := 0
	for _, c := range b {
		if i < len(a) && a[i] == c {
			i++
		}
	}
	return i, i == len(a)
}

// TestStripEverySplit cuts every stream into two and three parts at every place.
func TestStripEverySplit(t *testing.T) {
	for _, b := range streams(t) {
		if len(b) > 4<<10 {
			b = b[:4<<10]
		}
		want := strip(b, func(int) int { return len(b) })
		for n := range len(b) {
			if got := strip(b, func(i int) int { return []int{n + 1, len(b)}[min(i, 1)] }); !bytes.Equal(got, want) {
				t.Fatalf("cut at %d: %q, want %q", n+1, got, want)
			}
			if got := strip(b, func(i int) int { return []int{n/2 + 1, n/2 + 1, len(b)}[min(i, 2)] }); !bytes.Equal(got, want) {
				t.Fatalf("cut in three at %d: %q, want %q", n/2+1, got, want)
			}
		}
	}
}

func TestStrip(t *testing.T) {
	const done = "data: [DONE]\n\n"
	for _, c := range []struct{ name, in, want string }{
		{"the usage chunk", `data: {"choices":[],"usage":{"prompt_tokens":1}}` + "\n\n" + done, done},
		{"with other members", `data: {"id":"x","choices": [ ] ,"usage": {"a":{"b":[1]}},"x_groq":{}}` + "\r\n\r\n" + done, done},
		{"with an event's name and a comment", ": ping\n\nevent: x\n" + `data: {"choices":[],"usage":{}}` + "\n\n" + done, ": ping\n\n" + done},
		{"a null in the middle", `data: {"choices":[{}],"usage":null,"x":1}` + "\n\n", `data: {"choices":[{}],"x":1}` + "\n\n"},
		{"a null at the end", `data: {"choices":[{}],"usage":null}` + "\n\n", `data: {"choices":[{}]}` + "\n\n"},
		{"a null at the beginning", `data: {"usage":null,"choices":[{}]}` + "\n\n", `data: {"choices":[{}]}` + "\n\n"},
		{"a null alone", `data: {"usage":null}` + "\n\n", `data: {}` + "\n\n"},
		{"with spaces", `data:  { "a" : 1 , "usage" : null , "b" : 2 } ` + "\n\n", `data:  { "a" : 1 , "b" : 2 } ` + "\n\n"},
		{"with spaces at the end", `data: { "a" : 1 , "usage" : null }` + "\n\n", `data: { "a" : 1 }` + "\n\n"},
		{"usage with a choice", `data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}` + "\n\n", `data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}` + "\n\n"},
		{"usage in the text", `data: {"choices":[{"delta":{"content":"\"usage\":null"}}]}` + "\n\n", `data: {"choices":[{"delta":{"content":"\"usage\":null"}}]}` + "\n\n"},
		{"usage deeper", `data: {"choices":[],"x":{"usage":{}}}` + "\n\n", `data: {"choices":[],"x":{"usage":{}}}` + "\n\n"},
		{"Azure's filter results", `data: {"choices":[],"prompt_filter_results":[{}],"usage":null}` + "\n\n", `data: {"choices":[],"prompt_filter_results":[{}]}` + "\n\n"},
		{"broken JSON", `data: {"choices":[],"usage":{}` + "\n\n", `data: {"choices":[],"usage":{}` + "\n\n"},
		{"data on two lines", "data: {\"choices\":[],\ndata: \"usage\":{}}\n\n", "data: {\"choices\":[],\ndata: \"usage\":{}}\n\n"},
		{"unended usage chunk", `data: {"choices":[],"usage":{}}` + "\n", ""},
		{"unended other chunk", `data: {"choices":[{}]` + "\n", `data: {"choices":[{}]` + "\n"},
		{"old Mac's line ends", "data: {\"choices\":[],\"usage\":{}}\r\rdata: [DONE]\r\r", "data: [DONE]\r\r"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(strip([]byte(c.in), func(int) int { return 1 << 20 })); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

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
			if got := string(apply([]byte(c.in), p.edits)); got != c.want {
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
		if e.from < at || e.to < e.from || e.to > len(b) {
			t.Fatalf("edits %+v overlap or lie outside of %d bytes", p.edits, len(b))
		}
		at = e.to
	}
	got := apply(b, p.edits)
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
		if plain := apply(b, p.without); json.Valid(plain) != json.Valid(b) || bytes.Contains(plain, []byte(`"include_usage":true`)) && !bytes.Contains(b, []byte(`"include_usage":true`)) {
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
