package project_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

func TestNormalizeHost(t *testing.T) {
	for _, tt := range []struct {
		in       string
		insecure bool
		want     string // "" means an error
	}{
		{"", false, "https://us.i.posthog.com"},
		{"eu.i.posthog.com", false, "https://eu.i.posthog.com"},
		{" HTTPS://EU.i.PostHog.com/ ", false, "https://eu.i.posthog.com"},
		{"https://posthog.example.com:8443", false, "https://posthog.example.com:8443"},
		{"https://example.com/ingest/", false, "https://example.com/ingest"},
		{"https://8.8.8.8", false, "https://8.8.8.8"},
		{"https://[2606:4700:4700::1111]", false, "https://[2606:4700:4700::1111]"},
		{"http://us.i.posthog.com", false, ""},
		{"ftp://us.i.posthog.com", true, ""},
		{"file:///etc/passwd", true, ""},
		{"https://", false, ""},
		{"https:us.i.posthog.com", false, ""},
		{"https://user:pw@us.i.posthog.com", false, ""},
		{"https://us.i.posthog.com?x=1", false, ""},
		{"https://us.i.posthog.com#x", false, ""},
		{"https://us.i.posthog.com:port", false, ""},
		{"not a host", false, ""},
		{"https://localhost", false, ""},
		{"https://localhost.", false, ""},
		{"https://db.internal", false, ""},
		{"https://printer.local", false, ""},
		{"https://posthog", false, ""},
		{"https://127.0.0.1", false, ""},
		{"https://127.1", false, ""},
		{"https://2130706433", false, ""},
		{"https://0x7f000001", false, ""},
		{"https://0x7f.1", false, ""},
		{"https://0177.0.0.1", false, ""},
		{"https://10.0.0.8", false, ""},
		{"https://172.16.0.1", false, ""},
		{"https://192.168.1.1", false, ""},
		{"https://169.254.169.254", false, ""},
		{"https://100.64.0.1", false, ""},
		{"https://0.0.0.0", false, ""},
		{"https://[::1]", false, ""},
		{"https://[::]", false, ""},
		{"https://[fe80::1]", false, ""},
		{"https://[fe80::1%25eth0]", false, ""},
		{"https://[fd00::1]", false, ""},
		{"https://[::ffff:10.0.0.1]", false, ""},
		{"https://[::ffff:127.0.0.1]", false, ""},
		{"https://[64:ff9b::a00:1]", false, ""},
		{"https://224.0.0.1", false, ""},
		{"http://127.0.0.1:8000", true, "http://127.0.0.1:8000"},
		{"http://localhost:8000/", true, "http://localhost:8000"},
	} {
		got, err := project.NormalizeHost(tt.in, tt.insecure, nil)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%q is accepted as %q", tt.in, got)
				continue
			}
			wantCode(t, err, event.CodeInvalid)
			if strings.Contains(err.Error(), "user:pw") {
				t.Errorf("%q: the error quotes a password: %v", tt.in, err)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("%q: %q, %v; want %q", tt.in, got, err, tt.want)
		}
		if again, err := project.NormalizeHost(got, tt.insecure, nil); err != nil || again != got {
			t.Errorf("%q is not its own normal form: %q, %v", got, again, err)
		}
	}
}

func TestCheckConnection(t *testing.T) {
	r, _ := start(t, project.Options{})
	good := connection(" name ")
	good.ProjectKey = project.NewSecret(phc)
	good.Environment = " production "
	if err := r.CheckConnection(t.Context(), nil, &good); err != nil {
		t.Fatal(err)
	}
	if good.Name != "name" || good.Environment != "production" || good.ProjectKeyLastFour != "1234" || good.PersonalKeyLastFour != "5678" {
		t.Errorf("normal form %+v", good)
	}
	if len(r.Snapshot().AllConnections()) != 0 {
		t.Error("checking has saved it")
	}
	for name, change := range map[string]func(*project.Connection){
		"no name":        func(c *project.Connection) { c.Name = " " },
		"no key":         func(c *project.Connection) { c.ProjectKey = project.Secret{} },
		"a personal key": func(c *project.Connection) { c.ProjectKey = project.NewSecret(phx) },
		"hedgerow's own": func(c *project.Connection) {
			c.ProjectKey = project.NewSecret("phc_hedgerow_" + strings.Repeat("x", 32))
		},
		"some other key":        func(c *project.Connection) { c.ProjectKey = project.NewSecret("sk-1234") },
		"key with a line break": func(c *project.Connection) { c.ProjectKey = project.NewSecret(phc + "\n") },
		"personal is project":   func(c *project.Connection) { c.PersonalKey = project.NewSecret(phc) },
		"host":                  func(c *project.Connection) { c.Host = "http://x.example.com" },
		"schema":                func(c *project.Connection) { c.Schema = "other" },
		"environment":           func(c *project.Connection) { c.Environment = strings.Repeat("x", 101) },
		"flush_at 0":            func(c *project.Connection) { c.FlushAt = 0 },
		"flush_at 1001":         func(c *project.Connection) { c.FlushAt = 1001 },
		"interval short":        func(c *project.Connection) { c.FlushInterval = time.Millisecond },
		"interval long":         func(c *project.Connection) { c.FlushInterval = time.Hour },
		"rate 0":                func(c *project.Connection) { c.SampleRate = 0 },
		"rate 1.1":              func(c *project.Connection) { c.SampleRate = 1.1 },
		"rate NaN":              func(c *project.Connection) { c.SampleRate = math.NaN() },
		"filter":                func(c *project.Connection) { c.Filter.Tags = []string{""} },
		"long filter":           func(c *project.Connection) { c.Filter.Events = make([]string, 101) },
	} {
		t.Run(name, func(t *testing.T) {
			c := connection("c")
			change(&c)
			err := r.CheckConnection(t.Context(), nil, &c)
			wantCode(t, err, event.CodeInvalid)
			for _, k := range []string{c.ProjectKey.Reveal(), c.PersonalKey.Reveal()} {
				if k != "" && err != nil && strings.Contains(err.Error(), k) {
					t.Errorf("the error quotes a key: %v", err)
				}
			}
		})
	}
}

func TestConnections(t *testing.T) {
	r, _ := start(t, project.Options{})
	ctx := t.Context()
	c := must(r.CreateConnection(ctx, connection("Main")))(t)
	if !strings.HasPrefix(c.ID, "c_") || !c.Enabled || !c.PrivacyMode || c.FlushAt != 20 || c.FlushInterval != 10*time.Second || c.SampleRate != 1 || c.Origin != project.OriginUser || c.Schema != project.SchemaPostHog {
		t.Errorf("created %+v", c)
	}
	if got, ok := r.Snapshot().ConnectionByName(project.DefaultID, "main"); !ok || got.ID != c.ID {
		t.Errorf("by name: %+v, %t", got, ok)
	}
	same := connection("Main")
	same.Name = "other"
	_, err := r.CreateConnection(ctx, same)
	wantCode(t, err, event.CodeConflict) // every event would be sent twice
	d := connection("second")
	d.Name = "main"
	_, err = r.CreateConnection(ctx, d)
	wantCode(t, err, event.CodeConflict)
	d.ProjectID = "nowhere"
	_, err = r.CreateConnection(ctx, d)
	wantCode(t, err, event.CodeNotFound)

	u := must(r.UpdateConnection(ctx, project.DefaultID, c.ID, func(c *project.Connection) error {
		if c.ProjectKey.Reveal() != phc+"Main" {
			t.Error("the copy has no keys")
		}
		c.Name, c.ID, c.ProjectID, c.Origin = "Renamed", "x", "y", project.OriginEnv
		c.Filter = project.Filter{Surfaces: []string{"Test"}}
		return nil
	}))(t)
	if u.Name != "Renamed" || u.ID != c.ID || u.ProjectID != c.ProjectID || u.Origin != project.OriginUser || !u.ProjectKey.Equal(c.ProjectKey) {
		t.Errorf("updated %+v", u)
	}
	_, err = r.UpdateConnection(ctx, "other", c.ID, func(*project.Connection) error { return nil })
	wantCode(t, err, event.CodeNotFound)
	_, err = r.UpdateConnection(ctx, project.DefaultID, c.ID, func(c *project.Connection) error { c.FlushAt = -1; return nil })
	wantCode(t, err, event.CodeInvalid)
	wantCode(t, r.DeleteConnection(ctx, "other", c.ID), event.CodeNotFound)
	if err := r.DeleteConnection(ctx, project.DefaultID, c.ID); err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.DeleteConnection(ctx, project.DefaultID, c.ID), event.CodeNotFound)
	must(r.CreateConnection(ctx, connection("Renamed")))(t)
}

// Consumers of an enabled connection have started when the change returns.
func TestConnectionEnabled(t *testing.T) {
	var begun []string
	r, _ := start(t, project.Options{Enabled: func(_ context.Context, c project.Connection) { begun = append(begun, c.Name) }})
	ctx := t.Context()
	set := func(c project.Connection, on bool) {
		t.Helper()
		must(r.UpdateConnection(ctx, c.ProjectID, c.ID, func(c *project.Connection) error { c.Enabled = on; return nil }))(t)
	}
	a, off := connection("a"), connection("b")
	off.Enabled = false
	a, off = must(r.CreateConnection(ctx, a))(t), must(r.CreateConnection(ctx, off))(t)
	set(a, false)
	set(off, true)
	if want := []string{"a", "b"}; !slices.Equal(begun, want) {
		t.Errorf("begun: %q, want %q", begun, want)
	}
}

func TestFilter(t *testing.T) {
	e := &event.Event{Name: event.Generation, Surface: "Test", Tags: []string{"a", "b"}}
	for _, tt := range []struct {
		f    project.Filter
		want bool
	}{
		{project.Filter{}, true},
		{project.Filter{Events: []string{event.Generation}}, true},
		{project.Filter{Events: []string{event.Span}}, false},
		{project.Filter{Surfaces: []string{"Playbook", "Test"}}, true},
		{project.Filter{Surfaces: []string{"Playbook"}}, false},
		{project.Filter{Tags: []string{"x", "b"}}, true},
		{project.Filter{Tags: []string{"x"}}, false},
		{project.Filter{Events: []string{event.Generation}, Tags: []string{"x"}}, false},
	} {
		if got := tt.f.Match(e); got != tt.want {
			t.Errorf("%+v: %t", tt.f, got)
		}
	}
}

func TestSetEnvConnection(t *testing.T) {
	r, _ := start(t, project.Options{})
	ctx := t.Context()
	set := func(env project.EnvConnection) (project.Connection, bool) {
		t.Helper()
		c, ok, err := r.SetEnvConnection(ctx, project.DefaultID, env)
		if err != nil {
			t.Fatal(err)
		}
		return c, ok
	}
	count := func(want int) {
		t.Helper()
		if got := r.Snapshot().Connections(project.DefaultID); len(got) != want {
			t.Errorf("%d connections, want %d", len(got), want)
		}
	}
	if _, ok := set(project.EnvConnection{}); ok {
		t.Error("an empty environment makes a connection")
	}
	count(0)
	for _, bad := range []project.EnvConnection{{ProjectKey: "nonsense"}, {ProjectKey: phc, Host: "http://x.example.com"}, {ProjectKey: phc, PersonalKey: "nonsense"}} {
		_, _, err := r.SetEnvConnection(ctx, project.DefaultID, bad)
		wantCode(t, err, event.CodeInvalid)
		if err == nil || !strings.Contains(err.Error(), "POSTHOG_") {
			t.Errorf("error %v does not name the variable", err)
		}
	}

	c, ok := set(project.EnvConnection{ProjectKey: phc})
	if !ok || c.Origin != project.OriginEnv || c.Name != "default" || c.Host != project.DefaultHost || c.ProjectKey.Reveal() != phc {
		t.Errorf("made %+v, %t", c, ok)
	}
	// Its host and keys follow only the environment, the rest the user's
	// settings.
	_, err := r.UpdateConnection(ctx, project.DefaultID, c.ID, func(c *project.Connection) error { c.Host = "https://eu.i.posthog.com"; return nil })
	wantCode(t, err, event.CodeConflict)
	must(r.UpdateConnection(ctx, project.DefaultID, c.ID, func(c *project.Connection) error {
		c.Enabled, c.PrivacyMode, c.Schema = false, false, project.SchemaBoth
		return nil
	}))(t)
	wantCode(t, r.DeleteConnection(ctx, project.DefaultID, c.ID), event.CodeConflict)

	before := r.Snapshot().Revision()
	same, _ := set(project.EnvConnection{ProjectKey: phc})
	if r.Snapshot().Revision() != before || same.Enabled {
		t.Error("the same environment changes something")
	}
	changed, _ := set(project.EnvConnection{ProjectKey: phc + "new", Host: "eu.i.posthog.com", PersonalKey: phx})
	if changed.ID != c.ID || changed.Host != "https://eu.i.posthog.com" || changed.ProjectKey.Reveal() != phc+"new" || changed.PersonalKey.Reveal() != phx || changed.Enabled || changed.PrivacyMode || changed.Schema != project.SchemaBoth {
		t.Errorf("changed to %+v; want new host and keys, and what people chose kept", changed)
	}
	count(1)

	// To another project: it moves.
	p := must(r.CreateProject(ctx, "other"))(t)
	moved, _, err := r.SetEnvConnection(ctx, p.ID, project.EnvConnection{ProjectKey: phc})
	if err != nil || moved.ProjectID != p.ID {
		t.Errorf("moved %+v, %v", moved, err)
	}
	count(0)

	if _, ok := set(project.EnvConnection{}); ok {
		t.Error("an emptied environment leaves the connection")
	}
	if _, ok := r.Snapshot().Connection(c.ID); ok {
		t.Error("its keys are still there")
	}

	// A user's own connection to the same PostHog project is enough.
	own := connection("mine")
	own.ProjectKey = project.NewSecret(phc)
	own = must(r.CreateConnection(ctx, own))(t)
	if got, ok := set(project.EnvConnection{ProjectKey: phc}); !ok || got.ID != own.ID {
		t.Errorf("got %+v, want the user's own", got)
	}
	count(1)
	// A user's own of the same name to another PostHog project is left alone.
	must(r.UpdateConnection(ctx, project.DefaultID, own.ID, func(c *project.Connection) error { c.Name = "default"; return nil }))(t)
	if got, ok := set(project.EnvConnection{ProjectKey: phc + "2"}); !ok || got.Name != "environment" {
		t.Errorf("got %+v", got)
	}
	count(2)
}

func TestAllowedHosts(t *testing.T) {
	t.Parallel()
	for _, list := range []string{"https://posthog.internal", "10.0.0.0/33", "0.0.0.0/0", "::/0", "posthog internal", "a..b", "10.0.0.1:443", "."} {
		if a, err := project.ParseAllowedHosts(list); err == nil {
			t.Errorf("%q is accepted as %v", list, a)
		}
	}
	if a, err := project.ParseAllowedHosts(" , "); a != nil || err != nil {
		t.Errorf("an empty list: %v, %v", a, err)
	}
	names, err := project.ParseAllowedHosts("PostHog.internal., posthog")
	if err != nil || names.String() != "posthog.internal, posthog" {
		t.Fatal(names, err)
	}
	nets, err := project.ParseAllowedHosts("10.1.0.0/16,[fd00::5]")
	if err != nil || nets.String() != "10.1.0.0/16, fd00::5/128" {
		t.Fatal(nets, err)
	}
	for _, tt := range []struct {
		host  string
		allow *project.AllowedHosts
		ok    bool
	}{
		{"https://posthog.internal", nil, false},
		{"https://posthog.internal", names, true},
		{"https://POSTHOG.INTERNAL:8443/ingest", names, true},
		{"https://posthog", names, true},
		{"https://other.internal", names, false},
		{"https://10.1.2.3", names, false},
		{"http://posthog.internal", names, false}, // clear text, regardless of what is allowed
		{"https://posthog.internal", nets, true},  // where it leads is checked when it is dialled
		{"https://10.1.2.3", nets, true},
		{"https://[::ffff:10.1.2.3]", nets, true},
		{"https://10.2.0.1", nets, false},
		{"https://[fd00::5]", nets, true},
		{"https://[fd00::6]", nets, false},
		{"https://[fd00::5%25eth0]", nets, false},
		{"https://0x0a.1", nets, false},
		{"https://167837955", nets, false}, // 10.1.1.3
		{"http://10.1.2.3", nets, false},
		{"https://us.i.posthog.com", nets, true},
	} {
		_, err := project.NormalizeHost(tt.host, false, tt.allow)
		if (err == nil) != tt.ok {
			t.Errorf("%s with %v: %v", tt.host, tt.allow, err)
		}
		if err != nil && strings.HasPrefix(tt.host, "https://") && !strings.Contains(event.AsError(err).Hint, "posthog_allow_hosts") {
			t.Errorf("%s: the refusal does not name the setting: %v", tt.host, err)
		}
	}
}
