package api

import (
	"net/http"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Ledger is what ever left for a connection, and what stayed locally: names,
// never values.
type Ledger struct {
	Connection     string                `json:"connection"`
	PrivacyMode    bool                  `json:"privacy_mode"`
	Left           []ledger.SentName     `json:"left"`
	Held           []ledger.WithheldName `json:"held"`
	MoreLeft       int64                 `json:"more_left"` // under names beyond the 2,000 that are listed
	MoreHeld       int64                 `json:"more_held"`
	SendProperties []string              `json:"send_properties"`
	SendAttributes []string              `json:"send_attributes"`
	LegacyNames    *LegacyNames          `json:"taken_over"` // null: nothing waits for a person's word
}

// LegacyNames are names that an upgrade has put into what is sent, and which
// someone is to keep or stop.
type LegacyNames struct {
	At         time.Time `json:"at"`
	Properties []string  `json:"properties"`
	Attributes []string  `json:"attributes"`
}

// LegacyNamesInput says what happens to the names that an upgrade took over.
type LegacyNamesInput struct {
	Keep bool `json:"keep"` // true: they continue leaving; false: they stay local from now on
}

func (a *API) connectionLedger(r *http.Request, p Principal) (any, error) {
	c, err := a.find(r, p)
	if err != nil {
		return nil, err
	}
	page, err := a.c.Connections.Ledger(r.Context(), c)
	if err != nil {
		return nil, err
	}
	out := Ledger{Connection: c.Name, PrivacyMode: c.PrivacyMode, Left: orEmpty(page.Sent), Held: orEmpty(page.Withheld), MoreLeft: page.MoreSent, MoreHeld: page.MoreWithheld,
		SendProperties: orEmpty(c.SendProperties), SendAttributes: orEmpty(c.SendAttributes)}
	if t := c.LegacyNames; t != nil {
		out.LegacyNames = &LegacyNames{At: t.At, Properties: orEmpty(t.Properties), Attributes: orEmpty(t.Attributes)}
	}
	return out, nil
}

// settleNames ends what an upgrade has left open.
func (a *API) decideLegacyNames(r *http.Request, p Principal) (any, error) {
	var in LegacyNamesInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	c, err := a.find(r, p)
	if err != nil {
		return nil, err
	}
	if c.LegacyNames == nil {
		return nil, event.NewError(event.CodeConflict, "there are no names to allow or block", "the ledger of the connection shows what is sent", nil)
	}
	c, err = a.c.Registry.UpdateConnection(r.Context(), p.ProjectID, c.ID, func(c *project.Connection) error { c.DecideLegacyNames(in.Keep); return nil })
	if err != nil {
		return nil, err
	}
	return ConnectionResult{Connection: a.connectionView(c)}, nil
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
