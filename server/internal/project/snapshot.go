package project

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"slices"
	"strings"
	"time"
)

// Snapshot is a consistent, immutable view of the whole configuration. It is
// safe for concurrent use. Do not modify the results of its methods: slices
// are shared.
type Snapshot struct {
	revision    uint64
	sealed      bool
	server      ServerSettings
	uses        *uses
	now         func() time.Time
	projects    map[string]*Project
	list        []Project
	tokens      map[string]*Project
	keys        map[[sha256.Size]byte]*APIKey
	keysBy      map[string][]APIKey
	connections map[string]*Connection
	connsBy     map[string][]Connection
	allConns    []Connection
	providers   map[string]*ProviderKey // by "project.provider"
	providersBy map[string][]ProviderKey
	adminKeysBy map[string][]AdminKey
	users       map[string]*User
	userList    []User
	emails      map[string]*User
	sessions    map[[sha256.Size]byte]*Session
	sessionsBy  map[string][]Session
	links       []Link

	dashboardsBy map[string][]Dashboard
	viewsBy      map[string][]SavedView
}

// state has the watched records by key.
type state struct {
	revision    uint64
	sealed      bool // the bucket has the record of the secret key
	started     bool // the first start has been done
	server      ServerSettings
	projects    map[string]Project
	keys        map[string]APIKey
	connections map[string]Connection
	providers   map[string]ProviderKey
	adminKeys   map[string]AdminKey
	users       map[string]User
	sessions    map[string]Session
	links       map[string]Link
	audit       map[string]AuditEntry
	dashboards  map[string]Dashboard
	views       map[string]SavedView

	log     []AuditEntry // of audit, newest first
	audited bool         // log is older than audit
}

func newState() *state {
	return &state{
		projects: make(map[string]Project), keys: make(map[string]APIKey), connections: make(map[string]Connection),
		providers: make(map[string]ProviderKey), adminKeys: make(map[string]AdminKey), users: make(map[string]User), sessions: make(map[string]Session),
		links: make(map[string]Link), audit: make(map[string]AuditEntry),
		dashboards: make(map[string]Dashboard), views: make(map[string]SavedView),
	}
}

func (st *state) snapshot(now func() time.Time) *Snapshot {
	s := &Snapshot{
		revision: st.revision, now: now, sealed: st.sealed, server: st.server,
		projects: make(map[string]*Project, len(st.projects)), tokens: make(map[string]*Project, len(st.projects)),
		keys: make(map[[sha256.Size]byte]*APIKey, len(st.keys)), keysBy: make(map[string][]APIKey),
		connections: make(map[string]*Connection, len(st.connections)), connsBy: make(map[string][]Connection),
		providers: make(map[string]*ProviderKey, len(st.providers)), providersBy: make(map[string][]ProviderKey), adminKeysBy: make(map[string][]AdminKey),
		users: make(map[string]*User, len(st.users)), emails: make(map[string]*User, len(st.users)),
		sessions: make(map[[sha256.Size]byte]*Session, len(st.sessions)), sessionsBy: make(map[string][]Session),
		dashboardsBy: make(map[string][]Dashboard), viewsBy: make(map[string][]SavedView),
	}
	byName := func(a, b string, ca, cb time.Time) int { return cmp.Or(cmp.Compare(a, b), ca.Compare(cb)) }

	s.list = slices.SortedFunc(maps.Values(st.projects), func(a, b Project) int { return byName(a.Name, b.Name, a.CreatedAt, b.CreatedAt) })
	for i := range s.list {
		p := &s.list[i]
		s.projects[p.ID] = p
		s.tokens[p.Token] = p
	}
	for _, k := range slices.SortedFunc(maps.Values(st.keys), func(a, b APIKey) int { return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) }) {
		if s.projects[k.ProjectID] == nil || len(k.Hash) != sha256.Size {
			continue // its project is being deleted
		}
		s.keys[[sha256.Size]byte(k.Hash)] = &k
		s.keysBy[k.ProjectID] = append(s.keysBy[k.ProjectID], k)
	}
	for _, c := range slices.SortedFunc(maps.Values(st.connections), func(a, b Connection) int { return byName(a.Name, b.Name, a.CreatedAt, b.CreatedAt) }) {
		if s.projects[c.ProjectID] == nil {
			continue
		}
		s.connections[c.ID] = &c
		s.connsBy[c.ProjectID] = append(s.connsBy[c.ProjectID], c)
		s.allConns = append(s.allConns, c)
	}
	for _, k := range slices.SortedFunc(maps.Values(st.providers), func(a, b ProviderKey) int { return cmp.Compare(a.Provider, b.Provider) }) {
		if s.projects[k.ProjectID] == nil {
			continue
		}
		s.providers[k.ProjectID+"."+k.Provider] = &k
		s.providersBy[k.ProjectID] = append(s.providersBy[k.ProjectID], k)
	}
	for _, k := range slices.SortedFunc(maps.Values(st.adminKeys), func(a, b AdminKey) int { return cmp.Compare(a.Provider, b.Provider) }) {
		if s.projects[k.ProjectID] != nil {
			s.adminKeysBy[k.ProjectID] = append(s.adminKeysBy[k.ProjectID], k)
		}
	}
	for _, d := range slices.SortedFunc(maps.Values(st.dashboards), func(a, b Dashboard) int { return byName(a.Name, b.Name, a.CreatedAt, b.CreatedAt) }) {
		s.dashboardsBy[d.ProjectID] = append(s.dashboardsBy[d.ProjectID], d)
	}
	for _, v := range slices.SortedFunc(maps.Values(st.views), func(a, b SavedView) int { return byName(a.Name, b.Name, a.CreatedAt, b.CreatedAt) }) {
		s.viewsBy[v.ProjectID] = append(s.viewsBy[v.ProjectID], v)
	}
	s.userList = slices.SortedFunc(maps.Values(st.users), func(a, b User) int { return byName(a.Email, b.Email, a.CreatedAt, b.CreatedAt) })
	for i := range s.userList {
		u := &s.userList[i]
		s.users[u.ID] = u
		if u.Email != "" {
			s.emails[u.Email] = u
		}
	}
	for _, x := range slices.SortedFunc(maps.Values(st.sessions), func(a, b Session) int { return b.CreatedAt.Compare(a.CreatedAt) }) {
		if s.users[x.UserID] == nil || len(x.Hash) != sha256.Size {
			continue
		}
		s.sessions[[sha256.Size]byte(x.Hash)] = &x
		s.sessionsBy[x.UserID] = append(s.sessionsBy[x.UserID], x)
	}
	s.links = slices.Collect(maps.Values(st.links))
	return s
}

// Revision returns the bucket's revision of the snapshot.
func (s *Snapshot) Revision() uint64 { return s.revision }

// Project returns the project with an id.
func (s *Snapshot) Project(id string) (Project, bool) { return deref(s.projects[id]) }

// ProjectByName returns the project with a name.
func (s *Snapshot) ProjectByName(name string) (Project, bool) {
	for i := range s.list {
		if strings.EqualFold(s.list[i].Name, name) {
			return s.list[i], true
		}
	}
	return Project{}, false
}

// ProjectByToken returns the project with a project token (phc_hedgerow_…).
func (s *Snapshot) ProjectByToken(token string) (Project, bool) { return deref(s.tokens[token]) }

// ProjectByAPIKey returns the project and the key of a plain API key (hr_…). It
// compares SHA-256 hashes in constant time, so the time reveals nothing about
// an unknown key.
func (s *Snapshot) ProjectByAPIKey(plain string) (Project, APIKey, bool) {
	if !strings.HasPrefix(plain, apiKeyPrefix) || len(plain) != apiKeyLen {
		return Project{}, APIKey{}, false
	}
	h := hashOf(plain)
	k := s.keys[h]
	if k == nil || subtle.ConstantTimeCompare(k.Hash, h[:]) != 1 {
		return Project{}, APIKey{}, false
	}
	s.uses.note(k.ID, s.now())
	return *s.projects[k.ProjectID], *k, true
}

// LastUsed is when this process last took an API key, to the second; not ok where
// it has not since its start.
func (s *Snapshot) LastUsed(keyID string) (at time.Time, ok bool) { return s.uses.last(keyID) }

// Projects returns every project, by name.
func (s *Snapshot) Projects() []Project { return s.list }

// APIKeys returns a project's keys, the oldest first.
func (s *Snapshot) APIKeys(projectID string) []APIKey { return s.keysBy[projectID] }

// Connections returns a project's connections, by name.
func (s *Snapshot) Connections(projectID string) []Connection { return s.connsBy[projectID] }

// AllConnections returns every project's connections, by name.
func (s *Snapshot) AllConnections() []Connection { return s.allConns }

// Connection returns the connection with an id, whatever its project: callers
// that serve a user must compare ProjectID.
func (s *Snapshot) Connection(id string) (Connection, bool) { return deref(s.connections[id]) }

// FlagConnection returns the connection whose PostHog evaluates the
// project's feature flags: the first by name that is enabled and has a
// project key.
func (s *Snapshot) FlagConnection(projectID string) (Connection, bool) {
	for _, c := range s.connsBy[projectID] {
		if c.Enabled && !c.ProjectKey.IsZero() {
			return c, true
		}
	}
	return Connection{}, false
}

// ConnectionByName returns a project's connection with a name.
func (s *Snapshot) ConnectionByName(projectID, name string) (Connection, bool) {
	for _, c := range s.connsBy[projectID] {
		if strings.EqualFold(c.Name, name) {
			return c, true
		}
	}
	return Connection{}, false
}

// ProviderKey returns the key that is kept for a project and a provider.
func (s *Snapshot) ProviderKey(projectID, provider string) (Secret, bool) {
	k := s.providers[projectID+"."+provider]
	if k == nil {
		return Secret{}, false
	}
	return k.Key, true
}

// ProviderKeys returns the kept providers' keys of a project, by provider.
func (s *Snapshot) ProviderKeys(projectID string) []ProviderKey { return s.providersBy[projectID] }

// Users returns every user, by e-mail address.
func (s *Snapshot) Users() []User { return s.userList }

// User returns the user with an id.
func (s *Snapshot) User(id string) (User, bool) { return deref(s.users[id]) }

// UserByEmail returns the user with an e-mail address, in any case of letters.
func (s *Snapshot) UserByEmail(email string) (User, bool) {
	return deref(s.emails[normalEmail(email)])
}

// SessionByToken returns the session that a cookie's token belongs to, and its
// user, if it has not expired.
func (s *Snapshot) SessionByToken(token string) (Session, User, bool) {
	h := hashOf(token)
	x := s.sessions[h]
	if x == nil || subtle.ConstantTimeCompare(x.Hash, h[:]) != 1 || !s.now().Before(x.ExpiresAt) {
		return Session{}, User{}, false
	}
	return *x, *s.users[x.UserID], true
}

// Sessions returns a user's sessions, the newest first; expired ones may be
// among them.
func (s *Snapshot) Sessions(userID string) []Session { return s.sessionsBy[userID] }

func deref[T any](p *T) (T, bool) {
	if p == nil {
		var zero T
		return zero, false
	}
	return *p, true
}
