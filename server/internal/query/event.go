package query

import (
	"encoding/json"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// USD is an amount in dollars, exact, or unknown. In JSON it is a number with
// all its digits, or null.
type USD event.Opt[decimal.Decimal]

// MarshalJSON writes the digits as a number.
func (u USD) MarshalJSON() ([]byte, error) {
	if !u.Known {
		return []byte("null"), nil
	}
	return []byte(u.Value.String()), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (u *USD) UnmarshalJSON(b []byte) error { return (*event.Opt[decimal.Decimal])(u).UnmarshalJSON(b) }

// Millis is a duration in milliseconds with microseconds as decimals, or
// unknown (null).
type Millis = event.Opt[float64]

// What became of an event's content.
const (
	ContentKept    = "kept"    // it is there, for those who may see it
	ContentExpired = "expired" // it was there; retention removed it
	ContentNone    = "none"    // the event came without, or privacy dropped it
)

// Event is one stored event. Every key is always there but content: unknown
// numbers are null, unknown strings empty.
type Event struct {
	UUID              string                     `json:"uuid"`
	ProjectID         string                     `json:"project_id"`
	Name              string                     `json:"event"`
	DistinctID        string                     `json:"distinct_id"`
	Timestamp         time.Time                  `json:"timestamp"` // start of the call
	StoredAt          time.Time                  `json:"stored_at"`
	Source            string                     `json:"source"`
	TraceID           string                     `json:"trace_id"`
	SpanID            string                     `json:"span_id"`
	ParentID          string                     `json:"parent_id"`
	SessionID         string                     `json:"session_id"`
	TraceName         string                     `json:"trace_name"`
	SpanName          string                     `json:"span_name"`
	User              string                     `json:"user"`
	Provider          string                     `json:"provider"`
	Model             string                     `json:"model"` // the one that answered, else the one asked for
	ModelAsked        string                     `json:"model_asked"`
	Operation         string                     `json:"operation"`
	BaseURL           string                     `json:"base_url"`
	RequestURL        string                     `json:"request_url"`
	Method            string                     `json:"method"`
	Usage             Usage                      `json:"usage"`
	Cost              Cost                       `json:"cost"`
	LatencyMS         Millis                     `json:"latency_ms"`
	TTFTMS            Millis                     `json:"time_to_first_token_ms"`
	Stream            event.Opt[bool]            `json:"stream"`
	HTTPStatus        event.Int                  `json:"http_status"`
	RequestBytes      event.Int                  `json:"request_bytes"`
	ResponseBytes     event.Int                  `json:"response_bytes"`
	IsError           bool                       `json:"is_error"`
	ErrorType         string                     `json:"error_type"`
	ErrorCode         string                     `json:"error_code"` // the provider's, a transport's, or unknown; "" where the call did not fail
	ErrorMessage      string                     `json:"error_message"`
	Status            event.Status               `json:"status"`
	StopReason        string                     `json:"stop_reason"`
	ParseError        string                     `json:"parse_error"`
	CompletionID      string                     `json:"completion_id"`
	SystemFingerprint string                     `json:"system_fingerprint"`
	ServiceTier       string                     `json:"service_tier"`
	ModelParameters   map[string]json.RawMessage `json:"model_parameters"`
	ProviderMetadata  map[string]json.RawMessage `json:"provider_metadata"`
	PromptName        string                     `json:"prompt_name"`
	PromptVersion     string                     `json:"prompt_version"`
	PromptVersionID   string                     `json:"prompt_version_id"`
	PromptHash        string                     `json:"prompt_hash"`
	Surface           string                     `json:"surface"`
	TaskType          string                     `json:"task_type"`
	Environment       string                     `json:"environment"`
	Tags              []string                   `json:"tags"`
	Flags             map[string]string          `json:"flags"`
	Groups            map[string]string          `json:"groups"`
	InputChars        event.Int                  `json:"input_chars"`
	OutputChars       event.Int                  `json:"output_chars"`
	InputLengthBucket string                     `json:"input_length_bucket"`
	OutputCategory    string                     `json:"output_category"`
	Properties        map[string]json.RawMessage `json:"properties"`
	Private           bool                       `json:"private"`
	LeftOut           bool                       `json:"left_out,omitempty"` // in a trace: properties and other long values, which the event alone has
	ContentState      string                     `json:"content_state"`      // ContentKept …
	Content           *Content                   `json:"content,omitempty"`  // only where it was asked for
}

// IsCall reports whether the event is a call of a model that has ended.
func (e *Event) IsCall() bool {
	o := event.Event{Name: e.Name}
	return o.IsCosted() || o.IsReportedCall() && e.Status != ""
}

// Usage is event.Usage with the total that hedgerow derives.
type Usage struct {
	Input          event.Int       `json:"input_tokens"` // all input: event.Usage.AllInput
	Output         event.Int       `json:"output_tokens"`
	Total          event.Int       `json:"total_tokens"`
	CacheRead      event.Int       `json:"cache_read_tokens"`
	CacheWrite     event.Int       `json:"cache_write_tokens"`
	CacheWrite5m   event.Int       `json:"cache_write_5m_tokens"`
	CacheWrite1h   event.Int       `json:"cache_write_1h_tokens"`
	Reported       event.Int       `json:"reported_input_tokens"` // the provider's own count
	CacheExclusive event.Opt[bool] `json:"cache_exclusive"`       // cache tokens lie outside reported_input_tokens
	Reasoning      event.Int       `json:"reasoning_tokens"`
	InputAudio     event.Int       `json:"input_audio_tokens"`
	OutputAudio    event.Int       `json:"output_audio_tokens"`
	CacheReadAudio event.Int       `json:"cache_read_audio_tokens"`
	InputImage     event.Int       `json:"input_image_tokens"`
	OutputImage    event.Int       `json:"output_image_tokens"`
	InputText      event.Int       `json:"input_text_tokens"`
	OutputText     event.Int       `json:"output_text_tokens"`
	WebSearches    event.Int       `json:"web_searches"`
	Images         event.Int       `json:"images"`
	ReportedCost   USD             `json:"reported_cost_usd"`
}

// Cost is event.Cost.
type Cost struct {
	Input     USD    `json:"input_usd"`
	Output    USD    `json:"output_usd"`
	Request   USD    `json:"request_usd"`
	WebSearch USD    `json:"web_search_usd"`
	Total     USD    `json:"total_usd"`
	Saved     USD    `json:"cache_saved_usd"` // by reading input from a cache; part of nothing
	Model     string `json:"price_model"`
	Source    string `json:"price_source"`
	Provider  string `json:"price_provider"`
}

// Content is the text of a call: JSON, or null.
type Content struct {
	Input       json.RawMessage `json:"input"`
	Output      json.RawMessage `json:"output"`
	Tools       json.RawMessage `json:"tools"`
	InputState  json.RawMessage `json:"input_state"`
	OutputState json.RawMessage `json:"output_state"`
}

func newEvent(r *store.Row) *Event {
	e := r.Event
	u, c := e.Usage, e.Cost
	v := &Event{
		UUID: e.UUID, ProjectID: e.ProjectID, Name: e.Name, DistinctID: e.DistinctID,
		Timestamp: e.Timestamp, StoredAt: r.StoredAt, Source: e.Source,
		TraceID: e.TraceID, SpanID: e.SpanID, ParentID: e.ParentID, SessionID: e.SessionID,
		TraceName: e.TraceName, SpanName: e.SpanName, User: e.User,
		Provider: e.Provider, Model: e.ModelName(), ModelAsked: e.ModelAsked,
		Operation: e.Operation, BaseURL: e.BaseURL, RequestURL: e.RequestURL, Method: e.Method,
		Usage: Usage{
			Input: u.AllInput(), Reported: u.Input, Output: u.Output, Total: u.Tokens(),
			CacheRead: u.CacheRead, CacheWrite: u.CacheWrite, CacheWrite5m: u.CacheWrite5m, CacheWrite1h: u.CacheWrite1h,
			CacheExclusive: u.CacheExclusive, Reasoning: u.Reasoning,
			InputAudio: u.InputAudio, OutputAudio: u.OutputAudio, CacheReadAudio: u.CacheReadAudio,
			InputImage: u.InputImage, OutputImage: u.OutputImage, InputText: u.InputText, OutputText: u.OutputText,
			WebSearches: u.WebSearches, Images: u.Images, ReportedCost: USD(u.ReportedCost),
		},
		Cost: Cost{
			Input: USD(c.Input), Output: USD(c.Output), Request: USD(c.Request), WebSearch: USD(c.WebSearch), Total: USD(c.Total), Saved: USD(c.CacheSaved),
			Model: c.ModelUsed, Source: c.Source, Provider: c.Provider,
		},
		LatencyMS: millis(e.Latency), TTFTMS: millis(e.TimeToFirstToken), Stream: e.Stream,
		HTTPStatus: known(int64(e.HTTPStatus)), RequestBytes: known(e.RequestBytes), ResponseBytes: known(e.ResponseBytes),
		IsError: e.IsError, ErrorType: e.ErrorType, ErrorCode: e.ErrorCode, ErrorMessage: e.ErrorMessage, Status: e.Status,
		StopReason: e.StopReason, ParseError: e.ParseError,
		CompletionID: e.CompletionID, SystemFingerprint: e.SystemFingerprint, ServiceTier: e.ServiceTier,
		ModelParameters: e.ModelParameters, ProviderMetadata: e.ProviderMetadata,
		PromptName: e.PromptName, PromptVersion: e.PromptVersion, PromptVersionID: e.PromptVersionID, PromptHash: e.PromptHash,
		Surface: e.Surface, TaskType: e.TaskType, Environment: e.Environment,
		Tags: e.Tags, Flags: e.Flags, Groups: e.Groups,
		InputChars: e.InputChars, OutputChars: e.OutputChars, InputLengthBucket: e.InputLengthBucket, OutputCategory: e.OutputCategory,
		Properties: e.Properties, Private: e.Private,
		ContentState: ContentNone,
	}
	return v
}

func known(n int64) event.Int { return event.Int{Value: n, Known: n != 0} }

func millis(d event.Opt[time.Duration]) Millis {
	if !d.Known {
		return Millis{}
	}
	return event.Some(float64(d.Value.Microseconds()) / 1000)
}
