package prompt

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/template"
	"github.com/hedgerow/hedgerow/server/internal/kv"
)

// Message and Variable are what a version's text is made of.
type (
	Message  = template.Message
	Variable = template.Variable
)

// Version is one state of a prompt. It never changes: a change makes a new one.
type Version struct {
	ID        string         `json:"id"` // "pv_" and 16 characters, unique in the installation
	Prompt    string         `json:"prompt"`
	Number    int            `json:"number"` // 1 and up, without gaps within a prompt
	Messages  []Message      `json:"messages"`
	Variables []Variable     `json:"variables"`
	Provider  string         `json:"provider,omitempty"` // "openai", "anthropic" …; "" leaves it to the caller
	Model     string         `json:"model,omitempty"`
	Params    map[string]any `json:"params,omitempty"` // temperature, max_tokens …, as the provider names them
	Author    string         `json:"author"`           // who added it, as the audit log has it
	Note      string         `json:"note,omitempty"`   // what changed, in the author's words
	// Hash is the [ContentHash]: two versions that send the same have the same.
	Hash string `json:"hash"`
	// PromptHash is the hash of the instructions as events have it in
	// prompt_hash; "" where they have variables, or there are none.
	PromptHash string    `json:"prompt_hash,omitempty"`
	Created    time.Time `json:"created_at"`

	pattern template.Pattern
}

// Draft is what makes a version.
type Draft struct {
	Messages  []Message      `json:"messages" yaml:"messages"`
	Variables []Variable     `json:"variables,omitempty" yaml:"variables,omitempty"`
	Provider  string         `json:"provider,omitempty" yaml:"provider,omitempty"`
	Model     string         `json:"model,omitempty" yaml:"model,omitempty"`
	Params    map[string]any `json:"params,omitempty" yaml:"params,omitempty"`
	Note      string         `json:"note,omitempty" yaml:"note,omitempty"`
}

// Draft returns what would make the version again.
func (v Version) Draft() Draft {
	return Draft{Messages: slices.Clone(v.Messages), Variables: slices.Clone(v.Variables), Provider: v.Provider, Model: v.Model, Params: maps.Clone(v.Params), Note: v.Note}
}

// Ref is the version as a header names it: "name@3".
func (v Version) Ref() string { return v.Prompt + "@" + strconv.Itoa(v.Number) }

const (
	maxNote   = 2000 // characters
	maxParams = 64 << 10
)

// check returns the draft as it is to be kept.
func (d Draft) check() (Draft, error) {
	var err error
	if d.Messages, d.Variables, err = template.Check(d.Messages, d.Variables); err != nil {
		return d, err
	}
	d.Provider, d.Model, d.Note = strings.ToLower(strings.TrimSpace(d.Provider)), strings.TrimSpace(d.Model), strings.TrimSpace(d.Note)
	if len(d.Provider) > 100 || len(d.Model) > 200 {
		return d, event.Invalid("the provider or model name is too long", "use the names from the provider's API")
	}
	if event.FirstChars(d.Note, maxNote) != d.Note {
		return d, event.Invalid(fmt.Sprintf("the note has more than %d characters", maxNote), "shorten it")
	}
	if len(d.Params) == 0 {
		d.Params = nil
		return d, nil
	}
	b, err := json.Marshal(d.Params)
	if err != nil {
		return d, event.NewError(event.CodeInvalid, "the parameters are not JSON", "use an object such as  {\"temperature\": 0.2}", err)
	}
	if len(b) > maxParams {
		return d, event.NewError(event.CodeTooLarge, fmt.Sprintf("the parameters have more than %d KiB", maxParams>>10), "move text into the messages", nil)
	}
	for _, name := range []string{"model", "messages", "input", "system", "instructions", "contents", "stream"} {
		if _, ok := d.Params[name]; ok {
			return d, event.Invalid(fmt.Sprintf("%q is not a prompt parameter", name), "model and messages are separate fields, and the caller sets streaming")
		}
	}
	// What is kept is what will be read: numbers as JSON has them.
	d.Params = nil
	return d, json.Unmarshal(b, &d.Params)
}

// AddVersion adds a version to a prompt. Where the newest version has the same
// content, that one is returned and added is false: saving twice makes one
// version.
func (r *Registry) AddVersion(ctx context.Context, actor, projectID, name string, d Draft) (v Version, added bool, err error) {
	d, err = d.check()
	if err != nil {
		return Version{}, false, err
	}
	p, ok := r.b.View().prompt(projectID, name)
	if !ok {
		return Version{}, false, noPrompt(name)
	}
	v, added, err = r.addVersion(ctx, actor, p, d)
	if err != nil || !added {
		return v, false, err
	}
	r.audit(ctx, actor, "prompt.version", projectID, v.Ref(), v.Note)
	return v, true, nil
}

func (r *Registry) addVersion(ctx context.Context, actor string, p *held, d Draft) (Version, bool, error) {
	hash := ContentHash(d)
	for {
		number := 1
		if n := len(p.versions); n > 0 {
			last := p.versions[n-1]
			if last.Hash == hash {
				return *last, false, nil
			}
			number = last.Number + 1
		}
		v := Version{
			ID: newID("pv"), Prompt: p.Name, Number: number, Messages: d.Messages, Variables: d.Variables, Provider: d.Provider, Model: d.Model,
			Params: d.Params, Author: actor, Note: d.Note, Hash: hash, PromptHash: HashText(d.Messages), Created: r.now().UTC(),
		}
		err := r.b.Create(ctx, versionKey(p.id, number), v)
		if err == nil {
			v.pattern = template.NewPattern(v.Messages)
			return v, true, nil
		}
		if !errors.Is(err, kv.ErrExists) {
			return Version{}, false, err
		}
		// Another process added this number first, and the view is to hear of it.
		fresh, ok := r.b.View().prompt(p.Project, p.Name)
		if !ok || fresh.id != p.id {
			return Version{}, false, noPrompt(p.Name)
		}
		p = fresh
		select {
		case <-ctx.Done():
			return Version{}, false, event.NewError(event.CodeConflict, "someone else added a version at the same time", "review it and add yours again", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// newID is a new random id: 16 of 32 characters, 80 bits.
func newID(prefix string) string { return prefix + "_" + strings.ToLower(rand.Text()[:16]) }
