package config

import (
	"time"

	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// PostHogClient returns the common configuration of requests to PostHog. The
// settings were validated when loaded; if an authority's file has become
// unreadable, only the system's authorities are trusted.
func (c *Config) PostHogClient(timeout time.Duration) posthog.ClientConfig {
	out := posthog.ClientConfig{Timeout: timeout, AllowHosts: c.AllowedHosts()}
	if c.PostHogCA != "" {
		out.CA, _, _ = posthog.LoadCA(c.PostHogCA)
	}
	return out
}

// AllowedHosts are the private hosts of PostHog that are allowed; nil: none.
func (c *Config) AllowedHosts() *project.AllowedHosts {
	hosts, err := project.ParseAllowedHosts(c.PostHogAllowHosts)
	if err != nil {
		return nil // validatePostHog rejects it
	}
	return hosts
}

func (c *Config) validatePostHog() error {
	hosts, err := project.ParseAllowedHosts(c.PostHogAllowHosts)
	if err != nil {
		return Invalid("posthog_allow_hosts: "+err.Error(), "use comma-separated names, addresses or networks without scheme and port, for example posthog.internal,10.1.0.0/16", nil)
	}
	if c.PostHogCA == "" {
		return nil
	}
	if _, _, err := posthog.LoadCA(c.PostHogCA); err != nil {
		return Invalid("posthog_ca: the certificates in "+c.PostHogCA+" cannot be used", "use a PEM file that hedgerow can read", err)
	}
	if hosts == nil {
		return Invalid("posthog_ca is set without posthog_allow_hosts, to which it applies", "list the hosts of your own PostHog in posthog_allow_hosts, or remove posthog_ca", nil)
	}
	return nil
}
