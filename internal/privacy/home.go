package privacy

import "github.com/hedgerow/hedgerow/event"

// HomePolicy says what a project keeps at home.
type HomePolicy struct {
	KeepContent bool // keep prompts and answers in the store for the project's retention
	ScrubEmails bool // replace e-mail addresses too, everywhere but in ids
}

// AtHome prepares an event for the journal, in place.
func AtHome(e *event.Event, p HomePolicy) {
	if !p.KeepContent || e.Private {
		e.Private = e.Private || !e.Content.IsZero()
		e.DropContent()
	}
}
