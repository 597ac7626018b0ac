package privacy

import (
	"testing"

	"github.com/hedgerow/hedgerow/event"
)

// A text that leaves is on the list of those that are checked, or recreated: a
// new field has to be put there.
func TestFieldsAreChecked(t *testing.T) {
	e := new(event.Event)
	checked := make(map[*string]string)
	for _, f := range fields(e) {
		checked[f.at] = f.name
	}
	for _, f := range event.Fields {
		at, ok := f.At.(func(*event.Event) *string)
		if !ok || f.PostHog == "" {
			continue
		}
		switch f.Path {
		case "ErrorMessage", "ParseError", "Status": // made again, or one of five words
			continue
		}
		if name := checked[at(e)]; name != f.PostHog {
			t.Errorf("%s leaves as %s and is checked as %q", f.Path, f.PostHog, name)
		}
	}
}

// A text is scrubbed unless it is hedgerow's own.
func TestTextsAreScrubbed(t *testing.T) {
	const secret = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"
	own := map[string]bool{"UUID": true, "ProjectID": true, "Source": true, "Method": true, "Status": true, "PromptHash": true, "InputLengthBucket": true,
		"Cost.ModelUsed": true, "Cost.Source": true, "Cost.Provider": true}
	scrubbed := 0
	for _, f := range event.Fields {
		at, ok := f.At.(func(*event.Event) *string)
		if !ok || own[f.Path] {
			continue
		}
		e := &event.Event{Name: event.Generation}
		*at(e) = "a " + secret
		if AtHome(e, HomePolicy{KeepContent: true}); *at(e) == "a "+secret {
			t.Errorf("%s keeps a secret", f.Path)
		}
		scrubbed++
	}
	if scrubbed < 25 {
		t.Errorf("only %d fields were tried", scrubbed)
	}
}
