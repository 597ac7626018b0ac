package provider

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// responsesRequest reads a member of a Responses request (openai-go:
// responses.ResponseNewParams). The instructions become a leading system
// message.
func (p *parser) responsesRequest(name string, v gjson.Result) {
	in := &p.e.Content.Input
	switch name {
	case "generate": // over a WebSocket; false prepares the model without a response
		p.warmUp = v.Type == gjson.False
	case "instructions":
		if v.Type == gjson.String {
			lead := append([]byte(`{"role":"system","content":`), raw(v)...)
			lead = append(lead, '}')
			if len(*in) > 2 {
				lead = append(append(lead, ','), (*in)[1:]...)
				*in = append([]byte{'['}, lead...)
			} else {
				*in = append(append([]byte{'['}, lead...), ']')
			}
		}
	case "input":
		list := responsesInput(v)
		if len(*in) > 2 && len(list) > 2 { // the instructions were first
			*in = append(append((*in)[:len(*in)-1], ','), list[1:]...)
		} else if len(list) > 0 {
			*in = list
		}
	case "tools":
		if v.IsArray() {
			p.e.Content.Tools = raw(v)
		}
	}
}

// responsesInput writes the input as messages.
func responsesInput(v gjson.Result) []byte {
	if v.Type == gjson.String {
		return userMessage(v.Raw)
	}
	if !v.IsArray() {
		return nil
	}
	out := []byte{'['}
	v.ForEach(func(_, item gjson.Result) bool {
		if len(out) > 1 {
			out = append(out, ',')
		}
		switch kind := item.Get("type").Str; kind {
		case "", "message":
			out = append(out, item.Raw...)
		case "function_call", "custom_tool_call":
			m := &message{role: "assistant"}
			m.item(item)
			out = m.append(out)
		case "function_call_output", "custom_tool_call_output":
			out = append(out, `{"role":"tool","tool_call_id":`...)
			out = rawjson.AppendQuote(out, text(item.Get("call_id")))
			out = append(out, `,"content":`...)
			if o := item.Get("output"); o.Exists() {
				out = append(out, o.Raw...)
			} else {
				out = append(out, `""`...)
			}
			out = append(out, '}')
		default:
			m := &message{role: "assistant"}
			m.addRaw(item)
			out = m.append(out)
		}
		return true
	})
	return clean(append(out, ']'))
}

// responsesObject reads a member of a Response object (openai-go:
// responses.Response).
func (p *parser) responsesObject(name string, v gjson.Result) {
	e := p.e
	switch name {
	case "id":
		e.CompletionID = or(event.FirstChars(text(v), 200), e.CompletionID)
	case "model":
		e.Model = or(event.FirstChars(text(v), 200), e.Model)
	case "service_tier":
		e.ServiceTier = or(event.FirstChars(text(v), 100), e.ServiceTier)
	case "background":
		p.background.on = v.Bool()
	case "created_at":
		p.background.created = v.Int()
	case "completed_at":
		p.background.completed = v.Int()
	case "status":
		s := event.FirstChars(text(v), 100)
		p.background.pending = s == "queued" || s == "in_progress"
		if e.StopReason == "" && !p.background.pending {
			e.StopReason = s
		}
		if s == "failed" {
			p.trouble.found = true
		}
		if p.op == opResponsesGet || s != "completed" {
			p.meta("response_status", rawjson.Quote(s))
		}
	case "user", "safety_identifier", "metadata": // from the request; a GET has no other source for them
		if p.op == opResponsesGet {
			p.requestMember(name, v)
		}
	case "status_details": // Realtime
		p.responseStatus(v)
	case "incomplete_details":
		if r := text(v.Get("reason")); r != "" {
			e.StopReason = event.FirstChars(r, 100)
		}
	case "error":
		if v.Type != gjson.Null {
			p.fault(v)
		}
	case "usage":
		p.usageOpenAI(v)
	case "output":
		p.recognised = v.IsArray()
		if v.IsArray() && v.Get("0").Exists() {
			m := &message{role: "assistant"}
			v.ForEach(func(_, item gjson.Result) bool {
				m.item(item)
				return true
			})
			p.responsesOutput(m, searches(v))
			p.hostedTools(v)
		}
	}
}

func (p *parser) responsesOutput(m *message, searched int64) {
	p.e.Content.Output = render([]*message{m})
	if searched > 0 && !p.e.Usage.WebSearches.Known {
		p.e.Usage.WebSearches = event.Some(searched)
	}
	if slices.ContainsFunc(m.parts, func(pt part) bool { return pt.kind == partRefusal }) {
		p.refused = true
	}
}

// searches counts calls of the web search tool. Opening a page that was found
// is not billed.
func searches(output gjson.Result) (n int64) {
	output.ForEach(func(_, item gjson.Result) bool {
		if isSearch(item) {
			n++
		}
		return true
	})
	return n
}

// hostedTools counts calls of tools that the provider runs and bills: file
// searches, and the containers in which code ran, each once.
func (p *parser) hostedTools(output gjson.Result) {
	var files int64
	containers := make(map[string]bool)
	output.ForEach(func(_, item gjson.Result) bool {
		switch item.Get("type").Str {
		case "file_search_call":
			files++
		case "code_interpreter_call":
			containers[item.Get("container_id").Str] = true
		}
		return true
	})
	if files > 0 {
		p.e.Usage.FileSearches = event.Some(files)
	}
	if len(containers) > 0 {
		p.e.Usage.CodeSessions = event.Some(int64(len(containers)))
	}
}

func isSearch(item gjson.Result) bool {
	if item.Get("type").Str != "web_search_call" {
		return false
	}
	action := item.Get("action.type").Str
	return action == "" || action == "search"
}

// item adds an output item of a response. All items of one response make one
// message.
func (m *message) item(v gjson.Result) {
	switch v.Get("type").Str {
	case "message":
		v.Get("content").ForEach(func(_, c gjson.Result) bool {
			switch c.Get("type").Str {
			case "output_text", "text":
				m.add(partText, escaped(c.Get("text")))
			case "output_audio", "audio": // Realtime
				m.add(partText, escaped(c.Get("transcript")))
			case "refusal":
				m.add(partRefusal, escaped(c.Get("refusal")))
			default:
				m.addRaw(c)
			}
			return true
		})
	case "function_call":
		m.function(text(v.Get("call_id")), text(v.Get("name")), v.Get("arguments"))
	case "custom_tool_call":
		m.function(text(v.Get("call_id")), text(v.Get("name")), v.Get("input"))
	case "reasoning":
		for _, at := range []string{"summary", "content"} {
			v.Get(at).ForEach(func(_, s gjson.Result) bool {
				m.add(partThinking, escaped(s.Get("text")))
				return true
			})
		}
	default:
		m.addRaw(v)
	}
}

// responsesStream reads the events of a streamed response. Its last event has
// the complete response; the deltas are used only if that one is missing.
type responsesStream struct {
	p     *parser
	items []responsesItem
	done  bool // the complete response has arrived
}

type responsesItem struct {
	index int64
	raw   string // the finished item
	begun string // as in output_item.added
	message
}

func (s *responsesStream) item(index int64) *responsesItem {
	for i := range s.items {
		if s.items[i].index == index {
			return &s.items[i]
		}
	}
	if len(s.items) >= maxParts {
		return new(responsesItem)
	}
	s.items = append(s.items, responsesItem{index: index})
	return &s.items[len(s.items)-1]
}

func (s *responsesStream) event(f frame, v gjson.Result, tail bool) {
	kind := v.Get("type").Str
	if kind == "" {
		kind = f.name
	}
	s.kind(kind, f, v, tail)
}

// kind reads an event of a kind.
func (s *responsesStream) kind(kind string, f frame, v gjson.Result, tail bool) {
	p := s.p
	switch {
	case kind == "error":
		if n := v.Get("status").Int(); p.c.Socket != "" && n >= 400 && n < 600 {
			p.c.Status, p.e.HTTPStatus = int(n), int(n)
		}
		if inner := v.Get("error"); inner.IsObject() {
			p.fault(inner)
		} else {
			p.fault(v)
			p.trouble.kind = strings.TrimPrefix(p.trouble.kind, "error")
		}
		return
	case kind == "":
		if inner := v.Get("error"); inner.IsObject() || inner.Type == gjson.String {
			p.fault(inner)
		}
		return
	case kind == "response.completed", kind == "response.incomplete", kind == "response.failed", kind == "response.cancelled":
		p.e.StopReason, p.ended = "", true
		before := p.e.Content.Output
		p.e.Content.Output = nil
		v.Get("response").ForEach(func(k, v gjson.Result) bool {
			p.responsesObject(k.Str, v)
			return true
		})
		// Some servers omit the output of the last event.
		s.done = p.e.Content.Output != nil
		if !s.done {
			p.e.Content.Output = before
		}
		if kind == "response.failed" {
			p.trouble.found = true
		}
		return
	case kind == "response.created", kind == "response.in_progress", kind == "response.queued":
		for _, name := range [...]string{"id", "model", "service_tier", "background", "created_at"} {
			if m := v.Get("response").Get(name); m.Exists() {
				p.responsesObject(name, m)
			}
		}
		return
	case kind == "response.output_item.done":
		if !tail {
			it := s.item(v.Get("output_index").Int())
			it.raw = v.Get("item").Raw
		}
		return
	case kind == "response.output_item.added":
		if !tail {
			s.item(v.Get("output_index").Int()).begun = v.Get("item").Raw
		}
		return
	case kind == "response.function_call_arguments.done", kind == "response.custom_tool_call_input.done":
		if !tail {
			pt := s.item(v.Get("output_index").Int()).at(partFunction, 0)
			for _, name := range [...]string{"arguments", "input"} {
				if whole := escaped(v.Get(name)); whole != "" {
					pt.text = []byte(whole)
				}
			}
		}
		return
	case !strings.HasSuffix(kind, ".delta"):
		return
	}
	p.token(f, tail)
	if tail {
		return
	}
	it := s.item(v.Get("output_index").Int())
	piece := escaped(v.Get("delta"))
	switch kind {
	case "response.output_text.delta":
		pt := it.at(partText, v.Get("content_index").Int())
		pt.text = append(pt.text, piece...)
	case "response.refusal.delta":
		pt := it.at(partRefusal, v.Get("content_index").Int())
		pt.text = append(pt.text, piece...)
		p.refused = true
	case "response.reasoning_summary_text.delta", "response.reasoning_text.delta":
		pt := it.at(partThinking, v.Get("summary_index").Int())
		pt.text = append(pt.text, piece...)
	case "response.function_call_arguments.delta", "response.custom_tool_call_input.delta":
		pt := it.at(partFunction, 0)
		pt.text = append(pt.text, piece...)
	}
}

func (s *responsesStream) end() {
	if s.done || len(s.items) == 0 {
		return
	}
	slices.SortStableFunc(s.items, func(a, b responsesItem) int { return cmp.Compare(a.index, b.index) })
	m := &message{role: "assistant"}
	var searched int64
	for _, it := range s.items {
		if it.raw != "" {
			v := gjson.Parse(it.raw)
			m.item(v)
			if isSearch(v) {
				searched++
			}
			continue
		}
		m.parts = append(m.parts, it.unfinished()...)
	}
	s.p.responsesOutput(m, searched)
}

// unfinished are the parts of an item without a done event: its deltas and its
// added event.
func (it *responsesItem) unfinished() []part {
	begun := gjson.Parse(it.begun)
	switch begun.Get("type").Str {
	case "", "message", "reasoning":
	case "function_call", "custom_tool_call":
		pt := it.at(partFunction, 0)
		pt.id, pt.name = text(begun.Get("call_id")), text(begun.Get("name"))
		if len(pt.text) == 0 {
			pt.text = []byte(escaped(begun.Get("arguments")))
		}
	default:
		it.addRaw(begun)
	}
	return it.parts
}

// background is the state of a background response.
type background struct {
	on                 bool
	failed             bool
	pending            bool  // nothing has been generated yet
	created, completed int64 // Unix seconds
}

// settleBackground makes one generation of a background response. The call that
// creates it returns no output: it is a span. The output and its usage come
// with a later GET, unless the call streams the response to its end: that call
// is then the generation, with an id and a time derived from the response, so
// that fetching it again makes no second one. A GET of a response that was
// fetched before is a span without usage: its tokens are already counted. Both
// have the same completion id.
func (p *parser) finaliseBackground() {
	e, b := p.e, p.background
	creates := p.op == opResponses || p.op == opInteractions
	asked := p.op == opResponses || string(e.ModelParameters["background"]) == "true" // an interaction does not say so
	switch {
	case creates && asked && b.on && p.events > 0 && !p.ended:
		e.Name, e.Usage = event.Span, event.Usage{} // the response continues without its reader
	case creates && b.pending && !isTrue(e.Stream):
		e.Name = event.Span
	case creates && b.on && e.CompletionID != "" && b.created > 0 && b.created < 1<<33:
		// A stream read to its end is the same generation that a GET would
		// return.
		e.Timestamp = time.Unix(b.created, 0).UTC()
		e.UUID = event.DerivedID(e.CompletionID, e.Timestamp)
	case p.op != opResponsesGet && p.op != opInteractionsGet:
	case b.on && !b.pending && e.CompletionID != "" && b.created > 0 && b.created < 1<<33:
		e.Name = event.Generation
		e.Timestamp = time.Unix(b.created, 0).UTC()
		e.UUID = event.DerivedID(e.CompletionID, e.Timestamp)
		e.Latency = event.Opt[time.Duration]{}
		if d := b.completed - b.created; d >= 0 && b.completed > 0 {
			e.Latency = event.Some(event.Seconds(float64(d)))
		}
	default:
		e.Usage = event.Usage{}
	}
}
