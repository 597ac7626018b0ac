package provider

import (
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// usageOpenAI reads the usage of chat completions, responses, embeddings and
// images, and what compatible providers add to it. It may be called repeatedly:
// each count replaces the previous one, because some servers send a running
// total with every chunk.
func (p *parser) usageOpenAI(v gjson.Result) {
	if !v.IsObject() {
		return
	}
	u := &p.e.Usage
	var byok bool
	var upstream gjson.Result
	v.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "prompt_tokens", "input_tokens":
			count(v, &u.Input)
		case "completion_tokens", "output_tokens":
			count(v, &u.Output)
		case "total_tokens":
			count(v, &u.Total)
		case "prompt_tokens_details", "input_tokens_details", "input_token_details":
			v.ForEach(func(k, v gjson.Result) bool {
				switch k.Str {
				case "cached_tokens":
					count(v, &u.CacheRead)
				case "cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens":
					count(v, &u.CacheWrite)
				case "cache_write_tokens_details":
					count(v.Get("ttl_12h_tokens"), &u.CacheWrite12h)
				case "cache_creation_token_details": // LiteLLM before Claude
					count(v.Get("ephemeral_5m_input_tokens"), &u.CacheWrite5m)
					count(v.Get("ephemeral_1h_input_tokens"), &u.CacheWrite1h)
				case "video_tokens":
					count(v, &u.InputVideo)
				case "audio_tokens":
					count(v, &u.InputAudio)
				case "image_tokens":
					count(v, &u.InputImage)
				case "text_tokens":
					count(v, &u.InputText)
				case "cached_tokens_details":
					count(v.Get("audio_tokens"), &u.CacheReadAudio)
					count(v.Get("image_tokens"), &u.CacheReadImage)
				}
				return true
			})
		case "completion_tokens_details", "output_tokens_details", "output_token_details":
			v.ForEach(func(k, v gjson.Result) bool {
				switch k.Str {
				case "reasoning_tokens":
					count(v, &u.Reasoning)
				case "audio_tokens":
					count(v, &u.OutputAudio)
				case "image_tokens":
					count(v, &u.OutputImage)
				case "text_tokens":
					count(v, &u.OutputText)
				}
				return true
			})
		case "reasoning_tokens": // Perplexity
			count(v, &u.Reasoning)
		case "prompt_cache_hit_tokens", "cached_tokens": // DeepSeek; Moonshot
			count(v, &u.CacheRead)
		case "cache_read_input_tokens": // Claude behind some compatible servers
			count(v, &u.CacheRead)
		case "cache_creation_input_tokens":
			count(v, &u.CacheWrite)
		case "num_search_queries": // Perplexity
			count(v, &u.WebSearches)
		case "num_sources_used": // xAI: billed per source, which is not a search
			if v.Type == gjson.Number && v.Num > 0 {
				p.meta("num_sources_used", raw(v))
			}
		case "search_context_size":
			p.meta("search_context_size", raw(v))
		case "server_tool_use": // OpenRouter
			count(v.Get("web_search_requests"), &u.WebSearches)
		case "cost": // OpenRouter's is a number, Perplexity's an object
			if v.IsObject() {
				v = v.Get("total_cost")
			}
			if d := dollars(v); d.Known {
				u.ReportedCost = d
			}
		case "service_tier": // Mistral
			p.e.ServiceTier = or(event.FirstChars(text(v), 100), p.e.ServiceTier)
		case "speed", "inference_geo": // Claude behind some compatible servers
			p.factor(k.Str, v)
		case "prompt_audio_seconds": // Mistral
			p.seconds(v)
		case "is_byok":
			byok = v.Bool()
			p.meta("is_byok", raw(v))
		case "cost_details":
			upstream = v.Get("upstream_inference_cost")
		}
		return true
	})
	// With the team's own provider key OpenRouter's cost is its fee only; the
	// provider's cost is reported separately.
	if d := dollars(upstream); byok && d.Known && u.ReportedCost.Known {
		u.ReportedCost = event.Some(u.ReportedCost.Value.Add(d.Value))
	}
}

// usageAnthropic reads the usage of the Messages API. A stream has it twice or
// more: the last value of each field is used.
func (p *parser) usageAnthropic(v gjson.Result) {
	if !v.IsObject() {
		return
	}
	u := &p.e.Usage
	v.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "iterations":
			if v.Get("0").IsObject() {
				p.iterations = strings.Clone(v.Raw)
			}
		case "input_tokens":
			count(v, &u.Input)
		case "output_tokens":
			count(v, &u.Output)
		case "cache_read_input_tokens":
			count(v, &u.CacheRead)
		case "cache_creation_input_tokens":
			count(v, &u.CacheWrite)
		case "cache_creation":
			count(v.Get("ephemeral_5m_input_tokens"), &u.CacheWrite5m)
			count(v.Get("ephemeral_1h_input_tokens"), &u.CacheWrite1h)
		case "output_tokens_details":
			count(v.Get("thinking_tokens"), &u.Reasoning)
		case "server_tool_use":
			count(v.Get("web_search_requests"), &u.WebSearches)
		case "service_tier":
			p.e.ServiceTier = event.FirstChars(text(v), 100)
		case "speed", "inference_geo":
			p.factor(k.Str, v)
		case "cost": // OpenRouter's Messages API
			if d := dollars(v); d.Known {
				u.ReportedCost = d
			}
		}
		return true
	})
}

// factor reads what affects the price besides counts.
func (p *parser) factor(name string, v gjson.Result) {
	if s := event.FirstChars(text(v), 100); s != "" {
		if name == "speed" {
			p.e.Speed = s
		} else {
			p.e.InferenceGeo = s
		}
	}
}

// seconds reads the length of audio or video.
func (p *parser) seconds(v gjson.Result) {
	f := v.Num
	if v.Type == gjson.String {
		f = gjson.Parse(v.Str).Num
	}
	if f > 0 {
		p.e.Usage.MediaTime = event.Some(event.Seconds(f))
	}
}

// settleUsage converts the counts to the same meaning for every provider, once
// all of them are read.
func (p *parser) finaliseUsage() {
	u := &p.e.Usage
	if p.bedrock && p.finaliseBedrock() {
		return
	}
	if p.google {
		if p.op == opInteractions || p.op == opInteractionsGet {
			p.finaliseInteraction()
		}
		p.finaliseGemini()
		return
	}
	if p.op == opMessages {
		if !u.Output.Known && p.ended {
			u.Output = p.started // a server that reports the final count in advance
		}
		p.e.SetIterations(p.iterations)
		if u.Input.Known || u.Output.Known {
			u.CacheExclusive = event.Some(true)
		}
		if !u.CacheWrite.Known && (u.CacheWrite5m.Known || u.CacheWrite1h.Known) {
			u.CacheWrite = event.Some(u.CacheWrite5m.Or(0) + u.CacheWrite1h.Or(0))
		}
		return
	}
	if p.op == opConverse {
		if u.Input.Known || u.Output.Known {
			u.CacheExclusive = event.Some(true)
		}
		return
	}
	if u.Input.Known {
		u.CacheExclusive = event.Some(false)
	}
	// Google's OpenAI-compatible endpoint excludes thoughts from the output but
	// includes them in the total.
	if u.Input.Known && u.Output.Known && u.Total.Value > u.Input.Value+u.Output.Value && event.GeminiThinks(p.e.ModelName()) {
		if !u.Reasoning.Known {
			u.Reasoning = event.Some(u.Total.Value - u.Input.Value - u.Output.Value)
		}
		u.Output = event.Some(u.Total.Value - u.Input.Value)
	}
	// xAI excludes reasoning from the output; the total shows it.
	if r := u.Reasoning.Or(0); r > 0 && u.Input.Known && u.Output.Known && u.Total.Known && u.Total.Value == u.Input.Value+u.Output.Value+r {
		u.Output = event.Some(u.Output.Value + r)
	}
}
