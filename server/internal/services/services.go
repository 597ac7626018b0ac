// Package services is the list of what a hedgerow is made of, as the pages, the
// API, the MCP tools and tests use it. [Services] is built by app, which
// imports web, api and mcp; these must not import app, so that the list is its
// own package that imports only what it lists. It has types, no code.
package services

import (
	"time"

	"github.com/hedgerow/hedgerow/server/internal/dataset"
	"github.com/hedgerow/hedgerow/server/internal/erasure"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/reconcile"
	"github.com/hedgerow/hedgerow/server/internal/reprice"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// Services are the parts of one hedgerow. All are required, except where a field
// says otherwise.
type Services struct {
	Registry    *project.Registry
	Store       *store.DuckDB
	Query       *query.Reader
	Prompts     *prompt.Registry
	Experiments *experiment.Registry
	Reports     *experiment.ReportCache
	Alerts      *experiment.Sender
	// StopRollout stops the rollout of an experiment that is stopped. nil: that is
	// not possible.
	StopRollout experiment.Stopper

	Checks *eval.Registry
	Runner *eval.Runner
	// CheckState returns the state of a check in this process. nil: no check runs
	// here.
	CheckState func(checkID string) eval.State
	Datasets   *dataset.Registry
	Bills      *reconcile.Bills // imported bills of providers
	Runs       *dataset.Runner  // executes runs of datasets; nil: no server is running on this data folder
	Erasure    *erasure.Eraser  // deletes single events; nil: no deletion is offered
	Repricer   *reprice.Runner  // prices recorded calls again; nil: no server is running on this data folder

	// Keyless says what happens to gateway calls without a key. nil: the switch for
	// it is not shown.
	Keyless func() project.Keyless
}

// DeadLetter is an event that a queue of the journal could not deliver and no
// longer retries.
type DeadLetter struct {
	ID       string    `json:"id"`
	Queue    string    `json:"queue"`
	EventID  string    `json:"event_uuid"`
	Event    string    `json:"event"`
	Reason   string    `json:"reason"`
	Attempts int       `json:"attempts"`
	Time     time.Time `json:"time"`
	Bytes    int       `json:"bytes"`
}

// Gap is a range of events that a PostHog connection was not sent: its delivery
// lagged so far behind that the journal was full. The store has them.
type Gap struct {
	ID         string    `json:"id"`
	Queue      string    `json:"queue"`
	Connection string    `json:"connection"`
	Events     uint64    `json:"events"` // approximate
	First      time.Time `json:"first"`  // when they arrived
	Last       time.Time `json:"last"`
	Sending    bool      `json:"sending"` // they are being sent again from the store
	Sent       uint64    `json:"sent"`    // how many of them so far
}
