package api

import (
	"context"
	"net/http"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/services"
)

// DeadLetters is what this package needs of the journal.
type DeadLetters interface {
	// List returns a project's dead letters of one queue ("" is every queue),
	// newest first.
	List(ctx context.Context, project, queue string, limit int) ([]services.DeadLetter, error)
	// Replay puts dead letters back onto the queue that they failed in: those
	// with the ids or, without ids, all of the queue. It returns how many.
	Replay(ctx context.Context, project, queue string, ids []string) (int, error)
}

func (a *API) listDead(r *http.Request, p Principal) (any, error) {
	limit, err := intParam(r.Form, "limit")
	if err != nil {
		return nil, err
	}
	switch {
	case limit == 0:
		limit = 100
	case limit > 1000:
		return nil, event.Invalid("the limit is out of range", "use 1 to 1000")
	}
	list, err := a.c.DeadLetters.List(r.Context(), p.ProjectID, r.FormValue("queue"), limit)
	if err != nil {
		return nil, err
	}
	if list == nil {
		list = []services.DeadLetter{}
	}
	return map[string]any{"dead_letters": list}, nil
}

// ReplayInput selects the dead letters to retry.
type ReplayInput struct {
	IDs   []string `json:"ids,omitempty"`
	Queue string   `json:"queue,omitempty"`
	All   bool     `json:"all,omitempty"`
}

func (a *API) replayDead(r *http.Request, p Principal) (any, error) {
	var in ReplayInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	if len(in.IDs) == 0 && !in.All {
		return nil, event.Invalid("nothing was named to replay", `send {"ids":[…]} or {"all":true}`)
	}
	n, err := a.c.DeadLetters.Replay(r.Context(), p.ProjectID, in.Queue, in.IDs)
	if err != nil {
		return nil, err
	}
	return map[string]any{"replayed": n}, nil
}

// Gaps is what this package needs of the journal for gaps.
type Gaps interface {
	// List returns a project's gaps, of one queue or ("") of all.
	List(ctx context.Context, project, queue string) ([]services.Gap, error)
	// Send has the events of gaps sent again from the store, in the background: of
	// those with the ids or, without ids, of all. It returns how many gaps.
	Send(ctx context.Context, project, queue string, ids []string) (int, error)
	// Forget keeps gaps as they are and hides them.
	Forget(ctx context.Context, project, queue string, ids []string) (int, error)
}

// GapsInput says which gaps are meant.
type GapsInput struct {
	IDs   []string `json:"ids,omitempty"`
	Queue string   `json:"queue,omitempty"`
	All   bool     `json:"all,omitempty"`
}

func (a *API) listGaps(r *http.Request, p Principal) (any, error) {
	list, err := a.c.Gaps.List(r.Context(), p.ProjectID, r.FormValue("queue"))
	if list == nil {
		list = []services.Gap{}
	}
	return map[string]any{"gaps": list}, err
}

func (a *API) sendGaps(r *http.Request, p Principal) (any, error) {
	return changeGaps(r, p, "sending", a.c.Gaps.Send)
}

func (a *API) forgetGaps(r *http.Request, p Principal) (any, error) {
	return changeGaps(r, p, "forgotten", a.c.Gaps.Forget)
}

func changeGaps(r *http.Request, p Principal, result string, change func(ctx context.Context, project, queue string, ids []string) (int, error)) (any, error) {
	var in GapsInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	if len(in.IDs) == 0 && !in.All {
		return nil, event.Invalid("no gap was named", `send {"ids":[…]} or {"all":true}`)
	}
	n, err := change(r.Context(), p.ProjectID, in.Queue, in.IDs)
	if err != nil {
		return nil, err
	}
	return map[string]any{result: n}, nil
}

func (a *API) status(r *http.Request, _ Principal) (any, error) {
	out := map[string]any{"version": a.c.Version, "time": a.now().UTC()}
	if a.c.Status != nil {
		out["server"] = a.c.Status(r.Context())
	}
	return out, nil
}

func (a *API) acknowledge(*http.Request, Principal) (any, error) {
	a.c.Store.AcknowledgeIncidents()
	return map[string]any{"acknowledged": true}, nil
}

func (a *API) reloadPrices(*http.Request, Principal) (any, error) {
	if a.c.ReloadPrices == nil {
		return map[string]any{"reloaded": false}, nil
	}
	if err := a.c.ReloadPrices(); err != nil {
		return nil, err
	}
	return map[string]any{"reloaded": true}, nil
}
