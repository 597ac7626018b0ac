package settings

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/services"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// Delivery is the delivery to PostHog.
type Delivery interface {
	// Test checks a connection, saved or not, from end to end.
	Test(ctx context.Context, c project.Connection) posthog.TestResult
	// Delivery returns the state of the delivery to a connection.
	Delivery(c project.Connection) posthog.Delivery
	// Ledger returns the names of what was sent to a connection and of what was
	// withheld, never values.
	Ledger(ctx context.Context, c project.Connection) (ledger.Page, error)
}

// Backlog is what waits for a connection, and what could not be delivered.
type Backlog interface {
	// DropBacklog drops what waits for a disabled connection.
	DropBacklog(ctx context.Context, connectionID string) error
	// DeadLetters returns a connection's dead letters, the newest first.
	DeadLetters(ctx context.Context, c project.Connection, limit int) ([]services.DeadLetter, error)
	// Replay sends dead letters again: one, or all if id is "".
	Replay(ctx context.Context, c project.Connection, id string) (int, error)
}

// Gaps are the events that a connection was not sent because the journal was
// nearly full.
type Gaps interface {
	Gaps(ctx context.Context, c project.Connection) ([]services.Gap, error)
	// SendGaps sends them from the store.
	SendGaps(ctx context.Context, c project.Connection) error
	// ForgetGaps drops the record of them; they are not sent.
	ForgetGaps(ctx context.Context, c project.Connection) error
}

// connectionRow is a connection in the list.
type connectionRow struct {
	project.Connection
	Health posthog.Delivery
}

// connectionsPage is the list, and the form for another.
type connectionsPage struct {
	Rows   []connectionRow
	Form   project.Connection // what the form holds
	Checks []posthog.Check    // of a test that has just failed
}

func (s *Pages) rows(projectID string) []connectionRow {
	var rows []connectionRow
	for _, c := range s.Registry.Snapshot().Connections(projectID) {
		rows = append(rows, connectionRow{c, s.Delivery.Delivery(c)})
	}
	return rows
}

func (s *Pages) connections(_ *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Connections"
	name := "production"
	if len(s.Registry.Snapshot().Connections(f.Session.ProjectID)) > 0 {
		name = ""
	}
	return connections(*f, connectionsPage{Rows: s.rows(f.Session.ProjectID), Form: project.NewConnection(f.Session.ProjectID, name)}), nil
}

func (s *Pages) createConnection(r *http.Request, f *page.Frame) (templ.Component, error) {
	c := project.NewConnection(f.Session.ProjectID, strings.TrimSpace(f.Form.Get("name")))
	if err := fillConnection(&c, f); err != nil {
		return nil, err
	}
	if err := s.Registry.CheckConnection(r.Context(), nil, &c); err != nil {
		return nil, err
	}
	if f.Form.Get("override") == "" {
		if t := s.Delivery.Test(r.Context(), c); !t.OK {
			f.Title, f.Problem = "Connections", errNotSaved()
			return connections(*f, connectionsPage{Rows: s.rows(f.Session.ProjectID), Form: c, Checks: t.Checks}), nil
		}
	}
	c, err := s.Registry.CreateConnection(r.Context(), c)
	if err != nil {
		return nil, err
	}
	return f.Done(f.Path("/connections/"+c.ID), "Connected. Events are now sent to "+c.Host+".")
}

func errNotSaved() *event.Error {
	return event.Invalid("The connection test failed, so nothing was saved", "See the test results below, or tick “save anyway”.")
}

// fillConnection takes a form's fields. Keys that are left empty stay as they
// are, unless the host changes.
func fillConnection(c *project.Connection, f *page.Frame) error {
	v := func(name string) string { return strings.TrimSpace(f.Form.Get(name)) }
	c.Name = v("name")
	c.MoveTo(v("host"))
	if k := v("project_key"); k != "" {
		c.ProjectKey = project.NewSecret(k)
	}
	if k := v("personal_key"); k != "" {
		c.PersonalKey = project.NewSecret(k)
	}
	if v("forget_personal_key") != "" {
		c.PersonalKey = project.Secret{}
	}
	c.Environment, c.Surface, c.Schema = v("environment"), v("surface"), project.Schema(v("schema"))
	c.PrivacyMode, c.HashDistinctIDs = v("privacy_mode") != "", v("hash_distinct_ids") != ""
	var err error
	if c.FlushAt, err = strconv.Atoi(v("flush_at")); err != nil {
		return event.Invalid("maximum events per batch is not a whole number", "enter a number from 1 to 1000")
	}
	seconds, err := strconv.ParseFloat(v("flush_interval"), 64)
	if err != nil || seconds < 0 || seconds > 1e6 {
		return event.Invalid("the flush interval is not a number of seconds", "enter a number from 0.1 to 600")
	}
	c.FlushInterval = time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
	percent, err := strconv.ParseFloat(v("sample_percent"), 64)
	if err != nil || percent <= 0 || percent > 100 {
		return event.Invalid("the sample rate is not a percentage", "enter a number greater than 0 and up to 100")
	}
	c.SampleRate = percent / 100
	c.Filter = project.Filter{Events: page.SplitList(v("events")), Surfaces: page.SplitList(v("surfaces")), Tags: page.SplitList(v("tags"))}
	return nil
}

// hostHelp explains the field of the host.
func hostHelp(saved bool) string {
	help := "PostHog Cloud US or EU, or a self-hosted PostHog at an https:// URL."
	if saved {
		help += " Stored keys are never sent to another host: enter both keys again when you change it."
	}
	return help
}

// connectionPage is one connection: its delivery status, what it failed to
// send, its settings.
type connectionPage struct {
	connectionRow
	Form   project.Connection
	Dead   []services.DeadLetter
	Gaps   []services.Gap
	Checks []posthog.Check // of a test that has just been made
	Tested bool
	Now    time.Time
	Names  names
}

// failed reports whether the test that just ran found an error.
func (p connectionPage) failed() bool {
	return slices.ContainsFunc(p.Checks, func(c posthog.Check) bool { return !c.OK })
}

// shownDead is how many dead letters the page lists.
const shownDead = 50

// conn finds the connection of a path, within the project.
func (s *Pages) conn(r *http.Request, f *page.Frame) (project.Connection, error) {
	c, ok := s.Registry.Snapshot().Connection(r.PathValue("connection"))
	if !ok || c.ProjectID != f.Session.ProjectID {
		return c, event.NewError(event.CodeNotFound, "no such connection", "it may have been deleted; see the connections page", nil)
	}
	return c, nil
}

func (s *Pages) connection(r *http.Request, f *page.Frame) (templ.Component, error) {
	c, err := s.conn(r, f)
	if err != nil {
		return nil, err
	}
	return s.connectionPage(r, f, c, connectionPage{Form: c})
}

func (s *Pages) connectionPage(r *http.Request, f *page.Frame, c project.Connection, p connectionPage) (templ.Component, error) {
	f.Title, p.Now = c.Name, s.Now()
	p.connectionRow = connectionRow{c, s.Delivery.Delivery(c)}
	var err error
	if p.Dead, err = s.Backlog.DeadLetters(r.Context(), c, shownDead); err != nil {
		return nil, err
	}
	if p.Gaps, err = s.Gaps.Gaps(r.Context(), c); err != nil {
		return nil, err
	}
	p.Names = s.namesOf(r, c, false)
	return connection(*f, p), nil
}

func (s *Pages) saveConnection(r *http.Request, f *page.Frame) (templ.Component, error) {
	have, err := s.conn(r, f)
	if err != nil {
		return nil, err
	}
	want := have
	if err := fillConnection(&want, f); err != nil {
		return nil, err
	}
	if err := s.Registry.CheckConnection(r.Context(), &have, &want); err != nil {
		return nil, err
	}
	moved := want.Host != have.Host || !want.ProjectKey.Equal(have.ProjectKey) || !want.PersonalKey.Equal(have.PersonalKey)
	if moved && f.Form.Get("override") == "" {
		if t := s.Delivery.Test(r.Context(), want); !t.OK {
			f.Problem = errNotSaved()
			return s.connectionPage(r, f, have, connectionPage{Form: want, Checks: t.Checks, Tested: true})
		}
	}
	_, err = s.Registry.UpdateConnection(r.Context(), f.Session.ProjectID, have.ID, func(c *project.Connection) error { return fillConnection(c, f) })
	if err != nil {
		return nil, err
	}
	message := "Saved. The next batch uses these settings."
	if !have.PersonalKey.IsZero() && want.PersonalKey.IsZero() {
		message += " The personal key was removed."
	}
	return f.Done(f.Path("/connections/"+have.ID), message)
}

func (s *Pages) testConnection(r *http.Request, f *page.Frame) (templ.Component, error) {
	c, err := s.conn(r, f)
	if err != nil {
		return nil, err
	}
	t := s.Delivery.Test(r.Context(), c)
	return s.connectionPage(r, f, c, connectionPage{Form: c, Checks: t.Checks, Tested: true})
}

// toggleConnection pauses and resumes. Events of the pause wait in the journal,
// unless the form requests to skip them.
func (s *Pages) toggleConnection(r *http.Request, f *page.Frame) (templ.Component, error) {
	c, err := s.conn(r, f)
	if err != nil {
		return nil, err
	}
	on := f.Form.Get("enabled") == "true"
	if on && !c.Enabled && f.Form.Get("resume") == "now" {
		if err := s.Backlog.DropBacklog(r.Context(), c.ID); err != nil {
			return nil, err
		}
	}
	_, err = s.Registry.UpdateConnection(r.Context(), f.Session.ProjectID, c.ID, func(c *project.Connection) error { c.Enabled = on; return nil })
	if err != nil {
		return nil, err
	}
	message := "Delivery paused. Events are queued on this server."
	if on {
		message = "Delivery resumed."
	}
	return f.Done(f.Path("/connections/"+c.ID), message)
}

func (s *Pages) deleteConnection(r *http.Request, f *page.Frame) (templ.Component, error) {
	c, err := s.conn(r, f)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(f.Form.Get("confirm")) != c.Name {
		return nil, event.Invalid("the name does not match", "type the connection's name, "+c.Name+", to delete it")
	}
	if err := s.Registry.DeleteConnection(r.Context(), f.Session.ProjectID, c.ID); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/connections"), "Connection "+c.Name+" deleted and its keys erased.")
}

func (s *Pages) replayDead(r *http.Request, f *page.Frame) (templ.Component, error) {
	c, err := s.conn(r, f)
	if err != nil {
		return nil, err
	}
	n, err := s.Backlog.Replay(r.Context(), c, f.Form.Get("id"))
	if err != nil {
		return nil, err
	}
	return f.Done(f.Path("/connections/"+c.ID), page.Count(int64(n))+" events queued for delivery.")
}

// changeGaps has what a connection was not sent sent again, or forgets it.
func (s *Pages) changeGaps(r *http.Request, f *page.Frame) (templ.Component, error) {
	c, err := s.conn(r, f)
	if err != nil {
		return nil, err
	}
	change, message := s.Gaps.SendGaps, "Sending the skipped events from the store. This page shows the progress."
	if f.Form.Get("forget") != "" {
		change, message = s.Gaps.ForgetGaps, "Skipped events dismissed. They are still stored on this server."
	}
	if err := change(r.Context(), c); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/connections/"+c.ID), message)
}
