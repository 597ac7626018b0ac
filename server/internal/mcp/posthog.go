package mcp

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Delivery is the state of the delivery to a connection. Counts are since the
// server's start.
type Delivery struct {
	State       string     `json:"state" jsonschema:"sending, idle (all sent), retrying (PostHog cannot be reached; events wait), refused (PostHog rejects the key or host; events wait until it is changed), disabled, or stopped (no server runs)"`
	LastSuccess *time.Time `json:"last_success,omitempty" jsonschema:"when PostHog last accepted events"`
	LastError   string     `json:"last_error,omitempty" jsonschema:"the last error; absent if there is none"`
	Sent        int64      `json:"sent" jsonschema:"events accepted by PostHog"`
	Failed      int64      `json:"failed" jsonschema:"requests that failed"`
	Retried     int64      `json:"retried" jsonschema:"events that were sent more than once"`
	Dead        int64      `json:"dead" jsonschema:"events that failed permanently and are kept as dead letters"`
	Waiting     int64      `json:"waiting" jsonschema:"events not sent yet"`
	LagSeconds  float64    `json:"lag_seconds" jsonschema:"age of the oldest event not sent yet"`
}

func deliveryView(d posthog.Delivery) Delivery {
	out := Delivery{State: d.State, LastError: d.LastError, Sent: d.Sent, Failed: d.Failed, Retried: d.Retried, Dead: d.Dead, Waiting: d.Waiting, LagSeconds: d.Lag.Seconds()}
	if at := d.LastSuccess.UTC(); !at.IsZero() {
		out.LastSuccess = &at
	}
	return out
}

// Connection is a PostHog connection as tools show it: never a key.
type Connection struct {
	Name                 string    `json:"name"`
	Host                 string    `json:"host"`
	ProjectKeySet        bool      `json:"project_key_set"`
	ProjectKeyLast4      string    `json:"project_key_last4,omitempty" jsonschema:"the last four characters; the key itself is never shown"`
	PersonalKeySet       bool      `json:"personal_key_set"`
	PersonalKeyLast4     string    `json:"personal_key_last4,omitempty"`
	Enabled              bool      `json:"enabled"`
	PrivacyMode          bool      `json:"privacy_mode" jsonschema:"true: no prompts and responses are sent to PostHog"`
	Schema               string    `json:"schema" jsonschema:"the event schema: posthog, llm_events or both"`
	Environment          string    `json:"environment,omitempty" jsonschema:"set on events without one"`
	Surface              string    `json:"surface,omitempty" jsonschema:"set on events without one from the call, project or key"`
	HashDistinctIDs      bool      `json:"hash_distinct_ids" jsonschema:"true: user ids are replaced by an HMAC"`
	FlushAt              int       `json:"flush_at" jsonschema:"events a batch"`
	FlushIntervalSeconds float64   `json:"flush_interval_seconds" jsonschema:"maximum time before a batch is sent"`
	SampleRate           float64   `json:"sample_rate" jsonschema:"fraction of traces that is sent"`
	Filter               Filter    `json:"filter" jsonschema:"only events that match every list that is not empty are sent"`
	FromEnvironment      bool      `json:"from_environment" jsonschema:"true: host and keys come from POSTHOG_API_KEY and the other environment variables of the server, and cannot be changed or deleted here"`
	UpdatedAt            time.Time `json:"updated_at"`
	Delivery             Delivery  `json:"delivery"`
}

// Filter is project.Filter.
type Filter struct {
	Events   []string `json:"events,omitempty" jsonschema:"event names such as $ai_generation"`
	Surfaces []string `json:"surfaces,omitempty" jsonschema:"features of the application"`
	Tags     []string `json:"tags,omitempty" jsonschema:"tags, of which an event needs one"`
}

type configureIn struct {
	Connection           string   `json:"connection,omitempty" jsonschema:"name of the connection to create or change, such as production. Default: the only one, otherwise default"`
	ProjectKey           *string  `json:"project_key,omitempty" jsonschema:"PostHog's project token, which starts with phc_ (PostHog: Settings, Project). Needed for a new connection; stored encrypted and never shown again"`
	PersonalKey          *string  `json:"personal_key,omitempty" jsonschema:"optional personal API key, which starts with phx_ and has the scope query:read: lets hedgerow read PostHog's own counts. An empty string removes it"`
	Host                 *string  `json:"host,omitempty" jsonschema:"PostHog's ingestion host: https://us.i.posthog.com (default), https://eu.i.posthog.com, or your own https:// address. If you change the host, pass both keys again: stored keys are not sent to another host"`
	Enabled              *bool    `json:"enabled,omitempty" jsonschema:"false pauses delivery and keeps the keys; true resumes it with the queued events (set_posthog_enabled can skip them). A new connection is enabled"`
	PrivacyMode          *bool    `json:"privacy_mode,omitempty" jsonschema:"true (default): prompts and responses are never sent to PostHog. Ask the user before you set it to false"`
	Schema               *string  `json:"schema,omitempty" jsonschema:"event schema: posthog ($ai_generation …, default), llm_events (llm_request_completed …), or both"`
	Environment          *string  `json:"environment,omitempty" jsonschema:"environment set on events without one, such as production"`
	Surface              *string  `json:"surface,omitempty" jsonschema:"surface set on events without one from the call, project or key, such as Playbook"`
	HashDistinctIDs      *bool    `json:"hash_distinct_ids,omitempty" jsonschema:"true sends an HMAC instead of each user id"`
	FlushAt              *int     `json:"flush_at,omitempty" jsonschema:"maximum events per batch; default: 20"`
	FlushIntervalSeconds *float64 `json:"flush_interval_seconds,omitempty" jsonschema:"maximum time before a batch is sent; default: 10"`
	SampleRate           *float64 `json:"sample_rate,omitempty" jsonschema:"fraction of traces to send, above 0 and up to 1 (default)"`
	Filter               *Filter  `json:"filter,omitempty" jsonschema:"send only events that match every list given here; replaces the current filter; {} sends everything"`
	SkipTest             bool     `json:"skip_test,omitempty" jsonschema:"true saves without testing host and keys first. Use it only when the user asks for it"`
}

type configureOut struct {
	Created    bool                `json:"created" jsonschema:"true: the connection is new; false: it was changed"`
	Connection Connection          `json:"connection"`
	Test       *posthog.TestResult `json:"test,omitempty" jsonschema:"test results, if host or keys are new"`
}

type connectionIn struct {
	Connection string `json:"connection,omitempty" jsonschema:"name of the connection. Default: the only one"`
}

type statusOut struct {
	Project     string       `json:"project" jsonschema:"name of the hedgerow project"`
	Configured  bool         `json:"configured" jsonschema:"true: there is a connection"`
	Sending     bool         `json:"sending" jsonschema:"true: at least one connection is enabled"`
	Connections []Connection `json:"connections"`
}

type testOut struct {
	Connection string          `json:"connection"`
	Host       string          `json:"host"`
	OK         bool            `json:"ok"`
	Checks     []posthog.Check `json:"checks"`
}

type enabledIn struct {
	Connection string `json:"connection,omitempty" jsonschema:"name of the connection. Default: the only one"`
	Enabled    *bool  `json:"enabled" jsonschema:"true sends events, false pauses; the keys are kept either way, and events stay stored on the server"`
	Resume     string `json:"resume,omitempty" jsonschema:"with enabled true: backlog (default) also sends the events queued during the pause; now skips them"`
}

// What a connection does with the events that came while it was disabled.
const (
	resumeBacklog = "backlog"
	resumeNow     = "now"
)

type enabledOut struct {
	Changed    bool       `json:"changed" jsonschema:"false: it was already in this state"`
	Connection Connection `json:"connection"`
}

type deleteIn struct {
	Connection string `json:"connection" jsonschema:"name of the connection"`
	Confirm    string `json:"confirm" jsonschema:"the connection's name again, after the user has agreed"`
}

type deleteOut struct {
	Deleted string `json:"deleted" jsonschema:"name of the deleted connection; its keys and queued events are deleted too"`
}

func (s *Server) addPostHogTools() {
	add(s, spec{
		name: "configure_posthog", title: "Connect PostHog", need: write, destructive: true, open: true,
		description: "Create or change a connection to a PostHog project: keys, host, and what is sent and how. Pass only what changes. Key prefixes and the host's scheme are checked, a new host or key is tested with a real event, and nothing is saved unless the test passes. Keys are encrypted and never shown again.",
		input: func(p map[string]*jsonschema.Schema) {
			enum(p["schema"], project.SchemaPostHog, project.SchemaLLMEvents, project.SchemaBoth)
			between(p["flush_at"], 1, 1000)
			between(p["flush_interval_seconds"], 0.1, 600)
			zero, one := 0.0, 1.0
			p["sample_rate"].ExclusiveMinimum, p["sample_rate"].Maximum = &zero, &one
		},
	}, s.configure)
	add(s, spec{
		name: "get_posthog_status", title: "PostHog status", need: read,
		description: "Show the connections to PostHog: host, whether keys are set, settings, whether it is enabled, and the delivery status. Never shows a key.",
	}, s.status)
	add(s, spec{
		name: "test_posthog", title: "Test PostHog", need: write, open: true, repeats: true,
		description: "Test a saved connection from end to end: reach the host, check the project key, send a real event named hedgerow_connection_test, and check the personal key if there is one. Each finding has a fix.",
	}, s.test)
	add(s, spec{
		name: "set_posthog_enabled", title: "Pause or resume PostHog", need: write, destructive: true,
		description: "Pause delivery to PostHog (keys and events are kept), or resume it: with the events queued meanwhile (backlog) or without them (now).",
		input:       func(p map[string]*jsonschema.Schema) { enum(p["resume"], resumeBacklog, resumeNow) },
	}, s.setEnabled)
	add(s, spec{
		name: "delete_posthog", title: "Delete a PostHog connection", need: write, destructive: true,
		description: "Delete a connection and permanently erase its encrypted keys. Stored events are kept. Ask the user first, then pass the connection's name as confirm. To pause only, use set_posthog_enabled.",
	}, s.remove)
}

func (s *Server) view(c project.Connection) Connection {
	return Connection{
		Name: c.Name, Host: c.Host,
		ProjectKeySet: !c.ProjectKey.IsZero(), ProjectKeyLast4: c.ProjectKeyLastFour, PersonalKeySet: !c.PersonalKey.IsZero(), PersonalKeyLast4: c.PersonalKeyLastFour,
		Enabled: c.Enabled, PrivacyMode: c.PrivacyMode, Schema: string(c.Schema), Environment: c.Environment, Surface: c.Surface, HashDistinctIDs: c.HashDistinctIDs,
		FlushAt: c.FlushAt, FlushIntervalSeconds: c.FlushInterval.Seconds(), SampleRate: c.SampleRate,
		Filter:          Filter{Events: c.Filter.Events, Surfaces: c.Filter.Surfaces, Tags: c.Filter.Tags},
		FromEnvironment: c.Origin == project.OriginEnv, UpdatedAt: c.UpdatedAt, Delivery: deliveryView(s.c.Connections.Delivery(c)),
	}
}

// find returns the connection with a name or, without one, the only one.
func (s *Server) find(projectID, name string) (project.Connection, error) {
	list := s.c.Registry.Snapshot().Connections(projectID)
	if name == "" && len(list) == 1 {
		return list[0], nil
	}
	names := make([]string, len(list))
	for i, c := range list {
		if name != "" && (strings.EqualFold(c.Name, strings.TrimSpace(name)) || c.ID == name) {
			return c, nil
		}
		names[i] = strconv.Quote(c.Name)
	}
	switch {
	case len(list) == 0:
		return project.Connection{}, event.NewError(event.CodeNotFound, "no PostHog project is connected", "connect one with configure_posthog and its project key (phc_…)", nil)
	case name == "":
		return project.Connection{}, event.Invalid("there are several connections: name one", "pass connection, one of "+strings.Join(names, ", "))
	}
	return project.Connection{}, event.NewError(event.CodeNotFound, "connection "+strconv.Quote(name)+" not found", "pass connection, one of "+strings.Join(names, ", "), nil)
}

func (s *Server) configure(ctx context.Context, who caller, in configureIn) (out configureOut, err error) {
	have, err := s.find(who.projectID, in.Connection)
	exists := err == nil
	if !exists {
		if e := event.AsError(err); e.Code != event.CodeNotFound {
			return out, e
		}
		name := in.Connection
		if name == "" {
			name = "default"
		}
		if in.ProjectKey == nil {
			return out, event.Invalid("connection "+strconv.Quote(name)+" does not exist yet, and a new one needs a project key",
				"pass project_key, which begins with phc_ (PostHog: Settings, Project, Project token)")
		}
		have = project.NewConnection(who.projectID, name)
	}
	apply := func(c *project.Connection) error { in.apply(c); return nil }
	want := have
	in.apply(&want)
	var before *project.Connection
	if exists {
		before = &have
	}
	if err := s.c.Registry.CheckConnection(ctx, before, &want); err != nil {
		return out, err
	}
	keysChanged := !want.ProjectKey.Equal(have.ProjectKey) || !want.PersonalKey.Equal(have.PersonalKey)
	if !in.SkipTest && (!exists || keysChanged || want.Host != have.Host) {
		t := s.c.Connections.Test(ctx, want)
		if out.Test = &t; !t.OK {
			return out, failedTest(t)
		}
	}
	if exists {
		have, err = s.c.Registry.UpdateConnection(ctx, who.projectID, have.ID, apply)
	} else {
		have, err = s.c.Registry.CreateConnection(ctx, want)
	}
	if err != nil {
		return out, err
	}
	out.Created, out.Connection = !exists, s.view(have)
	return out, nil
}

func (in *configureIn) apply(c *project.Connection) {
	if in.Host != nil {
		c.MoveTo(*in.Host)
	}
	if in.ProjectKey != nil {
		c.ProjectKey = project.NewSecret(strings.TrimSpace(*in.ProjectKey))
	}
	if in.PersonalKey != nil {
		c.PersonalKey = project.NewSecret(strings.TrimSpace(*in.PersonalKey))
	}
	set(&c.Enabled, in.Enabled)
	set(&c.PrivacyMode, in.PrivacyMode)
	set((*string)(&c.Schema), in.Schema)
	set(&c.Environment, in.Environment)
	set(&c.Surface, in.Surface)
	set(&c.HashDistinctIDs, in.HashDistinctIDs)
	set(&c.FlushAt, in.FlushAt)
	set(&c.SampleRate, in.SampleRate)
	if v := in.FlushIntervalSeconds; v != nil {
		// Beyond what a Duration holds, the conversion means nothing.
		c.FlushInterval = time.Duration(max(0, math.Min(*v, 1e6)) * float64(time.Second))
	}
	if f := in.Filter; f != nil {
		c.Filter = project.Filter{Events: f.Events, Surfaces: f.Surfaces, Tags: f.Tags}
	}
}

func set[T any](dst *T, v *T) {
	if v != nil {
		*dst = *v
	}
}

// failedTest is the error of a connection that was not saved, with the reason.
func failedTest(t posthog.TestResult) error {
	for _, c := range t.Checks {
		if !c.OK {
			return event.NewError(event.CodeInvalid, fmt.Sprintf("nothing was saved, because the connection test failed at %s (%s): %s", c.Name, c.Code, c.Message),
				strings.TrimSpace(c.Hint+"; or, if the user wants it saved anyway, pass skip_test true"), nil)
		}
	}
	return event.Invalid("nothing was saved, because the connection test failed", "try again")
}

func (s *Server) status(_ context.Context, who caller, in connectionIn) (out statusOut, err error) {
	snap := s.c.Registry.Snapshot()
	p, _ := snap.Project(who.projectID)
	list := snap.Connections(who.projectID)
	if in.Connection != "" {
		c, err := s.find(who.projectID, in.Connection)
		if err != nil {
			return out, err
		}
		list = []project.Connection{c}
	}
	out = statusOut{Project: p.Name, Configured: len(list) > 0, Connections: make([]Connection, len(list))}
	for i, c := range list {
		out.Connections[i] = s.view(c)
		out.Sending = out.Sending || c.Enabled
	}
	return out, nil
}

func (s *Server) test(ctx context.Context, who caller, in connectionIn) (out testOut, err error) {
	c, err := s.find(who.projectID, in.Connection)
	if err != nil {
		return out, err
	}
	r := s.c.Connections.Test(ctx, c)
	return testOut{Connection: c.Name, Host: c.Host, OK: r.OK, Checks: r.Checks}, nil
}

func (s *Server) setEnabled(ctx context.Context, who caller, in enabledIn) (out enabledOut, err error) {
	switch {
	case in.Enabled == nil:
		return out, event.Invalid(`the argument "enabled" is missing`, "pass true to send events, false to pause")
	case in.Resume != "" && in.Resume != resumeBacklog && in.Resume != resumeNow:
		return out, event.Invalid("unknown value "+strconv.Quote(in.Resume)+" of resume", "use backlog or now")
	case in.Resume != "" && !*in.Enabled:
		return out, event.Invalid(`"resume" requires enabled true`, "omit it to pause")
	}
	c, err := s.find(who.projectID, in.Connection)
	if err != nil {
		return out, err
	}
	if c.Enabled == *in.Enabled {
		if in.Resume == resumeNow {
			return out, event.NewError(event.CodeConflict, "this connection is already enabled, and sends the waiting events", "pause it first with enabled false, then resume with now", nil)
		}
		return enabledOut{Connection: s.view(c)}, nil
	}
	if in.Resume == resumeNow {
		if err := s.c.Connections.DropBacklog(ctx, c.ID); err != nil {
			return out, err
		}
	}
	c, err = s.c.Registry.UpdateConnection(ctx, who.projectID, c.ID, func(c *project.Connection) error { c.Enabled = *in.Enabled; return nil })
	if err != nil {
		return out, err
	}
	return enabledOut{Changed: true, Connection: s.view(c)}, nil
}

func (s *Server) remove(ctx context.Context, who caller, in deleteIn) (out deleteOut, err error) {
	if in.Connection == "" {
		return out, event.Invalid(`the argument "connection" is missing`, "get_posthog_status lists the connections")
	}
	c, err := s.find(who.projectID, in.Connection)
	if err != nil {
		return out, err
	}
	if in.Confirm != c.Name {
		return out, event.Invalid(fmt.Sprintf("not deleted: deleting %q permanently removes its keys and has not been confirmed", c.Name),
			fmt.Sprintf("ask the user, then call again with confirm %q; to pause only, use set_posthog_enabled", c.Name))
	}
	if err := s.c.Registry.DeleteConnection(ctx, who.projectID, c.ID); err != nil {
		return out, err
	}
	return deleteOut{Deleted: c.Name}, nil
}
