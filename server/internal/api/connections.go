package api

import (
	"context"
	"net/http"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Connection is a PostHog connection as the API shows it: never a key.
type Connection struct {
	ID                   string    `json:"id"`
	Project              string    `json:"project"`
	Name                 string    `json:"name"`
	Host                 string    `json:"host"`
	ProjectKeyLast4      string    `json:"project_key_last4"`
	PersonalKeySet       bool      `json:"personal_key_set"`
	PersonalKeyLast4     string    `json:"personal_key_last4"`
	Enabled              bool      `json:"enabled"`
	PrivacyMode          bool      `json:"privacy_mode"`
	HashDistinctIDs      bool      `json:"hash_distinct_ids"`
	Environment          string    `json:"environment"`
	Surface              string    `json:"surface"`
	Schema               string    `json:"schema"`
	SampleRate           float64   `json:"sample_rate"`
	Filter               Filter    `json:"filter"`
	FlushAt              int       `json:"flush_at"`
	FlushIntervalSeconds float64   `json:"flush_interval_seconds"`
	SendProperties       []string  `json:"send_properties"`
	SendAttributes       []string  `json:"send_attributes"`
	Origin               string    `json:"origin"`
	CreatedAt            time.Time `json:"created_at"`
	UpdatedAt            time.Time `json:"updated_at"`
	Delivery             Delivery  `json:"delivery"`
}

// Delivery is the state of delivery. Counts are since the server's start.
type Delivery struct {
	State       string     `json:"state"` // sending, waiting, retrying, refused, disabled …
	LastSuccess *time.Time `json:"last_success"`
	LastError   string     `json:"last_error"` // in words; "" when all is well
	Sent        int64      `json:"sent"`
	Failed      int64      `json:"failed"`  // requests that failed
	Retried     int64      `json:"retried"` // events sent more than once
	Dead        int64      `json:"dead"`
	Waiting     int64      `json:"waiting"` // events in the journal that this connection has yet to get
	LagSeconds  float64    `json:"lag_seconds"`
}

// ConnectionInput creates or changes a connection; absent fields keep their
// value or default.
type ConnectionInput struct {
	ProjectKey           *string  `json:"project_key,omitempty"`
	PersonalKey          *string  `json:"personal_key,omitempty"`
	Host                 *string  `json:"host,omitempty"`
	Enabled              *bool    `json:"enabled,omitempty"`
	PrivacyMode          *bool    `json:"privacy_mode,omitempty"`
	HashDistinctIDs      *bool    `json:"hash_distinct_ids,omitempty"`
	Environment          *string  `json:"environment,omitempty"`
	Surface              *string  `json:"surface,omitempty"`
	Schema               *string  `json:"schema,omitempty"`
	SampleRate           *float64 `json:"sample_rate,omitempty"`
	Filter               *Filter  `json:"filter,omitempty"`
	FlushAt              *int     `json:"flush_at,omitempty"`
	FlushIntervalSeconds *float64 `json:"flush_interval_seconds,omitempty"`
	SkipTest             bool     `json:"skip_test,omitempty"`

	// SendProperties and SendAttributes replace the lists of what is sent in
	// privacy mode regardless of its content. A new name needs the role that
	// may read content.
	SendProperties *[]string `json:"send_properties,omitempty"`
	SendAttributes *[]string `json:"send_attributes,omitempty"`

	// Resume says what happens to the events of a pause when Enabled ends it:
	// "backlog", the default, sends them, "now" leaves them out.
	Resume string `json:"resume,omitempty"`
}

// Filter picks the events that a connection gets: those that match each list
// which is not empty.
type Filter struct {
	Events   []string `json:"events,omitempty"`
	Surfaces []string `json:"surfaces,omitempty"`
	Tags     []string `json:"tags,omitempty"` // one of them suffices
}

// ConnectionResult is a connection and, where one was run, its test.
type ConnectionResult struct {
	Connection Connection          `json:"connection"`
	Test       *posthog.TestResult `json:"test,omitempty"`
}

// Connections is what this package needs of the delivery.
type Connections interface {
	Test(ctx context.Context, c project.Connection) posthog.TestResult
	Delivery(c project.Connection) posthog.Delivery
	// DropBacklog forgets the events that wait for a disabled connection.
	DropBacklog(ctx context.Context, connectionID string) error
	// Ledger returns the sent and withheld properties of a connection.
	Ledger(ctx context.Context, c project.Connection) (ledger.Page, error)
}

func deliveryView(d posthog.Delivery) Delivery {
	out := Delivery{State: d.State, LastError: d.LastError, Sent: d.Sent, Failed: d.Failed, Retried: d.Retried, Dead: d.Dead, Waiting: d.Waiting, LagSeconds: d.Lag.Seconds()}
	if at := d.LastSuccess.UTC(); !at.IsZero() {
		out.LastSuccess = &at
	}
	return out
}

func (a *API) connectionView(c project.Connection) Connection {
	return Connection{
		ID: c.ID, Project: c.ProjectID, Name: c.Name, Host: c.Host, ProjectKeyLast4: c.ProjectKeyLastFour,
		PersonalKeySet: !c.PersonalKey.IsZero(), PersonalKeyLast4: c.PersonalKeyLastFour,
		Enabled: c.Enabled, PrivacyMode: c.PrivacyMode, HashDistinctIDs: c.HashDistinctIDs, Environment: c.Environment, Surface: c.Surface,
		Schema: string(c.Schema), SampleRate: c.SampleRate, Filter: Filter(c.Filter),
		FlushAt: c.FlushAt, FlushIntervalSeconds: c.FlushInterval.Seconds(), SendProperties: orEmpty(c.SendProperties), SendAttributes: orEmpty(c.SendAttributes), Origin: c.Origin, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt,
		Delivery: deliveryView(a.c.Connections.Delivery(c)),
	}
}

func (a *API) listConnections(_ *http.Request, p Principal) (any, error) {
	list := []Connection{}
	for _, c := range a.c.Registry.Snapshot().Connections(p.ProjectID) {
		list = append(list, a.connectionView(c))
	}
	return map[string]any{"connections": list}, nil
}

// find finds a connection by name or id within the caller's project.
func (a *API) find(r *http.Request, p Principal) (project.Connection, error) {
	name := r.PathValue("name")
	s := a.c.Registry.Snapshot()
	if c, ok := s.Connection(name); ok && c.ProjectID == p.ProjectID {
		return c, nil
	}
	if c, ok := s.ConnectionByName(p.ProjectID, name); ok {
		return c, nil
	}
	return project.Connection{}, event.NewError(event.CodeNotFound, "connection "+quoted(name)+" not found", "list them with hedgerow connection status", nil)
}

// setConnection creates or changes. A change of host or keys is saved only if
// the test passes, or if the caller has requested to skip it.
func (a *API) setConnection(r *http.Request, p Principal) (any, error) {
	var in ConnectionInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	apply := func(c *project.Connection) error {
		if in.Host != nil {
			c.MoveTo(*in.Host)
		}
		if in.ProjectKey != nil {
			c.ProjectKey = project.NewSecret(*in.ProjectKey)
		}
		if in.PersonalKey != nil {
			c.PersonalKey = project.NewSecret(*in.PersonalKey)
		}
		set(&c.Enabled, in.Enabled)
		set(&c.PrivacyMode, in.PrivacyMode)
		set(&c.HashDistinctIDs, in.HashDistinctIDs)
		set(&c.Environment, in.Environment)
		set(&c.Surface, in.Surface)
		if in.Schema != nil {
			c.Schema = project.Schema(*in.Schema)
		}
		set(&c.SampleRate, in.SampleRate)
		if in.Filter != nil {
			c.Filter = project.Filter(*in.Filter)
		}
		set(&c.FlushAt, in.FlushAt)
		set(&c.SendProperties, in.SendProperties)
		set(&c.SendAttributes, in.SendAttributes)
		if in.FlushIntervalSeconds != nil {
			c.FlushInterval = time.Duration(*in.FlushIntervalSeconds * float64(time.Second))
		}
		return nil
	}
	have, err := a.find(r, p)
	exists := err == nil
	if !exists {
		have = project.NewConnection(p.ProjectID, r.PathValue("name"))
		if in.ProjectKey == nil {
			return nil, event.Invalid("the connection has no project key", "set POSTHOG_API_KEY to the key that begins with phc_ (PostHog: Settings, Project, Project token)")
		}
	}
	want := have
	_ = apply(&want)
	var before *project.Connection
	if exists {
		before = &have
	}
	if err := a.c.Registry.CheckConnection(r.Context(), before, &want); err != nil {
		return nil, err
	}
	var out ConnectionResult
	if !in.SkipTest && (!exists || want.Host != have.Host || !want.ProjectKey.Equal(have.ProjectKey) || !want.PersonalKey.Equal(have.PersonalKey)) {
		t := a.c.Connections.Test(r.Context(), want)
		out.Test = &t
		if !t.OK {
			return nil, refused(t)
		}
	}
	switch {
	case in.Resume != "" && in.Resume != "now" && in.Resume != "backlog":
		return nil, event.Invalid("resume is not now or backlog", "omit it to send the queued events")
	case in.Resume == "now" && exists && !have.Enabled && want.Enabled:
		if err := a.c.Connections.DropBacklog(r.Context(), have.ID); err != nil {
			return nil, err
		}
	}
	if exists {
		have, err = a.c.Registry.UpdateConnection(r.Context(), p.ProjectID, have.ID, apply)
	} else {
		have, err = a.c.Registry.CreateConnection(r.Context(), want)
	}
	if err != nil {
		return nil, err
	}
	out.Connection = a.connectionView(have)
	return out, nil
}

// refused returns the first finding of a failed test as an error.
func refused(t posthog.TestResult) error {
	for _, c := range t.Checks {
		if !c.OK {
			return event.NewError(event.CodeInvalid, "not saved: "+c.Message, c.Hint+" (or save anyway with skip_test, on the command line --skip-test)", nil)
		}
	}
	return event.Invalid("not saved: the connection test failed", "try again")
}

func (a *API) testConnection(r *http.Request, p Principal) (any, error) {
	c, err := a.find(r, p)
	if err != nil {
		return nil, err
	}
	t := a.c.Connections.Test(r.Context(), c)
	return ConnectionResult{Connection: a.connectionView(c), Test: &t}, nil
}

func (a *API) deleteConnection(r *http.Request, p Principal) (any, error) {
	c, err := a.find(r, p)
	if err != nil {
		return nil, err
	}
	return done(a.c.Registry.DeleteConnection(r.Context(), p.ProjectID, c.ID))
}
