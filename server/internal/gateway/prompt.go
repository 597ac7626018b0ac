package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Prompts renders the prompts that calls name.
type Prompts interface {
	// Render returns the prompt for the user. An [*event.Error] is sent to the
	// caller: not found, or invalid if a variable is missing.
	Render(ctx context.Context, ask PromptRequest) (Prompt, error)
}

// PromptRequest is the name of a prompt and the user that it is rendered for.
type PromptRequest struct {
	ProjectID  string
	Name       string
	Version    string // after the @ of the header; "" uses the rollout
	DistinctID string // "" is no user
	Variables  map[string]any
}

// Prompt is a rendered prompt.
type Prompt struct {
	Messages []PromptMessage
	Provider string         // the provider that the prompt was written for; "" is any
	Model    string         // "" keeps the caller's
	Params   map[string]any // for fields that the caller does not set

	// Mark sets version, flag and variant on the call's event.
	Mark func(*event.Event)
}

// PromptMessage is one message. Role is system, developer, user or assistant.
type PromptMessage struct{ Role, Content string }

// fieldVariables is the body member that requests rendering. It is not
// forwarded to the provider.
const fieldVariables = "prompt_variables"

// namesPrompt reports whether a call names a prompt and sends variables for it. Calls
// without the header are not parsed.
func (x *exchange) namesPrompt() bool {
	return x.g.prompts != nil && len(x.in.Header[headerPrompt]) > 0 && bytes.Contains(x.body.whole, []byte(fieldVariables)) &&
		!encoded(x.in.Header.Get("Content-Encoding"))
}

// render replaces the call's body with one that has the named prompt, in the
// user's version. A body without the member is left unchanged.
func (x *exchange) render() *event.Error {
	body, err := readMembers(x.body.whole)
	if err != nil {
		return nil // let the provider reject it
	}
	raw, ok := body.value(fieldVariables)
	if !ok {
		return nil
	}
	var variables map[string]any
	if json.Unmarshal(raw, &variables) != nil {
		return event.Invalid(fieldVariables+" is not a JSON object", `send the values by name: {"`+fieldVariables+`": {"name": "Ann"}}; {} if the prompt has no variables`)
	}
	if x.op != "chat" && x.op != "responses" && x.op != "messages" {
		return event.Invalid("a prompt cannot be rendered into this kind of call", "use chat completions, responses or messages, or call POST /api/v1/prompts/{name}/resolve")
	}
	if x.op == "messages" && (x.route.up.dialect == provider.Gemini || x.route.up.name == "bedrock") {
		return event.Invalid("a prompt cannot be rendered into calls to Claude on Vertex AI or Bedrock", "call POST /api/v1/prompts/{name}/resolve, and send the messages it returns")
	}
	if x.route.up.perHost && x.cred.key == "" && ownOf(x.in.Context()) == nil {
		return event.NewError(event.CodeUnauthorized, "rendering a stored prompt into a call to a host that the caller chooses requires a key", "send X-Hedgerow-Key: hr_… as well", nil)
	}
	ask := PromptRequest{ProjectID: x.rec.projectID, Variables: variables, DistinctID: x.distinctID()}
	ask.Name, ask.Version = promptRef(value(x.in.Header, headerPrompt))
	p, err := x.g.prompts.Render(x.in.Context(), ask)
	if err != nil {
		return event.AsError(err)
	}
	if other := x.g.upstreams[p.Provider]; other != nil && other.dialect != x.route.up.dialect {
		return event.Invalid(fmt.Sprintf("this version of the prompt is for %s, and the call goes to %s", p.Provider, x.route.up.name), "send the call to /"+p.Provider+"/…, or set a provider and model of the same format for the rollout's variant")
	}
	body.remove(fieldVariables)
	for _, name := range slices.Sorted(maps.Keys(p.Params)) {
		if _, said := body.value(name); !said {
			body.set(name, p.Params[name])
		}
	}
	if p.Model != "" {
		body.set("model", p.Model)
	}
	if !body.put(x.op, p.Messages) {
		return event.Invalid("the messages of the body cannot be parsed", "leave them out, or send them in the provider's format: they are appended to the prompt's")
	}
	whole := body.bytes()
	if more := int64(len(whole)) - x.body.held; more > 0 {
		if !x.g.requests.take(more) {
			return event.NewError(event.CodeUnavailable, "too many calls in progress", "try again in a moment", nil)
		}
		x.body.held += more
	}
	x.body.whole, x.body.length, x.rec.prompt = whole, int64(len(whole)), p.Mark
	return nil
}

// distinctID returns the user of the call's event.
func (x *exchange) distinctID() string {
	if id := value(x.in.Header, headerDistinctID); id != "" {
		return event.FirstChars(id, event.MaxDistinctIDLen)
	}
	asked := *x.rec
	asked.call.Request, asked.call.RequestBytes = x.body.whole, int64(len(x.body.whole))
	var e *event.Event
	func() {
		defer x.g.capture.contain(&asked, &e)
		e = x.g.capture.read(&asked)
		x.g.capture.identify(e, &asked)
	}()
	return e.DistinctID
}

// promptRef parses name[@version].
func promptRef(v string) (name, version string) {
	if i := strings.LastIndexByte(v, '@'); i > 0 {
		return strings.TrimSpace(v[:i]), strings.TrimSpace(v[i+1:])
	}
	return v, ""
}

// members is a JSON object that keeps its order.
type members struct {
	names  []string
	values map[string]json.RawMessage
}

func readMembers(b []byte) (*members, error) {
	if !json.Valid(b) {
		return nil, errors.New("not JSON")
	}
	m := &members{values: make(map[string]json.RawMessage)}
	o := rawjson.NewObject(b)
	for {
		f, ok := o.Next()
		if !ok {
			break
		}
		name := string(o.Name(f))
		if _, twice := m.values[name]; !twice {
			m.names = append(m.names, name)
		}
		m.values[name] = o.Value(f)
	}
	if !o.Done() {
		return nil, errors.New("not an object")
	}
	return m, nil
}

func (m *members) value(name string) (json.RawMessage, bool) {
	v, ok := m.values[name]
	return v, ok
}

func (m *members) remove(name string) {
	delete(m.values, name)
	m.names = slices.DeleteFunc(m.names, func(n string) bool { return n == name })
}

func (m *members) set(name string, v any) {
	b, err := plainJSON(v)
	if err != nil {
		return // values parsed from JSON can be marshalled
	}
	if _, ok := m.values[name]; !ok {
		m.names = append(m.names, name)
	}
	m.values[name] = b
}

// put inserts the prompt's messages before the caller's own. It reports whether
// these could be parsed.
func (m *members) put(op string, messages []PromptMessage) bool {
	type item struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	var list []any
	var system []string
	for _, p := range messages {
		if op == "messages" && (p.Role == "system" || p.Role == "developer") {
			system = append(system, p.Content)
			continue
		}
		list = append(list, item(p))
	}
	field := "messages"
	if op == "responses" {
		field = "input"
	}
	own, _ := m.value(field)
	var text string
	var rest []json.RawMessage
	switch {
	case len(own) == 0 || string(own) == "null":
	case op == "responses" && json.Unmarshal(own, &text) == nil:
		list = append(list, item{"user", text})
	case json.Unmarshal(own, &rest) == nil:
		for _, r := range rest {
			list = append(list, r)
		}
	default:
		return false
	}
	if list == nil {
		list = []any{}
	}
	m.set(field, list)
	if len(system) > 0 {
		return m.putSystem(strings.Join(system, "\n\n"))
	}
	return true
}

// putSystem inserts the prompt's instructions into Anthropic's system field,
// before the caller's own.
func (m *members) putSystem(s string) bool {
	own, _ := m.value("system")
	var text string
	var blocks []json.RawMessage
	switch {
	case len(own) == 0 || string(own) == "null":
		m.set("system", s)
	case json.Unmarshal(own, &text) == nil:
		m.set("system", s+"\n\n"+text)
	case json.Unmarshal(own, &blocks) == nil:
		list := []any{map[string]string{"type": "text", "text": s}}
		for _, b := range blocks {
			list = append(list, b)
		}
		m.set("system", list)
	default:
		return false
	}
	return true
}

func (m *members) bytes() []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, name := range m.names {
		if i > 0 {
			b.WriteByte(',')
		}
		key, _ := plainJSON(name) // marshalling a string cannot fail
		b.Write(key)
		b.WriteByte(':')
		b.Write(m.values[name])
	}
	b.WriteByte('}')
	return b.Bytes()
}

// plainJSON does not escape <, > and &, so that the provider counts the tokens
// of the plain text.
func plainJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}
