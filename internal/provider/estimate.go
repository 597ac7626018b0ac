package provider

import (
	"encoding/json"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// estimate estimates the output tokens of a stream that ended before its
// provider reported them, from the text that had arrived; see [EstimateTokens].
// The estimate is kept separate from reported counts.
func (p *parser) estimate() {
	e := p.e
	if e.Usage.Output.Known || !isTrue(e.Stream) || p.c.Status/100 != 2 || p.c.ErrType == "" && !p.trouble.found || !identifiable[p.op] {
		return
	}
	n := p.thought
	if e.Content.Output != nil {
		n += EstimateTokens(texts(e.Content.Output))
	}
	if n > 0 {
		e.Usage.OutputEstimated = event.Some(n)
	}
}

// texts joins a model's output in messages of PostHog's format: text,
// reasoning, and the names and arguments of tool calls.
func texts(messages json.RawMessage) string {
	var b strings.Builder
	var walk func(key string, v gjson.Result)
	walk = func(key string, v gjson.Result) {
		switch {
		case v.Type == gjson.String && key != "role" && key != "type" && key != "id" && key != "citations":
			b.WriteString(v.Str)
		case v.IsObject() || v.IsArray():
			v.ForEach(func(k, v gjson.Result) bool {
				if key == "arguments" || key == "citations" {
					return false
				}
				walk(k.Str, v)
				return true
			})
			if key == "arguments" {
				b.WriteString(v.Raw)
			}
		}
	}
	walk("", gjson.ParseBytes(messages))
	return b.String()
}

// EstimateTokens estimates the number of tokens of a text: one for each four
// ASCII characters, one for each two of other alphabets, and one for each
// Chinese, Japanese or Korean character. For English prose this is within about
// a fifth of the tokenizers of 2026.
func EstimateTokens(s string) int64 {
	var quarters int64
	for _, r := range s {
		switch {
		case r < 0x80:
			quarters++
		case r >= 0x2E80 && r <= 0x9FFF, r >= 0xAC00 && r <= 0xD7AF, r >= 0xF900 && r <= 0xFAFF, r >= 0xFF00 && r <= 0xFFEF, r >= 0x20000 && r <= 0x3FFFF:
			quarters += 4
		default:
			quarters += 2
		}
	}
	return (quarters + 3) / 4
}
