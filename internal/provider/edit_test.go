package provider_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/hedgerow/hedgerow/internal/provider"
)

// wishes are the edits that a test requests.
type wishes struct {
	cut      []string
	askUsage bool
}

func (w wishes) plan(b []byte) provider.Plan {
	return provider.PlanEdits(b, func(name []byte) bool { return slices.Contains(w.cut, string(name)) }, w.askUsage)
}

func TestPlanEdits(t *testing.T) {
	const ask = `"stream_options":{"include_usage":true}`
	all := wishes{cut: []string{"user", "session", "session_id", "trace", "feature"}, askUsage: true}
	for _, c := range []struct {
		name, in, want string
		w              wishes
	}{
		{"nothing to do", `{"a":1}`, `{"a":1}`, all},
		{"asks", `{"stream":true}`, `{"stream":true,` + ask + `}`, all},
		{"requests in the middle", `{"a":1, "stream" : true , "b":2}`, `{"a":1, "stream" : true,` + ask + ` , "b":2}`, all},
		{"no stream", `{"stream":false}`, `{"stream":false}`, all},
		{"stream as a string", `{"stream":"true"}`, `{"stream":"true"}`, all},
		{"twice", `{"stream":true,"stream":true}`, `{"stream":true,"stream":true}`, all},
		{"options null", `{"stream":true,"stream_options":null}`, `{"stream":true,"stream_options":{"include_usage":true}}`, all},
		{"options empty", `{"stream":true,"stream_options":{ }}`, `{"stream":true,"stream_options":{"include_usage":true }}`, all},
		{"options of another type", `{"stream":true,"stream_options":[1]}`, `{"stream":true,"stream_options":[1]}`, all},
		{"options broken", `{"stream":true,"stream_options":{"a":}}`, `{"stream":true,"stream_options":{"a":}}`, all},
		{"already requested", `{"stream":true,"stream_options":{"include_usage":true}}`, `{"stream":true,"stream_options":{"include_usage":true}}`, all},
		{"escaped name", `{"str\u0065am":true}`, `{"str\u0065am":true,` + ask + `}`, all},
		{"disabled", `{"stream":true,"stream_options":{"x":1,"include_usage":false}}`, `{"stream":true,"stream_options":{"x":1,"include_usage":true}}`, all},
		{"nested stream", `{"a":{"stream":true},"b":"stream"}`, `{"a":{"stream":true},"b":"stream"}`, all},
		{"strips the first", `{"session_id":"s","a":1}`, `{"a":1}`, all},
		{"strips the last", `{"a":1 , "session_id":"s" }`, `{"a":1 }`, all},
		{"strips the only", `{ "session_id":"s" }`, `{  }`, all},
		{"strips all", `{"user":"u","trace":{"a":[1,{"b":"}"}]},"session_id":"s"}`, `{}`, all},
		{"strips some", `{"user":"u","a":1,"trace":{},"session_id":"s","b":2,"user":"v"}`, `{"a":1,"b":2}`, all},
		{"strips and requests", `{"session_id":"s","stream":true,"trace":{}}`, `{"stream":true,` + ask + `}`, all},
		{"strips before the options", `{"stream":true,"trace":{},"stream_options":{}}`, `{"stream":true,"stream_options":{"include_usage":true}}`, all},
		{"strips an escaped name", `{"\u0066eature":"f","a":"\u00e9" ,"featur\u0065" : {"feature":[1]}}`, `{"a":"\u00e9"}`, all},
		{"strips duplicates", `{"feature":1,"feature":2,"a":{"feature":3},"feature":4}`, `{"a":{"feature":3}}`, all},
		{"strips amid space", "{\n  \"a\": 1.50,\n  \"session\": \"s\",\n  \"b\": [ ]\n}\n", "{\n  \"a\": 1.50,\n  \"b\": [ ]\n}\n", all},
		{"invalid name", `{"featur\u0065\q":1,"a":1}`, `{"featur\u0065\q":1,"a":1}`, all},
		{"keeps the user", `{"user":"u","trace":1}`, `{"user":"u"}`, wishes{cut: []string{"trace", "session_id"}}},
		{"no edits", `{"user":"u","trace":1,"stream":true}`, `{"user":"u","trace":1,"stream":true}`, wishes{}},
		{"not an object", `[{"stream":true}]`, `[{"stream":true}]`, all},
		{"not JSON", `{"stream":true`, `{"stream":true`, all},
		{"more after the end", `{"stream":true}{}`, `{"stream":true}{}`, all},
		{"invalid value to strip", `{"trace":{]},"a":1}`, `{"trace":{]},"a":1}`, all},
		{"text with quotes", `{"m":"say \"stream\":true\\","stream":true}`, `{"m":"say \"stream\":true\\","stream":true,` + ask + `}`, all},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := c.w.plan([]byte(c.in))
			if got := string(provider.Apply([]byte(c.in), p.Edits)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			checkEdits(t, []byte(c.in), c.w)
		})
	}
}

// checkEdits checks the invariants of every body.
func checkEdits(t *testing.T, b []byte, w wishes) {
	t.Helper()
	p := w.plan(b)
	at := 0
	for _, e := range p.Edits {
		if e.From < at || e.To < e.From || e.To > len(b) {
			t.Fatalf("edits %+v overlap or exceed %d bytes", p.Edits, len(b))
		}
		at = e.To
	}
	got := provider.Apply(b, p.Edits)
	if json.Valid(got) != json.Valid(b) {
		t.Fatalf("%q is valid: %v; %q: %v", b, json.Valid(b), got, json.Valid(got))
	}
	var before, after map[string]json.RawMessage
	if json.Unmarshal(b, &before) != nil || before == nil {
		if json.Valid(b) && !bytes.Equal(got, b) {
			t.Fatalf("%q is not an object and became %q", b, got)
		}
		return
	}
	if err := json.Unmarshal(got, &after); err != nil {
		t.Fatal(err)
	}
	for _, name := range w.cut {
		delete(before, name)
	}
	if p.AddsUsage {
		var o struct {
			IncludeUsage bool `json:"include_usage"`
		}
		if err := json.Unmarshal(after["stream_options"], &o); err != nil || !o.IncludeUsage {
			t.Fatalf("%q does not request usage: %v", got, err)
		}
		if string(before["stream"]) != "true" {
			t.Fatalf("%q is not a stream and became %q", b, got)
		}
		delete(before, "stream_options")
		delete(after, "stream_options")
		if plain := provider.Apply(b, p.WithoutUsage); json.Valid(plain) != json.Valid(b) || bytes.Contains(plain, []byte(`"include_usage":true`)) && !bytes.Contains(b, []byte(`"include_usage":true`)) {
			t.Fatalf("without requesting usage, %q became %q", b, plain)
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
		var cut []string
		if w&1 != 0 {
			cut = append(cut, "trace", "session_id", "session")
		}
		if w&2 != 0 {
			cut = append(cut, "user", "feature")
		}
		checkEdits(t, b, wishes{cut: cut, askUsage: w&4 != 0})
	})
}
