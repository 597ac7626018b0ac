// Package health describes the state of a component of hedgerow, in the one
// form that /readyz, the pages, hedgerow doctor and the log use.
package health

import "time"

// Status is the state of a component.
type Status string

const (
	OK       Status = "ok"       // it does all of its work
	Starting Status = "starting" // it is being opened; nothing has failed
	Degraded Status = "degraded" // it does a part of its work
	Failed   Status = "failed"   // it does none of its work, and tries again on its own
)

// Report is the state of one component. Message and Hint are for people: what is
// wrong and what to do. Both are empty while Status is [OK].
type Report struct {
	Component string    `json:"component"` // journal, settings, store, delivery …
	Status    Status    `json:"status"`
	Message   string    `json:"message,omitzero"`
	Hint      string    `json:"hint,omitzero"`
	Since     time.Time `json:"since,omitzero"`    // when the status began
	Restarts  int       `json:"restarts,omitzero"` // how often it was opened again since the process began
}

// Working reports whether the component does at least a part of its work.
func (r Report) Working() bool { return r.Status == OK || r.Status == Degraded }
