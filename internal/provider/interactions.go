package provider

import (
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// Google's Interactions API (genai: interactions.Interaction and its stream events).
// An interaction is a list of steps: what the user said, thoughts, calls, output.

// interactionOperation returns the operation of a path whose collection is followed by
// rest.
func interactionOperation(method string, rest []string) string {
	switch {
	case method == "POST" && len(rest) == 0:
		return opInteractions
	case method == "GET" && len(rest) == 1, method == "POST" && len(rest) == 2 && rest[1] == "cancel":
		return opInteractionsGet
	}
	return ""
}

// interactionRequest reads a member of a request.
func (p *parser) interactionRequest(name string, v gjson.Result) {
	in := &p.e.Content.Input
	switch snake(name) {
	case "agent":
		p.e.ModelAsked = or(p.e.ModelAsked, event.FirstChars(text(v), 200))
	case "system_instruction":
		if v.Type == gjson.String {
			lead := []byte(`[{"role":"system","content":` + v.Raw + `}`)
			if len(*in) > 2 {
				lead = append(append(lead, ','), (*in)[1:]...)
			} else {
				lead = append(lead, ']')
			}
			*in = clean(lead)
		}
	case "input":
		list := interactionInput(v)
		if len(*in) > 2 && len(list) > 2 { // the instruction came first
			*in = append(append((*in)[:len(*in)-1], ','), list[1:]...)
		} else if len(list) > 2 {
			*in = list
		}
	case "tools":
		if v.IsArray() {
			p.e.Content.Tools = raw(v)
		}
	case "generation_config", "previous_interaction_id", "response_modalities", "safety_settings", "cached_content", "service_tier", "labels":
		switch snake(name) {
		case "generation_config", "labels", "safety_settings", "cached_content":
			p.geminiRequest(name, v)
		default:
			p.parameter(snake(name), v)
		}
	}
}

// interactionInput writes the input as messages: a text, a content, contents of one
// message, or steps.
func interactionInput(v gjson.Result) []byte {
	if v.Type == gjson.String {
		return userMessage(v.Raw)
	}
	if v.IsObject() {
		v = gjson.Parse("[" + v.Raw + "]")
	}
	out := []byte{'['}
	add := func(m *message) {
		if len(m.parts) > 0 {
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = m.append(out)
		}
	}
	user := &message{role: "user"}
	v.ForEach(func(_, step gjson.Result) bool {
		m := &message{role: "assistant"}
		switch kind := step.Get("type").Str; {
		case kind == "user_input":
			m.role = "user"
			m.interactionContents(step.Get("content"))
		case kind == "model_output", kind == "thought", strings.HasSuffix(kind, "_call"):
			m.interactionStep(step)
		case strings.HasSuffix(kind, "_result"):
			m.role = "tool"
			m.addRaw(step)
		case step.Get("role").Exists(): // a turn of the API's first form
			if m.role = text(step.Get("role")); m.role == "model" {
				m.role = "assistant"
			}
			m.interactionContents(step.Get("content"))
		default:
			user.interactionContent(step)
			return true
		}
		add(m)
		return true
	})
	add(user)
	return clean(append(out, ']'))
}

func (m *message) interactionContents(v gjson.Result) {
	if v.Type == gjson.String {
		m.add(partText, escaped(v))
		return
	}
	v.ForEach(func(_, c gjson.Result) bool { m.interactionContent(c); return true })
}

func (m *message) interactionContent(c gjson.Result) {
	if t := c.Get("text"); c.Get("type").Str == "text" && t.Type == gjson.String {
		m.cited(escaped(t), c.Get("annotations"))
		return
	}
	if c.IsObject() {
		m.addJSON(clean(withoutMember(c.Raw, "data")))
	}
}

// withoutMember empties a string member of an object: the bytes of a file.
func withoutMember(object, name string) []byte {
	v := gjson.Get(object, name)
	if v.Type != gjson.String || v.Index <= 0 || v.Index+len(v.Raw) > len(object) {
		return []byte(object)
	}
	return []byte(object[:v.Index] + `""` + object[v.Index+len(v.Raw):])
}

// interactionStep adds a step of the model. All steps of one interaction make one
// message.
func (m *message) interactionStep(v gjson.Result) {
	switch kind := v.Get("type").Str; kind {
	case "user_input":
	case "model_output":
		m.interactionContents(v.Get("content"))
	case "thought":
		v.Get("summary").ForEach(func(_, c gjson.Result) bool {
			m.add(partThinking, escaped(c.Get("text")))
			return true
		})
	case "function_call":
		m.function(text(v.Get("id")), text(v.Get("name")), v.Get("arguments"))
	case "text": // of outputs, the API's first form
		m.interactionContent(v)
	default:
		m.interactionContent(v)
	}
}

// interaction reads a member of an interaction.
func (p *parser) interaction(name string, v gjson.Result) {
	e := p.e
	switch name {
	case "id":
		e.CompletionID = or(event.FirstChars(text(v), 200), e.CompletionID)
	case "model":
		e.Model = or(event.FirstChars(text(v), 200), e.Model)
	case "service_tier":
		e.ServiceTier = or(event.FirstChars(text(v), 100), e.ServiceTier)
	case "created":
		p.background.on, p.background.created = true, moment(v).Unix()
	case "updated":
		p.background.completed = moment(v).Unix()
	case "status":
		p.interactionStatus(text(v))
	case "errors":
		if first := v.Get("0"); first.IsObject() && p.background.failed {
			p.fault(first)
		}
	case "usage":
		p.interactionUsage(v)
	case "steps", "outputs":
		p.recognised = v.IsArray()
		m := &message{role: "assistant"}
		v.ForEach(func(_, step gjson.Result) bool {
			m.interactionStep(step)
			if fault := step.Get("error"); fault.IsObject() {
				p.fault(fault)
			}
			return true
		})
		if len(m.parts) > 0 {
			e.Content.Output = render([]*message{m})
		}
	}
}

func (p *parser) interactionStatus(s string) {
	b := &p.background
	b.pending = s == "queued" || s == "in_progress"
	b.failed = s == "failed"
	p.recognised = true
	if b.failed {
		p.trouble.found = true
	}
	if !b.pending && s != "" {
		p.e.StopReason = event.FirstChars(s, 100)
	}
}

// interactionUsage reads the counts, which have names of their own. A later one
// replaces the one before.
func (p *parser) interactionUsage(v gjson.Result) {
	u, g := &p.e.Usage, &p.counts
	v.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "total_input_tokens":
			count(v, &g.prompt)
		case "total_output_tokens":
			count(v, &g.candidates)
		case "total_thought_tokens":
			count(v, &g.thoughts)
		case "total_cached_tokens":
			count(v, &g.cached)
		case "total_tool_use_tokens":
			count(v, &g.toolUse)
		case "total_tokens":
			count(v, &g.total)
		case "input_tokens_by_modality":
			tokensByModality(v, modal{"text": &u.InputText, "audio": &u.InputAudio, "image": &u.InputImage, "video": &u.InputVideo, "document": &u.InputDocument})
		case "output_tokens_by_modality":
			tokensByModality(v, modal{"text": &u.OutputText, "audio": &u.OutputAudio, "image": &u.OutputImage, "video": &u.OutputVideo})
		case "cached_tokens_by_modality":
			tokensByModality(v, modal{"audio": &u.CacheReadAudio, "image": &u.CacheReadImage})
		case "grounding_tool_count":
			v.ForEach(func(_, t gjson.Result) bool {
				if t.Get("type").Str == "google_search" {
					count(t.Get("count"), &u.WebSearches)
				}
				return true
			})
		}
		return true
	})
}

// settleInteraction tells by the total whether the output has the thoughts in it: they
// are added to it later.
func (p *parser) finaliseInteraction() {
	g := &p.counts
	if t := g.thoughts.Or(0); t > 0 && g.candidates.Value >= t && g.total.Known && g.total.Value == g.prompt.Or(0)+g.toolUse.Or(0)+g.candidates.Or(0) {
		g.candidates = event.Some(g.candidates.Value - t)
	}
}

func tokensByModality(v gjson.Result, to modal) {
	v.ForEach(func(_, d gjson.Result) bool {
		if dst := to[strings.ToLower(d.Get("modality").Str)]; dst != nil {
			count(d.Get("tokens"), dst)
		}
		return true
	})
}

// interactionStream follows the events of a streamed interaction.
type interactionStream struct {
	p     *parser
	steps []interactionItem
	whole bool // the last event had the steps
}

// interactionItem is a step as it comes.
type interactionItem struct {
	index int64
	begun string
	message
}

func (s *interactionStream) step(index int64) *interactionItem {
	for i := range s.steps {
		if s.steps[i].index == index {
			return &s.steps[i]
		}
	}
	if len(s.steps) >= maxParts {
		return new(interactionItem)
	}
	s.steps = append(s.steps, interactionItem{index: index})
	return &s.steps[len(s.steps)-1]
}

func (s *interactionStream) event(f frame, v gjson.Result, tail bool) {
	p := s.p
	kind := or(v.Get("event_type").Str, f.name)
	if u := v.Get("metadata.total_usage"); u.IsObject() {
		p.interactionUsage(u)
	}
	switch kind {
	case "interaction.created", "interaction.completed":
		before := p.e.Content.Output
		p.e.Content.Output = nil
		v.Get("interaction").ForEach(func(k, v gjson.Result) bool {
			p.interaction(k.Str, v)
			return true
		})
		s.whole = p.e.Content.Output != nil
		if !s.whole {
			p.e.Content.Output = before
		}
		p.ended = p.ended || kind == "interaction.completed"
	case "interaction.status_update":
		p.interactionStatus(text(v.Get("status")))
		p.interactionUsage(v.Get("usage"))
	case "error":
		p.fault(v.Get("error"))
		p.trouble.found, p.ended = true, true
	case "step.start":
		if !tail {
			s.step(v.Get("index").Int()).begun = v.Get("step").Raw
		}
	case "step.delta":
		p.token(f, tail)
		if !tail {
			s.step(v.Get("index").Int()).delta(v.Get("delta"))
		}
	}
}

// delta adds a piece of a step.
func (it *interactionItem) delta(v gjson.Result) {
	switch v.Get("type").Str {
	case "text":
		pt := it.at(partText, 0)
		pt.text = append(pt.text, escaped(v.Get("text"))...)
	case "thought_summary":
		pt := it.at(partThinking, 0)
		pt.text = append(pt.text, escaped(v.Get("content.text"))...)
	case "arguments_delta":
		pt := it.at(partFunction, 0)
		pt.text = append(pt.text, escaped(v.Get("arguments"))...)
	case "thought_signature", "text_annotation":
	default:
		it.interactionContent(v)
	}
}

func (s *interactionStream) end() {
	if s.whole || len(s.steps) == 0 {
		return
	}
	m := &message{role: "assistant"}
	for i := range s.steps {
		it := &s.steps[i]
		begun := gjson.Parse(it.begun)
		if begun.Get("type").Str == "function_call" {
			pt := it.at(partFunction, 0)
			pt.id, pt.name = text(begun.Get("id")), text(begun.Get("name"))
			if args := begun.Get("arguments"); len(pt.text) == 0 && args.IsObject() {
				pt.json = raw(args)
			}
		} else if len(it.parts) == 0 && begun.IsObject() {
			it.interactionStep(begun)
		}
		m.parts = append(m.parts, it.parts...)
	}
	s.p.e.Content.Output = render([]*message{m})
}
