package hedgerow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// resolvedFor is how long a resolved prompt is cached: a stopped rollout is off
// everywhere within it.
const resolvedFor = 30 * time.Second

// maxResolved bounds the number of cached users; the older half is evicted first.
const maxResolved = 10_000

// Resolved is the prompt for a user: the version and model of their variant of the
// rollout's flag, or the default if there is no rollout.
type Resolved struct {
	*Prompt        // with the variant's provider and model
	Flag    string // the rollout's flag; "" without a rollout
	Variant string // the flag's value for the user: a variant, "true" or "false"
	Reason  string // why this version, as in POST /api/v1/prompts/{name}/resolve
}

// Context returns a context that attributes calls to the prompt, its version and the
// flag.
func (r *Resolved) Context(ctx context.Context) context.Context {
	ctx = r.Prompt.Context(ctx)
	if r.Flag != "" {
		ctx = WithFlag(ctx, r.Flag, r.Variant)
		ctx = WithProperties(ctx, Properties{"posthog_flag": r.Flag, "posthog_flag_variant": r.Variant})
	}
	return ctx
}

// PromptPerson sets the person properties for the rollout's flag, as in PostHog:
// {"plan": "pro"}. They are part of the cache key.
func PromptPerson(properties Properties) PromptOption {
	return func(c *promptChoice) { c.person = properties }
}

// Resolve returns the prompt for the user of the context ([WithUser],
// [WithGroups]). It requests the server once in 30 s for each user. If a request
// fails, the user keeps the cached prompt; without one, or without a user in the
// context, the result is that of [Prompts.Get], as outside the rollout. Options
// are those of Get; a version or label bypasses the rollout.
func (p *Prompts) Resolve(ctx context.Context, name string, options ...PromptOption) (*Resolved, error) {
	var choice promptChoice
	for _, o := range options {
		o(&choice)
	}
	withoutRollout := func() (*Resolved, error) {
		got, err := p.Get(ctx, name, options...)
		if err != nil {
			return nil, err
		}
		return &Resolved{Prompt: got}, nil
	}
	a := attributionOf(ctx)
	if p == nil || name == "" || choice.ref != "" || a == nil || event.CleanValue(a.user) == "" {
		return withoutRollout()
	}
	question, err := json.Marshal(map[string]any{"distinct_id": event.CleanValue(a.user), "groups": merged(a.groups, nil), "person_properties": merged(choice.person, nil)})
	if err != nil {
		return nil, fmt.Errorf("hedgerow: %w", event.NewError(event.CodeInvalid, "the user's properties cannot be encoded as JSON", "use strings, numbers, booleans and lists", err))
	}
	key := name + "\x00" + string(question)
	now := p.c.Now()
	p.mu.Lock()
	have, ok := p.resolved.get(key)
	wait := now.Before(p.resolveNotYet)
	p.mu.Unlock()
	if ok && (now.Sub(have.at) < resolvedFor || wait) {
		source := PromptFromCache
		if now.Sub(have.at) >= resolvedFor {
			source = PromptFromStale
		}
		return have.from(source), nil
	}
	if wait {
		return withoutRollout()
	}
	got, err := p.requestResolved(ctx, name, question)
	var e *event.Error
	switch {
	case err == nil:
		p.mu.Lock()
		p.resolved.put(key, resolvedEntry{got, now})
		p.mu.Unlock()
		return got, nil
	case errors.As(err, &e) && e.Code != event.CodeUnavailable:
		return withoutRollout() // the server does not have the prompt or rejects the key: Get returns the error or the fallback
	case ctx.Err() == nil:
		p.mu.Lock()
		p.resolveNotYet = now.Add(promptCooldown)
		p.mu.Unlock()
		p.log.WarnContext(ctx, "resolve prompt failed: using the cached or default version", "prompt", name, "err", err)
	}
	if ok {
		return have.from(PromptFromStale), nil
	}
	return withoutRollout()
}

func (p *Prompts) requestResolved(ctx context.Context, name string, question []byte) (*Resolved, error) {
	var response struct {
		Version                                *Prompt
		Provider, Model, Flag, Variant, Reason string
	}
	if err := p.postJSON(ctx, "/api/v1/prompts/"+url.PathEscape(name)+"/resolve", question, &response); err != nil {
		return nil, err
	}
	if response.Version == nil || len(response.Version.Messages) == 0 {
		return nil, event.NewError(event.CodeUnavailable, "hedgerow's response is not a prompt", "check PromptsConfig.Host", nil)
	}
	v := response.Version
	v.Provider, v.Model, v.Source = response.Provider, response.Model, PromptFromServer
	return &Resolved{Prompt: v, Flag: response.Flag, Variant: response.Variant, Reason: response.Reason}, nil
}

// postJSON sends a request to hedgerow's API. The error is an [*event.Error], with
// code unavailable if there was no response.
func (p *Prompts) postJSON(ctx context.Context, path string, question []byte, into any) error {
	ctx, cancel := context.WithTimeout(ctx, p.c.Timeout)
	defer cancel()
	unavailable := func(err error) error {
		return event.NewError(event.CodeUnavailable, "the request to hedgerow failed", "check PromptsConfig.Host, and that the server runs", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.c.Host+path, bytes.NewReader(question))
	if err != nil {
		return unavailable(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+p.c.Key)
	req.Header.Set("User-Agent", libName+"/"+Version)
	resp, err := p.http.Do(req)
	if err != nil {
		return unavailable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPromptBody))
	if err != nil {
		return unavailable(err)
	}
	var failed struct {
		Error struct {
			Code          event.Code
			Message, Hint string
		}
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		if err := json.Unmarshal(body, into); err != nil {
			return unavailable(err)
		}
		return nil
	case resp.StatusCode < 500 && json.Unmarshal(body, &failed) == nil && failed.Error.Code != "":
		return event.NewError(failed.Error.Code, failed.Error.Message, failed.Error.Hint, nil)
	}
	return unavailable(fmt.Errorf("status %d", resp.StatusCode))
}

type resolvedEntry struct {
	resolved *Resolved
	at       time.Time
}

func (e resolvedEntry) from(s PromptSource) *Resolved {
	r := *e.resolved
	r.Prompt = r.Prompt.from(s)
	return &r
}

// resolvedCache keeps between half of maxResolved and all of it.
type resolvedCache struct{ now, old map[string]resolvedEntry }

func (c *resolvedCache) get(key string) (resolvedEntry, bool) {
	e, ok := c.now[key]
	if !ok {
		e, ok = c.old[key]
	}
	return e, ok
}

func (c *resolvedCache) put(key string, e resolvedEntry) {
	if c.now == nil || len(c.now) >= maxResolved/2 {
		c.now, c.old = make(map[string]resolvedEntry), c.now
	}
	c.now[key] = e
}

// forget removes a prompt, or all of them.
func (c *resolvedCache) forget(name string) {
	for _, m := range []map[string]resolvedEntry{c.now, c.old} {
		for key := range m {
			if name == "" || strings.HasPrefix(key, name+"\x00") {
				delete(m, key)
			}
		}
	}
}
