package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/tidwall/gjson"
)

// Names of the LLM events in PostHog's schema.
const (
	Generation = "$ai_generation" // one LLM call that returns content
	Embedding  = "$ai_embedding"  // one embedding call
	Span       = "$ai_span"       // any other step; also a gateway call that is not a generation
	Trace      = "$ai_trace"      // the root of a trace
	Metric     = "$ai_metric"     // a measurement of a trace
	Feedback   = "$ai_feedback"   // a user's comment on a trace
)

// RequestStarted is the start of a call in the llm_events schema. The gateway
// records it for projects that use that schema; see Event.StartSent.
const RequestStarted = "llm_request_started"

// SpanContent carries a span's messages from log records through the journal to
// the store, which adds them as content to the event with the same project,
// trace and span id. It is internal: only the store's sink reads it, and it has
// no row there. See [Event.IsSpanContent].
const SpanContent = "hedgerow_span_content"

// Merge records that two events are captures of one call, with the fields that the
// call takes from the capture that is not counted. It passes through the journal to
// the sinks, which apply it, and has no row in the store. It is created and applied
// by package server/internal/join. See [Event.IsMerge].
const Merge = "hedgerow_merge"

// Repricing carries the new cost of a stored event through the journal to the store:
// the event is ParentID, and its former total Cost.Before. It is internal: only the
// store's sink reads it, and it has no row there. See [Event.IsRepricing].
const Repricing = "hedgerow_repricing"

// FirstValue is the name of the milestone that is stored and sent once for each
// user and project, however often and wherever callers report it.
const FirstValue = "first_value_reached"

// Status is the outcome of a call, in the terms of the llm_events schema.
type Status string

// The five outcomes of a call.
const (
	StatusSuccess          Status = "success"
	StatusError            Status = "error"
	StatusTimeout          Status = "timeout"
	StatusBlocked          Status = "blocked"           // withheld by a content filter or by the model
	StatusValidationFailed Status = "validation_failed" // the request or its response was malformed
)

// Error types that hedgerow itself assigns; every other value of
// [Event.ErrorType] is the provider's own.
const (
	ErrTypeClientGone  = "client_disconnected" // the caller disconnected before the end
	ErrTypeTimeout     = "timeout"             // the provider did not respond in time
	ErrTypeUnreachable = "connection_error"    // the provider refused or reset the connection
	ErrTypeStream      = "stream_error"        // the stream ended early or contained an error, after a 2xx
	ErrTypeTruncated   = "truncated"           // the response ended before it was complete, without a failure of the connection
	ErrTypeInvalid     = "invalid_answer"      // a 2xx with an invalid body: empty, a web page, other JSON
	ErrTypeProvider    = "provider_error"      // the response reports a failure without a type
)

// Sources: the receivers of events.
const (
	SourceGateway = "gateway"
	SourceIngest  = "ingest"
	SourceOTLP    = "otlp"
	SourceSDK     = "sdk"
	SourceJoin    = "join"    // of [Merge] alone
	SourceReprice = "reprice" // of [Repricing], and of what is sent about it
)

// Limits that PostHog's capture API sets (contract sections 1.2 and 1.4).
const (
	MaxNameLen       = 200     // characters of an event's name
	MaxDistinctIDLen = 200     // characters of a distinct id
	MaxEventBytes    = 8 << 20 // bytes of one encoded event, content included
)

// Event is one observed call, span or product event. Times are UTC. An empty
// string means unknown.
//
// The tags of a field, here and in [Usage], [Cost] and [Content], are the only
// description of it: see [Fields].
type Event struct {
	// Identity of the event, which is counted once however often it arrives;
	// version 7.
	UUID string `json:"uuid"`
	// Project in hedgerow; never sent to PostHog.
	ProjectID string `json:"project,omitzero" name:"project_id" column:"project_id,required"`
	// $ai_generation, $ai_embedding … or a product event's own name.
	Name string `json:"event" column:"name,required" kind:"name"`
	// The user; empty if the caller named none.
	DistinctID string `json:"distinct_id,omitzero" kind:"name"`
	// Start of the call; corrected for clock skew on arrival, then fixed.
	Timestamp time.Time `json:"timestamp" column:"ts"`
	// The receiver: gateway, ingest, otlp or sdk.
	Source string `json:"source,omitzero" kind:"label"`
	// The trace: one task from start to end.
	TraceID string `json:"trace_id,omitzero" posthog:"$ai_trace_id,loose" kind:"id" llm_events:"trace_id"`
	// The span, one step of the trace.
	SpanID string `json:"span_id,omitzero" posthog:"$ai_span_id,loose" kind:"id" llm_events:"request_id,span_id"`
	// The parent span.
	ParentID string `json:"parent_id,omitzero" posthog:"$ai_parent_id,loose" kind:"id" llm_events:"parent_span_id,parent_id"`
	// A conversation, not a browser session.
	SessionID string `json:"session_id,omitzero" posthog:"$ai_session_id,loose" kind:"id" llm_events:"session_id"`
	// Name of the trace.
	TraceName string `json:"trace_name,omitzero" posthog:"$ai_trace_name" kind:"name" llm_events:"trace_name"`
	// Name of the span.
	SpanName string `json:"span_name,omitzero" posthog:"$ai_span_name" kind:"name" llm_events:"span_name"`
	// The user in the request body.
	User string `json:"user,omitzero" posthog:"$ai_user,loose" column:"ai_user" kind:"name" llm_events:"user_id"`
	// openai, anthropic, openrouter, groq …
	Provider string `json:"provider,omitzero" posthog:"$ai_provider" kind:"name" llm_events:"provider"`
	// The requested model.
	ModelAsked string `json:"model_asked,omitzero" posthog:"model_requested" kind:"name" llm_events:"model_requested"`
	// The response model. In the API and at PostHog it is the requested model
	// if there is no response model: [Event.ModelName].
	Model string `json:"model,omitzero" posthog:"$ai_model" kind:"name"`
	// chat, responses, messages, embeddings, models …; empty if the path is not
	// known.
	Operation string `json:"operation,omitzero" posthog:"operation" kind:"name"`
	// Base URL of the provider, without query.
	BaseURL string `json:"base_url,omitzero" posthog:"$ai_base_url" kind:"url"`
	// URL of the request, without its query, which can contain keys.
	RequestURL string `json:"request_url,omitzero" posthog:"$ai_request_url" kind:"url"`
	// HTTP method of a gateway call.
	Method string `json:"method,omitzero" kind:"label"`

	// Tokens by kind.
	Usage Usage `json:"usage,omitzero"`
	// US dollars by part.
	Cost Cost `json:"cost,omitzero"`

	// Duration of the whole call.
	Latency Opt[time.Duration] `json:"latency,omitzero" posthog:"$ai_latency" column:"latency_us" api:"latency_ms" kind:"duration"`
	// Time to first token; of streams only.
	TimeToFirstToken Opt[time.Duration] `json:"ttft,omitzero" name:"time_to_first_token" posthog:"$ai_time_to_first_token" column:"ttft_us" api:"time_to_first_token_ms" kind:"duration"`
	// The response was streamed.
	Stream Opt[bool] `json:"stream,omitzero" posthog:"$ai_stream"`
	// The provider's status code; 0 without a response.
	HTTPStatus int `json:"http_status,omitzero" posthog:"$ai_http_status" kind:"status"`
	// Size of the request on the wire; 0 if unknown.
	RequestBytes int64 `json:"request_bytes,omitzero" posthog:"request_bytes" kind:"bytes"`
	// Size of the response on the wire; 0 if unknown.
	ResponseBytes int64 `json:"response_bytes,omitzero" posthog:"response_bytes" kind:"bytes"`

	// The call failed, was interrupted, or its response was withheld.
	IsError bool `json:"is_error,omitzero" posthog:"$ai_is_error"`
	// The provider's error type, or one of hedgerow's: client_disconnected,
	// timeout, connection_error, stream_error, truncated, invalid_answer,
	// provider_error.
	ErrorType string `json:"error_type,omitzero" posthog:"$ai_error_type" kind:"name" llm_events:"end:error_type"`
	// Of a failed call: the provider's code, a transport code (ECONNREFUSED),
	// or unknown; never the HTTP status code.
	ErrorCode string `json:"error_code,omitzero" posthog:"error_code" kind:"name" llm_events:"end:error_code"`
	// May quote a prompt: privacy rules replace it before it is sent.
	ErrorMessage string `json:"error_message,omitzero" posthog:"$ai_error" kind:"message" llm_events:"end:error_message"`
	// Outcome of the call, one of five values.
	Status Status `json:"status,omitzero" posthog:"status" kind:"label"`
	// The provider's stop reason, unchanged.
	StopReason string `json:"stop_reason,omitzero" posthog:"$ai_stop_reason" kind:"name" llm_events:"end:finish_reason,stop_reason"`
	// Why the body could not be parsed; never quotes the body.
	ParseError string `json:"parse_error,omitzero" posthog:"parse_error" kind:"name"`

	// The provider's response id: chatcmpl-…, resp_…, msg_…
	CompletionID string `json:"completion_id,omitzero" posthog:"$ai_completion_id" kind:"name" llm_events:"end:completion_id"`
	// OpenAI's system_fingerprint; part of $ai_provider_metadata at PostHog.
	SystemFingerprint string `json:"system_fingerprint,omitzero" kind:"name"`
	// The service tier of the response: default, flex, priority …
	ServiceTier string `json:"service_tier,omitzero" posthog:"$ai_service_tier" kind:"label"`
	// The speed of the response, if the provider offers several: standard,
	// fast.
	Speed string `json:"speed,omitzero" posthog:"$ai_speed" kind:"label"`
	// The region that computed the response according to the provider, if it
	// affects the price: us.
	InferenceGeo string `json:"inference_geo,omitzero" posthog:"$ai_inference_geo" kind:"label"`
	// The request's settings under the provider's names; never content.
	ModelParameters map[string]json.RawMessage `json:"model_parameters,omitzero" posthog:"$ai_model_parameters"`
	// Details that only this provider reports: request id, limits …
	ProviderMetadata map[string]json.RawMessage `json:"provider_metadata,omitzero" posthog:"$ai_provider_metadata"`

	// The prompt of the call.
	PromptName string `json:"prompt_name,omitzero" posthog:"$ai_prompt_name" kind:"name"`
	// A number or a label.
	PromptVersion string `json:"prompt_version,omitzero" posthog:"$ai_prompt_version,loose" kind:"name" llm_events:"prompt_version"`
	// The id of the version in the prompt registry: pv_…
	PromptVersionID string `json:"prompt_version_id,omitzero" posthog:"$ai_prompt_version_id" kind:"name"`
	// sha256:… of the instructions, never of user messages.
	PromptHash string `json:"prompt_hash,omitzero" posthog:"prompt_hash" kind:"name" llm_events:"prompt_hash"`

	// Conversation, Test, Playbook … or any other name.
	Surface string `json:"surface,omitzero" posthog:"surface" kind:"label" llm_events:"surface"`
	// The purpose of the call: summarize, support_reply …
	TaskType string `json:"task_type,omitzero" posthog:"task_type" kind:"label" llm_events:"task_type"`
	// production, staging …
	Environment string `json:"environment,omitzero" posthog:"environment" kind:"label" llm_events:"environment"`
	// Each becomes a property with that name and the value true.
	Tags []string `json:"tags,omitzero"`
	// Feature flag key and variant; at PostHog $feature/KEY.
	Flags map[string]string `json:"flags,omitzero"`
	// Group type and key.
	Groups map[string]string `json:"groups,omitzero" posthog:"$groups" column:"group_keys"`

	// Characters of the input's text. Like the next three it is derived while
	// the content is present, so that charts work without content.
	InputChars Int `json:"input_chars,omitzero" posthog:"input_length" kind:"characters"`
	// Characters of the output's text.
	OutputChars Int `json:"output_chars,omitzero" posthog:"output_length" kind:"characters"`
	// 1k_2k_tokens …
	InputLengthBucket string `json:"input_length_bucket,omitzero" posthog:"input_length_bucket" kind:"label" llm_events:"input_length_bucket"`
	// text, tool_call, refusal, json, empty …
	OutputCategory string `json:"output_category,omitzero" posthog:"output_category" kind:"label" llm_events:"end:output_category"`

	// The caller's custom properties, under their own names. They never
	// override a field above.
	Properties map[string]json.RawMessage `json:"properties,omitzero"`
	// Keys of those Properties that were attributes of a span, possibly written
	// by a library. For an event with the source otlp these are all of them,
	// listed or not.
	Attributes []string `json:"attributes,omitzero" api:"-"`
	// Content was withheld on purpose: at PostHog $ai_input and
	// $ai_output_choices are then null, not absent.
	Private bool `json:"private,omitzero"`
	// Set on both events of a call whose start event was sent before the call
	// was made: [RequestStarted], with the fields known by then, and the call's
	// own event.
	StartSent bool `json:"start_told,omitzero" column:"-" api:"-"`
	// An import of old data (historical_migration), which PostHog excludes from
	// real-time features. Sinks need it, and the store does not keep it.
	Historical bool `json:"historical,omitzero" column:"-" api:"-"`

	// Stored separately from the metadata.
	Content Content `json:"-"`

	rawValid bool // see MarkRawValid; never encoded
}

// Usage counts tokens by kind, normalised so that a field has the same meaning
// for every provider. Input is the provider's input or prompt count;
// CacheExclusive reports whether it excludes cache reads and writes. Output
// always includes reasoning.
type Usage struct {
	// Prompt and context as the provider counts them. In the API, the pages and
	// the llm_events schema input_tokens are all input: [Usage.AllInput].
	Input Int `json:"input,omitzero" name:"input_tokens" posthog:"$ai_input_tokens" api:"reported_input_tokens" kind:"tokens" llm_events:"end:input_tokens"`
	// Includes reasoning tokens.
	Output Int `json:"output,omitzero" name:"output_tokens" posthog:"$ai_output_tokens" kind:"tokens" llm_events:"end:output_tokens"`
	// As reported by the provider; the API has [Usage.Tokens].
	Total Int `json:"total,omitzero" name:"total_tokens" posthog:"$ai_total_tokens" kind:"all tokens" llm_events:"end:total_tokens"`
	// Input tokens read from a cache.
	CacheRead Int `json:"cache_read,omitzero" name:"cache_read_tokens" posthog:"$ai_cache_read_input_tokens" kind:"tokens" llm_events:"end:cache_read_tokens"`
	// Input tokens written to a cache, of any lifetime.
	CacheWrite Int `json:"cache_write,omitzero" name:"cache_write_tokens" posthog:"$ai_cache_creation_input_tokens" kind:"tokens" llm_events:"end:cache_write_tokens"`
	// Part of cache_write_tokens.
	CacheWrite5m Int `json:"cache_write_5m,omitzero" name:"cache_write_5m_tokens" posthog:"$ai_cache_creation_5m_input_tokens" kind:"tokens"`
	// Part of cache_write_tokens.
	CacheWrite1h Int `json:"cache_write_1h,omitzero" name:"cache_write_1h_tokens" posthog:"$ai_cache_creation_1h_input_tokens" kind:"tokens"`
	// Part of cache_write_tokens: OpenAI's longer lifetime.
	CacheWrite12h Int `json:"cache_write_12h,omitzero" name:"cache_write_12h_tokens" posthog:"cache_write_12h_tokens" kind:"tokens"`
	// The provider's input count excludes cache reads and writes.
	CacheExclusive Opt[bool] `json:"cache_exclusive,omitzero" posthog:"$ai_cache_reporting_exclusive"`
	// Part of output_tokens.
	Reasoning Int `json:"reasoning,omitzero" name:"reasoning_tokens" posthog:"$ai_reasoning_tokens" kind:"tokens" llm_events:"end:reasoning_tokens"`
	// Part of input_tokens.
	InputAudio Int `json:"input_audio,omitzero" name:"input_audio_tokens" posthog:"$ai_audio_input_tokens" kind:"tokens"`
	// Part of output_tokens.
	OutputAudio Int `json:"output_audio,omitzero" name:"output_audio_tokens" posthog:"$ai_audio_output_tokens" kind:"tokens"`
	// Part of cache_read_tokens.
	CacheReadAudio Int `json:"cache_read_audio,omitzero" name:"cache_read_audio_tokens" posthog:"$ai_cache_read_audio_tokens" kind:"tokens"`
	// Part of input_tokens.
	InputImage Int `json:"input_image,omitzero" name:"input_image_tokens" posthog:"$ai_image_input_tokens" kind:"tokens"`
	// Part of output_tokens.
	OutputImage Int `json:"output_image,omitzero" name:"output_image_tokens" posthog:"$ai_image_output_tokens" kind:"tokens"`
	// Part of input_tokens.
	InputText Int `json:"input_text,omitzero" name:"input_text_tokens" posthog:"$ai_text_input_tokens" kind:"tokens"`
	// Part of output_tokens.
	OutputText Int `json:"output_text,omitzero" name:"output_text_tokens" posthog:"$ai_text_output_tokens" kind:"tokens"`
	// Part of cache_read_tokens.
	CacheReadImage Int `json:"cache_read_image,omitzero" name:"cache_read_image_tokens" posthog:"$ai_cache_read_image_tokens" kind:"tokens"`
	// Part of input_tokens.
	InputVideo Int `json:"input_video,omitzero" name:"input_video_tokens" posthog:"$ai_video_input_tokens" kind:"tokens"`
	// Part of output_tokens.
	OutputVideo Int `json:"output_video,omitzero" name:"output_video_tokens" posthog:"$ai_video_output_tokens" kind:"tokens"`
	// Part of input_tokens: pages of documents.
	InputDocument Int `json:"input_document,omitzero" name:"input_document_tokens" posthog:"input_document_tokens" kind:"tokens"`
	// Estimated output tokens of a response that was interrupted before the
	// provider reported them, from the text that had arrived. Not part of any
	// other count, sum or cost.
	OutputEstimated Int `json:"output_estimated,omitzero" name:"output_tokens_estimated" posthog:"output_tokens_estimated" kind:"tokens"`
	// Web searches by the provider; not tokens.
	WebSearches Int `json:"web_searches,omitzero" posthog:"$ai_web_search_count" kind:"searches"`
	// Generated images; not tokens.
	Images Int `json:"images,omitzero" posthog:"image_count" kind:"images"`
	// Audio that was read or generated, or generated video, if its duration is
	// billed.
	MediaTime Opt[time.Duration] `json:"media_time,omitzero" posthog:"media_seconds" column:"media_us" api:"media_ms" kind:"duration"`
	// Characters of speech, if they are billed.
	Characters Int `json:"characters,omitzero" posthog:"character_count" kind:"characters"`
	// Pages of documents that were read, if they are billed.
	Pages Int `json:"pages,omitzero" posthog:"page_count" kind:"pages"`
	// File searches by the provider.
	FileSearches Int `json:"file_searches,omitzero" posthog:"file_search_count" kind:"searches"`
	// Containers in which the provider ran code.
	CodeSessions Int `json:"code_sessions,omitzero" posthog:"code_session_count" kind:"sessions"`
	// Search units of rerankers: one query over a limited number of documents.
	SearchUnits Int `json:"search_units,omitzero" posthog:"search_unit_count" kind:"searches"`
	// The cost of the call as reported by the provider (OpenRouter's
	// usage.cost). It takes precedence over price tables.
	ReportedCost Opt[decimal.Decimal] `json:"reported_cost,omitzero" column:"cost_reported" api:"reported_cost_usd" kind:"usd"`
}

// Tokens returns the total that the provider reported or, without one, the sum
// of the counts that are billed separately. It is unknown if no count is known.
func (u Usage) Tokens() Int {
	if u.Total.Known {
		return u.Total
	}
	if !u.Input.Known && !u.Output.Known {
		return Int{}
	}
	n := u.AllInput().Or(0) + u.Output.Or(0)
	if !u.Input.Known && u.CacheExclusive.Or(false) {
		n += u.CacheRead.Or(0) + u.CacheWrite.Or(0)
	}
	return Some(n)
}

// AllInput returns all input tokens of a call, including cache reads and
// writes, even if the provider's own count excludes them. All sums and pages
// use it for input tokens.
func (u Usage) AllInput() Int {
	if u.Input.Known && u.CacheExclusive.Or(false) {
		return Some(u.Input.Value + u.CacheRead.Or(0) + u.CacheWrite.Or(0))
	}
	return u.Input
}

// Sources of a cost: the values of $ai_cost_model_source.
const (
	CostPassthrough = "passthrough" // reported by the provider or the caller
	CostCaller      = "caller"      // reported by the caller of a call that it reports itself; local only
	CostCustom      = "custom"      // from the event's own prices per token
	CostManual      = "manual"      // a price from the configuration
	CostTable       = "table"       // hedgerow's own price table
	CostSynced      = "openrouter"  // a price fetched by "hedgerow prices sync"
)

// Cost is a call's cost in USD by part. Each part, and the total, is unknown
// rather than 0 if a count or a price is missing.
type Cost struct {
	// All input tokens, including cache reads and writes.
	Input Opt[decimal.Decimal] `json:"input,omitzero" name:"cost_input" posthog:"$ai_input_cost_usd" api:"input_usd" kind:"usd"`
	// All output tokens, including reasoning.
	Output Opt[decimal.Decimal] `json:"output,omitzero" name:"cost_output" posthog:"$ai_output_cost_usd" api:"output_usd" kind:"usd"`
	// The fixed cost of a call.
	Request Opt[decimal.Decimal] `json:"request,omitzero" name:"cost_request" posthog:"$ai_request_cost_usd" api:"request_usd" kind:"usd"`
	// Web searches by the provider.
	WebSearch Opt[decimal.Decimal] `json:"web_search,omitzero" name:"cost_web_search" posthog:"$ai_web_search_cost_usd" api:"web_search_usd" kind:"usd"`
	// File searches, code sessions and other tools of the provider.
	Tools Opt[decimal.Decimal] `json:"tools,omitzero" name:"cost_tools" posthog:"tools_cost_usd" api:"tools_usd" kind:"usd"`
	// The sum, or the cost that the provider reported.
	Total Opt[decimal.Decimal] `json:"total,omitzero" name:"cost_total" posthog:"$ai_total_cost_usd" api:"total_usd" kind:"usd"`
	// Savings from reading input from a cache, compared with its uncached
	// price. The cost of cache writes is not subtracted. It is not part of any
	// other amount, and unknown unless hedgerow priced the input itself.
	CacheSaved Opt[decimal.Decimal] `json:"cache_saved,omitzero" name:"cost_cache_saved" api:"cache_saved_usd" kind:"usd"`

	// Model whose price was used.
	ModelUsed string `json:"model_used,omitzero" name:"cost_model" posthog:"$ai_model_cost_used" api:"price_model" kind:"name"`
	// Source of the price: passthrough, caller, custom, manual, table or
	// openrouter.
	Source string `json:"source,omitzero" name:"cost_source" posthog:"$ai_cost_model_source" api:"price_source" kind:"label"`
	// Provider whose price was used.
	Provider string `json:"provider,omitzero" name:"cost_provider" posthog:"$ai_cost_model_provider" api:"price_provider" kind:"name"`
	// Usage without a price or a count, separated by commas: web_searches,
	// output_tokens … The total is then unknown, and the known parts are a lower bound.
	Unpriced string `json:"unpriced,omitzero" name:"cost_unpriced" posthog:"hedgerow_cost_unpriced" api:"unpriced" kind:"name"`
	// The total before the event was last repriced; unknown if it had none.
	Before Opt[decimal.Decimal] `json:"before,omitzero" name:"cost_before" api:"before_usd" kind:"usd"`
	// The run of "hedgerow prices reprice" that set the cost.
	Repricing string `json:"repricing,omitzero" name:"cost_repricing" api:"repricing" kind:"id"`
}

// Sum is the sum of the known parts; unknown if none is known.
func (c *Cost) Sum() Opt[decimal.Decimal] {
	var total Opt[decimal.Decimal]
	for _, part := range []Opt[decimal.Decimal]{c.Input, c.Output, c.Request, c.WebSearch, c.Tools} {
		switch {
		case !part.Known:
		case !total.Known:
			total = part
		default:
			total.Value = total.Value.Add(part.Value)
		}
	}
	return total
}

// Same reports whether two costs are equal, apart from Before and Repricing.
func (c *Cost) Same(o *Cost) bool {
	same := func(a, b Opt[decimal.Decimal]) bool {
		return a.Known == b.Known && (!a.Known || a.Value.Equal(b.Value))
	}
	return same(c.Input, o.Input) && same(c.Output, o.Output) && same(c.Request, o.Request) && same(c.WebSearch, o.WebSearch) && same(c.Tools, o.Tools) &&
		same(c.Total, o.Total) && same(c.CacheSaved, o.CacheSaved) && c.ModelUsed == o.ModelUsed && c.Source == o.Source && c.Provider == o.Provider && c.Unpriced == o.Unpriced
}

// Content is the content of a call, in PostHog's message format (contract
// section 3.4, see docs/conformance.md). Each part is valid JSON or nil.
type Content struct {
	// The messages of the request, or the embedded text.
	Input json.RawMessage `name:"input" posthog:"$ai_input"`
	// The response messages.
	Output json.RawMessage `name:"output" posthog:"$ai_output_choices"`
	// The available tools.
	Tools json.RawMessage `name:"tools" posthog:"$ai_tools"`
	// The input of a span or a trace.
	InputState json.RawMessage `name:"input_state" posthog:"$ai_input_state"`
	// The output of a span or a trace.
	OutputState json.RawMessage `name:"output_state" posthog:"$ai_output_state"`
}

// Parts returns pointers to the parts, in order.
func (c *Content) Parts() [5]*json.RawMessage {
	return [...]*json.RawMessage{&c.Input, &c.Output, &c.Tools, &c.InputState, &c.OutputState}
}

// IsZero reports whether the content is empty.
func (c Content) IsZero() bool {
	for _, part := range c.Parts() {
		if *part != nil {
			return false
		}
	}
	return true
}

// Size is the content's length in bytes.
func (c Content) Size() (n int) {
	for _, part := range c.Parts() {
		n += len(*part)
	}
	return n
}

// IsSpanContent reports whether e is hedgerow's own [SpanContent], and not a
// caller's event that happens to have its name.
func (e *Event) IsSpanContent() bool { return e.Name == SpanContent && e.Source == SourceOTLP }

// IsMerge reports whether e is hedgerow's own [Merge], and not a caller's event that
// happens to have its name.
func (e *Event) IsMerge() bool { return e.Name == Merge && e.Source == SourceJoin }

// IsRepricing reports whether e is hedgerow's own [Repricing], and not a caller's
// event that happens to have its name.
func (e *Event) IsRepricing() bool { return e.Name == Repricing && e.Source == SourceReprice }

// NewID returns a new UUID of version 7. Ids sort by creation time.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// DerivedID returns a UUID of version 7 with the given time; its other bits
// are derived from the name. The same arguments always give the same id.
func DerivedID(name string, at time.Time) string {
	sum := sha256.Sum256([]byte(name))
	id := uuid.UUID(sum[:16])
	ms := uint64(at.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}

// FirstChars returns the first n characters (Unicode code points) of s.
func FirstChars(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// ValidJSON reports whether b is one JSON value, as [encoding/json.Valid] does,
// in a third of the time.
func ValidJSON(b []byte) bool {
	return !NestedDeeper(b, 10_000) && gjson.ValidBytes(b)
}

// NestedDeeper reports whether the brackets of a JSON text, except those in
// strings, are nested more than levels deep. Check it before using a recursive
// parser: Go cannot recover from a stack overflow.
func NestedDeeper[T string | []byte](json T, levels int) bool {
	brackets := 0
	switch v := any(json).(type) {
	case string:
		brackets = strings.Count(v, "{") + strings.Count(v, "[")
	case []byte:
		brackets = bytes.Count(v, []byte{'{'}) + bytes.Count(v, []byte{'['})
	}
	if brackets <= levels { // almost always
		return false
	}
	depth := 0
	for i := 0; i < len(json); i++ {
		switch json[i] {
		case '"':
			for i++; i < len(json) && json[i] != '"'; i++ {
				if json[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if depth++; depth > levels {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// ModelName returns the response model, or the requested model if there is
// none.
func (e *Event) ModelName() string {
	if e.Model != "" {
		return e.Model
	}
	return e.ModelAsked
}

// IsLLM reports whether the event is one of the $ai_ family.
func (e *Event) IsLLM() bool { return strings.HasPrefix(e.Name, "$ai_") }

// IsCosted reports whether the event is of a kind that can have a price.
func (e *Event) IsCosted() bool { return e.Name == Generation || e.Name == Embedding }

// SetProperty stores a custom property; v must marshal to JSON.
func (e *Event) SetProperty(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if e.Properties == nil {
		e.Properties = make(map[string]json.RawMessage)
	}
	e.Properties[name] = b
	return nil
}

// DropContent removes the content.
func (e *Event) DropContent() { e.Content = Content{} }

// MarkRawValid marks all raw JSON of the event as valid: Properties,
// ModelParameters, ProviderMetadata and Content. The caller must have validated
// it, or taken it from a validated document. Encoders do not validate it again,
// so any raw JSON that is added later must be valid too. Package enrich marks
// normalised events, [DecodeFrame] marks decoded ones; copies of a marked event
// are marked.
func (e *Event) MarkRawValid() { e.rawValid = true }

// RawValid reports whether the event is marked: [Event.MarkRawValid].
func (e *Event) RawValid() bool { return e.rawValid }

// Clone returns a copy whose maps and slices can be changed without affecting
// e. The bytes of content and properties are shared: replace them, never modify
// them.
func (e *Event) Clone() *Event {
	c := *e
	c.ModelParameters = cloneMap(e.ModelParameters)
	c.ProviderMetadata = cloneMap(e.ProviderMetadata)
	c.Properties = cloneMap(e.Properties)
	c.Flags = cloneMap(e.Flags)
	c.Groups = cloneMap(e.Groups)
	c.Tags = append([]string(nil), e.Tags...)
	c.Attributes = append([]string(nil), e.Attributes...)
	return &c
}

func cloneMap[V any](m map[string]V) map[string]V {
	if m == nil {
		return nil
	}
	c := make(map[string]V, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

// Validate returns nil for a valid event, otherwise an [*Error] with code
// [CodeInvalid]. It checks the requirements of all later stages: a project, a
// name, a UUID, a time, and lengths that PostHog accepts.
func (e *Event) Validate() error {
	switch {
	case e.ProjectID == "":
		return Invalid("the event has no project", "send it with a project token or an API key")
	case e.Name == "":
		return Invalid("the event has no name", `set "event" to a non-empty string`)
	case utf8.RuneCountInString(e.Name) > MaxNameLen:
		return Invalid("the event's name is longer than 200 characters", "use a short fixed name and put details into properties")
	case utf8.RuneCountInString(e.DistinctID) > MaxDistinctIDLen:
		return Invalid("the distinct id is longer than 200 characters", "use a stable short id, or a hash of the long one")
	case e.Timestamp.IsZero():
		return Invalid("the event has no timestamp", `set "timestamp" to an RFC 3339 time`)
	}
	if _, err := uuid.Parse(e.UUID); err != nil {
		return Invalid("the event's uuid is not a UUID", `leave "uuid" out, or send a version 7 UUID`)
	}
	return nil
}

// CleanID returns s as an id for $ai_trace_id and similar properties: PostHog
// accepts letters, digits and -_~.@()!':| only (contract section 3.1). Any
// other character becomes '_'; the result has at most 200 characters.
func CleanID(s string) string {
	ok := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_~.@()!':|", r)
	}
	clean := len(s) <= MaxDistinctIDLen
	for _, r := range s {
		if !ok(r) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if b.Len() == MaxDistinctIDLen {
			break
		}
		if !ok(r) {
			r = '_'
		}
		b.WriteRune(r)
	}
	return b.String()
}
