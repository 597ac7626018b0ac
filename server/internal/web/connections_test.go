package web_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/services"
	"github.com/hedgerow/hedgerow/server/internal/web/traces"
)

// delivery is a PostHog delivery that finds what a test tells it to.
type delivery struct {
	out      map[string]traces.Outgoing // by the connection's name
	ok       bool
	tested   []project.Connection
	health   posthog.Delivery
	dead     []services.DeadLetter
	dropped  []string
	replayed []string
	gaps     []services.Gap
	days     []posthog.Day
	daysErr  error
}

func (d *delivery) Test(_ context.Context, c project.Connection) posthog.TestResult {
	d.tested = append(d.tested, c)
	if d.ok {
		return posthog.TestResult{OK: true, Checks: []posthog.Check{{Name: posthog.CheckNameHost, OK: true, Message: "it answers"}}}
	}
	return posthog.TestResult{Checks: []posthog.Check{
		{Name: posthog.CheckNameHost, OK: true, Message: "it answers"},
		{Name: posthog.CheckNameProjectKey, Code: posthog.CodeWrongRegion, Message: "the key is of PostHog Cloud EU", Hint: "choose https://eu.i.posthog.com"},
	}}
}

func (d *delivery) Delivery(project.Connection) posthog.Delivery { return d.health }

func (d *delivery) Ledger(context.Context, project.Connection) (ledger.Page, error) {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	return ledger.Page{
		Sent:         []ledger.SentName{{Name: "plan", Kinds: []string{"text"}, Seen: ledger.Seen{First: at, Last: at, Count: 3}}},
		Withheld:     []ledger.WithheldName{{Name: "new_library.said", Attribute: true, Reason: privacy.ReasonAttribute, Seen: ledger.Seen{First: at, Last: at, Count: 2}}, {Name: "note", Reason: privacy.ReasonQuotes, Seen: ledger.Seen{First: at, Last: at, Count: 1}}},
		MoreWithheld: 7,
	}, nil
}

func (d *delivery) DropBacklog(_ context.Context, id string) error {
	d.dropped = append(d.dropped, id)
	return nil
}

func (d *delivery) DeadLetters(context.Context, project.Connection, int) ([]services.DeadLetter, error) {
	return d.dead, nil
}

func (d *delivery) Gaps(context.Context, project.Connection) ([]services.Gap, error) {
	return d.gaps, nil
}

func (d *delivery) SendGaps(context.Context, project.Connection) error {
	for i := range d.gaps {
		d.gaps[i].Sending = true
	}
	return nil
}

func (d *delivery) ForgetGaps(context.Context, project.Connection) error {
	d.gaps = nil
	return nil
}

func (d *delivery) Replay(_ context.Context, _ project.Connection, id string) (int, error) {
	d.replayed = append(d.replayed, id)
	return 1, nil
}

func (d *delivery) Outgoing(_ context.Context, c project.Connection, uuid string) (traces.Outgoing, error) {
	return d.out[c.Name], nil
}

func (d *delivery) Days(context.Context, project.Connection, time.Time) ([]posthog.Day, error) {
	return d.days, d.daysErr
}

// changes tells once and ends, so that a test's request for the stream ends.
func (d *delivery) changes() <-chan struct{} {
	c := make(chan struct{}, 1)
	c <- struct{}{}
	close(c)
	return c
}

const phc, phx = "phc_0123456789abcdefghijklmnopqrstuvwx", "phx_0123456789abcdefghijklmnopqrstuvwx"

func connectionForm(more ...string) url.Values {
	v := url.Values{"name": {"production"}, "project_key": {phc}, "host": {"https://us.i.posthog.com"}, "privacy_mode": {"on"}, "schema": {"posthog"},
		"flush_at": {"20"}, "flush_interval": {"10"}, "sample_percent": {"100"}}
	for i := 0; i+1 < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return v
}

// TestConnections goes through a connection's life.
func TestConnections(t *testing.T) {
	s := newSite(t)
	s.client = s.as(s.admin)
	only := func() project.Connection {
		t.Helper()
		list := s.Registry.Snapshot().Connections("default")
		if len(list) != 1 {
			t.Fatalf("%d connections, want 1", len(list))
		}
		return list[0]
	}
	if _, body := s.get("/p/default/connections"); !strings.Contains(body, "No connection yet") || !strings.Contains(body, `value="production"`) {
		t.Errorf("the empty page:\n%s", body)
	}

	// A test that fails keeps it from being saved, and says what to do.
	s.delivery.ok = false
	_, body := s.send("/p/default/connections", connectionForm("environment", "live"))
	for _, w := range []string{"nothing was saved", "the key is of PostHog Cloud EU", "choose https://eu.i.posthog.com", "Save anyway", `value="live"`} {
		if !strings.Contains(body, w) {
			t.Errorf("after a failed test the page lacks %q", w)
		}
	}
	if n := len(s.Registry.Snapshot().Connections("default")); n != 0 {
		t.Fatalf("%d connections were saved", n)
	}
	// What cannot be right is refused before anything is sent.
	tested := len(s.delivery.tested)
	for name, v := range map[string]url.Values{
		"a personal key":  connectionForm("project_key", phx),
		"plain http":      connectionForm("host", "http://posthog.example.com"),
		"loopback":        connectionForm("host", "https://127.0.0.1"),
		"no number":       connectionForm("flush_at", "many"),
		"no percentage":   connectionForm("sample_percent", "0"),
		"an odd schema":   connectionForm("schema", "xml"),
		"no name":         connectionForm("name", ""),
		"a negative wait": connectionForm("flush_interval", "-1"),
	} {
		if resp, body := s.send("/p/default/connections", v); resp.StatusCode != 400 || !strings.Contains(body, `role="alert"`) {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	if len(s.delivery.tested) != tested {
		t.Error("a connection that cannot be saved was tested")
	}
	// The override saves it as it is.
	s.send("/p/default/connections", connectionForm("override", "on", "environment", "live", "sample_percent", "25", "events", "$ai_generation, a , a", "tags", "beta", "schema", "both", "personal_key", phx))
	c := only()
	if c.Environment != "live" || c.SampleRate != 0.25 || !slices.Equal(c.Filter.Events, []string{"$ai_generation", "a"}) || c.Schema != project.SchemaBoth || c.ProjectKey.Reveal() != phc || !c.PrivacyMode {
		t.Errorf("saved as %+v", c)
	}

	at := "/p/default/connections/" + c.ID
	s.delivery.health = posthog.Delivery{Status: posthog.Status{State: posthog.StateRefused, LastError: "PostHog rejects the project key", Sent: 12, Dead: 1, LastSuccess: now.Add(-time.Hour)}, Waiting: 7}
	s.delivery.dead = []services.DeadLetter{{ID: "9", EventID: event.NewID(), Event: "$ai_generation", Reason: "PostHog found it too large", Attempts: 3, Time: now}}
	_, body = s.get(at)
	for _, w := range []string{"refused", "PostHog rejects the project key", "60 min ago", "PostHog found it too large", "…uvwx is stored, encrypted"} {
		if !strings.Contains(body, w) {
			t.Errorf("the page lacks %q:\n%s", w, body)
		}
	}
	for _, page := range []string{"/p/default/connections", at, "/p/default/analytics", "/audit"} {
		if _, body := s.get(page); strings.Contains(body, phc) || strings.Contains(body, phx) {
			t.Errorf("%s shows a key", page)
		}
	}

	// Saving without keys keeps them; a new host is tested first.
	s.delivery.ok = true
	tested = len(s.delivery.tested)
	s.send(at, connectionForm("project_key", "", "name", "live", "flush_at", "50"))
	if c = only(); c.Name != "live" || c.FlushAt != 50 || c.ProjectKey.Reveal() != phc || c.PersonalKey.Reveal() != phx || c.PrivacyMode != true {
		t.Errorf("saved as %+v", c)
	}
	if len(s.delivery.tested) != tested {
		t.Error("a change of neither host nor keys was tested")
	}
	tested = len(s.delivery.tested)
	for _, override := range []string{"", "on"} {
		if _, body := s.send(at, connectionForm("project_key", "", "name", "live", "host", "https://eu.i.posthog.com", "override", override)); only().Host != "https://us.i.posthog.com" || !strings.Contains(body, "set for the old one") {
			t.Error("a kept key went along to another host")
		}
	}
	if len(s.delivery.tested) != tested {
		t.Error("a kept key was tested at another host")
	}
	s.delivery.ok = false
	if _, body := s.send(at, connectionForm("project_key", phc, "name", "live", "host", "https://eu.i.posthog.com")); only().Host != "https://us.i.posthog.com" || !strings.Contains(body, "nothing was saved") {
		t.Error("an untested host was saved")
	}
	s.delivery.ok = true
	if _, body := s.send(at, connectionForm("project_key", phc, "name", "live", "host", "https://eu.i.posthog.com")); !strings.Contains(body, "The personal key was removed") {
		t.Error("it is not said that the personal key is wiped")
	}
	if c = only(); c.Host != "https://eu.i.posthog.com" || !c.PersonalKey.IsZero() {
		t.Errorf("saved as %+v", c)
	}

	if _, body := s.send(at+"/test", nil); !strings.Contains(body, "it answers") {
		t.Error("the test's findings are not shown")
	}
	s.send(at+"/toggle", url.Values{"enabled": {"false"}})
	if only().Enabled {
		t.Error("not paused")
	}
	s.send(at+"/toggle", url.Values{"enabled": {"true"}, "resume": {"backlog"}})
	s.send(at+"/toggle", url.Values{"enabled": {"false"}})
	if len(s.delivery.dropped) != 0 {
		t.Error("the backlog was dropped unasked")
	}
	s.send(at+"/toggle", url.Values{"enabled": {"true"}, "resume": {"now"}})
	if !only().Enabled || !slices.Equal(s.delivery.dropped, []string{c.ID}) {
		t.Errorf("enabled %v, dropped %v", only().Enabled, s.delivery.dropped)
	}
	s.send(at+"/replay", url.Values{"id": {"9"}})
	s.send(at+"/replay", nil)
	if !slices.Equal(s.delivery.replayed, []string{"9", ""}) {
		t.Errorf("replayed %q", s.delivery.replayed)
	}
	if _, body := s.get(at); strings.Contains(body, "Not sent") {
		t.Error("a gap is shown where there is none")
	}
	s.delivery.gaps = []services.Gap{{Events: 1200, First: now.Add(-time.Hour), Last: now}}
	if _, body := s.get(at); !strings.Contains(body, "1,200 events") || !strings.Contains(body, "not sent") {
		t.Error("the gap is not shown")
	}
	if _, body := s.send(at+"/gaps", nil); !strings.Contains(body, "sending: 0 so far") {
		t.Error("the gap is not being sent")
	}
	if _, body := s.send(at+"/gaps", url.Values{"forget": {"on"}}); strings.Contains(body, "Not sent") {
		t.Error("a gap is shown that was left out")
	}
	s.send(at+"/delete", url.Values{"confirm": {"wrong"}})
	only()
	s.send(at+"/delete", url.Values{"confirm": {"live"}})
	if n := len(s.Registry.Snapshot().Connections("default")); n != 0 {
		t.Errorf("%d connections after deleting", n)
	}
}

// TestConnectionsOfOthers keeps a project's connections from another's people,
// and changes from viewers.
func TestConnectionsOfOthers(t *testing.T) {
	s := newSite(t)
	other, err := s.Registry.CreateProject(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	make := func(projectID string) project.Connection {
		c := project.NewConnection(projectID, "production")
		c.ProjectKey = project.NewSecret(phc)
		c, err := s.Registry.CreateConnection(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	mine, theirs := make("default"), make(other.ID)
	member, viewer := s.person("member@example.com", project.RoleMember, "default"), s.person("viewer@example.com", project.RoleViewer, "default")
	s.client = s.as(member)
	for _, path := range []string{"", "/test", "/toggle", "/replay", "/gaps", "/delete"} {
		for _, at := range []string{"/p/default/connections/" + theirs.ID, "/p/" + other.ID + "/connections/" + theirs.ID} {
			if resp, _ := s.send(at+path, connectionForm("confirm", "production", "enabled", "false")); resp.StatusCode != 404 {
				t.Errorf("POST %s%s: %d, want 404", at, path, resp.StatusCode)
			}
		}
	}
	s.client = s.as(viewer)
	at := "/p/default/connections/" + mine.ID
	if resp, body := s.get(at); resp.StatusCode != 200 || strings.Contains(body, "Delete connection") || strings.Contains(body, "Pause") {
		t.Errorf("a viewer sees %d", resp.StatusCode)
	}
	for _, path := range []string{"", "/test", "/toggle", "/replay", "/gaps", "/delete"} {
		if resp, _ := s.send(at+path, connectionForm("confirm", "production", "enabled", "false")); resp.StatusCode != 403 {
			t.Errorf("a viewer's POST %s: %d, want 403", path, resp.StatusCode)
		}
	}
	for _, c := range []project.Connection{mine, theirs} {
		if now, ok := s.Registry.Snapshot().Connection(c.ID); !ok || !now.Enabled {
			t.Errorf("the connection of %s was changed", c.ProjectID)
		}
	}
}

// TestRecentEvents has the ten latest events next to today's figures, with the
// project key alone.
func TestRecentEvents(t *testing.T) {
	var events []*event.Event
	for i := range 12 {
		e := sample("default")
		e.TraceID, e.DistinctID, e.Timestamp = fmt.Sprint("t-", i), fmt.Sprint("user-", i), now.Add(-time.Duration(i+1)*time.Minute)
		events = append(events, e)
	}
	events[1].IsError, events[1].Status, events[1].ErrorType = true, event.StatusError, "server_error"
	s := newSite(t, events...)
	s.client = s.as(s.admin)
	s.send("/p/default/connections", connectionForm())
	_, body := s.get("/p/default/analytics")
	g, ok := gridAfter(body, `aria-label="Recent events"`)
	if !ok || len(g.rows) != 10 {
		t.Fatalf("%d events, want the latest ten:\n%s", len(g.rows), body)
	}
	column := func(row []gridCell, head string) string { return row[slices.Index(g.head, head)].text }
	for i, row := range g.rows {
		for head, want := range map[string]string{"Model or event": "gpt-4.1-mini-2025-04-14", "Surface": "Compose", "User": fmt.Sprint("user-", i), "Tokens": "1,234 tok", "Cost": "$0.00044", "Latency": "1.84 s"} {
			if got := column(row, head); got != want {
				t.Errorf("event %d: %s is %q, want %q", i, head, got, want)
			}
		}
	}
	tiles := map[string]string{}
	for _, tile := range tilesOf(body)[:6] { // today's
		tiles[tile[0]] = tile[1]
	}
	for label, want := range map[string]string{"Calls": "12", "Tokens": "14,808 tok", "Cost": "$0.0053", "Errors": "1"} {
		if got := tiles[label]; !strings.HasPrefix(got, want) {
			t.Errorf("today's %s: %q, want %q (%v)", label, got, want, tiles)
		}
	}
}

// TestAnalytics shows its three states.
func TestAnalytics(t *testing.T) {
	e := sample("default")
	s := newSite(t, e)
	s.client = s.as(s.admin)
	if _, body := s.get("/p/default/analytics"); !strings.Contains(body, "No PostHog project is connected") || !strings.Contains(body, "Connect PostHog") || strings.Contains(body, e.ModelName()) {
		t.Errorf("disconnected:\n%s", body)
	}
	s.send("/p/default/connections", connectionForm())
	_, body := s.get("/p/default/analytics")
	for _, w := range []string{"Today", "Last 7 days", e.ModelName(), "1,234 tok", "Add a personal API key", `data-live="/p/default/analytics/live"`} {
		if !strings.Contains(body, w) {
			t.Errorf("with a project key the page lacks %q", w)
		}
	}
	if _, part := s.get("/p/default/analytics?part=now"); !strings.Contains(part, e.ModelName()) {
		t.Error("the part that is loaded again lacks the event")
	}
	if resp, stream := s.get("/p/default/analytics/live"); resp.Header.Get("Content-Type") != "text/event-stream" || !strings.Contains(stream, "event: changed") || strings.Contains(stream, e.ModelName()) {
		t.Errorf("the stream: %s %q", resp.Header.Get("Content-Type"), stream)
	}

	c := s.Registry.Snapshot().Connections("default")[0]
	const paused = "is paused. Events are queued on this server"
	if strings.Contains(body, paused) {
		t.Error("a connection that delivers is said to be paused")
	}
	s.send("/p/default/connections/"+c.ID+"/toggle", url.Values{"enabled": {"false"}})
	if c, _ := s.Registry.Snapshot().Connection(c.ID); c.Enabled {
		t.Fatal("the connection is not paused")
	}
	for _, at := range []string{"", "?part=now"} { // the log and the figures are still shown
		_, body := s.get("/p/default/analytics" + at)
		for _, w := range []string{paused, "Today", "Last 7 days", e.ModelName(), "1,234 tok"} {
			if !strings.Contains(body, w) {
				t.Errorf("while delivery is paused the page%s lacks %q", at, w)
			}
		}
	}
	s.send("/p/default/connections/"+c.ID+"/toggle", url.Values{"enabled": {"true"}, "resume": {"backlog"}})
	s.send("/p/default/connections/"+c.ID, connectionForm("project_key", "", "personal_key", phx, "sample_percent", "50", "tags", "beta"))
	s.delivery.health.Waiting = 3
	s.delivery.days = nil
	_, body = s.get("/p/default/analytics")
	for _, w := range []string{"PostHog’s counts", "−1", "3 events still queued", "50 % of traces", "a filter excludes some events"} {
		if !strings.Contains(body, w) {
			t.Errorf("with a personal key the page lacks %q:\n%s", w, body)
		}
	}
	s.delivery.days = []posthog.Day{{Day: "2026-11-21", Calls: 1, InputTokens: 1200, OutputTokens: 34, CostUSD: decimal.RequireFromString("0.0004375")}}
	if _, body = s.get("/p/default/analytics"); !strings.Contains(body, "The counts match") || strings.Contains(body, "still queued") {
		t.Errorf("equal figures:\n%s", body)
	}
	s.delivery.days[0].Calls = 5
	if _, body = s.get("/p/default/analytics"); !strings.Contains(body, "+4") || !strings.Contains(body, "from other sources") {
		t.Error("more in PostHog is not explained")
	}
	s.delivery.daysErr = event.NewError(event.CodeUpstream, "the personal key lacks the scope Query Read", "make another", errors.New("secret detail"))
	if resp, body := s.get("/p/default/analytics"); resp.StatusCode != 200 || !strings.Contains(body, "lacks the scope") || !strings.Contains(body, e.ModelName()) || strings.Contains(body, "secret detail") {
		t.Error("an error of PostHog does not leave the rest of the page")
	}
}
