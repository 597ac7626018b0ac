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
	OpenAI    Dialect = "openai"    // OpenAI's own, and everyone's who copies it
	Anthropic Dialect = "anthropic" // the Messages API
	Gemini    Dialect = "gemini"    // the Gemini API and Vertex AI
)

// Mark is the arrival time of a part of a response.
type Mark struct {
	Offset int64         // response body bytes [0,Offset), content-decoded, had arrived …
	At     time.Duration // … this long after the call's start
}

// Call is one finished exchange with a provider, as the gateway recorded it.
// Parse keeps none of its slices, so that they can be used again afterwards.
type Call struct {
	Provider string  // openai, anthropic, openrouter, groq, azure …
	Dialect  Dialect // which wire formats the provider speaks
	Method   string
	Path     string // below the provider's base, with its /v1: /v1/chat/completions; a query is ignored
	BaseURL  string // without query

	RequestHeader  http.Header // nil is allowed
	ResponseHeader http.Header // nil without a response

	// Attribution names members of the request that the caller's project has read
	// as custom properties; see [AttributionFields].
	Attribution []string

	Request          []byte // as the caller sent it, content-decoded
	RequestTruncated bool   // Request is only the beginning

	Response          []byte // as the provider sent it, content-decoded
	ResponseTruncated bool   // Response is only the beginning, and ResponseTail the end
	ResponseTail      []byte // the last bytes of a truncated response; may overlap with Response

	RequestBytes  int64 // sizes on the wire, whatever was kept of the bodies
	ResponseBytes int64

	Status  int           // 0 without a response
	Start   time.Time     // when the call began
	Latency time.Duration // until the answer ended, or the call failed
	Marks   []Mark        // in order of Offset

	// Err and ErrType describe how the exchange broke off. ErrType is one of
	// event.ErrTypeClientGone, ErrTypeTimeout, ErrTypeUnreachable and
	// ErrTypeStream, or "" where the exchange was completed.
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
	return p.e
}

// plain is the event as far as it is known without the bodies.
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
	return e
}

// parser is the state of parsing one exchange. The formats' parsers are its
// methods; each sets fields of e.
type parser struct {
	c  *Call
	e  *event.Event
	op string

	firstToken int64 // offset in the response where the first token was complete; 0 if there was none
	trouble    fault // an error that the answer had
	refused    bool  // the answer was withheld
	webSearch  bool  // the request allowed searches
	google     bool  // the path is one of Google's own
	raw        bool  // the path is Vertex AI's for another publisher's form
	named      bool  // the path names the model
	sessionID  bool  // the request has its own session_id
	counts     geminiUsage
	iterations string    // Anthropic's, of which the top level of its usage leaves some out
	started    event.Int // the output count of Anthropic's message_start: a placeholder
	thought    int64     // tokens of thoughts whose text Anthropic omitted, by its estimate

	events   int  // of a stream
	ended    bool // a stream had its last event
	answered bool // a whole answer has the member that makes it one

	background background
}

// fault is an error as a provider words it.
type fault struct {
	kind, code, message string
	found               bool // even where it has no words
	flagged             bool // a moderation names its reasons
}

// note records why something could not be read. The first reason stays.
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
