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

// What a [PromptsConfig] means by its zero values.
const (
	DefaultPromptTTL     = 5 * time.Minute
	DefaultPromptTimeout = 3 * time.Second
)

// promptCooldown is how long a prompt is not asked for again after an error, so
// that a server in trouble costs one slow call and not every one.
const promptCooldown = 10 * time.Second

// maxPromptBody bounds an answer: a version has at most half a MiB of text.
const maxPromptBody = 4 << 20

// PromptsConfig says where prompts are read. Only Key is needed, and it may come
// from the environment.
type PromptsConfig struct {
	// Key is an API key (hr_…) of the hedgerow project; one of role viewer is
	// enough. A project token does not do: it stands in browsers, and prompts are
	// not for everyone. Defaults to $HEDGEROW_PROMPTS_KEY.
	Key string

	// Host is the base URL of the hedgerow server, as in http://127.0.0.1:4100.
	// Defaults to $HEDGEROW_HOST.
	Host string

	// TTL is how long a prompt is served from memory before it is asked for
	// again. A version that is named by its number never changes and is asked for
	// once. Defaults to 5 min.
	TTL time.Duration

	// Timeout bounds one request. Defaults to 3 s.
	Timeout time.Duration

	// HTTPClient sends the requests. Redirects are not followed. Defaults to one
	// of its own transport.
	HTTPClient *http.Client

	// Logger is told what went wrong, never a prompt or the key. Defaults to
	// [slog.Default].
	Logger *slog.Logger

	// Now is the clock. Defaults to [time.Now].
	Now func() time.Time
}

// Prompts reads prompts from a hedgerow server and keeps them in memory. Make one
// for the whole process. All methods are safe for concurrent use; those of a nil
// *Prompts serve fallbacks only.
type Prompts struct {
	c    PromptsConfig
	log  *slog.Logger
	http *http.Client

	mu    sync.Mutex
	cache map[promptKey]*promptEntry

	resolved      resolvedCache
	resolveNotYet time.Time // the server failed: it is not asked before
}

type promptKey struct{ name, ref string }

// promptEntry is one cached prompt. turn is held by whoever asks the server.
type promptEntry struct {
	turn    chan struct{}
	prompt  *Prompt
	fetched time.Time
	err     error     // of the last try
	notYet  time.Time // no new try before
}

// NewPrompts returns a reader of prompts, or an [*event.Error] of code invalid
// that says which setting is wrong. On an error it is nil, which is safe to use:
// calls that have a fallback get it.
func NewPrompts(c PromptsConfig) (*Prompts, error) {
	c.Key = strings.TrimSpace(firstOf(c.Key, os.Getenv("HEDGEROW_PROMPTS_KEY")))
	c.Host = strings.TrimSpace(firstOf(c.Host, os.Getenv("HEDGEROW_HOST")))
	switch {
	case c.Host == "":
		return nil, fmt.Errorf("hedgerow: %w", event.Invalid("there is no host to read prompts from", "set PromptsConfig.Host or HEDGEROW_HOST to the hedgerow server, as in http://127.0.0.1:4100"))
	case !strings.HasPrefix(c.Key, "hr_"):
		return nil, fmt.Errorf("hedgerow: %w", event.Invalid("prompts are read with an API key of hedgerow, which begins with hr_", "make one of role viewer with hedgerow project add-key, and set PromptsConfig.Key or HEDGEROW_PROMPTS_KEY"))
	case c.TTL < 0 || c.Timeout < 0:
		return nil, fmt.Errorf("hedgerow: %w", event.Invalid("TTL or Timeout is negative", "leave it at 0 for the default"))
	}
	var err error
	if c.Host, err = checkHost(c.Host, true); err != nil {
		return nil, fmt.Errorf("hedgerow: %w", err)
	}
	if isPostHog(c.Host) {
		return nil, fmt.Errorf("hedgerow: %w", event.Invalid("prompts are kept in hedgerow, and the host is PostHog's", "set PromptsConfig.Host or HEDGEROW_HOST to the address of your hedgerow server"))
	}
	setDefault(&c.TTL, DefaultPromptTTL)
	setDefault(&c.Timeout, DefaultPromptTimeout)
	if c.Now == nil {
		c.Now = time.Now
	}
	base := Config{HTTPClient: c.HTTPClient, Logger: c.Logger}
	return &Prompts{c: c, log: base.logger(), http: newHTTPClient(&base), cache: make(map[promptKey]*promptEntry)}, nil
}

// PromptSource says where a [Prompt] came from.
type PromptSource string

// The sources of a prompt.
const (
	PromptFromServer   PromptSource = "server"
	PromptFromCache    PromptSource = "cache"    // younger than TTL
	PromptFromStale    PromptSource = "stale"    // older than TTL, because the server could not be asked
	PromptFromFallback PromptSource = "fallback" // [PromptFallback]
)

// PromptMessage is one message of a prompt.
type PromptMessage struct {
	Role    string `json:"role"`    // system, developer, user or assistant
	Content string `json:"content"` // text; {{name}} stands for a variable
}

// PromptVariable is a variable of a prompt.
type PromptVariable struct {
	Name        string   `json:"name"`        // as {{name}} in the messages
	Type        string   `json:"type"`        // string, number, integer, boolean or json
	Optional    bool     `json:"optional"`    // need not be given: Default, or nothing, stands in
	Default     any      `json:"default"`     // of Type; nil is none
	Enum        []string `json:"enum"`        // the only values of a string that are allowed; none allows all
	Description string   `json:"description"` // for people
}

// Prompt is one version of a prompt. It must not be changed: others are given the
// same.
type Prompt struct {
	Name      string           `json:"prompt"`    // under which it is asked for
	Version   int              `json:"number"`    // 0: a fallback
	VersionID string           `json:"id"`        // pv_…; "" where it is a fallback
	Messages  []PromptMessage  `json:"messages"`  // in order, variables not yet put in
	Variables []PromptVariable `json:"variables"` // what Render asks for
	Provider  string           `json:"provider"`  // "" leaves it to the caller, as with Model
	Model     string           `json:"model"`     // "" leaves it to the caller
	Params    map[string]any   `json:"params"`    // temperature, max_tokens …, as the provider names them

	Source PromptSource `json:"-"` // where this one came from
}

// RenderedPrompt is a prompt with its values put in.
type RenderedPrompt struct {
	Messages []PromptMessage // in order, ready to be sent
	Provider string          // "" leaves it to the caller, as with Model
	Model    string          // "" leaves it to the caller
	Params   map[string]any  // temperature, max_tokens …, as the provider names them
}

// PromptOption chooses a version, or says what else to do.
type PromptOption func(*promptChoice)

type promptChoice struct {
	ref      string
	pinned   bool
	fallback []PromptMessage
	person   Properties
}

// PromptVersion chooses the version of a number. It never changes.
func PromptVersion(number int) PromptOption {
	return func(c *promptChoice) { c.ref, c.pinned = strconv.Itoa(number), true }
}

// PromptLabel chooses the version that a label points to: production, staging,
// latest or one of your own. Without it production is meant or, where there is no
// such label, the newest version.
func PromptLabel(label string) PromptOption {
	return func(c *promptChoice) { c.ref, c.pinned = label, false }
}

// PromptFallback is what [Prompts.Get] returns where it has nothing better: no
// answer, and nothing in memory. Variables in it are required strings.
func PromptFallback(messages ...PromptMessage) PromptOption {
	return func(c *promptChoice) { c.fallback = messages }
}

// Get returns a prompt: from memory where that is younger than TTL, else from the
// server, else from memory whatever its age, else the fallback. Without any of
// these it returns the [*event.Error] of the server, or one of code unavailable.
// Calls for one prompt at one time make one request.
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
		p.log.WarnContext(ctx, "a prompt could not be read; the fallback is used", "prompt", name, "err", err)
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
		return nil, event.NewError(event.CodeUnavailable, "no prompts can be read: there is no reader", "see what NewPrompts said", nil)
	}
	if name == "" {
		return nil, event.Invalid("the prompt has no name", "name the prompt")
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
	if got, ok := p.fresh(e, choice.pinned); ok { // another call has asked meanwhile
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
		if ctx.Err() == nil { // a caller who gave up says nothing of the server
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
		p.log.WarnContext(ctx, "a prompt could not be read anew; the one in memory is used", "prompt", name, "version", e.prompt.Version, "err", err)
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

// fetch asks the server, and says how long to wait after an error.
func (p *Prompts) fetch(ctx context.Context, name, ref string) (*Prompt, time.Duration, error) {
	got, after, err := p.ask(ctx, name, firstOf(ref, "production"))
	if e := (*event.Error)(nil); ref == "" && errors.As(err, &e) && e.Code == event.CodeNotFound {
		return p.ask(ctx, name, "latest") // nobody has put production anywhere
	}
	return got, after, err
}

func (p *Prompts) ask(ctx context.Context, name, ref string) (*Prompt, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, p.c.Timeout)
	defer cancel()
	unavailable := func(err error) (*Prompt, time.Duration, error) {
		return nil, promptCooldown, event.NewError(event.CodeUnavailable, "hedgerow could not be asked for the prompt", "check PromptsConfig.Host, and that the server runs", err)
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
		err = errors.New("the answer is too large")
	}
	if err != nil {
		return unavailable(err)
	}
	var answer struct {
		Version *Prompt
		Error   struct {
			Code          event.Code
			Message, Hint string
		}
	}
	err = json.Unmarshal(body, &answer)
	switch {
	case resp.StatusCode == http.StatusOK && err == nil && answer.Version != nil && len(answer.Version.Messages) > 0:
		answer.Version.Source = PromptFromServer
		return answer.Version, 0, nil
	case err == nil && answer.Error.Code != "":
		after := promptCooldown
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
			after = min(time.Duration(s)*time.Second, 5*time.Minute)
		}
		return nil, after, event.NewError(answer.Error.Code, answer.Error.Message, answer.Error.Hint, nil)
	}
	return unavailable(fmt.Errorf("the answer of status %d is no prompt", resp.StatusCode))
}

// Use is [Prompts.Get], [Prompt.Render] and [Prompt.Context] in one: the text to
// send, and a context whose calls bear the prompt's name and version.
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

// Context returns a context whose calls bear the prompt's name and version, as
// with [WithPrompt]. Those of a fallback bear the name only: hedgerow finds the
// version by the text, where it is one.
func (p *Prompt) Context(ctx context.Context) context.Context {
	version := ""
	if p.Version > 0 {
		version = strconv.Itoa(p.Version)
	}
	return with(ctx, func(a *attribution) { a.prompt, a.promptVersion, a.promptVersionID = p.Name, version, p.VersionID })
}

// Render puts values into the messages. Each required variable must have a value
// of its type: text for a string, Go's numbers or a json.Number for a number, a
// whole one for an integer, a bool for a boolean, and what encodes to a list or
// an object for json. A value without a variable is a mistake too. The
// [*event.Error] names the variable and never the value.
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

// Clear forgets what is in memory, of one prompt or, with "", of all. The next
// call asks the server.
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

// Instructions are the texts of the system and developer messages, joined by an
// empty line: what Anthropic's system and OpenAI's instructions take.
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
