package project

import (
	"context"
	"slices"

	"github.com/hedgerow/hedgerow/event"
)

// CheckConnection normalizes and validates a connection without saving it, for
// a test before saving. before is the saved connection, nil for a new one: it
// returns an error for a key saved for another host, and for a change that the
// caller of ctx may not make.
func (r *Registry) CheckConnection(ctx context.Context, before, c *Connection) error {
	if before != nil {
		if err := ofEnvironment(before, c); err != nil {
			return err
		}
	}
	return r.checkChange(ctx, before, c)
}

// ofEnvironment returns an error for changes of settings from the environment.
func ofEnvironment(before, c *Connection) error {
	if before.Origin == OriginEnv && (!sameHost(c.Host, before.Host) || !c.ProjectKey.Equal(before.ProjectKey) || !c.PersonalKey.Equal(before.PersonalKey)) {
		return event.NewError(event.CodeConflict, "this connection's host and keys come from the environment",
			"change POSTHOG_API_KEY, POSTHOG_HOST and POSTHOG_PERSONAL_API_KEY and restart, or add another connection", nil)
	}
	return nil
}

func (r *Registry) checkChange(ctx context.Context, before, c *Connection) error {
	if err := r.checkConnection(c); err != nil {
		return err
	}
	return r.mayReveal(ctx, before, c)
}

type roleKey struct{}

// WithRole sets the role for changes made with ctx. Without it they are the
// process's own, such as those from the environment, and allowed.
func WithRole(ctx context.Context, role Role) context.Context {
	return context.WithValue(ctx, roleKey{}, role)
}

// mayReveal rejects a change that could send prompts and answers to the
// other end's operator, unless the role in ctx may read them locally.
func (r *Registry) mayReveal(ctx context.Context, before, after *Connection) error {
	role, ofPerson := ctx.Value(roleKey{}).(Role)
	if !ofPerson {
		return nil
	}
	p, ok := r.Snapshot().Project(after.ProjectID)
	if !ok {
		return missing("project")
	}
	if p.Settings.MayRead(role) {
		return nil
	}
	what := ""
	switch {
	case !after.PrivacyMode && (before == nil || before.PrivacyMode):
		what = "turn privacy mode off"
	case before != nil && before.Host != after.Host:
		what = "change the host"
	case adds(before, after, func(c *Connection) []string { return c.SendProperties }), adds(before, after, func(c *Connection) []string { return c.SendAttributes }):
		what = "send more properties or attributes"
	case before != nil && (!after.PrivacyMode || len(after.SendProperties)+len(after.SendAttributes) > 0) && !before.ProjectKey.Equal(after.ProjectKey):
		what = "change the project key while privacy mode is off or properties are sent by name"
	case confirms(before, after):
		what = "allow property names that were sent before an upgrade"
	default:
		return nil
	}
	who := "the role " + string(role)
	if role == "" {
		who = "a key without the scope read"
	}
	return event.NewError(event.CodeForbidden, who+" cannot "+what+": it has no access to this project's prompts and responses, which would then be visible in PostHog",
		"ask an administrator: the project settings choose which roles may read content", nil)
}

// confirms reports whether a change confirms sending names that an upgrade
// took over.
func confirms(before, after *Connection) bool {
	if before == nil || before.LegacyNames == nil {
		return false
	}
	still := after.LegacyNames
	if still == nil {
		still = new(LegacyNames)
	}
	for _, l := range [][3][]string{{before.LegacyNames.Properties, still.Properties, after.SendProperties}, {before.LegacyNames.Attributes, still.Attributes, after.SendAttributes}} {
		if slices.ContainsFunc(l[0], func(name string) bool { return !slices.Contains(l[1], name) && slices.Contains(l[2], name) }) {
			return true
		}
	}
	return false
}

// adds reports whether a change puts a name into a list of what leaves.
func adds(before, after *Connection, list func(*Connection) []string) bool {
	var had []string
	if before != nil {
		had = list(before)
	}
	return slices.ContainsFunc(list(after), func(name string) bool { return !slices.Contains(had, name) })
}

// MoveTo changes the connection's host. The kept keys were given for the old
// one and do not go to another: the personal key is dropped, and saving
// requests the project key again. Call it before the keys of the same change
// are set. A host that is written another way and is the same changes nothing.
func (c *Connection) MoveTo(host string) {
	if !sameHost(host, c.Host) {
		c.PersonalKey = Secret{}
	}
	c.Host = host
}

func sameHost(a, b string) bool {
	x, err := NormalizeHost(a, true, nil)
	y, bad := NormalizeHost(b, true, nil)
	return err == nil && bad == nil && x == y
}

// CheckKeys returns an error for keys saved for a host other than the
// connection's. Call it before sending them.
func (c *Connection) CheckKeys() error {
	if !c.ProjectKey.isFor(c.Host) {
		return event.Invalid("the host has changed, and the project key was set for the old one", "send the project key (phc_…) again with the new host, and the personal key if there is one")
	}
	if !c.PersonalKey.isFor(c.Host) {
		return event.Invalid("the host has changed, and the personal key was set for the old one", "send the personal key (phx_…) again with the new host, or remove it")
	}
	return nil
}
