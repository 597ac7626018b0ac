package project

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// Project separates one team or application from another: its events, keys,
// connections and settings.
type Project struct {
	ID        string    `json:"id"` // "default" for the first, p_… for the others
	Name      string    `json:"name"`
	Token     string    `json:"token"` // phc_hedgerow_…: what SDKs send to ingest; it can write, not read
	Settings  Settings  `json:"settings"`
	Alerts    Alerts    `json:"alerts"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	HashKey     Secret `json:"-"` // key of the HMAC that hides distinct ids; 32 random bytes in hex
	AlertSecret Secret `json:"-"` // signs requests to Alerts.WebhookURL
	Revision    uint64 `json:"-"` // of the record in the bucket
}

// Settings are a project's choices.
type Settings struct {
	KeepContent     bool `json:"keep_content"`      // prompts and answers stay in the store. Defaults to true
	ScrubEmails     bool `json:"scrub_emails"`      // e-mail addresses are masked before anything is stored. Defaults to false
	HashDistinctIDs bool `json:"hash_distinct_ids"` // every connection gets an HMAC in place of user ids. Defaults to false
	ContentRole     Role `json:"content_role"`      // the least role that may read prompts and answers. Defaults to viewer
	ContentDays     int  `json:"content_days"`      // days that content is kept; 0 is forever. Defaults to 30
	MetricsDays     int  `json:"metrics_days"`      // days that events are kept; 0 is forever. Defaults to 0
	IncludeUsage    bool `json:"include_usage"`     // the gateway requests token counts on streams that lack them. Defaults to true

	// Surface is put on the project's events that name none: see [APIKey.Surface],
	// which comes first. Defaults to "", which leaves them without.
	Surface string `json:"surface"`

	// AttributionFields are members of gateway requests that become custom
	// properties and are cut out of the request: see provider.AttributionFields.
	AttributionFields []string `json:"attribution_fields"`
}

// DefaultSettings returns the settings of a new project.
func DefaultSettings() Settings {
	return Settings{KeepContent: true, ContentRole: RoleViewer, ContentDays: 30, IncludeUsage: true}
}

// Role is a user's role. An API key created with a role gets the scopes of
// [Role.Scopes].
type Role string

// The roles, the mightiest first.
const (
	RoleAdmin  Role = "admin"  // everything, users and settings included
	RoleMember Role = "member" // reads everything, changes connections and prompts
	RoleViewer Role = "viewer" // reads
)

func (r Role) rank() int { return slices.Index([]Role{RoleViewer, RoleMember, RoleAdmin}, r) }

// Can reports whether r may do what needs the role need.
func (r Role) Can(need Role) bool { return r.rank() >= 0 && r.rank() >= need.rank() }

// Valid reports whether r is one of the three.
func (r Role) Valid() bool { return r.rank() >= 0 }

// APIKey is a hedgerow key (hr_…) of a project. The key itself is shown once,
// when it is made.
type APIKey struct {
	ID        string    `json:"id"` // k_…
	ProjectID string    `json:"project"`
	Name      string    `json:"name"`
	Prefix    string    `json:"prefix"`           // its first 10 characters, to distinguish keys
	Hash      []byte    `json:"hash"`             // SHA-256
	Role      Role      `json:"role"`             // "" if Scopes are not those of a role
	Scopes    Scopes    `json:"scopes,omitempty"` // empty in keys from before there were scopes; see May
	CreatedAt time.Time `json:"created_at"`

	// Surface is the default surface of calls and events that use the key; ""
	// uses the project's default.
	Surface string `json:"surface,omitempty"`

	Revision uint64 `json:"-"`
}

// ProviderKey is a provider's key that is kept for a project, for callers that
// present a hedgerow key in its place.
type ProviderKey struct {
	ProjectID string    `json:"project"`
	Provider  string    `json:"provider"` // openai, anthropic …: the gateway's name of it
	LastFour  string    `json:"last_four"`
	UpdatedAt time.Time `json:"updated_at"`

	Key      Secret `json:"-"`
	Revision uint64 `json:"-"`
}

// Schema is the vocabulary in which a connection's events are written.
type Schema = event.Schema

// The schemas.
const (
	SchemaPostHog   = event.SchemaPostHog
	SchemaLLMEvents = event.SchemaLLMEvents
	SchemaBoth      = event.SchemaBoth
)

// Origins of a connection.
const (
	OriginUser = "user" // created by a user: web, API, MCP or command line
	OriginEnv  = "env"  // follows POSTHOG_API_KEY and its like
)

// DefaultHost is PostHog's US cloud.
const DefaultHost = "https://us.i.posthog.com"

// Connection is a PostHog project to which events are delivered.
type Connection struct {
	ID                  string        `json:"id"` // c_…; stable, because delivery cursors contain it
	ProjectID           string        `json:"project"`
	Name                string        `json:"name"`
	Host                string        `json:"host"`                   // ingestion host, without trailing slash. Defaults to DefaultHost
	ProjectKeyLastFour  string        `json:"project_key_last_four"`  //
	PersonalKeyLastFour string        `json:"personal_key_last_four"` // "" if there is none
	Enabled             bool          `json:"enabled"`                // Defaults to true
	PrivacyMode         bool          `json:"privacy_mode"`           // no prompts and answers leave. Defaults to true
	Schema              Schema        `json:"schema"`                 // Defaults to SchemaPostHog
	Environment         string        `json:"environment"`            // set on events that name none
	Surface             string        `json:"surface"`                // set on events without one from the call, project or key
	FlushAt             int           `json:"flush_at"`               // events a batch, 1 to 1000. Defaults to 20
	FlushInterval       time.Duration `json:"flush_interval"`         // maximum time before a batch is sent, 100 ms to 10 min. Defaults to 10 s
	SampleRate          float64       `json:"sample_rate"`            // fraction of traces that is sent, over 0 to 1. Defaults to 1
	HashDistinctIDs     bool          `json:"hash_distinct_ids"`      // this connection gets an HMAC in place of user ids; see also Settings
	Filter              Filter        `json:"filter,omitzero"`
	SendProperties      []string      `json:"send_properties,omitempty"` // callers' properties sent in privacy mode whatever their values
	SendAttributes      []string      `json:"send_attributes,omitempty"` // and attributes of spans and resources
	Rules               int           `json:"rules,omitempty"`           // RulesAllowList, or 0 for a record from before
	LegacyNames         *LegacyNames  `json:"taken_over,omitempty"`      // names from before the allowlist, pending a user's decision
	Origin              string        `json:"origin"`                    // OriginUser or OriginEnv
	CreatedAt           time.Time     `json:"created_at"`
	UpdatedAt           time.Time     `json:"updated_at"`

	ProjectKey  Secret `json:"-"` // phc_…
	PersonalKey Secret `json:"-"` // phx_… or phs_…; optional, for reading from PostHog
	Revision    uint64 `json:"-"`
}

// RulesAllowList marks a connection whose previously sent names have been taken
// over, or which never had any.
const RulesAllowList = 1

// LegacyNames are names that a connection sent before the allowlist existed. An
// upgrade added them to SendProperties and SendAttributes, so that the data in
// PostHog continue. They are shown until a user keeps or stops them.
type LegacyNames struct {
	At         time.Time `json:"at"`
	Properties []string  `json:"properties,omitempty"`
	Attributes []string  `json:"attributes,omitempty"`
}

// Filter picks the events that a connection gets: those that match every list
// which is not empty.
type Filter struct {
	Events   []string `json:"events,omitempty"`
	Surfaces []string `json:"surfaces,omitempty"`
	Tags     []string `json:"tags,omitempty"` // one of them suffices
}

// Match reports whether the filter lets an event through.
func (f Filter) Match(e *event.Event) bool {
	if len(f.Events) > 0 && !slices.Contains(f.Events, e.Name) {
		return false
	}
	if len(f.Surfaces) > 0 && !slices.Contains(f.Surfaces, e.Surface) {
		return false
	}
	return len(f.Tags) == 0 || slices.ContainsFunc(e.Tags, func(t string) bool { return slices.Contains(f.Tags, t) })
}

// NewConnection returns a connection with all defaults. Set the keys and
// other fields, and pass it to [Registry.CreateConnection].
func NewConnection(projectID, name string) Connection {
	return Connection{
		ProjectID: projectID, Name: name, Host: DefaultHost, Enabled: true, PrivacyMode: true, Schema: SchemaPostHog,
		FlushAt: 20, FlushInterval: 10 * time.Second, SampleRate: 1, Origin: OriginUser,
	}
}

// User is a user of the web pages.
type User struct {
	ID           string    `json:"id"`    // u_…
	Email        string    `json:"email"` // lower case; "" until the first administrator has given one
	Name         string    `json:"name"`
	Role         Role      `json:"role"`
	Projects     []string  `json:"projects,omitempty"` // ids that a member or viewer sees; administrators see all
	PasswordHash string    `json:"password_hash"`      // argon2id in PHC form; "" until a password is set
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`

	Revision uint64 `json:"-"`
}

// CanSee reports whether the user may see a project.
func (u *User) CanSee(projectID string) bool {
	return u.Role == RoleAdmin || slices.Contains(u.Projects, projectID)
}

// Session is a signed-in browser. Its token is in the cookie only.
type Session struct {
	ID        string    `json:"id"` // s_…
	UserID    string    `json:"user"`
	Hash      []byte    `json:"hash"` // SHA-256 of the token
	Agent     string    `json:"agent"`
	ByLink    bool      `json:"by_link,omitempty"` // signed in by a one-time link, not by password
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`

	Revision uint64 `json:"-"`
}

// Link is a one-time sign-in link. It is kept under the hash of its token.
type Link struct {
	Hash      []byte    `json:"hash"`
	UserID    string    `json:"user"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`

	Revision uint64 `json:"-"`
}

// AuditEntry records a change and its actor. It never contains a key.
type AuditEntry struct {
	ID        string    `json:"id"` // UUID v7: their order is the order of events
	Time      time.Time `json:"time"`
	Actor     string    `json:"actor"`  // from WithActor; "system" otherwise
	Action    string    `json:"action"` // "connection.create", "key.revoke" …
	ProjectID string    `json:"project,omitempty"`
	Target    string    `json:"target,omitempty"` // id or name of the changed record
	Detail    string    `json:"detail,omitempty"`
}

// record is a type in the bucket: its key, and its encoding with encrypted
// secrets.
type record[T any] interface {
	*T
	noun() string
	key() string
	revision() *uint64
	secrets() map[string]*Secret // the fields that are sealed, by name
	boundTo() string             // the host that the sealed fields are for; "" for any
}

const (
	prefixProject    = "project."
	prefixAPIKey     = "key."
	prefixConnection = "connection."
	prefixProvider   = "provider."
	prefixAdminKey   = "billing."
	prefixUser       = "user."
	prefixSession    = "session."
	prefixLink       = "link."
	prefixAudit      = "audit."
	prefixDashboard  = "dashboard."
	prefixSavedView  = "view."
	prefixUnique     = "unique."
	keySealCheck     = "meta.seal"
	keyFirstStart    = "meta.start"
)

func (p *Project) noun() string      { return "project" }
func (p *Project) key() string       { return prefixProject + p.ID }
func (p *Project) revision() *uint64 { return &p.Revision }
func (p *Project) secrets() map[string]*Secret {
	return map[string]*Secret{"hash_key": &p.HashKey, "alert_secret": &p.AlertSecret}
}

func (k *APIKey) noun() string                { return "API key" }
func (k *APIKey) key() string                 { return prefixAPIKey + k.ID }
func (k *APIKey) revision() *uint64           { return &k.Revision }
func (k *APIKey) secrets() map[string]*Secret { return nil }

func (k *ProviderKey) noun() string      { return "provider key" }
func (k *ProviderKey) key() string       { return prefixProvider + k.ProjectID + "." + k.Provider }
func (k *ProviderKey) revision() *uint64 { return &k.Revision }
func (k *ProviderKey) secrets() map[string]*Secret {
	return map[string]*Secret{"key": &k.Key}
}

func (c *Connection) noun() string      { return "connection" }
func (c *Connection) key() string       { return prefixConnection + c.ID }
func (c *Connection) revision() *uint64 { return &c.Revision }
func (c *Connection) secrets() map[string]*Secret {
	return map[string]*Secret{"project_key": &c.ProjectKey, "personal_key": &c.PersonalKey}
}

func (u *User) noun() string                { return "user" }
func (u *User) key() string                 { return prefixUser + u.ID }
func (u *User) revision() *uint64           { return &u.Revision }
func (u *User) secrets() map[string]*Secret { return nil }

func (s *Session) noun() string                { return "session" }
func (s *Session) key() string                 { return prefixSession + s.ID }
func (s *Session) revision() *uint64           { return &s.Revision }
func (s *Session) secrets() map[string]*Secret { return nil }

func (l *Link) noun() string                { return "sign-in link" }
func (l *Link) key() string                 { return linkKey(l.Hash) }
func (l *Link) revision() *uint64           { return &l.Revision }
func (l *Link) secrets() map[string]*Secret { return nil }

func (p *Project) boundTo() string     { return "" }
func (k *APIKey) boundTo() string      { return "" }
func (k *ProviderKey) boundTo() string { return "" }
func (c *Connection) boundTo() string  { return c.Host }
func (u *User) boundTo() string        { return "" }
func (s *Session) boundTo() string     { return "" }
func (l *Link) boundTo() string        { return "" }

func linkKey(hash []byte) string { return fmt.Sprintf("%s%x", prefixLink, hash) }

// envelope is the stored form of a record.
type envelope struct {
	Record json.RawMessage   `json:"record"`
	Sealed map[string]string `json:"sealed,omitempty"`
}

func encode[T any, P record[T]](ring keyring, v P) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	env := envelope{Record: b}
	for name, s := range v.secrets() {
		if s.IsZero() {
			continue
		}
		if env.Sealed == nil {
			env.Sealed = make(map[string]string)
		}
		if !s.isFor(v.boundTo()) {
			return nil, fmt.Errorf("%s was set for another host", name)
		}
		name = sealedName(name, v.boundTo())
		env.Sealed[name] = ring.seal(v.key()+"/"+name, *s)
	}
	return json.Marshal(env)
}

func decode[T any, P record[T]](ring keyring, key string, value []byte, revision uint64) (T, error) {
	var v T
	var env envelope
	if err := json.Unmarshal(value, &env); err != nil {
		return v, err
	}
	if err := json.Unmarshal(env.Record, &v); err != nil {
		return v, err
	}
	p := P(&v)
	if p.key() != key {
		return v, fmt.Errorf("record of %s is stored under %s", p.key(), key)
	}
	for name, s := range p.secrets() {
		if ring == nil { // deleting a record does not require decrypting it
			break
		}
		host := p.boundTo()
		sealed, bound := env.Sealed[sealedName(name, host)]
		if bound {
			name = sealedName(name, host)
		} else {
			sealed = env.Sealed[name] // of before the host was part of the name
		}
		var err error
		if *s, err = ring.open(key+"/"+name, sealed); err != nil {
			return v, fmt.Errorf("open %s: %w", name, err)
		}
		if !s.IsZero() {
			s.host = host
		}
	}
	*p.revision() = revision
	return v, nil
}

// sealedName is the name under which a field is stored and encrypted: a key for a
// host can be decrypted only in a record of that host.
func sealedName(name, host string) string {
	if host == "" {
		return name
	}
	return name + "@" + host
}

func hashOf(plain string) [sha256.Size]byte { return sha256.Sum256([]byte(plain)) }
