package privacy_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

// TestScrubRandomDocuments combines fragments of secrets, escapes and JSON at
// random.
func TestScrubRandomDocuments(t *testing.T) {
	fragments := []string{
		`\n`, `\\n`, `\\\n`, `\\\\n`, `\"`, `\\\"`, `\/`, `\\\/`, `\u002d`, `\\u002d`, `\\\u002d`, `\u0022`, `\u005c`, `\u00e9`, `\ud83d\ude00`, `\ud800`, `\u0000`,
		"é", "密", " ", "  ", ".", ",", ":", "-", "_", "@", "/", "=", "+", "%20", "a", "Z", "7", "4111111111111111", "4111 1111 1111 1111", "5555-5555-5555-4444",
		"378282246310005", "n", "u", "api_key=", "apiKey: ", "Authorization: Bearer ", "Basic dXNlcjpwYXNzd29yZA==", "https://u:", "p@h.io", "a@b.io", "-----BEGIN PRIVATE KEY-----",
		"-----END PRIVATE KEY-----", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7", "data:image/png;base64,", strings.Repeat("iVBORw0KGgo", 8), "[card]", "[secret:openai_key]",
	}
	for _, s := range secrets {
		fragments = append(fragments, s.secret, strings.NewReplacer("-", `\u002d`, "_", `\u005f`).Replace(s.secret))
	}
	r := rand.New(rand.NewPCG(7, 7))
	text := func() string {
		var b strings.Builder
		b.WriteByte('"')
		for range 1 + r.IntN(6) {
			b.WriteString(fragments[r.IntN(len(fragments))])
		}
		b.WriteByte('"')
		return b.String()
	}
	numbers := []string{"4111111111111111", "-378282246310005", "4111111111111111.00", "0.5", "1767225600000", "4111111111111111e2", "null"}
	for range 60_000 {
		doc := `{` + text() + `:[` + text() + `,` + numbers[r.IntN(len(numbers))] + `],` + text() + ` : ` + numbers[r.IntN(len(numbers))] + `,"data":` + text() + `}`
		if !json.Valid([]byte(doc)) {
			t.Fatalf("the test's document is not JSON: %s", doc)
		}
		out := privacy.ScrubJSON([]byte(doc), true)
		if !json.Valid(out) {
			t.Fatalf("no longer JSON:\n%s\n%s", doc, out)
		}
		if again := privacy.ScrubJSON(out, true); !bytes.Equal(again, out) {
			t.Fatalf("not idempotent:\n%s\n%s\n%s", doc, out, again)
		}
		red := privacy.RedactBase64(out)
		if !json.Valid(red) || !bytes.Equal(privacy.RedactBase64(red), red) {
			t.Fatalf("redaction:\n%s\n%s", out, red)
		}
		for _, limit := range []int{32, 50, 100} {
			if cut := privacy.Truncate(out, limit); !json.Valid(cut) || !bytes.Equal(privacy.Truncate(cut, limit), cut) {
				t.Fatalf("cut to %d:\n%s\n%s", limit, out, cut)
			}
		}
	}
}

func TestRedactBase64(t *testing.T) {
	img := strings.Repeat("iVBORw0KGgoAAAANSUhEUgAA/+", 4) // 104 characters
	long := strings.Repeat(img, 12)
	for _, tt := range []struct{ name, in, want string }{
		{"data URL", `{"url":"data:image/png;base64,` + img + `=="}`, `{"url":"[base64 image/png redacted]"}`},
		{"data URL with a parameter", `"data:text/plain;charset=utf-8;base64,` + img + `"`, `"[base64 text/plain redacted]"`},
		{"data URL in markdown", `"see ![x](data:image/gif;base64,` + img + `) there"`, `"see ![x]([base64 image/gif redacted]) there"`},
		{"data URL as PHP writes it", `"data:image\/png;base64,` + strings.ReplaceAll(img, "/", `\/`) + `"`, `"[base64 image/png redacted]"`},
		{"data URL of anything", `"data:application/octet-stream;base64,` + img + `"`, `"[base64 file redacted]"`},
		{"two data URLs", `["data:image/png;base64,` + img + `","data:image/jpeg;base64,` + img + `"]`, `["[base64 image/png redacted]","[base64 image/jpeg redacted]"]`},
		{"short data URL", `"data:image/png;base64,iVBORw0KGgo="`, `"data:image/png;base64,iVBORw0KGgo="`},
		{"anthropic source", `{"type":"base64","media_type":"image/webp","data":"` + img + `"}`, `{"type":"base64","media_type":"image/webp","data":"[base64 image/webp redacted]"}`},
		{"gemini inline data", `{"inline_data":{"data":"` + img + `","mime_type":"audio/wav"}}`, `{"inline_data":{"data":"[base64 audio/wav redacted]","mime_type":"audio/wav"}}`},
		{"openai audio", `{"input_audio":{"data": "` + img + `","format":"wav"}}`, `{"input_audio":{"data": "[base64 redacted]","format":"wav"}}`},
		{"generated image", `{"b64_json":"` + img + `"}`, `{"b64_json":"[base64 redacted]"}`},
		{"bare and long", `{"result":"` + long + `="}`, `{"result":"[base64 redacted]"}`},
		{"bare and long in escaped JSON", `"{\"x\":\"` + long + `\"}"`, `"{\"x\":\"` + long + `\"}"`},
		{"bare and long by lines", `"` + strings.Repeat(img[:76]+`\n`, 20) + `"`, `"[base64 redacted]"`},
		{"bare and short", `{"result":"` + img + `"}`, `{"result":"` + img + `"}`},
		{"byte array", `{"type":"Buffer","data":[` + strings.Repeat("137, 80,", 40) + `0]}`, `{"type":"Buffer","data":"[base64 redacted]"}`},
		{"numbers that are not bytes", `{"data":[` + strings.Repeat("1024,", 80) + `0]}`, `{"data":[` + strings.Repeat("1024,", 80) + `0]}`},
		{"a long word", `{"data":"` + strings.Repeat("a", 2000) + `"}`, `{"data":"` + strings.Repeat("a", 2000) + `"}`},
		{"text under data", `{"data":"` + strings.Repeat("Some words and 12 numbers. ", 80) + `"}`, `{"data":"` + strings.Repeat("Some words and 12 numbers. ", 80) + `"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in)
			got := privacy.RedactBase64(in)
			if tt.name == "bare and long in escaped JSON" {
				// Its string does not begin with base64, so only a receiver
				// that decodes it can recognise the file. It is left for the
				// scrubber.
				if !json.Valid(got) {
					t.Error("no longer JSON")
				}
				return
			}
			if string(got) != tt.want {
				t.Errorf("got  %.200s\nwant %.200s", got, tt.want)
			}
			if !json.Valid(got) || string(in) != tt.in {
				t.Error("no longer JSON, or the input was modified")
			}
		})
	}
}

func TestTruncate(t *testing.T) {
	for _, tt := range []struct {
		in    string
		limit int
		want  string
	}{
		{`"` + strings.Repeat("a", 40) + `"`, 40, `"` + strings.Repeat("a", 40) + `"`},
		{`"` + strings.Repeat("a", 41) + `"`, 40, `"` + strings.Repeat("a", 25) + `... [truncated]"`},
		{`"` + strings.Repeat("é", 30) + `"`, 40, `"` + strings.Repeat("é", 12) + `... [truncated]"`},
		{`"` + strings.Repeat(`\n`, 60) + `"`, 40, `"` + strings.Repeat(`\n`, 25) + `... [truncated]"`},
		{`"` + strings.Repeat(`\ud83d\ude00`, 20) + `"`, 40, `"` + strings.Repeat(`\ud83d\ude00`, 6) + `... [truncated]"`},
		{`{"a":["` + strings.Repeat("b", 50) + `",1],"c":"` + strings.Repeat("d", 50) + `"}`, 40, `{"a":["` + strings.Repeat("b", 25) + `... [truncated]",1],"c":"` + strings.Repeat("d", 25) + `... [truncated]"}`},
	} {
		if got := string(privacy.Truncate([]byte(tt.in), tt.limit)); got != tt.want {
			t.Errorf("%s\nbecame %s\nwant   %s", tt.in, got, tt.want)
		}
	}
}

func TestDerive(t *testing.T) {
	long := strings.Repeat("word ", 1000)
	for _, tt := range []struct {
		name          string
		e             event.Event
		in, out       int64 // characters; -1 for unknown
		bucket, class string
		hash          bool
	}{
		{name: "plain chat", e: event.Event{Content: event.Content{
			Input:  raw(`[{"role":"system","content":"Be kind."},{"role":"user","content":"Hé\u00e9 \ud83d\ude00"}]`),
			Output: raw(`[{"role":"assistant","content":[{"type":"text","text":"Hello."}]}]`),
		}}, in: 13, out: 6, bucket: "0_256_tokens", class: "text", hash: true},
		{name: "tokens take precedence over characters", e: event.Event{
			Usage:   event.Usage{Input: event.Some[int64](100), CacheRead: event.Some[int64](900), CacheWrite: event.Some[int64](284), CacheExclusive: event.Some(true)},
			Content: event.Content{Input: raw(`"hi"`)},
		}, in: 2, out: -1, bucket: "1k_2k_tokens"},
		{name: "cached tokens inside the input", e: event.Event{
			Usage: event.Usage{Input: event.Some[int64](1000), CacheRead: event.Some[int64](900), CacheExclusive: event.Some(false)},
		}, in: -1, out: -1, bucket: "512_1k_tokens"},
		{name: "a quarter of the characters", e: event.Event{Content: event.Content{Input: raw(`["` + long + `","b"]`)}}, in: 5001, out: -1, bucket: "1k_2k_tokens"},
		{name: "tool call", e: event.Event{Content: event.Content{Output: raw(`[{"role":"assistant","content":[{"type":"text","text":"Wait."},{"type":"function","id":"c","function":{"name":"f","arguments":"{\"a\":1}"}}]}]`)}}, in: -1, out: 12, class: "tool_call"},
		{name: "anthropic tool call", e: event.Event{Content: event.Content{Output: raw(`[{"role":"assistant","content":[{"type":"tool_use","name":"f","input":{"a":1}}]}]`)}}, in: -1, out: 7, class: "tool_call"},
		{name: "openai message form", e: event.Event{Content: event.Content{Output: raw(`[{"role":"assistant","content":null,"tool_calls":[{"type":"function","function":{"name":"f","arguments":"{}"}}]}]`)}}, in: -1, out: 2, class: "tool_call"},
		{name: "no tool calls", e: event.Event{Content: event.Content{Output: raw(`[{"role":"assistant","content":"x","tool_calls":[]}]`)}}, in: -1, out: 1, class: "text"},
		{name: "gemini parts", e: event.Event{Content: event.Content{Input: raw(`[{"role":"user","parts":[{"text":"abc"},{"inlineData":{"data":"AAAA"}}]}]`), Output: raw(`[{"role":"model","parts":[{"text":"{\"a\": [1]}"}]}]`)}}, in: 3, out: 10, bucket: "0_256_tokens", class: "json"},
		{name: "fenced json", e: event.Event{Content: event.Content{Output: raw("\"```json\\n[1,2]\\n```\"")}}, in: -1, out: 17, class: "json"},
		{name: "code", e: event.Event{Content: event.Content{Output: raw("\"Here:\\n```go\\nfunc main() {}\\n```\"")}}, in: -1, out: 30, class: "code"},
		{name: "refusal field", e: event.Event{Content: event.Content{Output: raw(`[{"role":"assistant","refusal":"No.","content":null}]`)}}, in: -1, out: 3, class: "refusal"},
		{name: "refusal in words", e: event.Event{Content: event.Content{Output: raw(`"I’m sorry, but I can’t help with that."`)}}, in: -1, out: 38, class: "refusal"},
		{name: "stopped by a filter", e: event.Event{StopReason: "content_filter", Content: event.Content{Output: raw(`"par"`)}}, in: -1, out: 3, class: "refusal"},
		{name: "empty", e: event.Event{Content: event.Content{Output: raw(`[{"role":"assistant","content":""}]`)}}, in: -1, out: 0, class: "empty"},
		{name: "picture", e: event.Event{Content: event.Content{Output: raw(`[{"role":"assistant","content":[{"type":"image","image":"x"}]}]`)}}, in: -1, out: 0, class: "media"},
		{name: "reasoning is not part of the response", e: event.Event{Content: event.Content{Output: raw(`[{"role":"assistant","content":[{"type":"thinking","thinking":"hmm"},{"type":"text","text":"{}"}]}]`)}}, in: -1, out: 5, class: "json"},
		{name: "error", e: event.Event{IsError: true}, in: -1, out: -1, class: "error"},
		{name: "nothing known", in: -1, out: -1},
		{name: "private", e: event.Event{Content: event.Content{Input: raw(`null`)}}, in: -1, out: -1},
		{name: "developer", e: event.Event{Content: event.Content{Input: raw(`[{"role":"developer","content":[{"type":"input_text","text":"Be kind."}]}]`)}}, in: 8, out: -1, bucket: "0_256_tokens", hash: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.e
			privacy.Derive(&e)
			if e.InputChars.Or(-1) != tt.in || e.OutputChars.Or(-1) != tt.out || e.InputLengthBucket != tt.bucket || e.OutputCategory != tt.class {
				t.Errorf("got %d in, %d out, %q, %q", e.InputChars.Or(-1), e.OutputChars.Or(-1), e.InputLengthBucket, e.OutputCategory)
			}
			want := ""
			if tt.hash { // printf 'Be kind.' | sha256sum
				want = "sha256:5499befb38dbf3fcc08107141cb2a9e7f42a6aae403361dc3601b8296d7967ea"
			}
			if e.PromptHash != want {
				t.Errorf("hash %q, want %q", e.PromptHash, want)
			}
		})
	}
}

func TestPromptHashIsOfInstructionsOnly(t *testing.T) {
	hash := func(input, instructions string) string {
		e := event.Event{Content: event.Content{Input: raw(input)}}
		if instructions != "" {
			e.Properties = map[string]json.RawMessage{"$ai_instructions": raw(instructions)}
		}
		privacy.Derive(&e)
		return e.PromptHash
	}
	// printf 'Be kind.\n\nBe brief.' | sha256sum
	const want = "sha256:0f3dc6dd7296dded7b50f991106a09a73151ecd5965b71d7318f8aca04357fe3"
	a := hash(`[{"role":"system","content":"Be kind."},{"role":"user","content":"One"},{"role":"system","content":" Be brief.\r\n"}]`, "")
	b := hash(`[{"role":"developer","content":[{"type":"text","text":"Be kind."},{"type":"text","text":"Be brief."}]},{"role":"user","content":"Two, and longer"}]`, "")
	c := hash(`[{"role":"system","content":"Be brief."}]`, `"Be kind."`)
	d := hash(`[{"role":"system","content":"Be kind. Be brief."}]`, "")
	if a != want || a != b || a != c || a == d {
		t.Errorf("hashes %s %s %s %s, want the first three %s", a, b, c, d, want)
	}
	if h := hash(`[{"role":"user","content":"One"}]`, ""); h != "" {
		t.Errorf("a user message has a hash: %s", h)
	}
	e := event.Event{PromptHash: "sha256:given", Content: event.Content{Input: raw(`[{"role":"system","content":"x"}]`)}}
	if privacy.Derive(&e); e.PromptHash != "sha256:given" {
		t.Errorf("a given hash was replaced by %s", e.PromptHash)
	}
}

func TestLengthBucket(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0_256_tokens", 255: "0_256_tokens", 256: "256_512_tokens", 512: "512_1k_tokens", 1023: "512_1k_tokens", 1024: "1k_2k_tokens", 1284: "1k_2k_tokens",
		4096: "4k_8k_tokens", 131071: "64k_128k_tokens", 131072: "128k_plus_tokens", 1 << 40: "128k_plus_tokens",
	} {
		if got := privacy.LengthBucket(n); got != want {
			t.Errorf("%d tokens: %s, want %s", n, got, want)
		}
	}
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func TestAtHomeScrubsEveryField(t *testing.T) {
	key := secrets[0].secret
	var e event.Event
	fill(reflect.ValueOf(&e).Elem(), "at "+key+" end")
	e.BaseURL = "https://user:pass@api.example.com/v1?key=" + key
	e.RequestURL = "https://api.example.com/v1/chat#" + key
	e.DistinctID, e.User, e.CompletionID = key, "user_1", "chatcmpl-Ab3dEf6hIj9lMnOpQrStUvWxYz012"
	e.TraceID, e.SpanID, e.ParentID, e.SessionID = key, key, key, key
	e.UUID, e.ProjectID, e.Source, e.PromptHash, e.InputLengthBucket, e.Method = "u", "p", "s", "h", "b", "POST" // set by hedgerow
	e.Status, e.Cost.ModelUsed, e.Cost.Source, e.Cost.Provider, e.Private = "error", "m", "s", "p", false
	shared := e.Properties
	before := len(shared)
	privacy.ApplyStorage(&e, privacy.StoragePolicy{KeepContent: true})
	frame, err := e.AppendFrame(nil)
	if err != nil {
		t.Fatal(err)
	}
	if i := bytes.Index(frame, []byte(key)); i >= 0 {
		t.Errorf("the key survived: …%s…", frame[max(0, i-60):i+20])
	}
	if len(shared) != before || shared["at "+key+" end"] == nil {
		t.Error("the map of the event's source was modified")
	}
	if e.BaseURL != "https://api.example.com/v1" || e.RequestURL != "https://api.example.com/v1/chat" {
		t.Errorf("URLs %s, %s", e.BaseURL, e.RequestURL)
	}
	if !strings.HasPrefix(e.DistinctID, "key_") || e.DistinctID != e.TraceID || e.User != "user_1" || e.CompletionID != "chatcmpl-Ab3dEf6hIj9lMnOpQrStUvWxYz012" {
		t.Errorf("ids %q %q %q %q", e.DistinctID, e.TraceID, e.User, e.CompletionID)
	}
	if string(e.Content.Input) != `"at [secret:openai_key] end"` || e.Tags[0] != "at [secret:openai_key] end" {
		t.Errorf("input %s, tags %q", e.Content.Input, e.Tags)
	}
	again := e.Clone()
	privacy.ApplyStorage(again, privacy.StoragePolicy{KeepContent: true})
	if !reflect.DeepEqual(again, &e) {
		t.Errorf("not idempotent:\n%+v\n%+v", &e, again)
	}
}

// fill sets every string, map of strings or JSON, list and JSON value in v to s.
func fill(v reflect.Value, s string) {
	switch x := v.Addr().Interface().(type) {
	case *json.RawMessage:
		b, _ := json.Marshal(s)
		*x = b
		return
	case *map[string]json.RawMessage:
		b, _ := json.Marshal(s)
		*x = map[string]json.RawMessage{s: b, "k": b, "nested": raw(`{"a":[` + string(b) + `],` + string(b) + `:1}`)}
		return
	case *map[string]string:
		*x = map[string]string{s: s, "k": s}
		return
	case *[]string:
		*x = []string{s, "k"}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), s)
			}
		}
	}
}

func TestAtHomeDropsContentOnRequest(t *testing.T) {
	const marker = "the user's own words, 42"
	for _, tt := range []struct {
		name    string
		policy  privacy.StoragePolicy
		private bool
	}{
		{"by the project", privacy.StoragePolicy{}, false},
		{"by the caller", privacy.StoragePolicy{KeepContent: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := contentful(marker)
			e.Private = tt.private
			privacy.ApplyStorage(e, tt.policy)
			frame, err := e.AppendFrame(nil)
			if err != nil {
				t.Fatal(err)
			}
			if !e.Private || !e.Content.IsZero() || bytes.Contains(frame, []byte("own words")) {
				t.Errorf("private %v, frame %s", e.Private, frame)
			}
			if e.InputChars.Or(0) == 0 || e.OutputCategory == "" || e.InputLengthBucket == "" {
				t.Errorf("derived fields are missing: %+v", e)
			}
		})
	}
}

func TestFit(t *testing.T) {
	text := func(n int) json.RawMessage {
		b, _ := json.Marshal(strings.Repeat("héllo <b>\n", n/11))
		return b
	}
	many := func(n int) json.RawMessage {
		return raw(`[` + strings.Repeat(`{"role":"user","content":"a"},`, n/30) + `1]`)
	}
	for _, tt := range []struct {
		name  string
		e     event.Event
		check func(e *event.Event) bool
	}{
		{"one huge string", event.Event{Content: event.Content{Input: text(10 << 20), Output: raw(`"kept"`)}}, func(e *event.Event) bool {
			return strings.HasSuffix(string(e.Content.Input), `... [truncated]"`) && string(e.Content.Output) == `"kept"`
		}},
		{"many short strings", event.Event{Content: event.Content{Input: many(9 << 20), Output: raw(`"kept"`)}}, func(e *event.Event) bool {
			return string(e.Content.Input) == `"[dropped: too large]"` && string(e.Content.Output) == `"kept"`
		}},
		{"huge property", event.Event{Properties: map[string]json.RawMessage{"a": text(9 << 20), "b": raw(`1`)}, Content: event.Content{Input: raw(`"kept"`)}}, func(e *event.Event) bool {
			return len(e.Properties["a"]) < 1<<20 && string(e.Properties["b"]) == "1" && string(e.Content.Input) == `"kept"`
		}},
		{"huge property of numbers", event.Event{Properties: map[string]json.RawMessage{"a": raw(`[` + strings.Repeat("1,", 5<<20) + `1]`), "b": raw(`1`)}}, func(e *event.Event) bool {
			return e.Properties["a"] == nil && string(e.Properties["b"]) == "1"
		}},
		{"huge error message", event.Event{ErrorMessage: strings.Repeat("<é>", 4<<20)}, func(e *event.Event) bool {
			return utf8.ValidString(e.ErrorMessage) && strings.HasSuffix(e.ErrorMessage, "... [truncated]")
		}},
		{"huge tags", event.Event{Tags: []string{strings.Repeat("<", 4<<20)}}, func(e *event.Event) bool { return e.Tags == nil }},
		{"small enough", event.Event{Content: event.Content{Input: text(3 << 20)}}, func(e *event.Event) bool { return len(e.Content.Input) > 5<<20 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.e
			e.UUID, e.Name = event.NewID(), event.Generation
			shared := len(e.Properties["a"])
			tt.e.Properties = e.Properties
			privacy.ApplyStorage(&e, privacy.StoragePolicy{KeepContent: true})
			frame, err := e.AppendFrame(nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(frame) > event.MaxEventBytes {
				t.Errorf("frame of %d bytes", len(frame))
			}
			if !tt.check(&e) || e.Content.Input != nil && !json.Valid(e.Content.Input) {
				t.Errorf("input %.60s… (%d), output %.60s, %d properties", e.Content.Input, len(e.Content.Input), e.Content.Output, len(e.Properties))
			}
			if len(tt.e.Properties["a"]) != shared {
				t.Error("the map of the event's source was modified")
			}
		})
	}
}

func BenchmarkAtHome(b *testing.B) {
	for _, keep := range []bool{true, false} {
		name := "kept"
		if !keep {
			name = "dropped"
		}
		b.Run(name, func(b *testing.B) {
			e := contentful(string(prose[100:1500]))
			b.ReportAllocs()
			b.SetBytes(int64(e.Content.Size()))
			for b.Loop() {
				c := *e
				privacy.ApplyStorage(&c, privacy.StoragePolicy{KeepContent: keep})
			}
		})
	}
}
