package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// InternalCall is a call that hedgerow makes itself, for a project and with its stored
// provider key: for an LLM judge or a dataset run. It is forwarded and recorded
// like any other call.
type InternalCall struct {
	ProjectID string
	UUID      string // UUID of its event, also used as span id
	Provider  string // openai, anthropic …: the name of a route; "azure/RESOURCE" for Azure

	Model    string
	Messages []InternalMessage
	Tools    json.RawMessage            // in the provider's format; nil is none
	Params   map[string]json.RawMessage // temperature etc., as the provider names them
	// MaxTokens limits the response. Defaults to 1024 if the provider requires
	// a limit, else to none. Params take precedence.
	MaxTokens int
	// Schema requests JSON output of this schema, from Gemini and from
	// providers with response_format. For others the messages have to describe
	// it.
	Schema json.RawMessage

	Header http.Header // attribution headers
}

// InternalMessage is one message. Content is a JSON string, or a list of parts in
// the provider's format.
type InternalMessage struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

const (
	ownKey         = keyPrefix + "own_call" // a placeholder for a hedgerow key; not valid anywhere
	ownMaxTokens   = 1024
	maxOwnResponse = 16 << 20
)

type ownContext struct{}

// ownOf returns the own call that a request belongs to; nil for callers'
// requests.
func ownOf(ctx context.Context) *InternalCall {
	o, _ := ctx.Value(ownContext{}).(*InternalCall)
	return o
}

// InternalProject returns the project of a call that hedgerow makes itself. It
// relies on the context only, which a network request cannot set.
func InternalProject(r *http.Request) (projectID string, ok bool) {
	if o := ownOf(r.Context()); o != nil {
		return o.ProjectID, true
	}
	return "", false
}

// Call makes the call and returns its event, without costs: pricing happens
// behind [Appender]. An error, an [*event.Error], means that no call was made:
// the provider is unknown or has no stored key in this project, or its format
// cannot express the messages. If the provider rejected the call or the call
// failed, the event has the error.
func (g *Gateway) Call(ctx context.Context, o InternalCall) (*event.Event, error) {
	name, resource, _ := strings.Cut(o.Provider, "/")
	up := g.upstreams[name]
	if up == nil {
		return nil, event.Invalid("unknown provider "+fmt.Sprintf("%q", name), "judges and dataset runs can use "+strings.Join(slices.Sorted(maps.Keys(g.upstreams)), ", "))
	}
	if name == "vertex" || name == "bedrock" {
		return nil, event.Invalid("hedgerow does not support internal calls to "+name, "choose the provider gemini or anthropic")
	}
	path, body, err := o.request(up.dialect)
	if err != nil {
		return nil, err
	}
	route := "/" + name
	if up.resources {
		if !validResource(resource) {
			return nil, event.Invalid("the provider "+name+" needs a resource", "name it as "+name+"/RESOURCE")
		}
		route += "/" + resource
		path = "/openai/deployments/" + o.Model + "/chat/completions?api-version=2024-10-21"
	}
	r, err := http.NewRequestWithContext(context.WithValue(ctx, ownContext{}, &o), http.MethodPost, route+path, bytes.NewReader(body))
	if err != nil {
		return nil, event.NewError(event.CodeInvalid, "the call cannot be made", "check the model name", err)
	}
	maps.Copy(r.Header, o.Header)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept-Encoding", "identity")
	r.Header.Set("Authorization", "Bearer "+ownKey)
	if up.dialect == provider.Anthropic {
		r.Header.Set("Anthropic-Version", "2023-06-01")
	}
	w := &ownResponse{header: make(http.Header)}
	start := time.Now()
	broken := g.serveOwn(w, r)
	if w.status == http.StatusUnauthorized && w.header.Get(refusedHeader) != "" {
		return nil, event.NewError(event.CodeInvalid, "the project has no key for "+name, "an administrator can store one on the Keys page, or with: hedgerow project provider-key "+name, nil)
	}
	call := provider.Call{
		Provider: up.provider, Dialect: up.dialect, Method: http.MethodPost, Path: path, Start: start, Latency: time.Since(start),
		Request: body, Response: w.body.Bytes(), RequestBytes: int64(len(body)), ResponseBytes: int64(w.body.Len()),
		ResponseHeader: w.header, Status: w.status,
	}
	switch {
	case ctx.Err() != nil:
		call.Err, call.ErrType = ctx.Err(), event.ErrTypeClientGone
	case broken:
		call.ErrType = event.ErrTypeStream
	}
	e := provider.Parse(&call)
	e.UUID, e.ProjectID, e.SpanID = o.UUID, o.ProjectID, o.UUID
	attribute(e, o.Header)
	e.TraceID = cmp.Or(e.TraceID, o.UUID)
	return e, nil
}

// serveOwn serves the call, and reports whether the response was cut off.
func (g *Gateway) serveOwn(w http.ResponseWriter, r *http.Request) (broken bool) {
	defer func() {
		if v := recover(); v == http.ErrAbortHandler {
			broken = true
		} else if v != nil {
			panic(v)
		}
	}()
	g.ServeHTTP(w, r)
	return false
}

// chatPaths are the paths of known providers that differ from OpenAI's.
var chatPaths = map[string]string{
	"openrouter": "/api/v1/chat/completions", "groq": "/openai/v1/chat/completions", "fireworks": "/inference/v1/chat/completions", "perplexity": "/chat/completions",
	"cohere": "/compatibility/v1/chat/completions",
}

// request returns the path below the provider's route and the body.
func (o *InternalCall) request(d provider.Dialect) (path string, body []byte, err error) {
	if d == provider.Gemini {
		path, b, err := o.geminiRequest()
		if err != nil {
			return "", nil, err
		}
		body, err := encodeOwn(b)
		return path, body, err
	}
	b := make(map[string]any, len(o.Params)+5)
	b["model"] = o.Model
	messages := make([]InternalMessage, len(o.Messages))
	for i, m := range o.Messages {
		messages[i] = InternalMessage{m.Role, plainContent(m.Content)}
	}
	switch d {
	case provider.OpenAI:
		path = cmp.Or(chatPaths[o.Provider], "/v1/chat/completions")
		if o.MaxTokens > 0 {
			b["max_completion_tokens"] = o.MaxTokens
			if o.Provider != "openai" && !strings.HasPrefix(o.Provider, "azure/") {
				delete(b, "max_completion_tokens") // a newer field that few OpenAI-compatible APIs have
				b["max_tokens"] = o.MaxTokens
			}
		}
		if len(o.Schema) > 0 {
			b["response_format"] = map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": "answer", "strict": true, "schema": o.Schema}}
		}
	case provider.Anthropic:
		path = "/v1/messages"
		b["max_tokens"] = cmp.Or(o.MaxTokens, ownMaxTokens)
		// Anthropic has no system role.
		var system []string
		messages = slices.DeleteFunc(messages, func(m InternalMessage) bool {
			var s string
			if m.Role != "system" && m.Role != "developer" || json.Unmarshal(m.Content, &s) != nil {
				return false
			}
			system = append(system, s)
			return true
		})
		if len(system) > 0 {
			b["system"] = strings.Join(system, "\n\n")
		}
	}
	b["messages"] = messages
	if len(o.Tools) > 0 && string(o.Tools) != "null" {
		b["tools"] = o.Tools
	}
	for k, v := range o.Params {
		if k == "max_tokens" || k == "max_completion_tokens" {
			delete(b, "max_tokens")
			delete(b, "max_completion_tokens")
		}
		b[k] = v
	}
	delete(b, "stream") // own calls are not streamed
	delete(b, "stream_options")
	body, err = encodeOwn(b)
	return path, body, err
}

func encodeOwn(body map[string]any) ([]byte, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, event.NewError(event.CodeInvalid, "the call's messages or parameters are not JSON", "", err)
	}
	return b, nil
}

// plainContent joins parts that are all text into one string: every provider
// accepts it, while the names of parts differ.
func plainContent(raw json.RawMessage) json.RawMessage {
	var parts []struct {
		Type string  `json:"type"`
		Text *string `json:"text"`
	}
	if json.Unmarshal(raw, &parts) != nil || len(parts) == 0 {
		return raw
	}
	texts := make([]string, len(parts))
	for i, p := range parts {
		if p.Text == nil || p.Type != "text" && p.Type != "input_text" && p.Type != "output_text" {
			return raw
		}
		texts[i] = *p.Text
	}
	return rawjson.Quote(strings.Join(texts, "\n"))
}

// refusedHeader marks, on the response to an own call only, that hedgerow and
// not the provider refused it.
const refusedHeader = "X-Hedgerow-Refused"

// ownAnswer buffers a response in memory.
type ownResponse struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *ownResponse) Header() http.Header { return w.header }

func (w *ownResponse) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *ownResponse) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if room := maxOwnResponse - w.body.Len(); len(p) > room {
		w.body.Write(p[:room])
		return len(p), nil
	}
	return w.body.Write(p)
}
