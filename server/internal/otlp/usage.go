package otlp

import (
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// usage reads token counts.
func usage(e *event.Event, attrs *attributes) {
	u := &e.Usage
	// How the AI SDK counts depends on which names are present; check before
	// they are taken.
	details := attrs.has("ai.usage.inputTokenDetails.noCacheTokens") || attrs.has("ai.usage.inputTokenDetails.cacheReadTokens") || attrs.has("ai.usage.inputTokenDetails.cacheWriteTokens")
	vercel := attrs.has("ai.operationId")
	raw := event.Int{} // the AI SDK: Anthropic's own input count, without cached tokens

	u.Input = attrs.count("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt", "ai.usage.inputTokens", "ai.usage.promptTokens", "llm.usage.prompt_tokens", "llm.usage.input_tokens", "ai.usage.tokens")
	u.Output = attrs.count("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion", "ai.usage.outputTokens", "ai.usage.completionTokens", "llm.usage.completion_tokens", "llm.usage.output_tokens")
	u.Total = attrs.count("gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total", "ai.usage.totalTokens")
	u.CacheRead = attrs.count("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens", "gen_ai.usage.cached_input_tokens", "gen_ai.usage.cached_tokens", "gen_ai.usage.cache_read_tokens", "gen_ai.usage.input_tokens.cached",
		"gen_ai.usage.details.cache_read_tokens", "gen_ai.usage.details.cache_read_input_tokens", "gen_ai.usage.details.cached_tokens", "gen_ai.usage.prompt_tokens_details.cached_tokens", "llm.token_count.prompt_details.cache_read", "llm.usage.cache_read_input_tokens",
		"ai.usage.inputTokenDetails.cacheReadTokens", "ai.usage.cachedInputTokens", "anthropic.usage.cache_read_input_tokens")
	u.CacheWrite = attrs.count("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens", "gen_ai.usage.cache_write_tokens", "gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_write_input_tokens", "gen_ai.usage.cache_creation_tokens",
		"gen_ai.usage.details.cache_write_tokens", "gen_ai.usage.details.cache_creation_input_tokens", "llm.token_count.prompt_details.cache_write", "llm.usage.cache_creation_input_tokens",
		"ai.usage.inputTokenDetails.cacheWriteTokens", "anthropic.usage.cache_creation_input_tokens")
	u.CacheWrite5m = attrs.count("gen_ai.usage.cache_creation.ephemeral_5m_input_tokens", "gen_ai.usage.details.ephemeral_5m_input_tokens", "anthropic.usage.cache_creation.ephemeral_5m_input_tokens")
	u.CacheWrite1h = attrs.count("gen_ai.usage.cache_creation.ephemeral_1h_input_tokens", "gen_ai.usage.details.ephemeral_1h_input_tokens", "anthropic.usage.cache_creation.ephemeral_1h_input_tokens")
	u.Reasoning = attrs.count("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens", "gen_ai.usage.output_tokens.reasoning", "gen_ai.usage.details.reasoning_tokens", "gen_ai.usage.completion_tokens_details.reasoning_tokens", "gen_ai.usage.details.thoughts_tokens", "llm.token_count.completion_details.reasoning", "llm.usage.reasoning_tokens",
		"ai.usage.outputTokenDetails.reasoningTokens", "ai.usage.reasoningTokens")
	u.InputAudio = attrs.count("gen_ai.usage.audio_input_tokens", "gen_ai.usage.details.input_audio_tokens", "llm.token_count.prompt_details.audio")
	u.OutputAudio = attrs.count("gen_ai.usage.audio_output_tokens", "gen_ai.usage.details.output_audio_tokens", "llm.token_count.completion_details.audio")
	u.CacheReadAudio = attrs.count("gen_ai.usage.details.cache_audio_read_tokens")
	u.WebSearches = attrs.count("gen_ai.usage.web_search_requests", "gen_ai.usage.details.web_search_requests", "anthropic.usage.server_tool_use.web_search_requests")
	attrs.take("ai.usage.inputTokenDetails.noCacheTokens", "ai.usage.outputTokenDetails.textTokens")

	langfuse := langfuseUsage(e, attrs)
	if vercel {
		raw = vercelMetadata(e, attrs)
	}
	if u.CacheWrite5m.Known && u.CacheWrite1h.Known && u.CacheWrite.Known && u.CacheWrite5m.Value+u.CacheWrite1h.Value != u.CacheWrite.Value {
		u.CacheWrite5m, u.CacheWrite1h = event.Int{}, event.Int{} // a split that does not add up is ignored
	}
	// Output includes reasoning. If the total shows that it was left out (as
	// Gemini does), it is added.
	if in, out, think := u.Input, u.Output, u.Reasoning; u.Total.Known && in.Known && out.Known && think.Or(0) > 0 && u.Total.Value == in.Value+out.Value+think.Value {
		u.Output.Value += think.Value
	} else if in.Known && out.Known && u.Total.Value > in.Value+out.Value && event.GeminiThinks(e.ModelName()) {
		// Some instrumentations of Gemini report reasoning in the total only.
		if !think.Known {
			u.Reasoning = event.Some(u.Total.Value - in.Value - out.Value)
		}
		u.Output = event.Some(u.Total.Value - in.Value)
	}
	u.CacheExclusive = exclusive(e, attrs, vercel && !details, langfuse, raw)
	if cost, ok := dollars(attrs.number("gen_ai.usage.total_cost", "gen_ai.usage.cost")); ok && e.IsCosted() {
		// OpenRouter's Broadcast reports the billed cost; costs that other
		// senders calculate are kept but not used.
		if e.Provider == "openrouter" || attrs.peek("service.name") == "openrouter" {
			u.ReportedCost = event.Some(cost)
		}
		if !u.ReportedCost.Known && !cost.IsNegative() {
			set(e, "otel_reported_cost_usd", "")
			e.Properties["otel_reported_cost_usd"] = []byte(cost.String())
		}
	}
}

// dollars converts a number to an amount of money.
func dollars(f event.Opt[float64]) (d decimal.Decimal, ok bool) {
	if !f.Known {
		return d, false
	}
	return event.Dollars(strconv.FormatFloat(f.Value, 'g', -1, 64))
}

// exclusive reports whether the input count excludes cached tokens.
//
// OpenTelemetry's conventions include them, and so do OpenInference, Traceloop,
// Pydantic AI and the AI SDK from version 6 on. The AI SDK up to version 5
// passes on Anthropic's own count, which excludes them; Langfuse's details are
// separate by definition. The numbers take precedence over such rules: a part
// cannot be larger than the whole.
func exclusive(e *event.Event, attrs *attributes, oldVercel, langfuse bool, raw event.Int) event.Opt[bool] {
	if f := attrs.flag("$ai_cache_reporting_exclusive"); f.Known {
		return f
	}
	u := &e.Usage
	cached := u.CacheRead.Or(0) + u.CacheWrite.Or(0)
	if cached == 0 || !u.Input.Known {
		return event.Opt[bool]{}
	}
	if raw.Known {
		return event.Some(u.Input.Value == raw.Value)
	}
	// OpenLLMetry's instrumentation of Bedrock passes on Bedrock's counts,
	// whose input excludes cached tokens (Converse: TokenUsage).
	if strings.Contains(string(e.Properties["otel.scope.name"]), "instrumentation.bedrock") {
		return event.Some(true)
	}
	anthropic := e.Provider == "anthropic" || strings.Contains(e.ModelName(), "claude")
	return event.Some(u.Input.Value < cached || langfuse || oldVercel && anthropic && e.Provider != "gateway")
}

// langfuseUsage reads Langfuse's maps of counts and costs.
func langfuseUsage(e *event.Event, attrs *attributes) bool {
	v := value(attrs.take("langfuse.observation.usage_details"))
	u := &e.Usage
	apart, thought := false, int64(0)
	if v.IsObject() {
		for _, m := range members(v) {
			value, ok := event.Count(m.value.Num)
			if m.value.Type != gjson.Number || !ok {
				continue
			}
			n := event.Some(value)
			switch m.key {
			case "input", "prompt_tokens", "input_tokens":
				u.Input = n
			case "output", "completion_tokens", "output_tokens":
				u.Output = n
			case "total", "total_tokens":
				u.Total = n
			case "cache_read_input_tokens", "input_cached_tokens", "input_cache_read":
				u.CacheRead, apart = n, true
			case "cache_creation_input_tokens", "input_cache_creation":
				u.CacheWrite, apart = n, true
			case "output_reasoning_tokens", "reasoning_tokens", "output_reasoning":
				u.Reasoning, thought = n, n.Value
			}
		}
		if u.Output.Known {
			u.Output.Value += thought // not included in the output
		}
	}
	return apart
}

// vercelMetadata reads the provider's own counts, for which the AI SDK up to
// version 5 has no names.
func vercelMetadata(e *event.Event, attrs *attributes) (raw event.Int) {
	v := value(attrs.take("ai.response.providerMetadata"))
	if !v.IsObject() || !e.IsCosted() {
		return raw
	}
	u := &e.Usage
	fill := func(to *event.Int, path string) {
		n := v.Get(path)
		if count, ok := event.Count(n.Num); ok && !to.Known && n.Type == gjson.Number {
			*to = event.Some(count)
		}
	}
	fill(&u.CacheRead, "anthropic.cacheReadInputTokens")
	fill(&u.CacheRead, "anthropic.usage.cache_read_input_tokens")
	fill(&u.CacheWrite, "anthropic.cacheCreationInputTokens")
	fill(&u.CacheWrite, "anthropic.usage.cache_creation_input_tokens")
	fill(&u.CacheWrite5m, "anthropic.usage.cache_creation.ephemeral_5m_input_tokens")
	fill(&u.CacheWrite1h, "anthropic.usage.cache_creation.ephemeral_1h_input_tokens")
	fill(&u.WebSearches, "anthropic.usage.server_tool_use.web_search_requests")
	fill(&u.CacheRead, "openai.cachedPromptTokens")
	fill(&u.Reasoning, "openai.reasoningTokens")
	fill(&raw, "anthropic.usage.input_tokens")
	for _, path := range [...]string{"openrouter.usage.cost", "gateway.cost"} {
		if d, ok := event.Dollars(v.Get(path).String()); ok {
			u.ReportedCost = event.Some(d)
		}
	}
	return raw
}
