package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/app"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
)

// Severity is how bad a finding is.
type Severity string

const (
	SeverityOK      Severity = "ok"
	SeverityWarning Severity = "warning" // works, but needs attention
	SeverityError   Severity = "error"   // something does not work
)

// Finding is the result of a check, of severity ok if nothing is wrong.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	Why      string   `json:"why,omitempty"`
	ToDo     string   `json:"to_do,omitempty"`
	// Repairable reports that doctor --repair repairs it without loss;
	// Repaired that it just has.
	Repairable bool `json:"repairable"`
	Repaired   bool `json:"repaired"`

	repair func(context.Context) error
}

// troubleOf returns a finding for an error.
func troubleOf(check, what string, err error) Finding {
	e := event.AsError(err)
	f := Finding{Check: check, Severity: SeverityError, What: what, Why: err.Error()}
	if e.Code != event.CodeInternal {
		f.Why, f.ToDo = e.Message, e.Hint
		if e.Err != nil {
			f.Why += ": " + e.Err.Error()
		}
	}
	return f
}

// check is one thing that doctor checks. It only reads.
type check struct {
	name string
	run  func(*doctor, context.Context) []Finding
}

// doctor is one run of hedgerow doctor.
type doctor struct {
	c       *config.Config
	w       io.Writer
	json    bool
	offline bool
	mend    bool

	running  bool // a server has the folder
	ctl      *control
	findings []Finding
}

// Doctor is the command that checks what serve needs and suggests fixes.
func Doctor(c *config.Config) *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "check settings, data folder, providers and PostHog connections, and suggest fixes",
		Flags: c.SubFlags(
			&cli.BoolFlag{Name: "repair", Usage: "repair what can be repaired without losing data"},
			&cli.BoolFlag{Name: "offline", Usage: "do not contact providers or PostHog"},
			&cli.BoolFlag{Name: "json", Usage: "print the findings as JSON"},
		),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			d := &doctor{c: c, w: cmd.Root().Writer, json: cmd.Bool("json"), offline: cmd.Bool("offline"), mend: cmd.Bool("repair")}
			return d.run(ctx, cmd)
		},
	}
}

func (d *doctor) run(ctx context.Context, cmd *cli.Command) error {
	if err := d.c.LoadSub(cmd); err != nil {
		d.add(troubleOf("configuration", "the settings cannot be used", err))
		return d.end(err)
	}
	d.add(Finding{Check: "configuration", What: "the settings are valid"})
	if err := d.c.RequireData(); err != nil {
		d.add(troubleOf("data folder", "the data folder cannot be used", err))
		return d.end(err)
	}
	if ctl, err := dialControl(ctx, d.c.SocketPath()); err == nil {
		d.running = true
		ctl.close()
	}
	d.look(ctx, check{"PostHog hosts", (*doctor).posthogHosts})
	for _, c := range folderChecks {
		d.look(ctx, c)
	}
	d.openFolder(ctx)
	if d.ctl != nil {
		defer d.ctl.close()
		d.look(ctx, check{"server", (*doctor).serverOf})
		d.look(ctx, check{"components", (*doctor).components})
		if !d.offline {
			d.look(ctx, check{"connections", (*doctor).connections})
		}
	}
	if !d.offline {
		d.look(ctx, check{"providers", (*doctor).upstreams})
	}
	return d.end(nil)
}

// look runs a check and, if requested, repairs its findings.
func (d *doctor) look(ctx context.Context, c check) {
	for _, f := range c.run(d, ctx) {
		f.Check = c.name
		if d.mend && f.Repairable && f.repair != nil {
			if err := f.repair(ctx); err != nil {
				f.Why += "; it could not be repaired: " + err.Error()
			} else {
				f.Repaired = true
			}
		}
		d.add(f)
	}
}

func (d *doctor) add(f Finding) {
	if f.Severity == "" {
		f.Severity = SeverityOK
	}
	d.findings = append(d.findings, f)
	if d.json {
		return
	}
	switch {
	case f.Repaired:
		fmt.Fprintf(d.w, "FIXED   %s: %s\n", f.Check, f.What)
	case f.Severity == SeverityOK:
		fmt.Fprintf(d.w, "ok      %s: %s\n", f.Check, f.What)
		return
	case f.Severity == SeverityWarning:
		fmt.Fprintf(d.w, "WARN    %s: %s\n", f.Check, f.What)
	default:
		fmt.Fprintf(d.w, "FAIL    %s: %s\n", f.Check, f.What)
	}
	if f.Why != "" {
		fmt.Fprintf(d.w, "        why: %s\n", f.Why)
	}
	if f.ToDo != "" && !f.Repaired {
		fmt.Fprintf(d.w, "        fix: %s\n", f.ToDo)
	}
	if f.Repairable && !f.Repaired && !d.mend {
		fmt.Fprintln(d.w, "        hedgerow doctor --repair fixes this")
	}
}

// end prints the findings, where that is left to do, and returns the error that
// the command ends with: of the given one the exit code.
func (d *doctor) end(cause error) error {
	problems := 0
	for _, f := range d.findings {
		if f.Severity == SeverityError && !f.Repaired {
			problems++
		}
	}
	if d.json {
		enc := json.NewEncoder(d.w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(map[string]any{"findings": d.findings, "problems": problems}); err != nil {
			return err
		}
	}
	switch exit := (*config.ExitError)(nil); {
	case problems == 0:
		return nil
	case errors.As(cause, &exit):
		return config.Exit(exit.Code, errors.New("1 problem found"))
	case problems == 1:
		return errors.New("1 problem found")
	}
	return fmt.Errorf("%d problems found", problems)
}

// openFolder connects to the hedgerow that runs on the folder, or opens the
// folder itself, which also triggers the automatic repairs of journal and
// store. Findings of earlier checks that no longer occur have been repaired.
func (d *doctor) openFolder(ctx context.Context) {
	if !d.running && !d.mend && slices.ContainsFunc(d.findings, func(f Finding) bool { return f.Severity == SeverityError && opensByItself(f.Check) }) {
		// Opening the folder would repair it without a request.
		d.add(Finding{Check: "data folder", Severity: SeverityWarning, What: "was not opened, because it contains damaged files", ToDo: "run hedgerow doctor --repair, or start hedgerow serve, which makes the same repairs"})
		return
	}
	if d.c.RequireSettings() != nil {
		return // reported by journal files
	}
	if err := d.repairJournal(ctx); err != nil {
		d.add(troubleOf("journal files", "the journal could not be repaired", err))
		return
	}
	ctl, err := openControl(ctx, d.c)
	if err != nil {
		d.add(troubleOf("data folder", d.c.Data+" cannot be opened", err))
		return
	}
	d.ctl = ctl
	d.add(Finding{Check: "data folder", What: d.c.Data + " opens"})
	if !d.mend || d.running {
		return
	}
	for i := range d.findings {
		f := &d.findings[i]
		if !f.Repairable || f.Repaired || f.repair != nil {
			continue
		}
		k := slices.IndexFunc(folderChecks, func(c check) bool { return c.name == f.Check })
		if k < 0 {
			continue
		}
		left := folderChecks[k].run(d, ctx)
		if !slices.ContainsFunc(left, func(l Finding) bool { return l.Severity != SeverityOK && l.What == f.What }) {
			f.Repaired = true
			if !d.json {
				fmt.Fprintf(d.w, "FIXED   %s: %s\n", f.Check, f.What)
			}
		}
	}
}

// repairJournal waits until every record that can be read is back in the journal:
// what opens the folder afterwards closes it again without waiting for that.
func (d *doctor) repairJournal(ctx context.Context) error {
	damaged := func(f Finding) bool { return f.Check == "journal files" && f.Repairable && !f.Repaired }
	if !d.mend || d.running || !slices.ContainsFunc(d.findings, damaged) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	_, err := journal.Repair(ctx, app.JournalConfig(d.c))
	return err
}

func (d *doctor) serverOf(ctx context.Context) []Finding {
	if d.ctl.app != nil {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", d.c.Listen)
		if err != nil {
			return []Finding{troubleOf("", "cannot listen on "+d.c.Listen, event.NewError(event.CodeUnavailable, "another program is using it, or the address is not this machine's", "stop that program, or choose another address with --listen", err))}
		}
		_ = l.Close()
		return []Finding{{What: "none runs on this folder; the address " + d.c.Listen + " is free"}}
	}
	var s struct {
		Version string     `json:"version"`
		Server  app.Status `json:"server"`
	}
	if err := d.ctl.call(ctx, "GET", "/api/v1/status", nil, &s); err != nil {
		return []Finding{troubleOf("", "the server running on this folder does not report its health", err)}
	}
	j := s.Server.Journal
	out := []Finding{{What: "version " + s.Version + " runs on " + s.Server.Listen},
		{What: fmt.Sprintf("the journal has %d events, %d of %d MiB", j.Events, j.Bytes>>20, j.MaxBytes>>20)}}
	if j.MaxBytes > 0 && j.Bytes*10 > j.MaxBytes*9 {
		out = append(out, Finding{Severity: SeverityError, What: fmt.Sprintf("the journal is %d%% full", 100*j.Bytes/j.MaxBytes), Why: "once it is full, new events are rejected",
			ToDo: "see which queue lags in hedgerow connection status; fix or disable that connection, or raise journal_max_bytes"})
	}
	for _, g := range j.Gaps {
		out = append(out, Finding{Severity: SeverityWarning, What: fmt.Sprintf("the queue %s skipped about %d events from %s to %s", g.Queue, g.Events, g.First.Format(time.RFC3339), g.Last.Format(time.RFC3339)),
			Why: "it lagged so far behind that the journal was nearly full; the events are in the store", ToDo: "fix that connection: hedgerow connection status shows the problem"})
	}
	if j.DeadLetters > 0 {
		out = append(out, Finding{Severity: SeverityError, What: fmt.Sprintf("%d events could not be delivered", j.DeadLetters), ToDo: "hedgerow replay list shows why; hedgerow replay run retries them"})
	}
	return out
}

// components are the parts that do not do all of their work at present.
func (d *doctor) components(ctx context.Context) (out []Finding) {
	var r app.Readiness
	if d.ctl.app != nil {
		r.Components = d.ctl.app.Health()
	} else if err := d.ctl.call(ctx, "GET", "/readyz", nil, &r); err != nil {
		return []Finding{troubleOf("", "the server does not report the health of its components", err)}
	}
	for _, c := range r.Components {
		if c.Status == health.OK {
			continue
		}
		f := Finding{Severity: SeverityWarning, What: c.Component + " is " + string(c.Status), Why: c.Message, ToDo: c.Hint}
		if c.Status == health.Failed {
			f.Severity = SeverityError
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		out = append(out, Finding{What: fmt.Sprintf("all %d work", len(r.Components))})
	}
	return out
}

func (d *doctor) connections(ctx context.Context) (out []Finding) {
	var projects struct {
		Projects []api.Project `json:"projects"`
	}
	if err := d.ctl.call(ctx, "GET", "/api/v1/projects", nil, &projects); err != nil {
		return []Finding{troubleOf("", "the projects cannot be read", err)}
	}
	for _, p := range projects.Projects {
		q := "?project=" + url.QueryEscape(p.ID)
		var list struct {
			Connections []api.Connection `json:"connections"`
		}
		if err := d.ctl.call(ctx, "GET", "/api/v1/connections"+q, nil, &list); err != nil {
			out = append(out, troubleOf("", "the connections of project "+p.Name+" cannot be read", err))
			continue
		}
		for _, c := range list.Connections {
			name := "connection " + c.Name + " of project " + p.Name + " (" + c.Host + ")"
			var res api.ConnectionResult
			err := d.ctl.call(ctx, "POST", "/api/v1/connections/"+url.PathEscape(c.ID)+"/test"+q, nil, &res)
			if err == nil && res.Test != nil && !res.Test.OK {
				i := slices.IndexFunc(res.Test.Checks, func(c posthog.Check) bool { return !c.OK })
				err = event.NewError(event.CodeUpstream, res.Test.Checks[i].Message, res.Test.Checks[i].Hint, nil)
			}
			if err != nil {
				out = append(out, troubleOf("", name+" does not work", err))
				continue
			}
			out = append(out, Finding{What: name + " works"})
		}
	}
	return out
}

// upstreams sees whether providers answer at all: any status will do, since no
// key is available.
func (d *doctor) upstreams(ctx context.Context) (out []Finding) {
	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	all := app.Upstreams(d.c)
	known := gateway.DefaultUpstreams()
	for _, name := range []string{"openai", "anthropic", "openrouter"} {
		if _, ok := all[name]; !ok {
			all[name] = known[name]
		}
	}
	for name, u := range all {
		if u.BaseURL == "" || u.BaseURL == known["azure"].BaseURL {
			continue
		}
		req, err := http.NewRequestWithContext(ctx, "GET", u.BaseURL, nil)
		if err == nil {
			var resp *http.Response
			if resp, err = client.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}
		if err != nil {
			out = append(out, troubleOf("", name+" at "+u.BaseURL+" does not answer", event.NewError(event.CodeUpstream, "no answer", "check the network, firewall, proxy and base URL", err)))
			continue
		}
		out = append(out, Finding{What: name + " at " + u.BaseURL + " answers"})
	}
	return out
}
