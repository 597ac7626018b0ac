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

// Names of the LLM events, as PostHog's schema has them.
const (
	Generation = "$ai_generation" // one model call that answers with content
	Embedding  = "$ai_embedding"  // one embedding call
	Span       = "$ai_span"       // any other step; also a gateway call that generates nothing
	Trace      = "$ai_trace"      // the root of a trace
	Metric     = "$ai_metric"     // a number about a trace
	Feedback   = "$ai_feedback"   // a user's words about a trace
)

// RequestStarted is the llm_events vocabulary's word for a call that begins. The
// gateway sends it for projects that speak that vocabulary; see Event.StartSent.
const RequestStarted = "llm_request_started"

// SpanContent carries what log records tell of a span's messages through the
// journal to the store, where it becomes content of the event with the same project,
// trace and span id. It is never an event of its own: no sink but the store's takes
// it, and the store keeps no row of it. See [Event.IsSpanContent].
const SpanContent = "hedgerow_span_content"

// FirstValue is the name of the milestone that is kept and sent once for each
// user and project, however often and wherever callers report it.
const FirstValue = "first_value_reached"

// Status says how a call ended, in the words of the llm_events vocabulary.
type Status string

// The five outcomes of a call.
const (
	StatusSuccess          Status = "success"
	StatusError            Status = "error"
	StatusTimeout          Status = "timeout"
	StatusBlocked          Status = "blocked"           // refused by a content filter or by the model
	StatusValidationFailed Status = "validation_failed" // the request or its answer was malformed
)

// Error types that hedgerow itself assigns; every other value of
// [Event.ErrorType] is the provider's own word for it.
const (
	ErrTypeClientGone  = "client_disconnected" // the caller hung up before the end
	ErrTypeTimeout     = "timeout"             // the upstream did not answer in time
	ErrTypeUnreachable = "connection_error"    // the upstream refused or broke the connection
	ErrTypeStream      = "stream_error"        // the stream broke off, or bore an error, after a 2xx
)

// Sources: the door through which an event came.
const (
	SourceGateway = "gateway"
	SourceIngest  = "ingest"
	SourceOTLP    = "otlp"
	SourceSDK     = "sdk"
)

// Limits that PostHog's capture API sets (contract sections 1.2 and 1.4).
const (
	MaxNameLen       = 200     // characters of an event's name
	MaxDistinctIDLen = 200     // characters of a distinct id
	MaxEventBytes    = 8 << 20 // bytes of one encoded event, content included
)

// Event is one thing that was seen. Times are UTC. A zero string means unknown.
type Event struct {
	UUID       string    `json:"uuid"`                 // version 7, the identity used for every de-duplication
	ProjectID  string    `json:"project,omitzero"`     // hedgerow's project, never sent to PostHog
	Name       string    `json:"event"`                // Generation, Embedding … or a product event's own name
	DistinctID string    `json:"distinct_id,omitzero"` // the user; empty means that the caller named none
	Timestamp  time.Time `json:"timestamp"`            // start of the call; corrected for clock skew at intake, then fixed
	Source     string    `json:"source,omitzero"`      // SourceGateway …
	TraceID    string    `json:"trace_id,omitzero"`    // $ai_trace_id
	SpanID     string    `json:"span_id,omitzero"`     // $ai_span_id
	ParentID   string    `json:"parent_id,omitzero"`   // $ai_parent_id
	SessionID  string    `json:"session_id,omitzero"`  // $ai_session_id: a conversation, not a browser session
	TraceName  string    `json:"trace_name,omitzero"`  // $ai_trace_name
	SpanName   string    `json:"span_name,omitzero"`   // $ai_span_name
	User       string    `json:"user,omitzero"`        // $ai_user, as the request's own body named it
	Provider   string    `json:"provider,omitzero"`    // openai, anthropic, openrouter, groq …
	ModelAsked string    `json:"model_asked,omitzero"` // the model that the request named
	Model      string    `json:"model,omitzero"`       // the model that answered; see [Event.ModelName]
	Operation  string    `json:"operation,omitzero"`   // chat, responses, messages, embeddings, models …; "" where the path is not known
	BaseURL    string    `json:"base_url,omitzero"`    // $ai_base_url, without query
	RequestURL string    `json:"request_url,omitzero"` // $ai_request_url, without query: queries can hold keys
	Method     string    `json:"method,omitzero"`      // HTTP method of a gateway call

	Usage Usage `json:"usage,omitzero"` // tokens by kind
	Cost  Cost  `json:"cost,omitzero"`  // US dollars by part

	Latency          Opt[time.Duration] `json:"latency,omitzero"`        // whole call; on the wire in seconds
	TimeToFirstToken Opt[time.Duration] `json:"ttft,omitzero"`           // streams only; on the wire in seconds
	Stream           Opt[bool]          `json:"stream,omitzero"`         // the answer came in pieces
	HTTPStatus       int                `json:"http_status,omitzero"`    // the provider's; 0 where no answer came
	RequestBytes     int64              `json:"request_bytes,omitzero"`  // on the wire; 0 where that is not known
	ResponseBytes    int64              `json:"response_bytes,omitzero"` // on the wire; 0 where that is not known

	IsError      bool   `json:"is_error,omitzero"`      // the call failed, broke off, or its answer was withheld
	ErrorType    string `json:"error_type,omitzero"`    // the provider's word, or one of the ErrType constants
	ErrorCode    string `json:"error_code,omitzero"`    // of a failed call: the provider's code, a transport's (ECONNREFUSED), or CodeUnknown; never the HTTP status
	ErrorMessage string `json:"error_message,omitzero"` // may echo a prompt: privacy scrubs it before it leaves
	Status       Status `json:"status,omitzero"`        // how the call ended, in one of five words
	StopReason   string `json:"stop_reason,omitzero"`   // the provider's raw value
	ParseError   string `json:"parse_error,omitzero"`   // why the body could not be read; never quotes the body

	CompletionID      string                     `json:"completion_id,omitzero"`      // chatcmpl-…, resp_…, msg_…
	SystemFingerprint string                     `json:"system_fingerprint,omitzero"` // OpenAI's name of the configuration that answered
	ServiceTier       string                     `json:"service_tier,omitzero"`       // the tier that served the call: default, flex, priority …
	ModelParameters   map[string]json.RawMessage `json:"model_parameters,omitzero"`   // the request's settings by the provider's names; never content
	ProviderMetadata  map[string]json.RawMessage `json:"provider_metadata,omitzero"`  // what only this provider tells: request id, limits …

	PromptName      string `json:"prompt_name,omitzero"`       // the prompt that was run
	PromptVersion   string `json:"prompt_version,omitzero"`    // a number or a label: $ai_prompt_version
	PromptVersionID string `json:"prompt_version_id,omitzero"` // pv_…
	PromptHash      string `json:"prompt_hash,omitzero"`       // sha256:… of the instructions, never of the user's words

	Surface     string            `json:"surface,omitzero"`     // Conversation, Test, Playbook … or the team's own
	TaskType    string            `json:"task_type,omitzero"`   // what the call is for: summarise, support_reply …
	Environment string            `json:"environment,omitzero"` // production, staging …
	Tags        []string          `json:"tags,omitzero"`        // each becomes a property of that name set to true
	Flags       map[string]string `json:"flags,omitzero"`       // feature flag key → variant: $feature/<key>
	Groups      map[string]string `json:"groups,omitzero"`      // $groups

	// Derived from content while it was there, so that charts work without it.
	InputChars        Int    `json:"input_chars,omitzero"`         // characters of the input's text
	OutputChars       Int    `json:"output_chars,omitzero"`        // characters of the output's text
	InputLengthBucket string `json:"input_length_bucket,omitzero"` // 1k_2k_tokens …
	OutputCategory    string `json:"output_category,omitzero"`     // text, tool_call, refusal, json, empty …

	// Properties are the caller's own, under their own names. They never
	// override a field above.
	Properties map[string]json.RawMessage `json:"properties,omitzero"`

	// Attributes names those of Properties that were attributes of a span, which a
	// library may have written by itself. Of an event with the source otlp all are,
	// whether named here or not.
	Attributes []string `json:"attributes,omitzero"`

	// Private marks an event whose content has been withheld on purpose: on the
	// wire $ai_input and $ai_output_choices are then null, not absent.
	Private bool `json:"private,omitzero"`

	// StartSent marks both events of a call whose start event was sent before it was
	// made: [RequestStarted], with what was known then, and the call's own event.
	StartSent bool `json:"start_told,omitzero"`

	// Historical marks an event of an import of old data (historical_migration):
	// PostHog is told, so that it keeps it out of what reacts to the present.
	// Sinks need it, and the store does not keep it.
	Historical bool `json:"historical,omitzero"`

	// Content is carried beside the metadata, never in it.
	Content Content `json:"-"`
}

// Usage counts tokens by kind, normalised so that the same field means the same
// for every provider: Input is what the provider calls its input or prompt
// count, and CacheExclusive says whether cache reads and writes lie outside it.
// Output includes reasoning, whatever the provider's own habit.
type Usage struct {
	Input          Int       `json:"input,omitzero"`            // prompt and context
	Output         Int       `json:"output,omitzero"`           // reasoning included
	Total          Int       `json:"total,omitzero"`            // as the provider says it; see Tokens
	CacheRead      Int       `json:"cache_read,omitzero"`       // input that came from a cache
	CacheWrite     Int       `json:"cache_write,omitzero"`      // all writes, whatever their lifetime
	CacheWrite5m   Int       `json:"cache_write_5m,omitzero"`   // part of CacheWrite
	CacheWrite1h   Int       `json:"cache_write_1h,omitzero"`   // part of CacheWrite
	CacheExclusive Opt[bool] `json:"cache_exclusive,omitzero"`  // cache reads and writes are not part of Input
	Reasoning      Int       `json:"reasoning,omitzero"`        // part of Output
	InputAudio     Int       `json:"input_audio,omitzero"`      // part of Input
	OutputAudio    Int       `json:"output_audio,omitzero"`     // part of Output
	CacheReadAudio Int       `json:"cache_read_audio,omitzero"` // part of CacheRead
	InputImage     Int       `json:"input_image,omitzero"`      // part of Input
	OutputImage    Int       `json:"output_image,omitzero"`     // part of Output
	InputText      Int       `json:"input_text,omitzero"`       // part of Input
	OutputText     Int       `json:"output_text,omitzero"`      // part of Output
	WebSearches    Int       `json:"web_searches,omitzero"`     // searches, not tokens
	Images         Int       `json:"images,omitzero"`           // generated pictures, not tokens

	// ReportedCost is what the provider itself says the call cost, in USD
	// (OpenRouter's usage.cost). It wins over any price table.
	ReportedCost Opt[decimal.Decimal] `json:"reported_cost,omitzero"`
}

// Tokens returns the total that the provider named or, where it named none, the
// sum of the counts that are billed apart. Unknown where nothing is known.
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

// AllInput is all input of a call, tokens read from and written to a cache
// included, whatever the provider's own count leaves out. It is what every sum and
// every page means by input tokens.
func (u Usage) AllInput() Int {
	if u.Input.Known && u.CacheExclusive.Or(false) {
		return Some(u.Input.Value + u.CacheRead.Or(0) + u.CacheWrite.Or(0))
	}
	return u.Input
}

// How a cost was found: the values of $ai_cost_model_source.
const (
	CostPassthrough = "passthrough" // the provider or the caller said it
	CostCaller      = "caller"      // the caller said it of a call that it reports itself; at home only
	CostCustom      = "custom"      // per-token prices came with the event
	CostManual      = "manual"      // a price from the configuration
	CostTable       = "table"       // hedgerow's own price table
	CostSynced      = "openrouter"  // a price taken by "hedgerow prices sync"
)

// Cost is a call's price in USD by part. Every part, and the total, is unknown
// rather than 0 where a count or a price is missing.
type Cost struct {
	Input     Opt[decimal.Decimal] `json:"input,omitzero"`      // all input tokens, cache reads and writes included
	Output    Opt[decimal.Decimal] `json:"output,omitzero"`     // all output tokens, reasoning included
	Request   Opt[decimal.Decimal] `json:"request,omitzero"`    // what the call costs whatever its length
	WebSearch Opt[decimal.Decimal] `json:"web_search,omitzero"` // searches that the provider did
	Total     Opt[decimal.Decimal] `json:"total,omitzero"`      // the sum, or what the provider said

	// CacheSaved is what reading input from a cache saved, against the price of
	// input that is read anew; writing the cache is not set against it. It is part
	// of nothing, and unknown where hedgerow did not price the input itself.
	CacheSaved Opt[decimal.Decimal] `json:"cache_saved,omitzero"`

	ModelUsed string `json:"model_used,omitzero"` // the price row's model
	Source    string `json:"source,omitzero"`     // CostPassthrough …
	Provider  string `json:"provider,omitzero"`   // the price row's provider
}

// Content is the text of a call, in PostHog's message form (contract section
// 3.4). Each part is valid JSON or nil.
type Content struct {
	Input       json.RawMessage // $ai_input
	Output      json.RawMessage // $ai_output_choices
	Tools       json.RawMessage // $ai_tools: the tools offered
	InputState  json.RawMessage // $ai_input_state of spans and traces
	OutputState json.RawMessage // $ai_output_state
}

// IsZero reports whether there is no content at all.
func (c Content) IsZero() bool {
	return c.Input == nil && c.Output == nil && c.Tools == nil && c.InputState == nil && c.OutputState == nil
}

// Size is the content's length in bytes.
func (c Content) Size() int {
	return len(c.Input) + len(c.Output) + len(c.Tools) + len(c.InputState) + len(c.OutputState)
}

// IsSpanContent reports whether e is hedgerow's own [SpanContent], and not a
// caller's event that happens to have its name.
func (e *Event) IsSpanContent() bool { return e.Name == SpanContent && e.Source == SourceOTLP }

// NewID returns a fresh UUID of version 7, whose order is the order of creation.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// DerivedID returns a UUID of version 7 with the given time in it, whose other
// bits follow from a name: the same whenever and wherever it is made.
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

// ValidJSON reports whether b is one JSON value, as [encoding/json.Valid] does, in
// a third of the time.
func ValidJSON(b []byte) bool {
	return !NestedDeeper(b, 10_000) && gjson.ValidBytes(b)
}

// NestedDeeper reports whether the brackets of a JSON text, those in its strings
// aside, are nested more than so many levels deep. It comes before readers that
// recurse: Go cannot recover from a stack that has run out.
func NestedDeeper[T string | []byte](json T, levels int) bool {
	brackets := 0
	switch v := any(json).(type) {
	case string:
		brackets = strings.Count(v, "{") + strings.Count(v, "[")
	case []byte:
		brackets = bytes.Count(v, []byte{'{'}) + bytes.Count(v, []byte{'['})
	}
	if brackets <= levels { // as nearly always
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

// ModelName is the model that answered or, where no answer named one, the model
// asked for.
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

// DropContent removes every trace of the text: content, and nothing else.
func (e *Event) DropContent() { e.Content = Content{} }

// Clone returns a copy whose maps and slices can be changed without touching
// e. The bytes of content and properties are shared: replace them, never write
// into them.
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

// Validate reports what is wrong with an event as an [*Error] of code
// [CodeInvalid], or nil. It checks what every later stage relies on: a project,
// a name, a UUID, a time, and lengths that PostHog accepts.
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

// CleanID makes s fit for $ai_trace_id and its like: PostHog takes letters,
// digits and -_~.@()!':| only (contract section 3.1). Any other character
// becomes '_'; the result has at most 200 characters.
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
