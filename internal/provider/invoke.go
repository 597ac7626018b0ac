package provider

import (
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// textVendors are vendors on Bedrock, by the first part of their model ids, whose
// models InvokeModel calls with chat completions, or with a prompt for text.
var textVendors = map[string]bool{
	"ai21": true, "deepseek": true, "google": true, "minimax": true, "mistral": true, "moonshot": true, "moonshotai": true, "nvidia": true,
	"openai": true, "qwen": true, "writer": true, "xai": true, "zai": true,
}

// invokeOperation returns the operation of InvokeModel of a model: its body has the
// format of the model's vendor
// (https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html). It is
// "" for formats that are not known, such as those of images, and for ARNs that do
// not name the model.
func invokeOperation(model string) string {
	id := model[strings.LastIndexByte(model, '/')+1:]
	if strings.Contains(id, "anthropic.claude") {
		return opMessages
	}
	vendor, name, _ := strings.Cut(id, ".")
	if second, rest, ok := strings.Cut(name, "."); ok && (textVendors[second] || second == "amazon" || second == "cohere" || second == "meta") {
		vendor, name = second, rest // after the region of an inference profile
	}
	starts := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(name, w) })
	}
	switch {
	case name == "":
	case (vendor == "amazon" || vendor == "cohere") && has("embed"):
		return opEmbeddings
	case (vendor == "amazon" || vendor == "cohere") && starts("rerank"):
		return opRerank
	case vendor == "amazon" && starts("nova-") && !has("canvas", "reel", "sonic"):
		return opConverse
	case vendor == "amazon" && (starts("titan-text") || starts("titan-tg1")),
		vendor == "cohere" && starts("command"), vendor == "meta" && starts("llama"),
		textVendors[vendor] && !has("embed", "rerank", "image"):
		return opInvoke
	}
	return ""
}

// hidesModel reports whether a model is given as an ARN without its name.
func hidesModel(model string) bool {
	return strings.HasPrefix(model, "arn:") && !strings.Contains(model, ":foundation-model/") && !strings.Contains(model, ":inference-profile/")
}

// hiddenOperation returns the operation of InvokeModel of an ARN that does not name
// the model, such as an application inference profile, from the request's members; ""
// if they fit none or several formats.
func hiddenOperation(c *Call) string {
	model, method, ok := bedrockMethod(c.Path)
	if !ok || c.Method != "POST" || method != "invoke" && method != "invoke-with-response-stream" || !hidesModel(model) {
		return ""
	}
	body := gjson.Parse(view(c.Request))
	has := func(name string) bool { return body.Get(name).Exists() }
	switch {
	case has("anthropic_version"):
		return opMessages
	case has("inferenceConfig"), has("messages.0.content.0.text") && !has("messages.0.content.0.type"):
		return opConverse
	case has("messages"), has("prompt") && (has("max_gen_len") || has("max_tokens")), has("inputText") && has("textGenerationConfig"):
		return opInvoke
	case has("texts") && has("input_type"), has("singleEmbeddingParams"):
		return opEmbeddings
	}
	return ""
}

// invokeParameters are the settings that only these formats have.
var invokeParameters = map[string]bool{
	"max_gen_len": true, "k": true, "p": true, "num_generations": true, "return_likelihoods": true, "search_queries_only": true,
	"maxTokens": true, "minTokens": true, "numResults": true, "topP": true, "stopSequences": true,
}

// invokeRequest reads a member of a request: {"prompt"} of Llama, Mistral, DeepSeek,
// Cohere Command and AI21's J2, {"inputText"} of Titan, {"message"} of Cohere Command R,
// {"messages"} of all others.
func (p *parser) invokeRequest(name string, v gjson.Result) {
	switch name {
	case "preamble":
		p.turn(0, "system", v)
	case "chat_history":
		var history []*message
		v.ForEach(func(_, t gjson.Result) bool {
			m := &message{role: strings.ToLower(text(t.Get("role")))}
			if m.role == "chatbot" {
				m.role = "assistant"
			}
			m.add(partText, escaped(t.Get("message")))
			history = append(history, m)
			return true
		})
		p.addInput(1, history...)
	case "prompt", "inputText", "message":
		p.turn(2, "user", v)
	case "textGenerationConfig":
		p.settings(v)
	default:
		if invokeParameters[name] && v.Type != gjson.Null {
			p.parameter(snake(name), v)
		}
		p.chatRequest(name, v)
	}
}

// turn adds a text to the input.
func (p *parser) turn(place int, role string, v gjson.Result) {
	if v.Type == gjson.String && v.Raw != `""` {
		m := &message{role: role}
		m.add(partText, escaped(v))
		p.addInput(place, m)
	}
}

// addInput adds messages to the input, whose parts may come in any order.
func (p *parser) addInput(place int, messages ...*message) {
	p.turns[place] = append(p.turns[place], messages...)
	p.e.Content.Input = render(slices.Concat(p.turns[:]...))
}

// settings records the members of an object as parameters.
func (p *parser) settings(v gjson.Result) {
	v.ForEach(func(k, v gjson.Result) bool {
		if n := snake(k.Str); v.Type != gjson.Null && len(n) < 60 {
			p.parameter(n, v)
		}
		return true
	})
}

// A search unit of a rerank on Bedrock is a query with up to 100 documents of
// at most 512 tokens each, query included; longer ones are split and each part
// counts (https://aws.amazon.com/bedrock/pricing/).
const (
	unitDocuments = 100
	surelyShort   = 500 // bytes: a token has at least one
)

// rerankRequest counts the search units, which no response has. They stay unknown if
// a document may be longer than one of them.
func (p *parser) rerankRequest(name string, v gjson.Result) {
	switch name {
	case "query":
		p.query = int64(len(text(v)))
	case "documents":
		p.documents, p.longest = 0, 0
		v.ForEach(func(_, d gjson.Result) bool {
			p.documents++
			p.longest = max(p.longest, int64(len(d.Raw)))
			return true
		})
	default:
		return
	}
	if u := &p.e.Usage; p.query > 0 && p.documents > 0 && p.query+p.longest <= surelyShort {
		u.SearchUnits = event.Some((p.documents + unitDocuments - 1) / unitDocuments)
	}
}

// invokeStream assembles a response of one of these formats. Its members do not
// conflict, so that the format need not be known. A complete response has the same
// members, except that Cohere's last event repeats the whole response.
type invokeStream struct {
	p         *parser
	chat      chatStream
	answers   []*message
	citations []byte
	index     int64
}

func (s *invokeStream) event(f frame, v gjson.Result, tail bool) {
	if f.name == "error" {
		s.p.fault(v.Get("error"))
		return
	}
	s.chat.p = s.p
	s.index = v.Get("index").Int()
	v.ForEach(func(k, v gjson.Result) bool {
		s.member(f, k.Str, v, tail)
		return true
	})
}

func (s *invokeStream) member(f frame, name string, v gjson.Result, tail bool) {
	p, u := s.p, &s.p.e.Usage
	switch name {
	case "choices":
		if f.end == 0 {
			p.chatResponse(name, v)
			return
		}
		v.ForEach(func(_, c gjson.Result) bool { s.chat.delta(f, c, tail); return true })
	case "generation", "outputText", "text":
		s.piece(f, s.index, v, tail)
	case "outputs", "results", "generations", "completions": // Mistral, Titan, Cohere Command, J2
		var i int64
		v.ForEach(func(_, one gjson.Result) bool {
			s.answer(f, i, one, tail)
			i++
			return true
		})
	case "tool_calls":
		s.calls(f, v, tail)
	case "citations":
		if inner := strings.TrimSpace(v.Raw); v.IsArray() && !tail && len(inner) > 2 {
			if s.citations != nil {
				s.citations = append(s.citations, ',')
			}
			s.citations = append(s.citations, inner[1:len(inner)-1]...)
		}
	case "stop_reason", "finish_reason", "completionReason":
		p.finish(v, s.index == 0)
	case "is_finished":
		p.ended = p.ended || v.Bool()
	case "prompt_token_count", "inputTextTokenCount":
		count(v, &u.Input)
	case "generation_token_count", "totalOutputTextTokenCount":
		count(v, &u.Output)
	case "generation_id":
		p.e.CompletionID = or(event.FirstChars(text(v), 200), p.e.CompletionID)
	case "response":
		p.e.CompletionID = or(event.FirstChars(text(v.Get("generation_id")), 200), p.e.CompletionID)
	case "error":
		if f.end > 0 { // for a complete response, jsonResponse reads it
			p.choiceFault(v)
		}
	default:
		p.chatCommon(name, v)
	}
}

// answer reads one of several texts.
func (s *invokeStream) answer(f frame, index int64, v gjson.Result, tail bool) {
	for _, at := range [...]string{"text", "outputText", "data.text"} {
		s.piece(f, index, v.Get(at), tail)
	}
	for _, at := range [...]string{"stop_reason", "finish_reason", "completionReason", "finishReason.reason"} {
		s.p.finish(v.Get(at), index == 0)
	}
	var n event.Int
	if count(v.Get("tokenCount"), &n); n.Known {
		s.p.e.Usage.Output = event.Some(s.p.e.Usage.Output.Or(0) + n.Value)
	}
}

func (s *invokeStream) piece(f frame, index int64, v gjson.Result, tail bool) {
	if v.Type != gjson.String {
		return
	}
	s.p.recognised = true
	t := escaped(v)
	if t != "" && f.end > 0 {
		s.p.token(f, tail)
	}
	if m := s.at(index); m != nil && !tail {
		pt := m.at(partText, 0)
		pt.text = append(pt.text, t...)
	}
}

// calls adds Cohere's tool calls: each is complete.
func (s *invokeStream) calls(f frame, v gjson.Result, tail bool) {
	v.ForEach(func(_, c gjson.Result) bool {
		if f.end > 0 {
			s.p.token(f, tail)
		}
		if m := s.at(0); m != nil && !tail {
			m.function("", text(c.Get("name")), c.Get("parameters"))
		}
		return true
	})
}

// at returns the message of an index; nil if it is out of range.
func (s *invokeStream) at(index int64) *message {
	if index < 0 || index >= maxChoices {
		return nil
	}
	for int64(len(s.answers)) <= index {
		s.answers = append(s.answers, &message{role: "assistant"})
	}
	return s.answers[index]
}

func (s *invokeStream) end() {
	switch {
	case len(s.answers) > 0:
		for i := range s.answers[0].parts {
			if pt := &s.answers[0].parts[i]; pt.kind == partText && s.citations != nil {
				pt.json = append(append([]byte{'['}, s.citations...), ']')
				break
			}
		}
		s.p.e.Content.Output = render(s.answers)
	case len(s.chat.choices) > 0:
		s.chat.end()
	}
}
