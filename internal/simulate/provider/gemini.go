package provider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

func (c *call) gemini() bool {
	return c.rec.Provider == "gemini" && !strings.Contains(c.path, "/openai/")
}

// geminiMethod splits one of Google's paths, …/models/{model}:{method}.
func geminiMethod(path string) (model, method string) {
	_, last, _ := strings.Cut(path, "/models/")
	model, method, _ = strings.Cut(last, ":")
	return model, method
}

// geminiParse converts Google's request to the common fields. Members may be in
// camelCase or in snake_case; the official clients use the former.
func (c *call) geminiParse(body []byte) error {
	var r struct {
		Contents          []json.RawMessage
		SystemInstruction json.RawMessage
		Tools             []struct{ FunctionDeclarations []tool }
		ToolConfig        json.RawMessage
		GenerationConfig  struct {
			MaxOutputTokens, CandidateCount *int
			ResponseMimeType                string
			ResponseSchema                  json.RawMessage
			ResponseJSONSchema              json.RawMessage `json:"responseJsonSchema"`
			ThinkingConfig                  *struct{ IncludeThoughts bool }
		}
		Content  json.RawMessage
		Requests []struct{ Content json.RawMessage }

		GenerateContentRequest struct {
			Contents          []json.RawMessage
			SystemInstruction json.RawMessage
		}
	}
	err := json.Unmarshal(body, &r)
	q := &c.req
	*q = request{body: body, System: r.SystemInstruction, Messages: r.Contents, N: r.GenerationConfig.CandidateCount, MaxOutputTokens: r.GenerationConfig.MaxOutputTokens, ToolChoice: r.ToolConfig}
	if g := r.GenerateContentRequest; len(g.Contents) > 0 {
		q.Messages, q.System = g.Contents, g.SystemInstruction
	}
	for _, t := range r.Tools {
		q.Tools = append(q.Tools, t.FunctionDeclarations...)
	}
	if s := r.GenerationConfig.ResponseSchema; s != nil {
		q.ResponseFormat = encode(object{"type", "json_schema", "schema", s})
	} else if s := r.GenerationConfig.ResponseJSONSchema; s != nil {
		q.ResponseFormat = encode(object{"type", "json_schema", "schema", s})
	} else if r.GenerationConfig.ResponseMimeType == "application/json" {
		q.ResponseFormat = encode(object{"type", "json_object"})
	}
	if t := r.GenerationConfig.ThinkingConfig; t != nil && t.IncludeThoughts {
		q.Thinking = &struct {
			Type   string
			Budget int `json:"budget_tokens"`
		}{Type: "enabled"}
	}
	for _, e := range r.Requests {
		q.Messages = append(q.Messages, e.Content)
	}
	if r.Content != nil {
		q.Messages = append(q.Messages, r.Content)
	}
	var method string
	q.Model, method = geminiMethod(c.path)
	q.Stream = method == "streamGenerateContent"
	return err
}

// geminiCall serves a method of a model.
func (c *call) geminiCall() {
	_, method := geminiMethod(c.path)
	switch {
	case c.r.Method != http.MethodPost || method == "":
		c.fail(http.StatusNotFound, NotFound, "")
		return
	case !strings.HasPrefix(c.req.Model, "gemini-") && !strings.HasPrefix(c.req.Model, "text-embedding-"):
		c.failAs(NotFound)
		return
	case len(c.req.Messages) == 0:
		c.fail(http.StatusBadRequest, BadRequest, "* GenerateContentRequest.contents: contents is not specified\n")
		return
	}
	switch method {
	case "generateContent":
		c.generateContent()
	case "streamGenerateContent":
		c.streamGenerateContent()
	case "countTokens":
		n := c.req.prompt()
		override(&n, c.b.Input)
		if c.wait(c.timing.First / 4) {
			c.json(http.StatusOK, object{"totalTokens", n, "promptTokensDetails", list{object{"modality", "TEXT", "tokenCount", n}}})
		}
	case "embedContent", "batchEmbedContents":
		embeddings, tokens := list{}, 0
		for _, m := range c.req.Messages {
			tokens += countJSON(m)
			embeddings = append(embeddings, object{"values", c.floats(768)})
		}
		override(&tokens, c.b.Input)
		usage := object{"promptTokenCount", tokens, "totalTokenCount", tokens}
		switch {
		case !c.wait(c.timing.First):
		case method == "embedContent":
			c.json(http.StatusOK, object{"embedding", embeddings[0], "usageMetadata", usage})
		default:
			c.json(http.StatusOK, object{"embeddings", embeddings, "usageMetadata", usage})
		}
	default:
		c.fail(http.StatusNotFound, NotFound, "")
	}
}

func (c *call) finishReason(e ending) string {
	if c.b.Stop != "" {
		return c.b.Stop
	}
	return [...]string{"STOP", "MAX_TOKENS", "STOP", "PROHIBITED_CONTENT", "SAFETY"}[e]
}

// geminiUsage is usage in Google's format: the candidates exclude thoughts, and
// zeros are omitted. output is the number of tokens so far.
func (c *call) geminiUsage(u usage, output int) object {
	o := object{"promptTokenCount", u.input}
	if u.cached > 0 {
		o = append(o, "cachedContentTokenCount", u.cached, "cacheTokensDetails", list{object{"modality", "TEXT", "tokenCount", u.cached}})
	}
	if n := output - u.reasoning; n > 0 {
		o = append(o, "candidatesTokenCount", n)
	}
	o = append(o, "totalTokenCount", u.input+max(output, u.reasoning), "promptTokensDetails", list{object{"modality", "TEXT", "tokenCount", u.input}})
	if u.reasoning > 0 {
		o = append(o, "thoughtsTokenCount", u.reasoning)
	}
	return o
}

// geminiFrame is a complete response, or a chunk of one. Source of the format:
// genai's GenerateContentResponse.
func (c *call) geminiFrame(candidates list, u object) object {
	return object{"candidates", candidates, "usageMetadata", u, "modelVersion", c.req.Model, "responseId", c.id(22)}
}

func geminiCandidate(index int, parts list, finish string) object {
	o := object{}
	if len(parts) > 0 {
		o = append(o, "content", object{"parts", parts, "role", "model"})
	}
	if finish != "" {
		o = append(o, "finishReason", finish)
	}
	return append(o, "index", index)
}

// callParts are the parts at the end of a candidate: tool calls are sent
// complete, even in a stream.
func (c *call) callParts(ch choice) list {
	parts := list{}
	for _, t := range ch.tools {
		parts = append(parts, object{"functionCall", object{"name", t.name, "args", rawJSON(t.args)}})
	}
	return parts
}

func (c *call) grounding(o object, n int) object {
	if n == 0 {
		return o
	}
	queries := list{}
	for i := range n {
		queries = append(queries, fmt.Sprintf("hedgerow wildlife %d", i+1))
	}
	return append(o, "groundingMetadata", object{"webSearchQueries", queries})
}

func (c *call) geminiBlocked(a answer) object {
	return object{"promptFeedback", object{"blockReason", "PROHIBITED_CONTENT"}, "usageMetadata", c.geminiUsage(usage{input: a.usage.input}, 0), "modelVersion", c.req.Model, "responseId", c.id(22)}
}

func (c *call) generateContent() {
	a := c.answer()
	if !c.wait(c.timing.First + c.timing.PerToken*time.Duration(a.usage.output)) {
		return
	}
	if a.choices[0].refusal != "" {
		c.json(http.StatusOK, c.geminiBlocked(a))
		return
	}
	candidates := list{}
	for i, ch := range a.choices {
		parts := list{}
		if c.req.Thinking != nil && a.reasoning != "" {
			parts = append(parts, object{"text", a.reasoning, "thought", true})
		}
		if ch.text != "" {
			parts = append(parts, object{"text", ch.text, "thoughtSignature", c.signature()})
		}
		candidates = append(candidates, c.grounding(geminiCandidate(i, append(parts, c.callParts(ch)...), c.finishReason(ch.end)), a.usage.searches))
	}
	c.json(http.StatusOK, c.geminiFrame(candidates, c.geminiUsage(a.usage, a.usage.output)))
}

// streamGenerateContent sends server-sent events if the query has alt=sse, else
// a JSON array whose elements are sent one by one.
func (c *call) streamGenerateContent() {
	a := c.answer()
	array := c.r.URL.Query().Get("alt") != "sse"
	s := c.streamAs(map[bool]string{true: "application/json; charset=UTF-8", false: "text/event-stream"}[array])
	defer s.end()
	if !c.wait(c.timing.First) {
		return
	}
	n := 0
	send := func(v object) bool {
		n++
		switch {
		case !array:
			return s.event("", v)
		case n == 1:
			return s.write("[" + string(encode(v)))
		}
		return s.write("\n,\r\n" + string(encode(v)))
	}
	finish := func() {
		if array {
			s.write("\n]")
		}
	}
	failure := func() {
		send(c.errorBody(http.StatusServiceUnavailable, Overloaded, "The model is overloaded. Please try again later."))
		finish()
	}
	if a.choices[0].refusal != "" {
		send(c.geminiBlocked(a))
		finish()
		return
	}
	said := a.usage.reasoning
	piece := func(i, tokens int, part object, end string) bool {
		if !s.content(tokens, failure) {
			return false
		}
		candidate := geminiCandidate(i, list{part}, end)
		if end != "" {
			candidate = c.grounding(candidate, a.usage.searches)
		}
		return send(c.geminiFrame(list{candidate}, c.geminiUsage(a.usage, said)))
	}
	if c.req.Thinking != nil {
		for _, p := range c.chunks(a.reasoning) {
			if !piece(0, CountTokens(p), object{"text", p, "thought", true}, "") {
				return
			}
		}
	}
	for i, ch := range a.choices {
		end := c.finishReason(ch.end)
		last := func(more int) (string, bool) {
			if i == len(a.choices)-1 && more == 0 {
				said = a.usage.output // also if overridden
			}
			if more == 0 {
				return end, true
			}
			return "", false
		}
		chunks, calls := c.chunks(ch.text), c.callParts(ch)
		for j, p := range chunks {
			said += CountTokens(p)
			e, _ := last(len(chunks) - 1 - j + len(calls))
			if !piece(i, CountTokens(p), object{"text", p}, e) {
				return
			}
		}
		for j, part := range calls {
			t := ch.tools[j]
			said += 6 + CountTokens(t.name) + CountTokens(t.args)
			e, _ := last(len(calls) - 1 - j)
			if !piece(i, 6, part.(object), e) {
				return
			}
		}
	}
	if c.b.Fail.mid() { // requested after more chunks than there were
		c.b.After = s.sent
		s.content(0, failure)
		return
	}
	finish()
}

// floats is a vector in Google's format.
func (c *call) floats(dims int) []float32 {
	v := make([]float32, dims)
	for i := range v {
		v[i] = float32(c.rng.NormFloat64()) / 28
	}
	return v
}

// geminiError is an error in Google's format (google.rpc.Status).
func geminiError(status int, f Failure, message string) object {
	word := map[int]string{400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}[status]
	o := object{"code", status, "message", message, "status", word}
	if f == Unauthorized && status == http.StatusBadRequest {
		o = append(o, "details", list{object{"@type", "type.googleapis.com/google.rpc.ErrorInfo", "reason", "API_KEY_INVALID", "domain", "googleapis.com"}})
	}
	return object{"error", o}
}

// geminiModels is GET …/models and …/models/{id}.
func (c *call) geminiModels(id string) {
	ids := []string{"gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-embedding-001"}
	model := func(id string) object {
		return object{"name", "models/" + id, "displayName", id, "inputTokenLimit", 1048576, "outputTokenLimit", 65536, "supportedGenerationMethods", list{"generateContent", "countTokens"}}
	}
	if id != "" {
		if !slices.Contains(ids, id) {
			c.req.Model = id
			c.failAs(NotFound)
			return
		}
		c.json(http.StatusOK, model(id))
		return
	}
	models := list{}
	for _, id := range ids {
		models = append(models, model(id))
	}
	c.json(http.StatusOK, object{"models", models})
}
