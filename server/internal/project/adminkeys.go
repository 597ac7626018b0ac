package project

import (
	"context"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// AdminKey is a provider's admin key, with which its bills of a project are read. The
// gateway never sees it.
type AdminKey struct {
	ProjectID string    `json:"project"`
	Provider  string    `json:"provider"` // openai, anthropic …
	Host      string    `json:"host"`     // https://…: the only address that it is sent to
	LastFour  string    `json:"last_four"`
	UpdatedAt time.Time `json:"updated_at"`

	Key      Secret `json:"-"`
	Revision uint64 `json:"-"`
}

func (k *AdminKey) noun() string                { return "admin key" }
func (k *AdminKey) key() string                 { return prefixAdminKey + k.ProjectID + "." + k.Provider }
func (k *AdminKey) revision() *uint64           { return &k.Revision }
func (k *AdminKey) secrets() map[string]*Secret { return map[string]*Secret{"key": &k.Key} }
func (k *AdminKey) boundTo() string             { return k.Host }

// SetAdminKey keeps, sealed, the admin key of a provider for one host. Whether it is
// one is the caller's to check.
func (r *Registry) SetAdminKey(ctx context.Context, projectID, provider, host, key string) error {
	if _, ok := r.Snapshot().Project(projectID); !ok {
		return missing("project")
	}
	if !providerName.MatchString(provider) || host == "" {
		return event.Invalid("bills of this provider cannot be fetched", "use openai, anthropic or openrouter")
	}
	if err := checkKey("the admin key", key); err != nil {
		return err
	}
	v := AdminKey{ProjectID: projectID, Provider: provider, Host: host, Key: NewSecret(key), UpdatedAt: r.now().UTC()}
	v.LastFour = v.Key.LastFour()
	b, err := encode(*r.ring.Load(), &v)
	if err != nil {
		return err
	}
	rev, err := r.bucket.Put(ctx, v.key(), b)
	if err != nil {
		return unavailable("the admin key could not be saved", err)
	}
	if err := r.stillWanted(ctx, projectID, v.key()); err != nil {
		return err
	}
	return r.done(ctx, rev, AuditEntry{Action: "admin_key.set", ProjectID: projectID, Target: provider})
}

// DeleteAdminKey wipes a kept admin key.
func (r *Registry) DeleteAdminKey(ctx context.Context, projectID, provider string) error {
	if !providerName.MatchString(provider) {
		return missing("admin key")
	}
	// Without reading it: a key that cannot be opened any more can be wiped too.
	key := prefixAdminKey + projectID + "." + provider
	if _, err := r.bucket.Get(ctx, key); err != nil {
		return missing("admin key")
	}
	if err := r.purge(ctx, key, 0); err != nil {
		return unavailable("the admin key could not be deleted", err)
	}
	return r.done(ctx, 0, AuditEntry{Action: "admin_key.delete", ProjectID: projectID, Target: provider})
}

// AdminKey returns the admin key that is kept for a project and a provider.
func (s *Snapshot) AdminKey(projectID, provider string) (AdminKey, bool) {
	for _, k := range s.adminKeysBy[projectID] {
		if k.Provider == provider {
			return k, true
		}
	}
	return AdminKey{}, false
}

// AdminKeys returns the kept admin keys of a project, by provider.
func (s *Snapshot) AdminKeys(projectID string) []AdminKey { return s.adminKeysBy[projectID] }
