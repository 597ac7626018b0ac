package provider

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// SocketOperation returns the operation of the messages of a WebSocket, or ""
// for paths whose messages are not known:
//
//   - responses: OpenAI's Responses API, GET /v1/responses
//     (openai-go: responses.ResponsesClientEvent), of other providers too.
//   - realtime_response: OpenAI's Realtime API, /v1/realtime.
//   - live_turn: Google's Live API, …BidiGenerateContent.
func SocketOperation(path string) string {
	path, _, _ = strings.Cut(path, "?")
	_, last, _ := lastCut(strings.TrimSuffix(path, "/"))
	switch {
	case last == "responses":
		return opResponses
	case last == "realtime":
		return opRealtime
	case last == "BidiGenerateContent", strings.HasSuffix(last, ".BidiGenerateContent"), strings.HasSuffix(last, ".BidiGenerateContentConstrained"):
		return opLive
	}
	return ""
}

// SocketRecorder records the exchanges that a [Socket] finds.
type SocketRecorder interface {
	// Begin is called when an exchange starts. op is the operation that [Parse]
	// uses, see [Call.Socket]. request has the members that the body of a POST
	// would have; nil if it is known only at the end. truncated reports that it
	// is only the start.
	Begin(op string, request []byte, truncated bool, at time.Time) SocketRecording
}

// SocketRecording is the record of one exchange.
type SocketRecording interface {
	// Add appends a message of the response, a JSON object, and may modify its
	// bytes. nil means a message that was too long to be kept.
	Add(message []byte, at time.Time)
	// End is called once, last. request replaces that of Begin unless it is
	// nil.
	End(request []byte, at time.Time)
}

// Limits of what a Socket keeps between two exchanges.
const (
	mostTurns    = 64        // exchanges in progress
	mostItems    = 500       // messages since the last response
	mostContext  = 1 << 20   // bytes of them; the oldest are dropped
	longestSetup = 256 << 10 // bytes of a session's settings; of longer ones only the model is kept
	longestName  = 1 << 10   // characters of an id or a model's name
)

// Socket groups the messages of one WebSocket into exchanges, each of them a
// generation: a response of OpenAI's Responses and Realtime APIs, a turn of
// Google's Live API. It is not safe for concurrent use.
type Socket struct {
	op    string
	rec   SocketRecorder
	model string
	setup string // of the session, JSON: Realtime's session, Live's setup

	turns []*turn
	conversation
	asked time.Time
	steer string // a response.steer without a response yet
	heard []byte // a transcript of the user's audio, escaped
}

// turn is an exchange in progress.
type turn struct {
	rec     SocketRecording
	key     string // Responses: the stream's id; Realtime: the response's
	event   string // Realtime: the id of the event that requested it
	started bool
	calls   bool   // Live: waits for a tool result
	broken  bool   // Live: the user interrupted it
	request string // Realtime: response.create's response
	conversation
}

// conversation is the messages since the last response.
type conversation struct {
	items   []item
	context int // bytes of them
}

// item is a part of the conversation: for Realtime in the format of the
// Responses API, for Live a Content.
type item struct {
	id   string
	json string
	at   time.Time
}

// NewSocket returns a reader for an operation of [SocketOperation]. query is
// the handshake's.
func NewSocket(op string, query url.Values, rec SocketRecorder) *Socket {
	s := &Socket{op: op, rec: rec, model: query.Get("model")}
	if s.model == "" {
		s.model = query.Get("deployment") // Azure
	}
	return s
}

// Busy reports whether an exchange is in progress.
func (s *Socket) Busy() bool { return len(s.turns) > 0 }

// FromCaller reads a message of the caller, and keeps it. truncated reports
// that it is only the start.
func (s *Socket) FromCaller(message []byte, truncated bool, at time.Time) {
	m := view(message)
	if !truncated && !valid(m) {
		return
	}
	switch s.op {
	case opResponses:
		s.responsesCaller(message, truncated, at)
	case opRealtime:
		s.realtimeCaller(m, truncated, at)
	case opLive:
		if !truncated {
			s.liveCaller(gjson.Parse(m), at)
		}
	}
}

// FromProvider reads a message of the provider, and may modify its bytes.
func (s *Socket) FromProvider(message []byte, truncated bool, at time.Time) {
	if !truncated && !valid(view(message)) {
		return
	}
	switch s.op {
	case opResponses:
		s.responsesProvider(message, truncated, at)
	case opRealtime:
		s.realtimeProvider(message, truncated, at)
	case opLive:
		s.liveProvider(message, truncated, at)
	}
}

// Close ends the exchanges in progress; no message may follow.
func (s *Socket) Close(at time.Time) {
	for len(s.turns) > 0 {
		s.end(s.turns[0], at)
	}
}

func (s *Socket) begin(t *turn, request []byte, truncated bool, at time.Time) *turn {
	if len(s.turns) >= mostTurns {
		s.end(s.turns[0], at)
	}
	t.rec = s.rec.Begin(s.op, request, truncated, at)
	s.turns = append(s.turns, t)
	return t
}

func (s *Socket) end(t *turn, at time.Time) {
	s.remove(t)
	t.rec.End(s.compose(t), at)
}

func (s *Socket) remove(t *turn) {
	s.turns = slices.DeleteFunc(s.turns, func(o *turn) bool { return o == t })
}

// compose returns the request of an exchange that is assembled from its
// session.
func (s *Socket) compose(t *turn) []byte {
	switch s.op {
	case opRealtime:
		return s.realtimeRequest(t)
	case opLive:
		return s.liveRequest(t)
	}
	return nil
}

// find returns the first exchange that has or has not started, nil if there is
// none.
func (s *Socket) find(key string, started bool) *turn {
	for _, t := range s.turns {
		if t.started == started && (t.key == key || s.op == opRealtime && !started) {
			return t
		}
	}
	return nil
}

// add records a message of the response.
func (t *turn) add(message []byte, truncated bool, at time.Time) {
	if truncated {
		message = nil
	}
	t.rec.Add(message, at)
}

// put adds a part of the conversation, or replaces the one with the same id.
func (s *Socket) put(it item) {
	if c, i := s.known(it.id); c != nil {
		c.replace(i, it.json)
		return
	}
	s.items = append(s.items, it)
	s.context += len(it.json)
	s.trim()
}

func (c *conversation) replace(i int, json string) {
	c.context += len(json) - len(c.items[i].json)
	c.items[i].json = json
	c.trim()
}

// trim drops the oldest messages of a conversation that is too long.
func (c *conversation) trim() {
	for len(c.items) > mostItems || c.context > mostContext {
		c.context -= len(c.items[0].json)
		c.items[0] = item{} // the array is kept
		c.items = c.items[1:]
	}
}

// known finds the part of the conversation with an id, among those since the
// last response and those of responses in progress; nil if there is none.
func (s *Socket) known(id string) (*conversation, int) {
	if id == "" {
		return nil, 0
	}
	find := func(c *conversation) int {
		return slices.IndexFunc(c.items, func(it item) bool { return it.id == id })
	}
	if i := find(&s.conversation); i >= 0 {
		return &s.conversation, i
	}
	for _, t := range s.turns {
		if i := find(&t.conversation); i >= 0 {
			return &t.conversation, i
		}
	}
	return nil, 0
}

// take returns and clears the conversation since the last response.
func (s *Socket) take() conversation {
	c := s.conversation
	s.conversation = conversation{}
	return c
}

// shortText returns a copy of an id or a name. A longer one is cut: between two
// messages only a bounded size is kept.
func shortText(v gjson.Result) string {
	return strings.Clone(event.FirstChars(text(v), longestName))
}

// responsesCaller reads a caller's message of the Responses API. Responses
// arrive in the order of the requests of one stream_id.
func (s *Socket) responsesCaller(message []byte, truncated bool, at time.Time) {
	m := view(message)
	switch gjson.Get(m, "type").Str {
	case "response.create":
		s.model = shortText(gjson.Get(m, "model")) // the message is passed on
		s.begin(&turn{key: shortText(gjson.Get(m, "stream_id"))}, message, truncated, at)
	case "response.steer":
		if !truncated && len(m) <= longestSetup {
			s.steer, s.asked = m, at
		}
	}
}

func (s *Socket) responsesProvider(message []byte, truncated bool, at time.Time) {
	m := view(message)
	kind, key := gjson.Get(m, "type").Str, shortText(gjson.Get(m, "stream_id"))
	t := s.find(key, true)
	switch kind {
	case "response.created":
		if t = s.find(key, false); t == nil {
			t = s.follow(key, at)
		}
		t.started = true
		t.add(message, truncated, at)
	case "response.steer.failed":
		s.steer = ""
	case "response.completed", "response.failed", "response.incomplete", "response.cancelled", "error":
		if t == nil && kind == "error" { // rejected before it started
			t = s.find(key, false)
		}
		if t != nil {
			t.add(message, truncated, at)
			s.end(t, at)
		}
	default:
		if t != nil && strings.HasPrefix(kind, "response.") {
			t.add(message, truncated, at)
		}
	}
}

// follow starts a response that no response.create requested: the continuation
// of one that was steered.
func (s *Socket) follow(key string, at time.Time) *turn {
	request := rawjson.AppendQuote([]byte(`{"model":`), s.model)
	if v := gjson.Parse(s.steer); v.IsObject() {
		at = s.asked
		for _, name := range [...]string{"previous_response_id", "input"} {
			if m := v.Get(name); m.Exists() {
				request = append(rawjson.AppendQuote(append(request, ','), name), ':')
				request = append(request, m.Raw...)
			}
		}
	}
	s.steer = ""
	return s.begin(&turn{key: key}, append(request, '}'), false, at)
}
