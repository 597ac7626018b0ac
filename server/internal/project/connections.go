package project

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
)

func connectionNames(projectID string) string { return "connection." + projectID }

// CreateConnection saves a new connection; [NewConnection] has the defaults. The
// caller has tested it, or decided not to. Names are unique within the project,
// and so is the pair of host and project key: two would send every event twice.
func (r *Registry) CreateConnection(ctx context.Context, c Connection) (Connection, error) {
	if _, ok := r.Snapshot().Project(c.ProjectID); !ok {
		return Connection{}, missing("project")
	}
	if c.ID == "" {
		c.ID = newID("c")
	}
	if c.Origin == "" {
		c.Origin = OriginUser
	}
	c.CreatedAt = r.now().UTC()
	c.UpdatedAt = c.CreatedAt
	c.Rules = RulesAllowList
	if err := r.checkChange(ctx, nil, &c); err != nil {
		return Connection{}, err
	}
	if err := r.reserve(ctx, connectionNames(c.ProjectID), "name", c.Name, c.key()); err != nil {
		return Connection{}, err
	}
	if err := create(ctx, r, &c); err != nil {
		return Connection{}, err
	}
	if err := r.stillWanted(ctx, c.ProjectID, c.key()); err != nil {
		return Connection{}, err
	}
	r.enabled(ctx, c)
	return c, r.done(ctx, c.Revision, AuditEntry{Action: "connection.create", ProjectID: c.ProjectID, Target: c.Name, Detail: c.Host})
}

// UpdateConnection changes a connection of a project. f gets a copy of the record
// with its keys decrypted; it may be called again after a concurrent change. Use
// [Connection.MoveTo] to change the host. The host and keys of a connection from
// the environment cannot be changed.
func (r *Registry) UpdateConnection(ctx context.Context, projectID, id string, f func(*Connection) error) (Connection, error) {
	return r.updateConnection(ctx, projectID, id, func(before, c *Connection) error {
		if err := f(c); err != nil {
			return err
		}
		c.Origin = before.Origin
		return ofEnvironment(before, c)
	})
}

func (r *Registry) updateConnection(ctx context.Context, projectID, id string, f func(before, c *Connection) error) (Connection, error) {
	var before Connection
	c, err := change(ctx, r, prefixConnection+id, func(c *Connection) error {
		if c.ProjectID != projectID {
			return missing("connection")
		}
		before = *c
		if err := f(&before, c); err != nil {
			return err
		}
		c.ID, c.ProjectID, c.CreatedAt = before.ID, before.ProjectID, before.CreatedAt
		c.UpdatedAt = r.now().UTC()
		if err := r.checkChange(ctx, &before, c); err != nil {
			return err
		}
		if !strings.EqualFold(c.Name, before.Name) {
			return r.reserve(ctx, connectionNames(projectID), "name", c.Name, c.key())
		}
		return nil
	})
	if err != nil {
		return Connection{}, err
	}
	if !strings.EqualFold(c.Name, before.Name) {
		r.release(ctx, connectionNames(projectID), before.Name, c.key())
	}
	r.enabled(ctx, c)
	return c, r.done(ctx, c.Revision, AuditEntry{Action: "connection.update", ProjectID: projectID, Target: c.Name, Detail: changedConnection(before, c)})
}

func (r *Registry) enabled(ctx context.Context, c Connection) {
	if c.Enabled {
		r.o.Enabled(ctx, c)
	}
}

func changedConnection(a, b Connection) string {
	var out []string
	add := func(name string, was, is any) {
		if was != is {
			out = append(out, fmt.Sprintf("%s: %v → %v", name, was, is))
		}
	}
	add("name", a.Name, b.Name)
	add("host", a.Host, b.Host)
	add("enabled", a.Enabled, b.Enabled)
	add("privacy_mode", a.PrivacyMode, b.PrivacyMode)
	add("schema", a.Schema, b.Schema)
	add("environment", a.Environment, b.Environment)
	add("surface", a.Surface, b.Surface)
	add("flush_at", a.FlushAt, b.FlushAt)
	add("flush_interval", a.FlushInterval, b.FlushInterval)
	add("sample_rate", a.SampleRate, b.SampleRate)
	add("hash_distinct_ids", a.HashDistinctIDs, b.HashDistinctIDs)
	added := func(name string, was, is []string) {
		for _, s := range is {
			if !slices.Contains(was, s) {
				out = append(out, name+" + "+s)
			}
		}
		for _, s := range was {
			if !slices.Contains(is, s) {
				out = append(out, name+" - "+s)
			}
		}
	}
	added("send_properties", a.SendProperties, b.SendProperties)
	added("send_attributes", a.SendAttributes, b.SendAttributes)
	for name, keys := range map[string][2]Secret{"project key": {a.ProjectKey, b.ProjectKey}, "personal key": {a.PersonalKey, b.PersonalKey}} {
		switch was, is := keys[0], keys[1]; {
		case was.Equal(is):
		case is.IsZero():
			out = append(out, name+" removed")
		case was.IsZero():
			out = append(out, name+" added")
		default:
			out = append(out, name+" replaced")
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// TakeOverNames adds names that were sent before the allowlist existed to those
// that a connection sends, once per connection: one that was already migrated, or
// created since, does not change. It reports whether it changed anything.
func (r *Registry) TakeOverNames(ctx context.Context, projectID, id string, properties, attributes []string) (did bool, err error) {
	if c, ok := r.Snapshot().Connection(id); ok && c.Rules >= RulesAllowList {
		return false, nil
	}
	_, err = r.updateConnection(WithActor(ctx, "upgrade"), projectID, id, func(_, c *Connection) error {
		if did = c.Rules < RulesAllowList; !did {
			return event.NewError(event.CodeConflict, "the names sent before the upgrade have already been imported", "", nil)
		}
		c.Rules = RulesAllowList
		fresh := func(names, have []string) []string {
			return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(have, name) })
		}
		t := LegacyNames{At: r.now().UTC(), Properties: fresh(properties, c.SendProperties), Attributes: fresh(attributes, c.SendAttributes)}
		if len(t.Properties)+len(t.Attributes) > 0 {
			c.SendProperties, c.SendAttributes = append(slices.Clone(c.SendProperties), t.Properties...), append(slices.Clone(c.SendAttributes), t.Attributes...)
			c.LegacyNames = &t
		}
		return nil
	})
	if err != nil && !did && event.AsError(err).Code == event.CodeConflict {
		return false, nil
	}
	return did && err == nil, err
}

// Send adds properties and attributes to those sent in privacy mode regardless
// of their values, or removes them. This confirms or stops names that an
// upgrade took over.
func (c *Connection) Send(on bool, properties, attributes []string) {
	change := func(list, names []string) []string {
		list = slices.DeleteFunc(slices.Clone(list), func(name string) bool { return slices.Contains(names, name) })
		if on {
			list = append(list, names...)
		}
		return list
	}
	c.SendProperties, c.SendAttributes = change(c.SendProperties, properties), change(c.SendAttributes, attributes)
	if t := c.LegacyNames; on && t != nil { // confirmed; removed names are dropped from it on save
		without := func(list, names []string) []string {
			return slices.DeleteFunc(slices.Clone(list), func(name string) bool { return slices.Contains(names, name) })
		}
		c.LegacyNames = &LegacyNames{At: t.At, Properties: without(t.Properties, properties), Attributes: without(t.Attributes, attributes)}
	}
}

// DecideLegacyNames ends an upgrade's pending decision: the connection keeps the names
// that it took over, or stops sending them.
func (c *Connection) DecideLegacyNames(keep bool) {
	t := c.LegacyNames
	if c.LegacyNames = nil; t == nil || keep {
		return
	}
	without := func(list, names []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(name string) bool { return slices.Contains(names, name) })
	}
	c.SendProperties, c.SendAttributes = without(c.SendProperties, t.Properties), without(c.SendAttributes, t.Attributes)
}

// DeleteConnection removes a connection of a project. When it has returned, its sealed
// keys are in no file any more.
func (r *Registry) DeleteConnection(ctx context.Context, projectID, id string) error {
	return r.deleteConnection(ctx, projectID, id, false)
}

func (r *Registry) deleteConnection(ctx context.Context, projectID, id string, env bool) error {
	c, err := remove(ctx, r, prefixConnection+id, func(c *Connection) error {
		switch {
		case c.ProjectID != projectID:
			return missing("connection")
		case c.Origin == OriginEnv && !env:
			return event.NewError(event.CodeConflict, "this connection comes from the environment", "unset POSTHOG_API_KEY and restart, or disable the connection", nil)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.release(ctx, connectionNames(projectID), c.Name, c.key())
	return r.done(ctx, 0, AuditEntry{Action: "connection.delete", ProjectID: projectID, Target: c.Name})
}

// checkConnection validates and normalizes.
func (r *Registry) checkConnection(c *Connection) error {
	var err error
	if c.Name, err = cleanName("connection", c.Name); err != nil {
		return err
	}
	if c.Host, err = NormalizeHost(c.Host, r.o.AllowInsecureHosts, r.o.AllowHosts); err != nil {
		return err
	}
	if err := c.CheckKeys(); err != nil {
		return err
	}
	if err := checkProjectKey(c.ProjectKey.Reveal()); err != nil {
		return err
	}
	if !c.PersonalKey.IsZero() {
		if err := checkPersonalKey(c.PersonalKey.Reveal()); err != nil {
			return err
		}
	}
	c.ProjectKeyLastFour, c.PersonalKeyLastFour = c.ProjectKey.LastFour(), c.PersonalKey.LastFour()
	if c.Environment, err = cleanLabel("environment", c.Environment); err != nil {
		return err
	}
	if c.Surface, err = cleanLabel("surface", c.Surface); err != nil {
		return err
	}
	switch {
	case !c.Schema.Valid():
		return event.Invalid(fmt.Sprintf("unknown schema %q", c.Schema), "use posthog, llm_events or both")
	case c.FlushAt < 1 || c.FlushAt > 1000:
		return event.Invalid("flush_at must be between 1 and 1000 events", "20 is the default")
	case c.FlushInterval < 100*time.Millisecond || c.FlushInterval > 10*time.Minute:
		return event.Invalid("flush_interval must be between 100 ms and 10 minutes", "10 s is the default")
	case !(c.SampleRate > 0 && c.SampleRate <= 1): // written so that NaN is rejected too
		return event.Invalid("sample_rate must be above 0 and at most 1", "1 sends everything; to send nothing, disable the connection")
	}
	for _, list := range [][]string{c.Filter.Events, c.Filter.Surfaces, c.Filter.Tags} {
		if len(list) > 100 || slices.ContainsFunc(list, func(s string) bool { return s == "" || utf8.RuneCountInString(s) > maxText }) {
			return event.Invalid("a filter can have up to 100 names of 1 to 200 characters", "leave the list empty to send everything")
		}
	}
	for _, list := range []*[]string{&c.SendProperties, &c.SendAttributes} {
		var err error
		if *list, err = sendNames(*list); err != nil {
			return err
		}
	}
	if t := c.LegacyNames; t != nil {
		in := func(list, names []string) []string {
			return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !slices.Contains(list, name) })
		}
		c.LegacyNames = &LegacyNames{At: t.At, Properties: in(c.SendProperties, t.Properties), Attributes: in(c.SendAttributes, t.Attributes)}
		if len(c.LegacyNames.Properties)+len(c.LegacyNames.Attributes) == 0 {
			c.LegacyNames = nil
		}
	}
	for _, other := range r.Snapshot().Connections(c.ProjectID) {
		if other.ID != c.ID && other.Host == c.Host && other.ProjectKey.Equal(c.ProjectKey) {
			return event.NewError(event.CodeConflict, fmt.Sprintf("the connection %q already sends to this PostHog project", other.Name), "edit that connection; to send both schemas, set its schema to both", nil)
		}
	}
	return nil
}

// MaxSendNames is the limit of each list of sent names.
const MaxSendNames = 1000

// sendNames checks a list of names of properties and returns it in order, each
// name once.
func sendNames(list []string) ([]string, error) {
	out := make([]string, 0, len(list))
	for _, name := range list {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if utf8.RuneCountInString(name) > maxText || strings.ContainsFunc(name, unicode.IsControl) {
			return nil, event.Invalid("send_properties and send_attributes accept single-line names of 1 to 200 characters", "use the property names that the connection's ledger shows")
		}
		out = append(out, name)
	}
	slices.Sort(out)
	if out = slices.Compact(out); len(out) > MaxSendNames {
		return nil, event.Invalid("send_properties and send_attributes accept up to 1,000 names each", "send fewer properties, or turn privacy mode off")
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

func checkProjectKey(key string) error {
	if err := checkKey("the PostHog project key", key); err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(key, "phx_"), strings.HasPrefix(key, "phs_"), strings.HasPrefix(key, "pha_"):
		return event.Invalid("this is a personal or secret key of PostHog, not a project key", "the project key begins with phc_ (PostHog: Settings, Project, Project token)")
	case strings.HasPrefix(key, tokenPrefix):
		return event.Invalid("this is hedgerow's own project token, not PostHog's", "copy the project key from PostHog: Settings, Project, Project token")
	case !strings.HasPrefix(key, "phc_"):
		return event.Invalid("this is not a PostHog project key", "it begins with phc_ (PostHog: Settings, Project, Project token)")
	}
	return nil
}

func checkPersonalKey(key string) error {
	if err := checkKey("the PostHog personal key", key); err != nil {
		return err
	}
	if strings.HasPrefix(key, "phx_") || strings.HasPrefix(key, "phs_") || strings.HasPrefix(key, "pha_") {
		return nil
	}
	return event.Invalid("this is not a personal key of PostHog", "it begins with phx_ (PostHog: Settings, Personal API keys; scope Query Read)")
}

// NormalizeHost checks a PostHog host and returns its normal form: scheme and
// host in lower case, no trailing slash. "" is [DefaultHost]. Only https:// is
// accepted, and no literal address that is not public, unless it is allowed;
// names are resolved and checked again when dialing. With insecure, http:// and
// every address are accepted too.
func NormalizeHost(raw string, insecure bool, allow *AllowedHosts) (string, error) {
	raw = strings.TrimSpace(raw)
	if raw == "" {
		return DefaultHost, nil
	}
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Opaque != "" {
		return "", event.Invalid("the PostHog host is not a URL", "use https://us.i.posthog.com, https://eu.i.posthog.com or your own")
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch {
	case u.User != nil:
		return "", event.Invalid("the PostHog host contains a user name or password", "write the host alone")
	case u.RawQuery != "" || u.Fragment != "":
		return "", event.Invalid("the PostHog host contains a query or fragment", "write the host alone")
	case u.Scheme != "https" && !(insecure && u.Scheme == "http"):
		return "", event.Invalid("the PostHog host is not https://", "keys and events must be sent encrypted")
	}
	if !insecure && !publicName(u.Hostname()) && !allow.maySave(u.Hostname()) {
		return "", event.Invalid("the PostHog host is a private or local address, which posthog_allow_hosts does not list", AllowHint)
	}
	return u.Scheme + "://" + u.Host + strings.TrimRight(u.EscapedPath(), "/"), nil
}

// publicName rejects names that are not public without resolving them. A name
// whose last label is a number is an address in some notation (decimal, octal,
// hexadecimal, short): only the usual one is accepted.
func publicName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if a, err := netip.ParseAddr(host); err == nil {
		a = a.Unmap()
		return a.Zone() == "" && a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch {
	case last == host: // localhost, and every name of one label
		return false
	case last == "" || last[0] >= '0' && last[0] <= '9':
		return false
	}
	return !slices.Contains([]string{"localhost", "local", "internal", "localdomain", "home", "lan", "arpa", "test", "invalid"}, last)
}

// notPublic are ranges that netip's predicates do not cover (RFC 6890).
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"),
}

// EnvConnection is the environment's PostHog configuration: POSTHOG_API_KEY,
// POSTHOG_HOST and POSTHOG_PERSONAL_API_KEY.
type EnvConnection struct {
	ProjectKey, Host, PersonalKey string
}

const envConnectionID = "c_env"

// SetEnvConnection synchronizes a project's connection with the environment:
// it creates or changes it, and deletes it with its keys if the environment
// has no project key. Settings made by users (enabled, privacy mode, schema …)
// are kept. If a user's own connection sends to the same PostHog project, it
// returns that one.
//
// Only the server calls it, at startup: a command run in another environment
// must not undo it.
func (r *Registry) SetEnvConnection(ctx context.Context, projectID string, env EnvConnection) (Connection, bool, error) {
	have, exists := r.Snapshot().Connection(envConnectionID)
	if env.ProjectKey == "" {
		if exists {
			return Connection{}, false, r.deleteConnection(ctx, have.ProjectID, have.ID, true)
		}
		return Connection{}, false, nil
	}
	host, err := NormalizeHost(env.Host, r.o.AllowInsecureHosts, r.o.AllowHosts)
	if err != nil {
		return Connection{}, false, fmt.Errorf("POSTHOG_HOST: %w", err)
	}
	if err := checkProjectKey(env.ProjectKey); err != nil {
		return Connection{}, false, fmt.Errorf("POSTHOG_API_KEY: %w", err)
	}
	if env.PersonalKey != "" {
		if err := checkPersonalKey(env.PersonalKey); err != nil {
			return Connection{}, false, fmt.Errorf("POSTHOG_PERSONAL_API_KEY: %w", err)
		}
	}
	key, personal := NewSecret(env.ProjectKey), NewSecret(env.PersonalKey)
	for _, c := range r.Snapshot().Connections(projectID) {
		if c.Origin == OriginUser && c.Host == host && c.ProjectKey.Equal(key) {
			if exists {
				err = r.deleteConnection(ctx, have.ProjectID, have.ID, true)
			}
			return c, true, err
		}
	}
	ctx = WithActor(ctx, "environment")
	if exists && have.ProjectID == projectID {
		if have.Host == host && have.ProjectKey.Equal(key) && have.PersonalKey.Equal(personal) {
			return have, true, nil
		}
		c, err := r.updateConnection(ctx, projectID, have.ID, func(_, c *Connection) error {
			c.Host, c.ProjectKey, c.PersonalKey = host, key, personal
			return nil
		})
		return c, err == nil, err
	}
	if exists {
		if err := r.deleteConnection(ctx, have.ProjectID, have.ID, true); err != nil {
			return Connection{}, false, err
		}
	}
	c := NewConnection(projectID, "default")
	if _, taken := r.Snapshot().ConnectionByName(projectID, c.Name); taken {
		c.Name = "environment"
	}
	c.ID, c.Origin, c.Host, c.ProjectKey, c.PersonalKey = envConnectionID, OriginEnv, host, key, personal
	c, err = r.CreateConnection(ctx, c)
	if e := event.AsError(err); e != nil && e.Code == event.CodeConflict {
		// Another replica did it concurrently, with the same environment.
		if c, err := get[Connection](ctx, r, *r.ring.Load(), prefixConnection+envConnectionID); err == nil && c.ProjectID == projectID {
			return c, true, r.b.Await(ctx, c.Revision)
		}
	}
	return c, err == nil, err
}
