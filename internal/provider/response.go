package provider

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// stream reads the events of one wire format in order, and its result at the
// end. tail is set once the middle of the response is missing: from then on
// only counts and reasons are used, since text would be joined wrongly.
type stream interface {
	event(f frame, v gjson.Result, tail bool)
	end()
}

// response reads the response body.
func (p *parser) response() {
	c := p.c
	p.headers()
	if p.op == opLive || p.op == opInteractions || p.op == opInteractionsGet {
		p.google = true
	}
	if len(c.Response) == 0 && c.Socket != "" {
		if p.e.Stream = event.Some(true); !c.ResponseTruncated && c.ErrType == "" {
			p.fail(event.ErrTypeTruncated, "the connection was closed before there was a response")
		}
		return
	}
	if len(c.Response) == 0 {
		if generates[p.op] && c.Status/100 == 2 && c.ResponseBytes == 0 && !c.ResponseTruncated && c.ErrType == "" {
			p.invalid("the response is empty")
		}
		return
	}
	body := view(c.Response)
	contentType := strings.ToLower(c.ResponseHeader.Get("Content-Type"))
	if isAmazonEvents(contentType) {
		p.e.Stream = event.Some(true)
		if s := p.stream(); s != nil {
			p.readFrames(s, (&amazonEvents{body: body}).next, func(tail string) (func() (frame, bool), bool) {
				rest, ok := resyncAmazon(tail)
				return (&amazonEvents{body: rest}).next, ok
			})
		}
		return
	}
	if isSSE(contentType, body) {
		if c.Dialect == OpenAI || c.Dialect == Anthropic || c.Dialect == Gemini {
			p.e.Stream = event.Some(true)
		}
		if s := p.stream(); s != nil {
			p.readFrames(s, newFrames(body).next, func(tail string) (func() (frame, bool), bool) {
				rest, ok := resync(tail)
				return newFrames(rest).next, ok
			})
		}
		return
	}
	_, results := BatchResultsID(c.Method, c.Path)
	known := generates[p.op] || p.op == opTranscription || p.op == opTranslation || (p.op == opBatches || p.op == opMessageBatches) && !results
	if binary(contentType) || c.Status < 400 && (!known || c.Status/100 != 2) {
		return
	}
	if p.op == opGenerateContent && c.Status/100 == 2 && strings.HasPrefix(strings.TrimLeft(body, " \t\r\n\uFEFF"), "[") {
		p.readFrames(&geminiStream{p: p}, (&elements{body: body}).next, func(tail string) (func() (frame, bool), bool) {
			rest, ok := resyncElements(tail)
			return (&elements{body: rest}).next, ok
		})
		return
	}
	if (p.op == opOllamaChat || p.op == opOllamaGenerate) && c.Status/100 == 2 && isLines(contentType, body) {
		p.readFrames(&ollamaStream{p: p}, (&jsonLines{body: body}).next, func(tail string) (func() (frame, bool), bool) {
			rest, ok := resyncLines(tail)
			return (&jsonLines{body: rest}).next, ok
		})
		return
	}
	s := redactView(body)
	whole := !c.ResponseTruncated && valid(s)
	trimmed := strings.TrimLeft(s, " \t\r\n\uFEFF")
	isJSON := strings.HasPrefix(trimmed, "{") || strings.HasPrefix(trimmed, "[")
	switch {
	case !isJSON && c.Status >= 400:
		p.trouble = fault{message: plainMessage(contentType, trimmed), found: true}
		return
	case !isJSON && (p.op == opTranscription || p.op == opTranslation):
		p.textResponse(s)
		return
	case c.ResponseTruncated && generates[p.op]:
		p.note("the response is larger than the capture limit: its end is missing")
	case !whole && generates[p.op] && c.ErrType == "":
		p.note("the response is not valid JSON")
		switch end := strings.TrimRight(trimmed, " \t\r\n"); {
		case isJSON && !strings.HasSuffix(end, "}") && !strings.HasSuffix(end, "]"):
			p.fail(event.ErrTypeTruncated, "the response ended in the middle of its JSON")
		case isJSON:
			p.invalid("the response is not valid JSON")
		case strings.HasPrefix(end, "<"):
			p.invalid("the response is an HTML page")
		default:
			p.invalid(or(plainMessage(contentType, trimmed), "the response is empty"))
		}
	}
	if whole && strings.HasPrefix(trimmed, "[") { // Google's OpenAI-compatible endpoint wraps its errors
		if first := gjson.Parse(s).Get("0"); first.IsObject() {
			s = first.Raw
		}
	}
	p.jsonResponse(s, whole)
}

// generates are the operations whose response is JSON that Parse reads.
var generates = map[string]bool{
	opChat: true, opCompletions: true, opFIM: true, opResponses: true, opCompact: true, opResponsesGet: true, opMessages: true,
	opGenerateContent: true, opCountTokens: true, opOllamaChat: true, opOllamaGenerate: true, opCohereChat: true, opConverse: true, opInvoke: true, opEmbeddings: true, opImages: true, opVideos: true, opOCR: true, opRerank: true, opRealtime: true, opLive: true, opInteractions: true, opInteractionsGet: true,
}

func binary(contentType string) bool {
	for _, prefix := range []string{"audio/", "image/", "video/", "application/octet-stream", "application/zip"} {
		if strings.HasPrefix(contentType, prefix) {
			return true
		}
	}
	return false
}

// jsonResponse reads a complete response that is one JSON object.
func (p *parser) jsonResponse(s string, whole bool) {
	ok := p.c.Status < 400
	var gemini *geminiStream
	if ok && p.op == opGenerateContent {
		gemini = &geminiStream{p: p}
	}
	ollama := &ollamaStream{p: p}
	cohere := &cohereStream{p: p}
	invoke := &invokeStream{p: p}
	members(s, whole, func(name string, v gjson.Result) {
		if name == "error" && v.Type != gjson.Null || !ok {
			p.errorMember(name, v)
		}
		if !ok {
			return
		}
		p.bedrockMember(name, v)
		switch p.op {
		case opChat, opCompletions, opFIM:
			p.chatResponse(name, v)
		case opResponses, opCompact, opResponsesGet:
			p.responsesObject(name, v)
		case opMessages:
			p.messagesResponse(name, v)
		case opGenerateContent:
			gemini.member(frame{}, name, v, false)
		case opOllamaChat, opOllamaGenerate:
			ollama.member(frame{}, name, v, false)
		case opCohereChat:
			cohere.member(name, v)
		case opConverse:
			p.converseResponse(name, v)
		case opInvoke:
			invoke.member(frame{}, name, v, false)
		case opCountTokens:
			// Nothing was used yet, so that the count must not be summed.
			if (name == "input_tokens" || name == "totalTokens" || name == "inputTokens") && v.Type == gjson.Number {
				p.meta("counted_tokens", raw(v))
			}
		case opEmbeddings:
			p.embeddingsResponse(name, v)
		case opImages, opTranscription, opTranslation, opVideos, opOCR, opRerank:
			p.mediaResponse(name, v)
		case opInteractions, opInteractionsGet:
			p.interaction(name, v)
		case opBatches, opMessageBatches:
			p.batchMember(name, v)
		}
	})
	if gemini != nil {
		gemini.end()
	}
	ollama.end()
	cohere.end()
	invoke.end()
	if ok && whole && !p.recognised && identifiable[p.op] && !p.trouble.found && p.c.ErrType == "" {
		members(s, whole, p.strayError)
		p.invalid("the response is JSON of another format")
	}
	p.finalise()
}

// identifiable are the operations whose responses can be identified by a member: see
// answered.
var identifiable = map[string]bool{
	opChat: true, opCompletions: true, opFIM: true, opResponses: true, opCompact: true, opMessages: true, opGenerateContent: true,
	opOllamaChat: true, opOllamaGenerate: true, opCohereChat: true, opConverse: true, opInvoke: true, opInteractions: true,
}

// strayError reads a member of a 2xx response that is not a result: some
// servers send errors this way, such as {"code":1113,"msg":"…"},
// {"object":"error",…}, {"detail":"…"}.
func (p *parser) strayError(name string, v gjson.Result) {
	switch name {
	case "object":
		return
	case "type":
		if !strings.HasSuffix(strings.ToLower(v.Str), "error") {
			return
		}
	}
	p.errorMember(name, v)
}

// fail records a failure that the response does not describe itself. An error
// in the response takes precedence.
func (p *parser) fail(kind, message string) {
	t := &p.trouble
	t.kind, t.message, t.found = or(t.kind, kind), or(t.message, message), true
}

func (p *parser) invalid(message string) { p.fail(event.ErrTypeInvalid, message) }

func (p *parser) stream() stream {
	switch p.op {
	case opChat, opCompletions, opFIM:
		return &chatStream{p: p}
	case opResponses, opResponsesGet:
		return &responsesStream{p: p}
	case opInteractions, opInteractionsGet:
		return &interactionStream{p: p}
	case opRealtime:
		return &realtimeStream{responsesStream{p: p}}
	case opLive:
		return &liveStream{geminiStream{p: p}}
	case opMessages:
		return &messagesStream{p: p}
	case opGenerateContent:
		return &geminiStream{p: p}
	case opCohereChat:
		return &cohereStream{p: p}
	case opConverse:
		return &converseStream{p: p}
	case opInvoke:
		return &invokeStream{p: p}
	case opImages, opSpeech, opTranscription:
		return &mediaStream{p: p}
	}
	return nil
}

// readFrames reads a stream, event by event. If its middle is missing, resync
// finds the first event of its end.
func (p *parser) readFrames(s stream, next func() (frame, bool), resync func(tail string) (next func() (frame, bool), ok bool)) {
	p.frames(next, s, false)
	endSeen := !p.c.ResponseTruncated
	if p.c.ResponseTruncated {
		p.note("the response is larger than the capture limit: its middle is missing")
		if next, ok := resync(view(p.c.ResponseTail)); ok {
			p.frames(next, s, true)
			endSeen = true
		}
	}
	s.end()
	switch {
	case p.ended, p.trouble.found, !endSeen, p.c.ErrType != "", p.c.Status/100 != 2:
	case p.events > 0:
		p.fail(event.ErrTypeTruncated, "the stream ended before its last event")
	case strings.HasPrefix(strings.TrimLeft(view(p.c.Response), " \t\r\n"), "<"):
		p.invalid("the response is an HTML page")
	default:
		p.fail(event.ErrTypeTruncated, "the stream ended without an event")
	}
	p.finalise()
}

func (p *parser) frames(next func() (frame, bool), s stream, tail bool) {
	for {
		f, ok := next()
		if !ok {
			return
		}
		if strings.TrimSpace(f.data) == "[DONE]" {
			p.ended = true
			continue
		}
		f.data = redactView(f.data)
		if !valid(f.data) {
			// An incomplete last event of a response that was cut off is
			// expected.
			if f.ended && p.c.Status < 400 {
				p.note("an event of the stream is not valid JSON")
			}
			continue
		}
		v := gjson.Parse(f.data)
		if !v.IsObject() {
			continue
		}
		p.events++
		if p.bedrock {
			v.ForEach(func(k, v gjson.Result) bool { p.bedrockMember(k.Str, v); return true })
		}
		s.event(f, v, tail)
	}
}

// token notes that the first token was complete at f.
func (p *parser) token(f frame, tail bool) {
	if p.firstToken == 0 && !tail {
		p.firstToken = int64(f.end)
	}
}

// settle completes the data that depends on the whole response.
func (p *parser) finalise() {
	p.finaliseUsage()
	p.estimate()
	p.finaliseBackground()
	if at := p.arrival(p.firstToken); p.firstToken > 0 && (at > 0 || p.op != opLive) { // a turn may begin with its first piece
		p.e.TimeToFirstToken = event.Some(at)
	}
}

// StreamTailSize is how many bytes of the end of a stream [StreamEnded] needs.
const StreamTailSize = 4 << 10

// StreamEnded reports whether the last bytes of a stream have its final event,
// or an error. Clients close a stream when they have seen it, rather than
// reading on to the end of the body.
func StreamEnded(d Dialect, contentType string, last []byte) bool {
	if strings.Contains(contentType, "ndjson") {
		// Ollama's last line has figures after the content.
		for line := range bytes.Lines(last) {
			if bytes.HasPrefix(line, []byte(`{"error":`)) {
				return true
			}
		}
		return bytes.Contains(last, []byte(`"total_duration":`))
	}
	if isAmazonEvents(contentType) {
		return amazonEnded(string(last))
	}
	if !strings.Contains(contentType, "event-stream") {
		return false
	}
	if d == Gemini && bytes.Contains(last, []byte(`"finishReason"`)) {
		return true
	}
	for line := range bytes.Lines(last) {
		switch {
		case bytes.HasPrefix(line, []byte("data:")):
			switch line = bytes.TrimLeft(line[len("data:"):], " "); {
			case bytes.HasPrefix(line, []byte("[DONE]")), bytes.HasPrefix(line, []byte(`{"error"`)):
				return true
			}
		case bytes.HasPrefix(line, []byte(`{"error"`)):
			return true
		case bytes.HasPrefix(line, []byte("event: ")):
			switch string(bytes.TrimRight(line[len("event: "):], "\r\n")) {
			case "message_stop", "response.completed", "response.failed", "response.incomplete", "message-end", "error":
				return true
			}
		}
	}
	return false
}

// arrival returns the time at which the response had been received up to an
// offset.
func (p *parser) arrival(offset int64) time.Duration {
	for _, m := range p.c.Marks {
		if m.Offset >= offset {
			return m.At
		}
	}
	return p.c.Latency
}

// headers reads the data that only the headers have.
func (p *parser) headers() {
	h := p.c.ResponseHeader
	for _, name := range []string{"X-Request-Id", "Request-Id", "Apim-Request-Id"} {
		if v := h.Get(name); v != "" {
			p.meta("request_id", rawjson.Quote(event.FirstChars(v, 200)))
			break
		}
	}
	if v, err := strconv.ParseFloat(h.Get("Openai-Processing-Ms"), 64); err == nil && v >= 0 && v < 1e9 {
		p.meta("processing_ms", strconv.AppendFloat(nil, v, 'f', -1, 64))
	}
	if kind, _, _ := strings.Cut(h.Get("X-Amzn-Errortype"), ":"); kind != "" && p.c.Status >= 400 {
		p.trouble.kind = event.FirstChars(kind, 200)
	}
	if v := h.Get("Retry-After"); v != "" {
		p.meta("retry_after", rawjson.Quote(event.FirstChars(v, 100)))
	}
	for name, values := range h {
		low := strings.ToLower(name)
		if (strings.HasPrefix(low, "x-ratelimit-") || strings.HasPrefix(low, "anthropic-ratelimit-")) && len(values) > 0 && len(low) < 60 {
			p.meta(strings.ReplaceAll(strings.TrimPrefix(low, "x-"), "-", "_"), rawjson.Quote(event.FirstChars(values[0], 100)))
		}
	}
}

// errorMember reads one member of a response with an error. The formats are
// OpenAI's and Anthropic's {"error":{type,code,message}}, {"error":"message"},
// Mistral's and Cohere's {type,code,message}, FastAPI's {"detail":…}.
func (p *parser) errorMember(name string, v gjson.Result) {
	t := &p.trouble
	switch name {
	case "error":
		p.fault(v)
	case "message", "detail", "msg":
		if t.message == "" {
			if s := text(v); s != "" {
				t.message, t.found = event.FirstChars(s, 2000), true
			} else if s := text(v.Get("message")); s != "" {
				t.message, t.found = event.FirstChars(s, 2000), true
			} else if s := text(v.Get("0.msg")); s != "" {
				t.message, t.found = event.FirstChars(s, 2000), true
			}
		}
	case "type", "object":
		if s := text(v); t.kind == "" && s != "" && s != "error" {
			t.kind = event.FirstChars(s, 200)
		}
	case "code":
		if t.code == "" {
			t.code = event.FirstChars(text(v), 200)
		}
	case "request_id":
		p.meta("request_id", rawjson.Quote(event.FirstChars(text(v), 200)))
	}
}

// fault reads an error object, or a message in its place.
func (p *parser) fault(v gjson.Result) {
	t := &p.trouble
	switch {
	case v.Type == gjson.String:
		t.message, t.found = event.FirstChars(text(v), 2000), true
	case v.IsObject():
		t.found = true
		v.ForEach(func(k, v gjson.Result) bool {
			switch k.Str {
			case "message":
				t.message = event.FirstChars(text(v), 2000)
			case "type":
				t.kind = event.FirstChars(text(v), 200)
			case "status": // Google
				if v.Type == gjson.String && t.kind == "" {
					t.kind = event.FirstChars(text(v), 200)
				}
			case "code":
				t.code = event.FirstChars(text(v), 200)
			case "metadata": // OpenRouter
				t.flagged = v.Get("reasons").Exists()
				if s := text(v.Get("provider_name")); s != "" {
					p.meta("provider", rawjson.Quote(event.FirstChars(s, 200)))
				}
			case "param":
				if s := text(v); s != "" {
					p.meta("error_param", rawjson.Quote(event.FirstChars(s, 200)))
				}
			}
			return true
		})
	}
}

// plainMessage returns the message of an error page in plain text.
func plainMessage(contentType, body string) string {
	if strings.Contains(contentType, "html") || strings.HasPrefix(body, "<") {
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(strings.Clone(event.FirstChars(body, 500)), "\uFFFD"))
}

// outcome sets IsError, ErrorType, ErrorCode, ErrorMessage and Status.
func (p *parser) outcome() {
	c, e, t := p.c, p.e, &p.trouble
	if p.warmUp && e.Usage.Input.Or(0)+e.Usage.Output.Or(0) == 0 {
		e.Name, e.Usage = event.Span, event.Usage{}
	}
	e.Status = event.StatusSuccess
	switch {
	case c.ErrType != "":
		e.IsError, e.ErrorType, e.ErrorMessage, e.Status = true, c.ErrType, transportMessage(c), event.StatusError
		if c.ErrType == event.ErrTypeTimeout {
			e.Status = event.StatusTimeout
		}
		e.ErrorCode = TransportCode(c.Err)
		if t.found && c.ErrType != event.ErrTypeClientGone { // the provider's own message is more specific
			e.ErrorType, e.ErrorCode, e.ErrorMessage = or(t.word(), e.ErrorType), or(t.codeWord(), e.ErrorCode), or(t.message, e.ErrorMessage)
		}
		if e.ErrorCode == "" && c.ErrType == event.ErrTypeTimeout {
			e.ErrorCode = "ETIMEDOUT"
		}
	case c.Status >= 400:
		e.IsError = true
		e.ErrorType, e.ErrorCode = or(t.word(), event.StatusWord(c.Status)), t.codeWord()
		e.ErrorMessage = or(t.message, or(http.StatusText(c.Status), "status "+strconv.Itoa(c.Status)))
		e.Status = p.failure()
	case t.found:
		e.IsError = true
		e.ErrorType, e.ErrorCode = t.word(), t.codeWord()
		if n, err := strconv.Atoi(t.code); e.ErrorType == "" && err == nil && n >= 400 && n < 600 && !isTrue(e.Stream) {
			e.ErrorType = event.StatusWord(n) // OpenRouter returns 200 for upstream errors
		}
		if event.Failed(e.StopReason) && !isTrue(e.Stream) {
			e.ErrorType = or(e.ErrorType, event.ErrTypeProvider)
		}
		e.ErrorType = or(e.ErrorType, event.ErrTypeStream)
		e.ErrorMessage = or(t.message, "the response has an error")
		e.Status = p.failure()
	case event.Failed(e.StopReason):
		e.ErrorMessage, e.Status = t.message, "" // the rest follows from the reason
	case p.refused, event.Blocked(e.StopReason):
		e.Status = event.StatusBlocked
		if p.op == opGenerateContent {
			e.ErrorCode = e.StopReason // Gemini may add block reasons
		} else if p.refused {
			e.ErrorType = event.ErrTypeRefusal // the response has a refusal part
		}
	}
	e.SettleOutcome()
}

// word is the error's type or, if that is generic, its code: OpenAI's rate
// limits have the type "requests" or "tokens", and a wrong key, an unknown
// model and a prompt that is too long are all an "invalid_request_error".
func (t *fault) word() string {
	switch t.kind {
	case "", "requests", "tokens", "invalid_request_error":
		if _, err := strconv.Atoi(t.code); err != nil && t.code != "" {
			return t.code
		}
	}
	return t.kind
}

// codeWord is the provider's code for the error: error.code, or if there is
// none, or it only repeats the HTTP status code, the error's type: Anthropic's
// error.type, Google's error.status.
func (t *fault) codeWord() string {
	if n, err := strconv.Atoi(t.code); t.code != "" && (err != nil || n < 100 || n > 599) {
		return t.code
	}
	switch t.kind {
	case "error", event.ErrTypeTruncated, event.ErrTypeInvalid:
		return ""
	}
	return t.kind
}

func (p *parser) failure() event.Status {
	t := &p.trouble
	switch {
	case t.flagged, event.Blocked(t.code), event.Blocked(t.kind), strings.Contains(t.code, "content_filter"), strings.Contains(t.code, "content_policy"), strings.Contains(t.code, "moderation"),
		strings.Contains(t.kind, "content_filter"):
		return event.StatusBlocked
	case p.c.Status == http.StatusRequestTimeout, p.c.Status == http.StatusGatewayTimeout, t.kind == "timeout_error":
		return event.StatusTimeout
	case p.c.Status == http.StatusBadRequest, p.c.Status == http.StatusUnprocessableEntity, p.c.Status == http.StatusRequestEntityTooLarge:
		return event.StatusValidationFailed
	}
	return event.StatusError
}

// transportMessage describes a failure of the exchange itself. The URL in
// net/http's errors may contain a key, so it is omitted.
func transportMessage(c *Call) string {
	switch c.ErrType {
	case event.ErrTypeClientGone:
		return "the caller disconnected before the response ended"
	case event.ErrTypeTimeout:
		if c.Status != 0 {
			return "the provider stopped sending in the middle of its response"
		}
		return "the provider did not respond in time"
	}
	err := c.Err
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if err == nil {
		return "the connection to the provider failed"
	}
	return event.FirstChars(strings.ToValidUTF8(err.Error(), "\uFFFD"), 500)
}
