package provider

import (
	"encoding/json"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// settleIterations adds up what Anthropic's usage.iterations say (anthropic-sdk:
// BetaUsage). A call with compaction, an advisor or a fallback on the server runs a
// model several times: the top level of the usage has neither the tokens of a
// compaction nor an advisor's, and of the messages' input only the first's. What is
// billed is the sum, each at the price of its own model.
func (p *parser) settleIterations() {
	if p.iterations == "" {
		return
	}
	list := gjson.Parse(p.iterations)
	fellBack := list.Get(`#(type=="fallback_message")`).Exists()
	var own, other event.Usage
	var others []event.ModelUsage
	list.ForEach(func(_, it gjson.Result) bool {
		model := event.FirstChars(text(it.Get("model")), 200)
		if model == "" && fellBack && it.Get("type").Str == "message" {
			model = p.e.ModelAsked // the one that another stood in for
		}
		if model == "" || model == p.e.Model || p.e.Model == "" || model == p.e.ModelAsked && !fellBack {
			addIteration(&own, it)
			return true
		}
		other = event.Usage{}
		addIteration(&other, it)
		for i := range others {
			if others[i].Model == model {
				addIteration(&others[i].Usage, it)
				return true
			}
		}
		if len(others) < maxChoices {
			others = append(others, event.ModelUsage{Model: model, Usage: other})
		}
		return true
	})
	u := &p.e.Usage
	for _, c := range []struct{ to, sum *event.Int }{
		{&u.Input, &own.Input}, {&u.Output, &own.Output}, {&u.CacheRead, &own.CacheRead},
		{&u.CacheWrite, &own.CacheWrite}, {&u.CacheWrite5m, &own.CacheWrite5m}, {&u.CacheWrite1h, &own.CacheWrite1h},
	} {
		if c.sum.Known {
			*c.to = *c.sum
		}
	}
	for i := range others {
		others[i].Usage.CacheExclusive = event.Some(true)
	}
	if len(others) > 0 {
		if b, err := json.Marshal(others); err == nil {
			p.meta(event.OtherModels, b)
		}
	}
}

func addIteration(u *event.Usage, it gjson.Result) {
	add := func(to *event.Int, v gjson.Result) {
		var n event.Int
		if count(v, &n); n.Known {
			*to = event.Some(to.Or(0) + n.Value)
		}
	}
	add(&u.Input, it.Get("input_tokens"))
	add(&u.Output, it.Get("output_tokens"))
	add(&u.CacheRead, it.Get("cache_read_input_tokens"))
	add(&u.CacheWrite, it.Get("cache_creation_input_tokens"))
	add(&u.CacheWrite5m, it.Get("cache_creation.ephemeral_5m_input_tokens"))
	add(&u.CacheWrite1h, it.Get("cache_creation.ephemeral_1h_input_tokens"))
}

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

// texts joins what a model wrote of its messages in PostHog's form: texts, thoughts,
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
