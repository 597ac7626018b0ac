package hedgerow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/template"
)

// Defaults for the zero values of [PromptsConfig].
const (
	DefaultPromptTTL     = 5 * time.Minute
	DefaultPromptTimeout = 3 * time.Second
)

// promptCooldown is how long a prompt is not requested again after an error, so that
// a failing server does not slow down every call.
const promptCooldown = 10 * time.Second

// maxPromptBody limits a response: a version has at most 512 KiB of text.
const maxPromptBody = 4 << 20

// PromptsConfig configures [Prompts]. Only Key is required, and it may come from the
// environment.
type PromptsConfig struct {
	// Key is an API key (hr_…) of the hedgerow project; the role viewer is enough. A
	// project token is not accepted: it is public in browsers, and prompts are not.
	// Defaults to $HEDGEROW_PROMPTS_KEY.
	Key string

	// Host is the base URL of the hedgerow server, such as http://127.0.0.1:4100.
	// Defaults to $HEDGEROW_HOST.
	Host string

	// TTL is how long a prompt is served from memory before it is requested again. A
	// version chosen by number is immutable and requested once. Defaults to 5 min.
	TTL time.Duration

	// Timeout is the time limit of one request. Defaults to 3 s.
	Timeout time.Duration

	// HTTPClient sends the requests. Redirects are not followed. Defaults to a client
	// with its own transport.
	HTTPClient *http.Client

	// Logger receives warnings, never a prompt or the key. Defaults to [slog.Default].
	Logger *slog.Logger

	// Now is the clock. Defaults to [time.Now].
	Now func() time.Time
}

// Prompts reads prompts from a hedgerow server and caches them. Create one per
// process. All methods are safe for concurrent use; those of a nil *Prompts return
// fallbacks only.
type Prompts struct {
	c    PromptsConfig
	log  *slog.Logger
	http *http.Client

	mu    sync.Mutex
	cache map[promptKey]*promptEntry

	resolved      resolvedCache
	resolveNotYet time.Time // no request before, after an error
}

type promptKey struct{ name, ref string }

// promptEntry is one cached prompt. turn is locked during a request to the
// server.
type promptEntry struct {
	turn    chan struct{}
	prompt  *Prompt
	fetched time.Time
	err     error     // of the last request
	notYet  time.Time // no request before
}

// NewPrompts returns a reader of prompts, or an [*event.Error] with code invalid
// that names the wrong setting. On error it is nil, which is safe to use: calls
// return their fallback.
func NewPrompts(c PromptsConfig) (*Prompts, error) {
	c.Key = strings.TrimSpace(firstOf(c.Key, os.Getenv("HEDGEROW_PROMPTS_KEY")))
	c.Host = strings.TrimSpace(firstOf(c.Host, os.Getenv("HEDGEROW_HOST")))
	switch {
	case c.Host == "":
		return nil, fmt.Errorf("hedgerow: %w", event.Invalid("the host of the prompts is missing", "set PromptsConfig.Host or HEDGEROW_HOST to the hedgerow server, such as http://127.0.0.1:4100"))
	case !strings.HasPrefix(c.Key, "hr_"):
		return nil, fmt.Errorf("hedgerow: %w", event.Invalid("the key of the prompts is not a hedgerow API key, which begins with hr_", "create one with the role viewer: hedgerow project add-key, and set PromptsConfig.Key or HEDGEROW_PROMPTS_KEY"))
	case c.TTL < 0 || c.Timeout < 0:
		return nil, fmt.Errorf("hedgerow: %w", event.Invalid("TTL or Timeout is negative", "leave it at 0 for the default"))
	}
	var err error
	if c.Host, err = checkHost(c.Host, true); err != nil {
		return nil, fmt.Errorf("hedgerow: %w", err)
	}
	if isPostHog(c.Host) {
		return nil, fmt.Errorf("hedgerow: %w", event.Invalid("the host of the prompts is PostHog's, and prompts are stored in hedgerow", "set PromptsConfig.Host or HEDGEROW_HOST to the address of your hedgerow server"))
	}
	setDefault(&c.TTL, DefaultPromptTTL)
	setDefault(&c.Timeout, DefaultPromptTimeout)
	if c.Now == nil {
		c.Now = time.Now
	}
	base := Config{HTTPClient: c.HTTPClient, Logger: c.Logger}
	return &Prompts{c: c, log: base.logger(), http: newHTTPClient(&base), cache: make(map[promptKey]*promptEntry)}, nil
}

// PromptSource is where a [Prompt] came from.
type PromptSource string

// The values of [Prompt.Source].
const (
	PromptFromServer   PromptSource = "server"
	PromptFromCache    PromptSource = "cache"    // younger than TTL
	PromptFromStale    PromptSource = "stale"    // older than TTL, because the request failed
	PromptFromFallback PromptSource = "fallback" // [PromptFallback]
)

// PromptMessage is one message of a prompt.
type PromptMessage struct {
	Role    string `json:"role"`    // system, developer, user or assistant
	Content string `json:"content"` // text with {{name}} variables
}

// PromptVariable is a variable of a prompt.
type PromptVariable struct {
	Name        string   `json:"name"`     // as {{name}} in the messages
	Type        string   `json:"type"`     // string, number, integer, boolean or json
	Optional    bool     `json:"optional"` // may be omitted: Default, or nothing, is used
	Default     any      `json:"default"`  // of Type; nil is none
	Enum        []string `json:"enum"`     // the allowed values of a string; none allows all
	Description string   `json:"description"`
}

// Prompt is one version of a prompt. It is shared with other callers and must not be
// changed.
type Prompt struct {
	Name      string           `json:"prompt"`    // its name
	Version   int              `json:"number"`    // 0 for a fallback
	VersionID string           `json:"id"`        // pv_…; "" for a fallback
	Messages  []PromptMessage  `json:"messages"`  // in order, before rendering
	Variables []PromptVariable `json:"variables"` // the variables of Render
	Provider  string           `json:"provider"`  // "" leaves the choice to the caller, as with Model
	Model     string           `json:"model"`     // "" leaves the choice to the caller
	Params    map[string]any   `json:"params"`    // temperature, max_tokens …, as the provider names them

	Source PromptSource `json:"-"` // the origin of this prompt
}

// RenderedPrompt is a prompt with values for its variables.
type RenderedPrompt struct {
	Messages []PromptMessage // in order, ready to send
	Provider string          // "" leaves the choice to the caller, as with Model
	Model    string          // "" leaves the choice to the caller
	Params   map[string]any  // temperature, max_tokens …, as the provider names them
}

// PromptOption is an option of [Prompts.Get], [Prompts.Use] and [Prompts.Resolve].
type PromptOption func(*promptChoice)

type promptChoice struct {
	ref      string
	pinned   bool
	fallback []PromptMessage
	person   Properties
}

// PromptVersion selects a version by its number.
func PromptVersion(number int) PromptOption {
	return func(c *promptChoice) { c.ref, c.pinned = strconv.Itoa(number), true }
}

// PromptLabel selects the version of a label: production, staging, latest or any
// other. The default is production, or the newest version without that label.
func PromptLabel(label string) PromptOption {
	return func(c *promptChoice) { c.ref, c.pinned = label, false }
}

// PromptFallback is returned by [Prompts.Get] if the request fails and nothing is
// cached. Its variables are required strings.
func PromptFallback(messages ...PromptMessage) PromptOption {
	return func(c *promptChoice) { c.fallback = messages }
}

// Get returns a prompt: from the cache if it is younger than TTL, else from the
// server, else from the cache whatever its age, else the fallback. If all fail it
// returns the [*event.Error] of the server, or one with code unavailable. Concurrent
// calls for one prompt share a request.
func (p *Prompts) Get(ctx context.Context, name string, options ...PromptOption) (*Prompt, error) {
	var choice promptChoice
	for _, o := range options {
		o(&choice)
	}
	got, err := p.get(ctx, name, choice)
	if err == nil {
		return got, nil
	}
	if len(choice.fallback) == 0 {
		return nil, err
	}
	if p != nil {
		p.log.WarnContext(ctx, "read prompt failed: using the fallback", "prompt", name, "err", err)
	}
	messages, variables, err := template.Check(templateMessages(choice.fallback), nil)
	if err != nil {
		return nil, fmt.Errorf("hedgerow: the fallback: %w", err)
	}
	f := &Prompt{Name: name, Messages: promptMessages(messages), Source: PromptFromFallback}
	for _, v := range variables {
		f.Variables = append(f.Variables, PromptVariable(v))
	}
	return f, nil
}

func (p *Prompts) get(ctx context.Context, name string, choice promptChoice) (*Prompt, error) {
	if p == nil {
		return nil, event.NewError(event.CodeUnavailable, "prompts cannot be read: the *Prompts is nil", "check the error of NewPrompts", nil)
	}
	if name == "" {
		return nil, event.Invalid("the prompt name is empty", "set the prompt name")
	}
	key := promptKey{name, choice.ref}
	p.mu.Lock()
	e := p.cache[key]
	if e == nil {
		e = &promptEntry{turn: make(chan struct{}, 1)}
		p.cache[key] = e
	}
	p.mu.Unlock()

	if got, ok := p.fresh(e, choice.pinned); ok {
		return got, nil
	}
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if got, ok := p.fresh(e, choice.pinned); ok { // another call has requested it in the meantime
		return got, nil
	}
	p.mu.Lock()
	err := e.err
	wait := p.c.Now().Before(e.notYet)
	p.mu.Unlock()
	if !wait {
		var got *Prompt
		var after time.Duration
		if got, after, err = p.fetch(ctx, name, choice.ref); err == nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			e.prompt, e.fetched, e.err, e.notYet = got, p.c.Now(), nil, time.Time{}
			return got, nil
		}
		if ctx.Err() == nil { // a canceled caller is not a failure of the server
			p.mu.Lock()
			e.err, e.notYet = err, p.c.Now().Add(after)
			p.mu.Unlock()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.prompt == nil {
		return nil, err
	}
	if !wait {
		p.log.WarnContext(ctx, "read prompt failed: using the cached version", "prompt", name, "version", e.prompt.Version, "err", err)
	}
	return e.prompt.from(PromptFromStale), nil
}

func (p *Prompts) fresh(e *promptEntry, pinned bool) (*Prompt, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.prompt == nil || !pinned && p.c.Now().Sub(e.fetched) >= p.c.TTL {
		return nil, false
	}
	return e.prompt.from(PromptFromCache), true
}

func (p *Prompt) from(s PromptSource) *Prompt {
	c := *p
	c.Source = s
	return &c
}

// fetch requests a prompt, and returns how long to wait after an error.
func (p *Prompts) fetch(ctx context.Context, name, ref string) (*Prompt, time.Duration, error) {
	got, after, err := p.ask(ctx, name, firstOf(ref, "production"))
	if e := (*event.Error)(nil); ref == "" && errors.As(err, &e) && e.Code == event.CodeNotFound {
		return p.ask(ctx, name, "latest") // no label production
	}
	return got, after, err
}

func (p *Prompts) ask(ctx context.Context, name, ref string) (*Prompt, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, p.c.Timeout)
	defer cancel()
	unavailable := func(err error) (*Prompt, time.Duration, error) {
		return nil, promptCooldown, event.NewError(event.CodeUnavailable, "the prompt request to hedgerow failed", "check PromptsConfig.Host, and that the server runs", err)
	}
	target := p.c.Host + "/api/v1/prompts/" + url.PathEscape(name) + "/versions/" + url.PathEscape(ref)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return unavailable(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.c.Key)
	req.Header.Set("User-Agent", libName+"/"+Version)
	resp, err := p.http.Do(req)
	if err != nil {
		return unavailable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPromptBody+1))
	if err == nil && len(body) > maxPromptBody {
		err = errors.New("response too large")
	}
	if err != nil {
		return unavailable(err)
	}
	var response struct {
		Version *Prompt
		Error   struct {
			Code          event.Code
			Message, Hint string
		}
	}
	err = json.Unmarshal(body, &response)
	switch {
	case resp.StatusCode == http.StatusOK && err == nil && response.Version != nil && len(response.Version.Messages) > 0:
		response.Version.Source = PromptFromServer
		return response.Version, 0, nil
	case err == nil && response.Error.Code != "":
		after := promptCooldown
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
			after = min(time.Duration(s)*time.Second, 5*time.Minute)
		}
		return nil, after, event.NewError(response.Error.Code, response.Error.Message, response.Error.Hint, nil)
	}
	return unavailable(fmt.Errorf("the response with status %d is not a prompt", resp.StatusCode))
}

// Use combines [Prompts.Get], [Prompt.Render] and [Prompt.Context]: it returns the
// text to send and a context that attributes calls to the prompt and its version.
func (p *Prompts) Use(ctx context.Context, name string, values map[string]any, options ...PromptOption) (context.Context, RenderedPrompt, error) {
	got, err := p.Get(ctx, name, options...)
	if err != nil {
		return ctx, RenderedPrompt{}, err
	}
	out, err := got.Render(values)
	if err != nil {
		return ctx, RenderedPrompt{}, err
	}
	return got.Context(ctx), out, nil
}

// Context returns a context that attributes calls to the prompt and its version, as
// with [WithPrompt]. Calls with a fallback have the name only: hedgerow finds the
// version by the text, if there is one.
func (p *Prompt) Context(ctx context.Context) context.Context {
	version := ""
	if p.Version > 0 {
		version = strconv.Itoa(p.Version)
	}
	return with(ctx, func(a *attribution) { a.prompt, a.promptVersion, a.promptVersionID = p.Name, version, p.VersionID })
}

// Render inserts values into the messages. Every required variable needs a value of
// its type: a string; a Go number or json.Number for number; a whole one for
// integer; a bool for boolean; anything that encodes to a list or an object for
// json. A value without a variable is an error. The [*event.Error] names the
// variable and never contains the value.
func (p *Prompt) Render(values map[string]any) (RenderedPrompt, error) {
	variables := make([]template.Variable, len(p.Variables))
	for i, v := range p.Variables {
		variables[i] = template.Variable(v)
	}
	messages, err := template.Render(templateMessages(p.Messages), variables, values)
	if err != nil {
		return RenderedPrompt{}, err
	}
	return RenderedPrompt{Messages: promptMessages(messages), Provider: p.Provider, Model: p.Model, Params: merged(p.Params, nil)}, nil
}

// Clear removes a prompt from the cache or, with "", all of them. The next call
// requests it again.
func (p *Prompts) Clear(name string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resolved.forget(name)
	for key := range p.cache {
		if name == "" || key.name == name {
			delete(p.cache, key)
		}
	}
}

// Instructions returns the system and developer messages, joined by an empty line:
// for Anthropic's system and OpenAI's instructions.
func (r RenderedPrompt) Instructions() string {
	return strings.Join(template.Instructions(templateMessages(r.Messages)), "\n\n")
}

func templateMessages(list []PromptMessage) []template.Message {
	out := make([]template.Message, len(list))
	for i, m := range list {
		out[i] = template.Message(m)
	}
	return out
}

func promptMessages(list []template.Message) []PromptMessage {
	out := make([]PromptMessage, len(list))
	for i, m := range list {
		out[i] = PromptMessage(m)
	}
	return out
}
