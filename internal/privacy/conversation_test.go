package privacy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

func TestConversation(t *testing.T) {
	long := `{"role":"user","content":"` + strings.Repeat("x", 200<<10) + `"}`
	for _, c := range []struct {
		name, input string
		want        string // role:text|…
		whole       bool
	}{
		{"nothing", ``, "", true},
		{"null", `null`, "", true},
		{"no conversation", `{"a":1}`, "", true},
		{"a text", `"Sum it up"`, "user:Sum it up", true},
		{"turns", `[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"content":"c","role":"user"}]`, "user:a|assistant:b|user:c", true},
		{"parts", `[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"https://x"}},{"type":"text","text":"b"}]}]`, "user:a\nb", true},
		{"Gemini's word", `[{"role":"model","content":"a"}]`, "assistant:a", true},
		{"tools", `[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"text","text":"b"},{"type":"tool_use","name":"f","input":{"q":"secret"}}]},{"role":"tool","content":"r"}]`, "user:a|assistant:b", true},
		{"larger than the limit", "[" + long + "," + long + "]", "user:" + strings.Repeat("x", 200<<10), false},
		{"broken", `[{"role":"user","content":"a"},{"rol`, "user:a", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			said, whole := privacy.Conversation(&event.Event{Content: event.Content{Input: json.RawMessage(c.input)}})
			var got []string
			for _, s := range said {
				got = append(got, s.Role+":"+s.Text)
			}
			if strings.Join(got, "|") != c.want || whole != c.whole {
				t.Errorf("%.200q, whole %v, want %.200q, %v", got, whole, c.want, c.whole)
			}
		})
	}
	var many []string
	for i := range 150 {
		many = append(many, fmt.Sprintf(`{"role":"user","content":"%d"}`, i))
	}
	if said, whole := privacy.Conversation(&event.Event{Content: event.Content{Input: json.RawMessage("[" + strings.Join(many, ",") + "]")}}); len(said) != 100 || whole {
		t.Errorf("%d messages, whole %v", len(said), whole)
	}
}
