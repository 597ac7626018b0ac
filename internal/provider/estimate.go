package provider

import (
	"encoding/json"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// estimate estimates the output of a stream that broke off before its provider
// counted it, from the text that had arrived: see [EstimateTokens]. The figure is
// apart from counts that are known.
func (p *parser) estimate() {
	e := p.e
	if e.Usage.Output.Known || !isTrue(e.Stream) || p.c.Status/100 != 2 || p.c.ErrType == "" && !p.trouble.found || !answers[p.op] {
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

// texts joins a model's output in messages of PostHog's form: texts, thoughts,
// and the names and arguments of calls.
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

// EstimateTokens estimates how many tokens a text has: one for each four ASCII
// characters, one for each two of other alphabets, and one for each character of
// Chinese, Japanese and Korean. For English prose that is within about a fifth of
// what tokenizers of 2026 count.
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
