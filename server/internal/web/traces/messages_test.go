package traces_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/traces"
)

// pictures are messages with images as each provider has them, and what a page
// makes of them.
var pictures = []struct {
	name, content string
	want          []string // role, then kind, words and link of each part
}{
	{"OpenAI, elsewhere", `[{"role":"user","content":[{"type":"text","text":"What is this?"},{"type":"image_url","image_url":{"url":"https://cats.example/1.png","detail":"high"}}]}]`,
		[]string{"user", "", "What is this?", "", "image", "", "https://cats.example/1.png"}},
	{"OpenAI, sent along", `[{"role":"user","content":[{"type":"image_url","image_url":{"url":"[base64 image/png redacted]"}}]}]`, []string{"user", "image", "image/png, not stored", ""}},
	{"Responses", `[{"role":"user","content":[{"type":"input_image","image_url":"https://cats.example/2.png"}]}]`, []string{"user", "image", "", "https://cats.example/2.png"}},
	{"Anthropic, sent along", `[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/webp","data":"[base64 redacted]"}}]}]`, []string{"user", "image", "image/webp, not stored", ""}},
	{"Anthropic, elsewhere", `[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://cats.example/3.png"}}]}]`, []string{"user", "image", "", "https://cats.example/3.png"}},
	{"Gemini, sent along", `[{"role":"user","content":[{"inlineData":{"mimeType":"image/png","data":"[base64 image/png redacted]"}}]}]`, []string{"user", "image", "image/png, not stored", ""}},
	{"Gemini, elsewhere", `[{"role":"user","content":[{"fileData":{"mimeType":"image/png","fileUri":"https://files.example/f"}}]}]`, []string{"user", "image", "image/png", "https://files.example/f"}},
	{"PostHog", `[{"role":"user","content":[{"type":"image","image":"[base64 image redacted]"}]}]`, []string{"user", "image", "sent with the call, not stored", ""}},
	{"no image", `[{"role":"user","content":[{"type":"input_file","file_url":"https://files.example/a.pdf"}]}]`, nil},
	{"a script is no address", `[{"role":"user","content":[{"type":"image_url","image_url":{"url":"javascript:alert(1)"}}]}]`, nil},
}

// TestImages names images that were sent along, and links those that lie
// elsewhere; what is neither stays JSON.
func TestImages(t *testing.T) {
	for _, c := range pictures {
		t.Run(c.name, func(t *testing.T) {
			got := traces.Said(c.content)
			if len(got) != 1 || c.want != nil && !reflect.DeepEqual(got[0], c.want) || c.want == nil && (got[0][1] == "image" || got[0][3] != "") {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// FuzzMessages lets any content be shown: no part may be a link to anything but
// a web page.
func FuzzMessages(f *testing.F) {
	for _, c := range pictures {
		f.Add(c.content)
	}
	f.Add(`"words"`)
	f.Add(`[{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"search","arguments":"{\"q\":1}"}}]}]`)
	f.Fuzz(func(t *testing.T, content string) {
		for _, m := range traces.Said(content) {
			for i := 3; i < len(m); i += 3 {
				if m[i] != "" && !strings.HasPrefix(m[i], "https://") && !strings.HasPrefix(m[i], "http://") {
					t.Errorf("a link to %q", m[i])
				}
			}
		}
	})
}

// TestCurl writes calls in the words of each provider's API.
func TestCurl(t *testing.T) {
	said := `[{"role":"system","content":"Be brief."},{"role":"user","content":"How high?"},{"role":"assistant","content":[{"type":"text","text":"Two metres."}]}]`
	for _, c := range []struct {
		operation, provider string
		want                []string
	}{
		{"chat", "openai", []string{`-H "authorization: Bearer $OPENAI_API_KEY"`, `"messages": [`, `"temperature": 0.3`, `"model": "m"`}},
		{"messages", "anthropic", []string{`-H "x-api-key: $ANTHROPIC_API_KEY"`, `"system": "Be brief."`, `"messages": [`}},
		{"responses", "openai", []string{`"input": [`}},
		{"generate_content", "gemini", []string{`-H "x-goog-api-key: $GEMINI_API_KEY"`, `"contents": [`, `"text": "How high?"`, `"role": "model"`, `"systemInstruction": {`, `"generationConfig": {`}},
		{"completions", "openai", []string{`"prompt": "Be brief.\nHow high?\nTwo metres."`}},
	} {
		e := &query.Event{Name: event.Generation, Provider: c.provider, Operation: c.operation, ModelAsked: "m", RequestURL: "https://api.example/it's", ModelParameters: map[string]json.RawMessage{"temperature": json.RawMessage("0.3")}}
		e.Content = &query.Content{Input: json.RawMessage(said)}
		got := traces.Curl(e)
		for _, w := range append(c.want, `curl 'https://api.example/it'\''s'`) {
			if !strings.Contains(got, w) {
				t.Errorf("%s lacks %s:\n%s", c.operation, w, got)
			}
		}
	}
	if got := traces.Curl(&query.Event{Name: event.Generation, RequestURL: "https://api.example"}); got != "" {
		t.Errorf("without content: %s", got)
	}
}
