package provider

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Dialect is a family of wire formats.
type Dialect string

// The dialects.
const (
	OpenAI    Dialect = "openai"    // OpenAI's own and compatible APIs
	Anthropic Dialect = "anthropic" // the Messages API
	Gemini    Dialect = "gemini"    // the Gemini API and Vertex AI
)

// Mark is the arrival time of a part of a response.
type Mark struct {
	Offset int64         // response body bytes [0,Offset), content-decoded, had arrived …
	At     time.Duration // … this long after the call's start
}

// Call is one finished exchange with a provider, as the gateway recorded it.
// Parse keeps none of its slices, so that they can be reused afterwards.
type Call struct {
	Provider string  // openai, anthropic, openrouter, groq, azure …
	Dialect  Dialect // the provider's wire formats
	Method   string
	Path     string // below the provider's base URL, with its /v1: /v1/chat/completions; a query is ignored
	BaseURL  string // without query

	RequestHeader  http.Header // nil is allowed
	ResponseHeader http.Header // nil without a response

	// Attribution are the request members that the caller's project reads as
	// custom properties; see [AttributionFields].
	Attribution []string

	Request          []byte // as the caller sent it, content-decoded
	RequestTruncated bool   // Request is only the start

	Response          []byte // as the provider sent it, content-decoded
	ResponseTruncated bool   // Response is only the start, and ResponseTail the end
	ResponseTail      []byte // the last bytes of a truncated response; may overlap with Response

	RequestBytes  int64 // sizes on the wire, regardless of what was kept of the bodies
	ResponseBytes int64

	// Socket is the operation of an exchange over a WebSocket, as passed to
	// [SocketRecorder]; "" for all others. Its response has each message as a server-sent event.
	Socket string

	// Batch marks a result of a batch, which [ReadResult] returned.
	Batch bool

	Status  int           // 0 without a response
	Start   time.Time     // start of the call
	Latency time.Duration // until the response ended, or the call failed
	Marks   []Mark        // in order of Offset

	// Err and ErrType describe how the exchange failed. ErrType is one of
	// event.ErrTypeClientGone, ErrTypeTimeout, ErrTypeUnreachable and
	// ErrTypeStream, or "" if the exchange was completed.
	Err     error
	ErrType string
}

// Parse converts a call to an event. It always returns one, and never panics:
//
//   - Generations and embeddings, by [Operation], become $ai_generation and
//     $ai_embedding, everything else an $ai_span that is named "GET /v1/models"
//     and the like.
//   - It sets attribution from the request's body: User, SessionID, TraceID,
//     TraceName, SpanName, ParentID, prompt and custom properties. The caller
//     applies headers, which take precedence, and sets missing ids.
//   - The property retry_count is the client's number of earlier attempts.
//   - Missing values are unknown: a count is 0 only if the provider reported 0.
func Parse(c *Call) (e *event.Event) {
	op := Operation(c.Dialect, c.Method, c.Path)
	if op == "" {
		op = hiddenOperation(c)
	}
	if c.Socket != "" {
		op, c = c.Socket, overSocket(c)
	}
	defer func() {
		if recover() != nil {
			p := parser{c: c, e: plain(c, op), op: op}
			p.e.ParseError = "the parser failed on this exchange; its format is not known to hedgerow"
			p.outcome()
			e = p.e
		}
	}()
	p := parser{c: c, e: plain(c, op), op: op}
	p.retryCount()
	p.request()
	p.response()
	p.outcome()
	if c.Batch {
		p.inBatch()
	}
	return p.e
}

// inBatch completes a result of a batch: it was billed as such, and no one knows how
// long it took.
func (p *parser) inBatch() {
	p.e.SpanName, p.e.ServiceTier = "batch "+p.e.SpanName, "batch"
	p.e.Latency = event.Opt[time.Duration]{}
}

// overSocket returns the call as HTTP would have it.
func overSocket(c *Call) *Call {
	h := *c
	h.Status = http.StatusOK
	h.ResponseHeader = c.ResponseHeader.Clone()
	if h.ResponseHeader == nil {
		h.ResponseHeader = make(http.Header)
	}
	h.ResponseHeader.Set("Content-Type", "text/event-stream")
	return &h
}

// plain is the event without data from the bodies.
func plain(c *Call, op string) *event.Event {
	path, _, _ := strings.Cut(c.Path, "?")
	base, _, _ := strings.Cut(c.BaseURL, "?")
	e := &event.Event{
		UUID:          event.NewID(),
		Name:          eventName(op),
		Timestamp:     c.Start.UTC(),
		Source:        event.SourceGateway,
		SpanName:      c.Method + " " + route(path),
		Provider:      c.Provider,
		Operation:     op,
		Method:        c.Method,
		BaseURL:       base,
		RequestURL:    strings.TrimRight(base, "/") + path,
		HTTPStatus:    c.Status,
		RequestBytes:  c.RequestBytes,
		ResponseBytes: c.ResponseBytes,
		Latency:       event.Some(c.Latency),
	}
	if c.Socket != "" {
		e.SpanName, e.HTTPStatus = "WebSocket "+route(path), http.StatusSwitchingProtocols
	}
	return e
}

// parser is the state of parsing one exchange. The parsers of the formats are
// its methods; each sets fields of e.
type parser struct {
	c  *Call
	e  *event.Event
	op string

	firstToken int64 // offset in the response at which the first token was complete; 0 if there was none
	trouble    fault // an error in the response
	refused    bool  // the response was withheld
	webSearch  bool  // the request allowed web searches
	warmUp     bool  // the request asks for no output
	google     bool  // the path is one of Google's own
	raw        bool  // the path is Vertex AI's for another publisher's format
	named      bool  // the path names the model
	bedrock    bool  // the path is one of Amazon Bedrock's own
	measured   bedrockMetrics
	turns      [3][]*message // the input's system messages, earlier messages and prompt, where a request has them apart
	sessionID  bool          // the request has its own session_id
	counts     geminiUsage
	iterations string    // usage iterations of Anthropic: the top level of its usage omits some of them
	started    event.Int // the output count of Anthropic's message_start, which is a placeholder
	thought    int64     // reasoning tokens whose text Anthropic omitted, by its estimate

	events     int  // of a stream
	ended      bool // the last event of a stream was read
	recognised bool // a complete response has the member that identifies it

	query, documents, longest int64 // of a rerank on Bedrock: its bytes, and its documents' number and most bytes

	background background
}

// fault is an error as the provider reports it.
type fault struct {
	kind, code, message string
	found               bool // also without a message
	flagged             bool // from moderation, with reasons
}

// note records why something could not be parsed. The first reason is kept.
func (p *parser) note(why string) {
	if p.e.ParseError == "" {
		p.e.ParseError = why
	}
}

// meta keeps a field that only this provider has.
func (p *parser) meta(name string, v []byte) {
	if p.e.ProviderMetadata == nil {
		p.e.ProviderMetadata = make(map[string]json.RawMessage)
	}
	if len(p.e.ProviderMetadata) < 40 {
		p.e.ProviderMetadata[name] = v
	}
}
