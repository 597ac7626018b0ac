package reconcile

import (
	"context"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Bills is what pages, API and tools do with bills: a [Registry] with what it is
// compared with, and the means to fetch.
type Bills struct {
	*Registry
	Calls    Calls
	Prices   func() Prices
	Settings *project.Registry // keeps the admin keys
	Fetcher  *Fetcher          // nil: nothing can be fetched, since no server runs
}

// Compare is [Registry.Report] with the calls and prices of this server.
func (b *Bills) Compare(ctx context.Context, q Question) (*Report, error) {
	return b.Report(ctx, q, b.Calls, b.Prices())
}

// KeyInfo is a kept admin key, without the key.
type KeyInfo struct {
	Provider  string    `json:"provider"`
	Host      string    `json:"host"` // the only address that it is sent to
	LastFour  string    `json:"last_four"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Keys lists the admin keys that are kept for a project.
func (b *Bills) Keys(projectID string) []KeyInfo {
	out := []KeyInfo{}
	for _, k := range b.Settings.Snapshot().AdminKeys(projectID) {
		out = append(out, KeyInfo{k.Provider, k.Host, k.LastFour, k.UpdatedAt})
	}
	return out
}

// SetKey keeps the admin key of a provider, sealed.
func (b *Bills) SetKey(ctx context.Context, projectID, provider, key string) error {
	if err := CheckAdminKey(provider, key); err != nil {
		return err
	}
	return b.Settings.SetAdminKey(ctx, projectID, provider, APIHost(provider), key)
}

// DeleteKey wipes a kept admin key.
func (b *Bills) DeleteKey(ctx context.Context, projectID, provider string) error {
	return b.Settings.DeleteAdminKey(ctx, projectID, provider)
}

// Fetch reads the bills of a provider of the UTC days in [from, to) with the kept admin
// key, and imports them.
func (b *Bills) Fetch(ctx context.Context, projectID, provider, account string, from, to time.Time) ([]Import, error) {
	if !slices.Contains(Fetchable, provider) {
		return nil, CheckAdminKey(provider, "")
	}
	k, ok := b.Settings.Snapshot().AdminKey(projectID, provider)
	if !ok {
		return nil, event.NewError(event.CodeNotFound, "this project has no stored admin key for "+provider, "an administrator can store one on the Reconciliation page, or with hedgerow reconcile key "+provider, nil)
	}
	if k.Host != APIHost(provider) {
		return nil, event.Invalid("the admin key is for "+k.Host+", not for "+APIHost(provider), "enter the key again")
	}
	if b.Fetcher == nil {
		return nil, event.NewError(event.CodeUnavailable, "no server is running on this data folder, so nothing can be fetched", "start hedgerow, or import files", nil)
	}
	files, err := b.Fetcher.Fetch(ctx, provider, k.Key.Reveal(), from, to)
	if err != nil {
		return nil, err
	}
	return b.Import(ctx, projectID, Source{Account: account, Fetched: true}, files...)
}
