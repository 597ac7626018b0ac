package provider

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Behavior describes the response to one request. The zero Behavior succeeds.
type Behavior struct {
	Fail Failure // "" does not fail
	// After is the number of chunks that are sent before a mid-stream failure.
	// Defaults to 3.
	After int

	Refuse        bool   // the model refuses in its text
	ContentFilter bool   // the provider's content filter ends the response
	Length        bool   // the response ends at a token limit
	Text          string // the text of the response, instead of a generated one
	Tools         int    // number of tool calls, if the request has tools; -1 makes none, 0 decides at random
	Stop          string // the raw stop reason, overriding the default

	// Token counts, overriding the computed ones; nil keeps those.
	Input, Output, Cached, CacheWrite, CacheWrite1h, Reasoning, Searches *int

	// Usage is where a stream in OpenAI's format has its usage.
	Usage    UsageShape
	NoDone   bool // the stream ends without data: [DONE]
	CRLF     bool // lines of the stream end in CR LF
	Comments bool // comments and pings between the chunks
	OneByte  bool // every byte of the stream is written and flushed separately
	Trailer  bool // the response has a trailer X-Sim-Trailer
	// NoStreamOptions rejects a request that has stream_options, as some
	// OpenAI-compatible servers do.
	NoStreamOptions bool
	// KnownOnly rejects a request with a member that the provider's API does
	// not have, as OpenAI, Anthropic, Google and Mistral do.
	KnownOnly bool

	Encoding string        // gzip, br or zstd, if the caller accepts it
	First    time.Duration // delay before the response begins, in addition to Options.Latency
	Gap      time.Duration // delay between the chunks of a stream, in addition to Options.Latency
	Chunks   int           // number of text chunks in a stream; 0 is one per token
}

// Failure is a kind of failure.
type Failure string

// The failures.
const (
	BadRequest   Failure = "bad_request"  // 400
	Unauthorized Failure = "unauthorized" // 401
	Forbidden    Failure = "forbidden"    // 403
	NotFound     Failure = "not_found"    // 404
	RateLimit    Failure = "rate_limit"   // 429, with Retry-After
	Quota        Failure = "quota"        // 429 insufficient_quota; Anthropic's 400 of a low balance
	ServerError  Failure = "server_error" // 500
	Unavailable  Failure = "unavailable"  // 503
	Overloaded   Failure = "overloaded"   // Anthropic's 529; 503 elsewhere
	NotJSON      Failure = "not_json"     // a 502 with an HTML page, as load balancers send
	Reset        Failure = "reset"        // the connection is reset before any response
	Hang         Failure = "hang"         // no response until the caller disconnects
	MidError     Failure = "mid_error"    // an error in the stream, after a 200
	MidReset     Failure = "mid_reset"    // the connection is reset in the middle of the stream or body
	MidHang      Failure = "mid_hang"     // the stream stops without ending
)

var failures = []Failure{BadRequest, Unauthorized, Forbidden, NotFound, RateLimit, Quota, ServerError, Unavailable, Overloaded, NotJSON, Reset, Hang, MidError, MidReset, MidHang}

func (f Failure) mid() bool { return f == MidError || f == MidReset || f == MidHang }

// UsageShape is the position of the usage in a stream.
type UsageShape string

// The shapes of servers with OpenAI's format.
const (
	UsageLast      UsageShape = ""                  // OpenAI: if requested, in a last chunk with choices []
	UsageNone      UsageShape = "no_usage"          // never
	UsageFinish    UsageShape = "usage_with_finish" // in the chunk that has the finish reason
	UsageEmptyDiff UsageShape = "usage_delta"       // in a last chunk with one choice and an empty delta
	UsageEvery     UsageShape = "usage_every"       // in every chunk, growing
)

// Parse parses the X-Sim header or a model's suffix: words and
// name=value pairs, joined by semicolons:
//
//	rate_limit
//	refusal; first=200ms; gap=5ms
//	tools=2; cached=1024; br
//	mid_error; after=5
//
// The words are the [Failure]s, the [UsageShape]s, refusal, content_filter,
// length, no_done, crlf, comments, one_byte, trailer, no_stream_options, known_only,
// gzip, br and zstd; the names first, gap, after, chunks, text, stop, tools, input,
// output, cached, cache_write, cache_write_1h, reasoning and searches.
func Parse(s string) (Behavior, error) {
	var b Behavior
	for item := range strings.SplitSeq(s, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(item), "=")
		var err error
		count := func(dst **int) {
			var n int
			n, err = strconv.Atoi(value)
			*dst = &n
		}
		switch {
		case name == "" || name == "ok":
		case slices.Contains(failures, Failure(name)):
			b.Fail = Failure(name)
		case slices.Contains([]UsageShape{UsageNone, UsageFinish, UsageEmptyDiff, UsageEvery}, UsageShape(name)):
			b.Usage = UsageShape(name)
		default:
			switch name {
			case "refusal":
				b.Refuse = true
			case "content_filter":
				b.ContentFilter = true
			case "length":
				b.Length = true
			case "no_done":
				b.NoDone = true
			case "crlf":
				b.CRLF = true
			case "comments":
				b.Comments = true
			case "one_byte":
				b.OneByte = true
			case "trailer":
				b.Trailer = true
			case "no_stream_options":
				b.NoStreamOptions = true
			case "known_only":
				b.KnownOnly = true
			case "gzip", "br", "zstd":
				b.Encoding = name
			case "first":
				b.First, err = time.ParseDuration(value)
			case "gap":
				b.Gap, err = time.ParseDuration(value)
			case "after":
				b.After, err = strconv.Atoi(value)
			case "chunks":
				b.Chunks, err = strconv.Atoi(value)
			case "tools":
				b.Tools, err = strconv.Atoi(value)
			case "text":
				b.Text = value
			case "stop":
				b.Stop = value
			case "input":
				count(&b.Input)
			case "output":
				count(&b.Output)
			case "cached":
				count(&b.Cached)
			case "cache_write":
				count(&b.CacheWrite)
			case "cache_write_1h":
				count(&b.CacheWrite1h)
			case "reasoning":
				count(&b.Reasoning)
			case "searches":
				count(&b.Searches)
			default:
				err = fmt.Errorf("unknown behavior")
			}
		}
		if err != nil {
			return b, fmt.Errorf("simulate %q: %w", item, err)
		}
	}
	return b, nil
}
