package prompt_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
)

func TestAttribute(t *testing.T) {
	r, _ := open(t, bucketOf(t))
	ctx := t.Context()
	add := func(name string, drafts ...prompt.Draft) {
		t.Helper()
		_, err := r.Create(ctx, ann, shop, name, "", drafts[0])
		must(t, err)
		for _, d := range drafts[1:] {
			_, _, err := r.AddVersion(ctx, ann, shop, name, d)
			must(t, err)
		}
	}
	model := func(d prompt.Draft, m string) prompt.Draft { d.Model = m; return d }
	add("support", system("Answer the ticket."), system("Answer the ticket kindly."), model(system("Answer the ticket."), "big"))
	add("greet", system("You greet the customers of {{shop}} in one sentence."), system("You greet the customers of {{shop}} in one sentence. Be formal."))
	add("short", system("Hi {{name}}"))
	add("twin-a", system("The very same text."))
	add("twin-b", system("The very same text."))
	add("words", prompt.Draft{Messages: []prompt.Message{{Role: "user", Content: "Summarise {{text}}"}}})
	say := func(texts ...string) (d prompt.Draft) { // system, user, assistant, user …; "" leaves one out
		for i, s := range texts {
			if s != "" {
				d.Messages = append(d.Messages, prompt.Message{Role: []string{"system", "user", "assistant", "user"}[i], Content: s})
			}
		}
		return d
	}
	add("digest", say("", "Sum up in three points what follows.\n\n{{thread}}"), say("", "Sum up in five points what follows.\n\n{{thread}}"))
	add("shots", say("You sort tickets into kinds.", "Ticket: my card was charged twice", "billing", "Ticket: {{ticket}}"), say("You sort tickets into kinds.", "Ticket: where is my parcel", "delivery", "Ticket: {{ticket}}"))
	must(t, r.SetLabel(ctx, ann, shop, "support", "staging", "2", ""))
	v := func(name, ref string) prompt.Version {
		v, ok := r.Version(shop, name, ref)
		if !ok {
			t.Fatalf("no %s@%s", name, ref)
		}
		return v
	}

	type E = event.Event
	// What the user and the assistant say in a call, in turns; "cut" is where the
	// reading ended.
	talks := map[string][]string{
		"recognised by the user's part":               {"Sum up in five points what  follows.\nAnn: hello\nBen: hi"},
		"… whatever a framework instructs":            {"Sum up in three points what follows. Ann: hello"},
		"… in a later turn":                           {"Hello!", "Hi.", "Sum up in three points what follows. Ann: hello"},
		"another user's words":                        {"Sum up in seven points what follows. Ann: hello"},
		"words of the other side":                     {"Hi", "Sum up in three points what follows. Ann: hello"},
		"user's part, named":                          {"Sum up in five points what follows. Ann: hello"},
		"user's part, drifted":                        {"Sum up in four points what follows. Ann: hello"},
		"user's part, of another version":             {"Sum up in three points what follows. Ann: hello"},
		"user's part, name alone":                     {"Sum up in three points what follows. Ann: hello"},
		"user's part, name alone, drifted":            {"Tell me a story."},
		"a conversation that was not read to its end": {"Tell me a story.", "…", "cut"},
		"examples tell versions apart":                {"Ticket: my card was charged twice", "billing", "Ticket: it is broken"},
		"… the other one":                             {"Ticket: where is my parcel", "delivery", "Ticket: it is broken"},
		"… examples of neither":                       {"Ticket: it is broken"},
		"examples drifted":                            {"Ticket: my card was charged twice", "payment", "Ticket: it is broken"},
		"examples as they are":                        {"Ticket: my card was charged twice", "billing", "Ticket: it is broken"},
		"words of a user that no template has":        {"Hello!"},
	}
	for _, c := range []struct {
		name  string
		event E
		text  string
		want  string // name@version, and properties
	}{
		{"number", E{PromptName: "support", PromptVersion: "2"}, "Answer the ticket kindly.", "support@2"},
		{"number, text of another version", E{PromptName: "support", PromptVersion: "2"}, "Answer the ticket.", "support@2 drift"},
		{"number, text nobody registered", E{PromptName: "support", PromptVersion: "2"}, "Answer the ticket kindly!", "support@2 drift"},
		{"number, no text", E{PromptName: "support", PromptVersion: "2"}, "", "support@2"},
		{"number, hash only", E{PromptName: "support", PromptVersion: "2", PromptHash: v("support", "2").PromptHash}, "", "support@2"},
		{"number, another hash", E{PromptName: "support", PromptVersion: "2", PromptHash: "sha256:00"}, "", "support@2 drift"},
		{"id", E{PromptVersionID: v("support", "2").ID}, "Answer the ticket kindly.", "support@2"},
		{"unknown id", E{PromptVersionID: "pv_elsewhere"}, "Answer the ticket kindly.", "@"},
		{"label", E{PromptName: "support", PromptVersion: "staging"}, "Answer the ticket kindly.", "support@2 label=staging"},
		{"label that was moved since", E{PromptName: "support", PromptVersion: "staging"}, "Answer the ticket.", "support@1 label=staging"},
		{"label, text nobody registered", E{PromptName: "support", PromptVersion: "staging"}, "Something else.", "support@2 label=staging drift"},
		{"label, no text", E{PromptName: "support", PromptVersion: "staging"}, "", "support@2 label=staging"},
		{"name alone", E{PromptName: "support"}, "Answer the ticket kindly.", "support@2"},
		{"name alone, text nobody registered", E{PromptName: "support"}, "Something else.", "support@ drift"},
		{"name alone, no text", E{PromptName: "support"}, "", "support@"},
		{"unknown version", E{PromptName: "support", PromptVersion: "2026-03"}, "Answer the ticket kindly.", "support@2"},
		{"unknown prompt", E{PromptName: "elsewhere", PromptVersion: "1"}, "Answer the ticket kindly.", "elsewhere@1"},
		{"template, named", E{PromptName: "greet", PromptVersion: "1"}, "You greet the customers of Elm Street in one sentence.", "greet@1"},
		{"template, drifted", E{PromptName: "greet", PromptVersion: "1"}, "You insult the customers of Elm Street in one sentence.", "greet@1 drift"},
		{"template, hash only", E{PromptName: "greet", PromptVersion: "1", PromptHash: "sha256:00"}, "", "greet@1"},
		{"no instructions to compare", E{PromptName: "words", PromptVersion: "1"}, "A system message of the framework.", "words@1"},

		{"recognised", E{}, "Answer the ticket kindly.", "support@2 recognised"},
		{"recognised, production before newer", E{ModelAsked: "small"}, "Answer the ticket.", "support@1 recognised"},
		{"recognised by its model", E{ModelAsked: "big"}, "Answer the ticket.", "support@3 recognised"},
		{"recognised by hash", E{PromptHash: v("support", "2").PromptHash}, "", "support@2 recognised"},
		{"recognised template", E{}, "You greet the customers of Elm Street in one sentence.", "greet@1 recognised"},
		{"recognised template, the longer one", E{}, "You greet the customers of Elm in one sentence. Be formal.", "greet@2 recognised"},
		{"too short to be recognised", E{}, "Hi Ann", "@"},
		{"two prompts of one text", E{}, "The very same text.", "@"},
		{"nothing known", E{}, "Something else.", "@"},

		{"recognised by the user's part", E{}, "", "digest@2 recognised"},
		{"… whatever a framework instructs", E{}, "A system message of the framework.", "digest@1 recognised"},
		{"… in a later turn", E{}, "", "digest@1 recognised"},
		{"another user's words", E{}, "", "@"},
		{"words of the other side", E{}, "", "@"},
		{"user's part, named", E{PromptName: "digest", PromptVersion: "2"}, "", "digest@2"},
		{"user's part, drifted", E{PromptName: "digest", PromptVersion: "2"}, "", "digest@2 drift"},
		{"user's part, of another version", E{PromptName: "digest", PromptVersion: "2"}, "", "digest@2 drift"},
		{"user's part, name alone", E{PromptName: "digest"}, "", "digest@1"},
		{"user's part, name alone, drifted", E{PromptName: "digest"}, "", "digest@ drift"},
		{"no content, no drift", E{PromptName: "digest", PromptVersion: "2"}, "", "digest@2"},
		{"a conversation that was not read to its end", E{PromptName: "digest", PromptVersion: "2"}, "", "digest@2"},
		{"examples tell versions apart", E{}, "You sort tickets into kinds.", "shots@1 recognised"},
		{"… the other one", E{}, "You sort tickets into kinds.", "shots@2 recognised"},
		{"… examples of neither", E{}, "You sort tickets into kinds.", "shots@1 recognised"},
		{"examples drifted", E{PromptName: "shots", PromptVersion: "1"}, "You sort tickets into kinds.", "shots@1 drift"},
		{"examples as they are", E{PromptName: "shots", PromptVersion: "1"}, "You sort tickets into kinds.", "shots@1"},
		{"words of a user that no template has", E{PromptName: "greet", PromptVersion: "1"}, "You greet the customers of Elm Street in one sentence.", "greet@1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := c.event
			e.Name, e.ProjectID = event.Generation, shop
			source := map[string]json.RawMessage{"mine": json.RawMessage("1")}
			e.Properties = source
			r.Attribute(&e, func() []string {
				if c.text == "" {
					return nil
				}
				return []string{c.text}
			}, func() (said []event.ChatMessage, whole bool) {
				whole = true
				for i, s := range talks[c.name] {
					if s == "cut" {
						return said, false
					}
					said = append(said, event.ChatMessage{Role: []string{"user", "assistant"}[i%2], Text: s})
				}
				return said, whole
			})
			got := fmt.Sprintf("%s@%s", e.PromptName, e.PromptVersion)
			if l, ok := e.Properties[prompt.PropertyLabel]; ok {
				var s string
				_ = json.Unmarshal(l, &s)
				got += " label=" + s
			}
			for _, p := range []struct{ property, word string }{{prompt.PropertyDrift, "drift"}, {prompt.PropertyRecognised, "recognised"}} {
				if string(e.Properties[p.property]) == "true" {
					got += " " + p.word
				}
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if known, ok := r.Version(shop, e.PromptName, e.PromptVersion); ok && e.PromptVersion != "" && e.PromptVersionID != known.ID {
				t.Errorf("version id %q, want %q", e.PromptVersionID, known.ID)
			}
			if len(source) != 1 {
				t.Error("a map that the event shares was written into")
			}
		})
	}

	t.Run("events that are no calls", func(t *testing.T) {
		e := event.Event{Name: "llm_task_completed", ProjectID: shop, PromptVersionID: v("support", "2").ID}
		r.Attribute(&e, func() []string { t.Error("the text was read"); return nil }, unread(t))
		if e.PromptName != "support" || e.PromptVersion != "2" || e.Properties != nil {
			t.Errorf("the outcome says %s@%s %v", e.PromptName, e.PromptVersion, e.Properties)
		}
	})
	t.Run("the beginning of a call", func(t *testing.T) {
		e := event.Event{Name: event.RequestStarted, ProjectID: shop}
		r.Attribute(&e, func() []string { return []string{"Answer the ticket kindly."} }, unread(t))
		if e.PromptName != "support" || e.PromptVersion != "2" {
			t.Errorf("it says %s@%s", e.PromptName, e.PromptVersion)
		}
	})
	t.Run("another project", func(t *testing.T) {
		e := event.Event{Name: event.Generation, ProjectID: "p_other"}
		r.Attribute(&e, func() []string { t.Error("the text was read"); return nil }, unread(t))
	})
}

// unread is a conversation that is not to be read: nothing that is compared has
// words in it.
func unread(t testing.TB) func() ([]event.ChatMessage, bool) {
	return func() ([]event.ChatMessage, bool) { t.Error("the conversation was read"); return nil, true }
}

func BenchmarkAttribute(b *testing.B) {
	// A project of 200 prompts with variables: the worst that recognition meets.
	r, err := prompt.Open(b.Context(), bucketOf(b), prompt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	for i := range 200 {
		d := system(fmt.Sprintf("You are assistant number %d of {{shop}}, and you answer {{customer}} in at most {{n}} sentences.", i))
		if _, err := r.Create(b.Context(), ann, shop, fmt.Sprintf("p%d", i), "", d); err != nil {
			b.Fatal(err)
		}
	}
	text := []string{"You are assistant number 150 of Elm Street, and you answer Ann in at most 3 sentences."}
	b.ReportAllocs()
	for b.Loop() {
		e := event.Event{Name: event.Generation, ProjectID: shop}
		r.Attribute(&e, func() []string { return text }, unread(b))
		if e.PromptName != "p150" {
			b.Fatalf("recognised %q", e.PromptName)
		}
	}
}
