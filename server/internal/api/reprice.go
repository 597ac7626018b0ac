package api

import (
	"net/http"

	"github.com/hedgerow/hedgerow/server/internal/reprice"
)

// reprice starts a run in the background.
func (a *API) reprice(r *http.Request, p Principal) (any, error) {
	var in reprice.Request
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	return a.c.Repricer.Start(r.Context(), p.ProjectID, in)
}

// repricing returns the latest run.
func (a *API) repricing(_ *http.Request, p Principal) (any, error) {
	return a.c.Repricer.Latest(p.ProjectID)
}

// cancelRepricing ends the current run.
func (a *API) cancelRepricing(r *http.Request, p Principal) (any, error) {
	return a.c.Repricer.Cancel(r.Context(), p.ProjectID)
}
