package prompt_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
)

const (
	shop = "p_shop"
	ann  = "u_ann"
)

func bucketOf(t testing.TB) jetstream.KeyValue {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(context.Background()) })
	kv, err := j.KeyValue(t.Context(), "prompts", 1)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func open(t *testing.T, kv jetstream.KeyValue) (*prompt.Registry, *audit) {
	t.Helper()
	a := new(audit)
	r, err := prompt.Open(t.Context(), kv, prompt.Options{Audit: a.add})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r, a
}

type audit struct {
	mu   sync.Mutex
	list []project.AuditEntry
}

func (a *audit) add(_ context.Context, e project.AuditEntry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, e)
	return nil
}

func (a *audit) last() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.list) == 0 {
		return ""
	}
	e := a.list[len(a.list)-1]
	return strings.TrimSpace(strings.Join([]string{e.Actor, e.Action, e.ProjectID, e.Target, e.Detail}, " "))
}

func system(text string) prompt.Draft {
	return prompt.Draft{Messages: []prompt.Message{{Role: "system", Content: text}}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code event.Code) {
	t.Helper()
	e := event.AsError(err)
	if e == nil || e.Code != code || e.Message == "" || e.Hint == "" {
		t.Errorf("error %v, want one of code %s that says what to do", err, code)
	}
}

func TestVersionsAndLabels(t *testing.T) {
	r, log := open(t, bucketOf(t))
	ctx := t.Context()
	p, err := r.Create(ctx, ann, shop, "support", "answers tickets", system("Answer the ticket."))
	must(t, err)
	if p.Latest != 1 || p.Labels[prompt.Production].Version != 1 || p.Description != "answers tickets" {
		t.Errorf("a new prompt is %+v", p)
	}
	if got, want := log.last(), "u_ann prompt.create p_shop support"; got != want {
		t.Errorf("audit %q, want %q", got, want)
	}
	_, err = r.Create(ctx, ann, shop, "support", "", system("x"))
	wantCode(t, err, event.CodeConflict)

	v2, added, err := r.AddVersion(ctx, ann, shop, "support", prompt.Draft{Messages: []prompt.Message{{Content: "Answer {{ticket}} kindly."}}, Model: "gpt-4.1-mini", Params: map[string]any{"temperature": 0.2}, Note: "kinder"})
	must(t, err)
	if !added || v2.Number != 2 || !strings.HasPrefix(v2.ID, "pv_") || v2.Author != ann || v2.Messages[0].Role != "system" || len(v2.Variables) != 1 || v2.PromptHash != "" {
		t.Errorf("version 2 is %+v, added %v", v2, added)
	}
	again, added, err := r.AddVersion(ctx, ann, shop, "support", v2.Draft())
	must(t, err)
	if added || again.ID != v2.ID {
		t.Errorf("the same content made version %d", again.Number)
	}

	for ref, want := range map[string]int{"": 1, "production": 1, "latest": 2, "1": 1, "v2": 2, v2.ID: 2} {
		if v, ok := r.Version(shop, "support", ref); !ok || v.Number != want {
			t.Errorf("reference %q is version %d, want %d", ref, v.Number, want)
		}
	}
	for _, ref := range []string{"3", "staging", "pv_nothing", "v"} {
		if v, ok := r.Version(shop, "support", ref); ok {
			t.Errorf("reference %q is version %d", ref, v.Number)
		}
	}

	must(t, r.SetLabel(ctx, ann, shop, "support", "production", "2", "better in the trial"))
	if got, want := log.last(), "u_ann prompt.label p_shop support production v1 → v2: better in the trial"; got != want {
		t.Errorf("audit %q, want %q", got, want)
	}
	must(t, r.SetLabel(ctx, ann, shop, "support", "production", v2.ID, "once more")) // no move
	must(t, r.SetLabel(ctx, "u_bob", shop, "support", "production", "1", "back"))
	p, _ = r.Prompt(shop, "support")
	l := p.Labels["production"]
	var moves []string
	for _, m := range l.History {
		moves = append(moves, fmt.Sprintf("%d→%d %s %s", m.From, m.To, m.By, m.Reason))
	}
	if got, want := strings.Join(moves, "; "), "2→1 u_bob back; 1→2 u_ann better in the trial; 0→1 u_ann "; got != want {
		t.Errorf("history %q, want %q", got, want)
	}

	wantCode(t, r.SetLabel(ctx, ann, shop, "support", "latest", "1", ""), event.CodeInvalid)
	wantCode(t, r.SetLabel(ctx, ann, shop, "support", "7", "1", ""), event.CodeInvalid)
	wantCode(t, r.SetLabel(ctx, ann, shop, "support", "staging", "9", ""), event.CodeNotFound)
	wantCode(t, r.SetLabel(ctx, ann, shop, "support", "staging", "", ""), event.CodeInvalid)
	wantCode(t, r.SetLabel(ctx, ann, "p_other", "support", "staging", "1", ""), event.CodeNotFound)

	must(t, r.RemoveLabel(ctx, ann, shop, "support", "production", ""))
	if v, _ := r.Version(shop, "support", ""); v.Number != 2 {
		t.Errorf("without production, no reference is version %d, want the newest", v.Number)
	}
	wantCode(t, r.RemoveLabel(ctx, ann, shop, "support", "production", ""), event.CodeNotFound)

	if v, ok := r.VersionByID(shop, v2.ID); !ok || v.Number != 2 {
		t.Error("the version is not found by its id")
	}
	if v, ok := r.Version(shop, "support", "1"); !ok || v.PromptHash != event.HashInstructions([]string{"  Answer the ticket.\r\n"}) {
		t.Error("version 1 does not have the hash of its events")
	}
	if _, ok := r.VersionByID("p_other", v2.ID); ok {
		t.Error("another project sees the version")
	}

	wantCode(t, r.Delete(ctx, ann, shop, "support", "yes"), event.CodeInvalid)
	must(t, r.Delete(ctx, ann, shop, "support", "support"))
	if _, ok := r.Prompt(shop, "support"); ok || len(r.Prompts(shop)) != 0 {
		t.Error("the prompt is still there")
	}
	wantCode(t, r.Delete(ctx, ann, shop, "support", "support"), event.CodeNotFound)
	// A namesake starts over.
	p, err = r.Create(ctx, ann, shop, "support", "", system("Another."))
	must(t, err)
	if p.Latest != 1 {
		t.Errorf("the namesake has version %d", p.Latest)
	}
}

func TestErase(t *testing.T) {
	kv := bucketOf(t)
	r, _ := open(t, kv)
	for _, project := range []string{shop, "p_other"} {
		for _, name := range []string{"a", "b"} {
			_, err := r.Create(t.Context(), ann, project, name, "", system("x"))
			must(t, err)
		}
	}
	must(t, r.Erase(t.Context(), shop))
	must(t, r.Erase(t.Context(), "p_nobody"))
	if n, m := len(r.Prompts(shop)), len(r.Prompts("p_other")); n != 0 || m != 2 {
		t.Errorf("%d prompts of the project and %d of the other are left", n, m)
	}
	keys, err := kv.Keys(t.Context())
	must(t, err)
	if len(keys) != 4 {
		t.Errorf("the bucket has %v, want two prompts with a version each", keys)
	}
}

func TestRefusedDrafts(t *testing.T) {
	r, _ := open(t, bucketOf(t))
	for name, d := range map[string]prompt.Draft{
		"no message":        {},
		"empty message":     system(" \n"),
		"role":              {Messages: []prompt.Message{{Role: "tool", Content: "x"}}},
		"unused variable":   {Messages: system("x").Messages, Variables: []prompt.Variable{{Name: "ticket"}}},
		"declared twice":    {Messages: system("{{a}}").Messages, Variables: []prompt.Variable{{Name: "a"}, {Name: "a"}}},
		"variable's name":   {Messages: system("x").Messages, Variables: []prompt.Variable{{Name: "a b"}}},
		"variable's type":   {Messages: system("{{a}}").Messages, Variables: []prompt.Variable{{Name: "a", Type: "date"}}},
		"default's type":    {Messages: system("{{a}}").Messages, Variables: []prompt.Variable{{Name: "a", Type: "integer", Default: "many"}}},
		"enum of numbers":   {Messages: system("{{a}}").Messages, Variables: []prompt.Variable{{Name: "a", Type: "number", Enum: []string{"1"}}}},
		"messages as param": {Messages: system("x").Messages, Params: map[string]any{"messages": 1}},
		"param no JSON":     {Messages: system("x").Messages, Params: map[string]any{"f": func() {}}},
		"long note":         {Messages: system("x").Messages, Note: strings.Repeat("é", 2001)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.Create(t.Context(), ann, shop, "x", "", d)
			wantCode(t, err, event.CodeInvalid)
		})
	}
	_, err := r.Create(t.Context(), ann, shop, "x", "", system(strings.Repeat("x", 513<<10)))
	wantCode(t, err, event.CodeTooLarge)
	for _, name := range []string{"", "a b", "a@b", "-a", "a/b", strings.Repeat("a", 101)} {
		_, err := r.Create(t.Context(), ann, shop, name, "", system("x"))
		wantCode(t, err, event.CodeInvalid)
	}
	_, _, err = r.AddVersion(t.Context(), ann, shop, "nothing", system("x"))
	wantCode(t, err, event.CodeNotFound)
}

// Two processes on one bucket: numbers have no gaps, nothing is lost, and both
// come to see the same.
func TestTwoRegistries(t *testing.T) {
	kv := bucketOf(t)
	a, _ := open(t, kv)
	b, _ := open(t, kv)
	ctx := t.Context()
	_, err := a.Create(ctx, ann, shop, "p", "", system("first"))
	must(t, err)
	const each = 10
	var wg sync.WaitGroup
	for i, r := range []*prompt.Registry{a, b} {
		wg.Go(func() {
			for n := range each {
				for {
					_, _, err := r.AddVersion(ctx, ann, shop, "p", system(fmt.Sprintf("text %d of %d", n, i)))
					if err == nil {
						break
					}
					if event.AsError(err).Code != event.CodeNotFound { // b may not have seen the prompt yet
						t.Error(err)
						return
					}
				}
				if err := r.SetLabel(ctx, ann, shop, "p", fmt.Sprintf("l%d", i), "latest", ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// A change of one's own is seen after all changes before it.
	for _, r := range []*prompt.Registry{a, b} {
		must(t, r.Describe(ctx, ann, shop, "p", "done"))
	}
	must(t, a.Describe(ctx, ann, shop, "p", "all done"))
	list := a.Versions(shop, "p")
	if len(list) != 2*each+1 {
		t.Fatalf("%d versions, want %d", len(list), 2*each+1)
	}
	for i, v := range list {
		if v.Number != len(list)-i {
			t.Errorf("version %d stands at place %d", v.Number, i)
		}
	}
	// A third process reads the same from the bucket.
	c, _ := open(t, kv)
	want, _ := json.Marshal(list)
	got, _ := json.Marshal(c.Versions(shop, "p"))
	if string(got) != string(want) {
		t.Error("a registry that is opened later reads something else")
	}
}
