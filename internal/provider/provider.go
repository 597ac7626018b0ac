package provider

import (
	"net/http"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Dialect is a family of wire formats.
type Dialect string

// The dialects.
const (
	OpenAI    Dialect = "openai"    // OpenAI's own, and everyone's who copies it
	Anthropic Dialect = "anthropic" // the Messages API
)

// Mark says when part of a response had arrived.
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
	ResponseHeader http.Header // nil where no answer came

	Request          []byte // as the caller sent it, content-decoded
	RequestTruncated bool   // Request is only the beginning

	Response          []byte // as the provider sent it, content-decoded
	ResponseTruncated bool   // Response is only the beginning, and ResponseTail the end
	ResponseTail      []byte // the last bytes of a truncated response; may overlap with Response

	RequestBytes  int64 // sizes on the wire, whatever was kept of the bodies
	ResponseBytes int64

	Status  int           // 0 where no answer came
	Start   time.Time     // when the call began
	Latency time.Duration // until the answer ended, or the call failed
	Marks   []Mark        // in order of Offset

	// Err and ErrType tell how the exchange broke off. ErrType is one of
	// event.ErrTypeClientGone, ErrTypeTimeout, ErrTypeUnreachable and
	// ErrTypeStream, or "" where the exchange was completed.
	Err     error
	ErrType string
}

// Parse turns a call into an event. It always returns one, and never panics.
func Parse(c *Call) *event.Event {
	return plain(c)
}

func plain(c *Call) *event.Event {
	return &event.Event{
		UUID:          event.NewID(),
		Name:          event.Span,
		Timestamp:     c.Start.UTC(),
		Source:        event.SourceGateway,
		Provider:      c.Provider,
		Method:        c.Method,
		BaseURL:       c.BaseURL,
		Operation:     Operation(c.Dialect, c.Method, c.Path),
		HTTPStatus:    c.Status,
		RequestBytes:  c.RequestBytes,
		ResponseBytes: c.ResponseBytes,
		Latency:       event.Some(c.Latency),
		Status:        event.StatusSuccess,
	}
}
