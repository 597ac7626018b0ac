package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// posthogClient is what every request to PostHog has in common. The settings were
// valid when they were loaded; an authority's file that cannot be read since leaves
// what the system trusts.
func (c *config) posthogClient(timeout time.Duration) posthog.ClientConfig {
	out := posthog.ClientConfig{Timeout: timeout, AllowHosts: c.allowedHosts()}
	if c.PostHogCA != "" {
		out.CA, _, _ = posthog.LoadCA(c.PostHogCA)
	}
	return out
}

func (c *config) allowedHosts() *project.AllowedHosts {
	hosts, err := project.ParseAllowedHosts(c.PostHogAllowHosts)
	if err != nil {
		return nil // validatePostHog refuses it
	}
	return hosts
}

func (c *config) validatePostHog() error {
	hosts, err := project.ParseAllowedHosts(c.PostHogAllowHosts)
	if err != nil {
		return configError("posthog_allow_hosts: "+err.Error(), "write names, addresses or networks with commas between, for example posthog.internal,10.1.0.0/16; no scheme, no port", nil)
	}
	if c.PostHogCA == "" {
		return nil
	}
	if _, _, err := posthog.LoadCA(c.PostHogCA); err != nil {
		return configError("posthog_ca: the certificates in "+c.PostHogCA+" cannot be used", "name a file in PEM form that hedgerow may read", err)
	}
	if hosts == nil {
		return configError("posthog_ca is set without posthog_allow_hosts, for which it counts", "list the hosts of your own PostHog in posthog_allow_hosts, or leave posthog_ca out", nil)
	}
	return nil
}

// posthogHosts tells which private hosts are allowed, and looks at the certificates
// of their authorities.
func (d *doctor) posthogHosts(context.Context) []finding {
	hosts := d.c.allowedHosts()
	if hosts == nil {
		return []finding{{What: "only public ones are allowed"}}
	}
	out := []finding{{What: "beside public ones, allowed are " + hosts.String()}}
	if d.c.PostHogCA == "" {
		return out
	}
	_, certs, err := posthog.LoadCA(d.c.PostHogCA)
	if err != nil {
		return append(out, troubleOf("", "the certificates of posthog_ca cannot be read", err))
	}
	for _, cert := range certs {
		name := cert.Subject.CommonName
		if name == "" {
			name = cert.Subject.String()
		}
		f := finding{What: fmt.Sprintf("%s: %s, valid until %s", d.c.PostHogCA, name, cert.NotAfter.UTC().Format(time.DateOnly))}
		switch now := time.Now(); {
		case now.After(cert.NotAfter):
			f.Severity, f.Why, f.ToDo = severityError, "it is not valid any more: no connection to those hosts is trusted by it", "put the authority's new certificate into the file and restart hedgerow"
		case now.AddDate(0, 0, 30).After(cert.NotAfter):
			f.Severity, f.Why, f.ToDo = severityWarning, "that is within 30 days", "put the authority's new certificate into the file and restart hedgerow"
		}
		out = append(out, f)
	}
	return out
}
