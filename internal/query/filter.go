package query

import "time"

// Filter selects events. Zero fields do not filter. Strings are compared whole
// and case-sensitively.
type Filter struct {
	From time.Time // first timestamp
	To   time.Time // timestamps before it

	Name          string // event name: "$ai_generation"
	Provider      string
	Model         string // the model that answered or, where that is unknown, the one asked for
	Operation     string
	Surface       string
	User          string // distinct id
	SessionID     string
	TraceID       string
	PromptName    string
	PromptVersion string
	Status        string
	ErrorType     string
	TaskType      string
	Environment   string
	Tag           string
	Properties    map[string]string // custom property name → its value as text, at most 10
}
