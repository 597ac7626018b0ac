package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Timing is the duration of a response.
type Timing struct {
	First    time.Duration // until the first byte, or the first token of a stream
	PerToken time.Duration // for each token of the response, including reasoning
}

// Options are a server's settings. With the zero Options responses are
// immediate.
type Options struct {
	// Seed determines the text and figures of responses. The same seed and
	// request give the same response; ids differ between requests.
	Seed uint64
	// Latency returns a response's timing; rng belongs to the response. With
	// nil responses are immediate. See [Realistic].
	Latency func(model string, rng *rand.Rand) Timing
	// Behave chooses the behavior of a request if neither the script nor the
	// request itself does. With nil it succeeds.
	Behave func(r *Received, rng *rand.Rand) Behavior
	// Encoding is the content encoding for callers that accept it: gzip, br or
	// zstd. A behavior's own takes precedence. Defaults to none.
	Encoding string
	// Keep is how many of the latest requests are kept for [Server.Requests].
	// Defaults to 1000; a negative number keeps none.
	Keep int
	// KeepBody limits the kept part of a request body in bytes. Defaults to 1
	// MiB.
	KeepBody int
	Now      func() time.Time // Defaults to time.Now
}

// Received is a request that the server received.
type Received struct {
	Seq      int    // 1 for the first
	Provider string // openai, anthropic, gemini, openrouter, or the first part of the path
	Method   string
	Path     string // as received, including the provider's base
	Query    string
	Header   http.Header
	Body     []byte // up to Options.KeepBody
	Bytes    int64  // length of the whole body
	Model    string
	Stream   bool
	Time     time.Time
	Input    int // tokens that the response counts; 0 if no model answered
	Output   int
	Done     bool // the response has ended
	Status   int  // of the response; 0 if there was none
	Canceled bool // the caller disconnected before the end
}

// Server is the simulated providers, an [http.Handler]. Each has its own base
// path: /openai/v1/…, /anthropic/v1/…, /gemini/v1beta/…, /openrouter/api/v1/…,
// /ollama/api/…, /bedrock/model/…, /cohere/v2/… and /NAME/v1/… for any other with OpenAI's format. Without a base path,
// /v1/messages is Anthropic, /v1beta/… Gemini, /api/v1/… OpenRouter and the rest
// of /v1/… OpenAI.
type Server struct {
	o   Options
	seq atomic.Int64

	mu       sync.Mutex
	script   []Behavior
	received []*Received
	batch    batchJobs
	changed  chan struct{}

	server  *http.Server
	url     string
	stop    chan struct{}
	closing sync.Once // closed by Close: ends hanging responses
}

// New returns the simulated providers without serving them.
func New(o Options) *Server {
	if o.Keep == 0 {
		o.Keep = 1000
	}
	if o.KeepBody == 0 {
		o.KeepBody = 1 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{o: o, changed: make(chan struct{}), stop: make(chan struct{})}
}

// Start serves on a free port of the loopback interface.
func (s *Server) Start() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("start simulated providers: %w", err)
	}
	s.url = "http://" + l.Addr().String()
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.server.Serve(l) }()
	return nil
}

// Close ends all responses in progress and stops serving. It may be called
// again.
func (s *Server) Close() error {
	s.closing.Do(func() { close(s.stop) })
	if s.server == nil {
		return nil
	}
	return s.server.Close()
}

// URL is the server's base URL, after Start.
func (s *Server) URL() string { return s.url }

// OpenAIURL replaces https://api.openai.com.
func (s *Server) OpenAIURL() string { return s.url + "/openai" }

// AnthropicURL replaces https://api.anthropic.com.
func (s *Server) AnthropicURL() string { return s.url + "/anthropic" }

// GeminiURL replaces https://generativelanguage.googleapis.com.
func (s *Server) GeminiURL() string { return s.url + "/gemini" }

// OpenRouterURL replaces https://openrouter.ai.
func (s *Server) OpenRouterURL() string { return s.url + "/openrouter" }

// CompatibleURL is the base URL of any other provider with OpenAI's format.
func (s *Server) CompatibleURL(name string) string { return s.url + "/" + name }

// Script appends behaviors for later requests, one each, in order.
func (s *Server) Script(b ...Behavior) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = append(s.script, b...)
}

// Requests returns copies of the kept requests, in the order of arrival.
func (s *Server) Requests() []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Received, len(s.received))
	for i, r := range s.received {
		out[i] = *r
	}
	return out
}

// Forget drops the kept requests and the rest of the script.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received, s.script = nil, nil
}

// Await returns the kept requests as soon as ok accepts them, or ctx's error.
func (s *Server) Await(ctx context.Context, ok func([]Received) bool) ([]Received, error) {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		list := s.Requests()
		if ok(list) {
			return list, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return list, ctx.Err()
		}
	}
}

func (s *Server) record(r *Received) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.o.Keep > 0 {
		s.received = append(s.received, r)
		if extra := len(s.received) - s.o.Keep; extra > 0 {
			s.received = slices.Delete(s.received, 0, extra)
		}
	}
	s.notify()
}

// notify wakes Await; the caller holds the lock.
func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// call is one request being served.
type call struct {
	s      *Server
	w      http.ResponseWriter
	r      *http.Request
	rec    *Received
	req    request
	b      Behavior
	rng    *rand.Rand
	path   string // below the provider's base
	start  time.Time
	timing Timing
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{s: s, w: w, r: r, start: s.o.Now()}
	provider, path := split(r.URL.Path)
	c.path = path
	body, err := io.ReadAll(r.Body)
	kept := body[:min(len(body), s.o.KeepBody)]
	c.rec = &Received{
		Seq: int(s.seq.Add(1)), Provider: provider, Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(),
		Body: bytes.Clone(kept), Bytes: int64(len(body)), Time: c.start,
	}
	if err != nil {
		s.record(c.rec)
		s.end(c)
		return
	}
	parse := c.req.parse
	if c.gemini() && len(body) > 0 {
		parse = c.geminiParse
	}
	if c.ollama() && len(body) > 0 {
		parse = c.ollamaParse
	}
	if c.bedrock() && len(body) > 0 {
		parse = c.bedrockParse
	}
	jsonErr := parse(body)
	model, suffix, _ := strings.Cut(c.req.Model, "#")
	c.req.Model, c.rec.Model, c.rec.Stream = model, model, c.req.Stream

	h := fnv.New64a()
	_, _ = h.Write(body)
	c.rng = rand.New(rand.NewPCG(s.o.Seed, h.Sum64()))
	b, simErr := s.behavior(c, suffix)
	c.b = b
	s.record(c.rec)
	defer s.end(c)
	if simErr != nil {
		c.fail(http.StatusBadRequest, BadRequest, simErr.Error())
		return
	}
	if s.o.Latency != nil {
		c.timing = s.o.Latency(model, c.rng)
	}
	c.timing.First += b.First
	c.headers()
	if b.Fail != "" && !b.Fail.mid() {
		c.failScripted()
		return
	}
	if !c.authorized() {
		return
	}
	if c.socket() {
		return
	}
	if jsonErr != nil && r.Method == http.MethodPost && !strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		c.fail(http.StatusBadRequest, BadRequest, "We could not parse the JSON body of your request.")
		return
	}
	if c.refusesUnknown(body) {
		return
	}
	c.route()
}

func (s *Server) behavior(c *call, suffix string) (Behavior, error) {
	if sim := c.r.Header.Get("X-Sim"); sim != "" {
		return Parse(sim)
	}
	if suffix != "" {
		return Parse(suffix)
	}
	s.mu.Lock()
	if len(s.script) > 0 {
		b := s.script[0]
		s.script = s.script[1:]
		s.mu.Unlock()
		return b, nil
	}
	s.mu.Unlock()
	if s.o.Behave != nil {
		return s.o.Behave(c.rec, c.rng), nil
	}
	return Behavior{}, nil
}

func (s *Server) end(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.rec.Done = true
	c.rec.Canceled = c.r.Context().Err() != nil
	s.notify()
}

// split returns the provider of a path and the part below its base.
func split(path string) (provider, rest string) {
	switch {
	case strings.HasPrefix(path, "/v1/messages"):
		return "anthropic", path
	case strings.HasPrefix(path, "/v1beta/"):
		return "gemini", path
	case strings.HasPrefix(path, "/v1/"):
		return "openai", path
	case strings.HasPrefix(path, "/api/v1/"):
		return "openrouter", path
	}
	provider, rest, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return provider, "/" + rest
}

func (c *call) anthropic() bool  { return c.rec.Provider == "anthropic" }
func (c *call) openrouter() bool { return c.rec.Provider == "openrouter" }

func (c *call) route() {
	path := strings.TrimSuffix(c.path, "/")
	if c.openrouter() {
		path = strings.TrimPrefix(path, "/api")
	}
	// Azure has the deployment in the path, and no other model.
	if rest, ok := strings.CutPrefix(path, "/openai/deployments/"); ok {
		deployment, op, _ := strings.Cut(rest, "/")
		path = "/v1/" + op
		if c.req.Model == "" {
			c.req.Model = strings.TrimSuffix(deployment, "-deployment")
		}
	} else if strings.HasPrefix(path, "/openai/v1/") { // Groq, Azure v1
		path = strings.TrimPrefix(path, "/openai")
	}
	if c.rec.Provider == "gemini" && strings.Contains(path, "/openai/") { // its OpenAI-compatible endpoint
		_, op, _ := strings.Cut(path, "/openai/")
		path = "/v1/" + op
	}
	post := c.r.Method == http.MethodPost
	switch {
	case c.gemini():
		if _, id, ok := strings.Cut(path, "/models"); ok && !strings.Contains(id, ":") {
			c.geminiModels(strings.TrimPrefix(id, "/"))
			return
		}
		c.geminiCall()
	case c.ollama() && post:
		c.ollamaCall()
	case c.bedrock() && post:
		c.converse()
	case c.cohere() && post && path == "/v2/chat":
		c.cohereChat()
	case c.batches(path):
	case c.anthropic() && post && path == "/v1/messages":
		c.messages()
	case c.anthropic() && post && path == "/v1/messages/count_tokens":
		c.countTokens()
	case path == "/v1/models" || strings.HasPrefix(path, "/v1/models/"):
		c.models(strings.TrimPrefix(strings.TrimPrefix(path, "/v1/models"), "/"))
	case c.anthropic():
		c.fail(http.StatusNotFound, NotFound, "Not Found")
	case post && path == "/v1/chat/completions":
		c.chat()
	case post && path == "/v1/responses":
		c.responses()
	case post && path == "/v1/embeddings":
		c.embeddings()
	case c.r.Method == http.MethodGet && strings.HasPrefix(path, "/v1/files/") && strings.HasSuffix(path, "/content"):
		c.download()
	default:
		c.fail(http.StatusNotFound, NotFound, fmt.Sprintf("Invalid URL (%s %s)", c.r.Method, path))
	}
}

// download responds with as many bytes as the query's bytes= says, to test
// large responses.
func (c *call) download() {
	n, err := strconv.ParseInt(c.r.URL.Query().Get("bytes"), 10, 64)
	if err != nil || n < 0 {
		n = 1 << 10
	}
	c.w.Header().Set("Content-Type", "application/octet-stream")
	c.w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	c.status(http.StatusOK)
	block := bytes.Repeat([]byte("hedgerow "), 4096)
	for n > 0 {
		w, err := c.w.Write(block[:min(n, int64(len(block)))])
		if err != nil {
			return
		}
		n -= int64(w)
	}
}

// headers sets the headers of a provider's responses.
func (c *call) headers() {
	h := c.w.Header()
	id := c.id(24)
	switch {
	case c.anthropic():
		h.Set("Request-Id", "req_"+id)
		h.Set("Anthropic-Organization-Id", "00000000-5113-4000-8000-000000000001")
		reset := c.start.Add(time.Minute).UTC().Format(time.RFC3339)
		for _, limit := range []struct {
			kind string
			n    int
		}{{"Requests", 4000}, {"Input-Tokens", 2000000}, {"Output-Tokens", 400000}, {"Tokens", 2400000}} {
			name := "Anthropic-Ratelimit-" + limit.kind
			h.Set(name+"-Limit", strconv.Itoa(limit.n))
			h.Set(name+"-Remaining", strconv.Itoa(limit.n-1-c.rng.IntN(limit.n/100)))
			h.Set(name+"-Reset", reset)
		}
	case c.gemini():
		h.Set("Server-Timing", "gfet4t7; dur="+strconv.FormatInt(c.timing.First.Milliseconds(), 10))
	case c.openrouter():
		h.Set("X-Clerk-Auth-Status", "signed-out")
	case c.bedrock():
		h.Set("X-Amzn-Requestid", id)
	case c.ollama(), c.cohere():
	default:
		h.Set("X-Request-Id", "req_"+id)
		h.Set("Openai-Version", "2020-10-01")
		h.Set("Openai-Organization", "simulated-org")
		h.Set("Openai-Processing-Ms", strconv.FormatInt(c.timing.First.Milliseconds(), 10))
		h.Set("X-Ratelimit-Limit-Requests", "10000")
		h.Set("X-Ratelimit-Limit-Tokens", "2000000")
		h.Set("X-Ratelimit-Remaining-Requests", strconv.Itoa(9999-c.rng.IntN(100)))
		h.Set("X-Ratelimit-Remaining-Tokens", strconv.Itoa(1999000-c.rng.IntN(10000)))
		h.Set("X-Ratelimit-Reset-Requests", "6ms")
		h.Set("X-Ratelimit-Reset-Tokens", "20ms")
	}
}

func (c *call) authorized() bool {
	key := strings.TrimPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	for _, name := range []string{"X-Api-Key", "Api-Key", "X-Goog-Api-Key"} {
		if v := c.r.Header.Get(name); v != "" {
			key = v
		}
	}
	if _, v, ok := strings.Cut(c.r.Header.Get("Sec-Websocket-Protocol"), "openai-insecure-api-key."); ok { // from a browser
		key, _, _ = strings.Cut(v, ",")
	}
	if v := c.r.URL.Query().Get("key"); v != "" && c.gemini() {
		key = v
	}
	switch {
	case c.ollama(): // Ollama requires no key
		return true
	case key == "" && c.gemini():
		c.fail(http.StatusForbidden, Forbidden, "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API consumer identity to call this API.")
	case key == "" && c.openrouter():
		c.fail(http.StatusUnauthorized, Unauthorized, "No auth credentials found")
	case key == "" && c.anthropic():
		c.fail(http.StatusUnauthorized, Unauthorized, "x-api-key header is required")
	case key == "":
		c.fail(http.StatusUnauthorized, Unauthorized, "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth.")
	case strings.Contains(key, "wrong"):
		c.failAs(Unauthorized)
	default:
		return true
	}
	return false
}

// id returns an identifier of n characters that no other request has. It
// depends on the seed and the position in the order of requests.
func (c *call) id(n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	rng := rand.New(rand.NewPCG(c.s.o.Seed, uint64(c.rec.Seq)))
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[rng.IntN(len(alphabet))]
	}
	return string(b)
}

// wait sleeps for d, or until the caller disconnects: then it returns false.
func (c *call) wait(d time.Duration) bool {
	if d <= 0 {
		return c.r.Context().Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.r.Context().Done():
	case <-c.s.stop:
	}
	return false
}

func (c *call) hang() {
	select {
	case <-c.r.Context().Done():
	case <-c.s.stop:
	}
}

// reset ends the connection with a TCP reset, whatever has been sent.
func (c *call) reset() {
	conn, _, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 and recorders: the stream is aborted
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func (c *call) status(code int) {
	c.s.mu.Lock()
	c.rec.Status = code
	c.s.mu.Unlock()
	c.w.WriteHeader(code)
}

// failScripted performs the behavior's failure.
func (c *call) failScripted() {
	switch c.b.Fail {
	case Reset:
		c.reset()
	case Hang:
		c.hang()
	default:
		if c.wait(c.timing.First) {
			c.failAs(c.b.Fail)
		}
	}
}

// failAs responds with a failure in the provider's own words.
func (c *call) failAs(f Failure) {
	key := strings.TrimPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	masked := key[:min(len(key), 8)] + "********"
	openai := map[Failure]struct {
		status  int
		message string
	}{
		BadRequest:   {400, "Unrecognized request argument supplied: simulated_argument"},
		Unauthorized: {401, "Incorrect API key provided: " + masked + ". You can find your API key at https://platform.openai.com/account/api-keys."},
		Forbidden:    {403, "You are not allowed to sample from this model"},
		NotFound:     {404, "The model `" + c.req.Model + "` does not exist or you do not have access to it."},
		RateLimit:    {429, "Rate limit reached for " + c.req.Model + " in organization simulated-org on tokens per min (TPM): Limit 30000, Used 29500, Requested 1200. Please try again in 1.4s. Visit https://platform.openai.com/account/rate-limits to learn more."},
		Quota:        {429, "You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."},
		ServerError:  {500, "The server had an error while processing your request. Sorry about that! You can retry your request, or contact us through our help center if the error persists."},
		Unavailable:  {503, "The engine is currently overloaded, please try again later"},
		Overloaded:   {503, "That model is currently overloaded with other requests. You can retry your request."},
	}
	if c.anthropic() {
		anthropic := map[Failure]struct {
			status  int
			message string
		}{
			BadRequest:   {400, "messages.0.content: Input should be a valid string or list"},
			Unauthorized: {401, "invalid x-api-key"},
			Forbidden:    {403, "Your API key does not have permission to use the specified resource."},
			NotFound:     {404, "model: " + c.req.Model},
			RateLimit:    {429, "This request would exceed your organization's rate limit of 400,000 input tokens per minute."},
			Quota:        {400, "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."},
			ServerError:  {500, "Internal server error"},
			Unavailable:  {503, "Service unavailable"},
			Overloaded:   {529, "Overloaded"},
		}
		maps.Copy(openai, anthropic)
	}
	if c.gemini() {
		maps.Copy(openai, map[Failure]struct {
			status  int
			message string
		}{
			BadRequest:   {400, "Invalid JSON payload received. Unknown name \"simulated\": Cannot find field."},
			Unauthorized: {400, "API key not valid. Please pass a valid API key."},
			Forbidden:    {403, "Permission denied on resource project simulated."},
			NotFound:     {404, "models/" + c.req.Model + " is not found for API version v1beta, or is not supported for generateContent. Call ListModels to see the list of available models and their supported methods."},
			RateLimit:    {429, "Resource has been exhausted (e.g. check quota)."},
			Quota:        {429, "You exceeded your current quota, please check your plan and billing details."},
			ServerError:  {500, "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting"},
			Unavailable:  {503, "The service is currently unavailable."},
			Overloaded:   {503, "The model is overloaded. Please try again later."},
		})
	}
	if f == NotJSON {
		c.w.Header().Set("Content-Type", "text/html")
		c.status(http.StatusBadGateway)
		_, _ = io.WriteString(c.w, "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n")
		return
	}
	e := openai[f]
	if f == RateLimit {
		c.w.Header().Set("Retry-After", "1")
		c.w.Header().Set("Retry-After-Ms", "1400")
	}
	c.fail(e.status, f, e.message)
}

// fail responds with an error in the provider's format.
func (c *call) fail(status int, f Failure, message string) {
	c.json(status, c.errorBody(status, f, message))
}

func (c *call) errorBody(status int, f Failure, message string) object {
	if c.anthropic() {
		typ := map[Failure]string{BadRequest: "invalid_request_error", Unauthorized: "authentication_error", Forbidden: "permission_error", NotFound: "not_found_error",
			RateLimit: "rate_limit_error", Quota: "invalid_request_error", Overloaded: "overloaded_error"}[f]
		if typ == "" {
			typ = "api_error"
		}
		return object{"type", "error", "error", object{"type", typ, "message", message}, "request_id", c.w.Header().Get("Request-Id")}
	}
	if c.gemini() {
		return geminiError(status, f, message)
	}
	if c.ollama() {
		return object{"error", message}
	}
	if c.openrouter() {
		return object{"error", object{"message", message, "code", status}, "user_id", "user_simulated"}
	}
	var typ string
	var code any
	switch f {
	case BadRequest:
		typ = "invalid_request_error"
	case Unauthorized:
		typ, code = "invalid_request_error", "invalid_api_key"
	case Forbidden:
		typ, code = "invalid_request_error", "model_not_allowed"
	case NotFound:
		typ = "invalid_request_error"
		if strings.HasPrefix(message, "The model") {
			code = "model_not_found"
		}
	case RateLimit:
		typ, code = "tokens", "rate_limit_exceeded"
	case Quota:
		typ, code = "insufficient_quota", "insufficient_quota"
	case Unavailable, Overloaded:
		typ, code = "service_unavailable_error", "server_is_overloaded"
	default:
		typ = "server_error"
	}
	return object{"error", object{"message", message, "type", typ, "param", nil, "code", code}}
}

// json responds with a JSON body, encoded as the behavior and the caller agree.
func (c *call) json(status int, v any) {
	if status == http.StatusOK && c.b.Fail == MidError {
		c.failAs(ServerError) // there is no stream to interrupt
		return
	}
	b := encode(v)
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	if c.b.Trailer {
		h.Set("Trailer", "X-Sim-Trailer")
	}
	enc := c.encoding()
	switch {
	case enc != "":
		h.Set("Content-Encoding", enc)
		h.Add("Vary", "Accept-Encoding")
	case !c.b.Trailer:
		h.Set("Content-Length", strconv.Itoa(len(b)))
	}
	c.status(status)
	w := newEncoder(c.w, enc)
	if status == http.StatusOK && c.b.Fail.mid() {
		_, _ = w.Write(b[:len(b)/2])
		w.flush()
		if c.b.Fail == MidHang {
			c.hang()
		}
		c.reset()
		return
	}
	_, _ = w.Write(b)
	w.close()
	if c.b.Trailer {
		h.Set("X-Sim-Trailer", "kept")
	}
}

func (c *call) encoding() string {
	enc := c.b.Encoding
	if enc == "" {
		enc = c.s.o.Encoding
	}
	for accepted := range strings.SplitSeq(c.r.Header.Get("Accept-Encoding"), ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(accepted), ";")
		if name == enc || name == "*" {
			return enc
		}
	}
	return ""
}

// object is a JSON object whose members keep the order of the providers'
// responses: names and values alternate.
type object []any

// MarshalJSON writes the members in order.
func (o object) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i := 0; i < len(o); i += 2 {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, encode(o[i])...), ':')
		b = append(b, encode(o[i+1])...)
	}
	return append(b, '}'), nil
}

// encode encodes JSON as providers do, without escaping <, > and &.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // built by this package from plain values
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

type list = []any
