package main

import (
	"context"
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
	"github.com/hedgerow/hedgerow/internal/api"
	"github.com/hedgerow/hedgerow/internal/gateway"
)

// doctorCommand checks what serve needs and says what to do.
func doctorCommand() *cli.Command {
	c := new(config)
	return &cli.Command{
		Name:  "doctor",
		Usage: "check settings, data folder, providers and PostHog connections, and say what to do",
		Flags: append(c.flags(), &cli.BoolFlag{Name: "offline", Usage: "do not reach for providers and PostHog"}),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			d := &doctor{w: cmd.Root().Writer}
			if err := c.load(cmd); err != nil {
				d.report("configuration", err)
				return &exitError{exitConfig, errors.New("1 problem found")}
			}
			d.report("configuration", nil)
			ctl, err := c.openControl(ctx)
			d.report("data folder "+c.Data, err)
			if err == nil {
				defer ctl.close()
				d.server(ctx, c, ctl)
				if !cmd.Bool("offline") {
					d.connections(ctx, ctl)
				}
			}
			if !cmd.Bool("offline") {
				d.upstreams(ctx, c)
			}
			if d.problems > 0 {
				return fmt.Errorf("%d problems found", d.problems)
			}
			return nil
		},
	}
}

type doctor struct {
	w        io.Writer
	problems int
}

func (d *doctor) report(what string, err error) {
	if err == nil {
		fmt.Fprintf(d.w, "ok    %s\n", what)
		return
	}
	d.problems++
	fmt.Fprintf(d.w, "FAIL  %s: %v\n", what, message(err))
	if e := (*event.Error)(nil); errors.As(err, &e) && e.Hint != "" {
		fmt.Fprintf(d.w, "      to do: %s\n", e.Hint)
	}
}

func message(err error) string {
	if e := (*event.Error)(nil); errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

func (d *doctor) server(ctx context.Context, c *config, ctl *control) {
	if ctl.app != nil {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
		if err != nil {
			err = event.NewError(event.CodeUnavailable, "cannot listen on "+c.Listen, "stop the program that listens there, or choose another address", err)
		} else {
			_ = l.Close()
		}
		d.report("address "+c.Listen+" is free; no server runs on this folder", err)
		return
	}
	var s struct {
		Version string       `json:"version"`
		Server  serverStatus `json:"server"`
	}
	err := ctl.call(ctx, "GET", "/api/v1/status", nil, &s)
	d.report("server "+s.Version+" runs on "+s.Server.Listen, err)
	if err != nil {
		return
	}
	j := s.Server.Journal
	if j.MaxBytes > 0 && j.Bytes*10 > j.MaxBytes*9 {
		err = event.NewError(event.CodeFull, fmt.Sprintf("the journal is %d%% full", 100*j.Bytes/j.MaxBytes), "see which queue is behind in hedgerow connection status; mend or delete that connection, or raise journal_max_bytes", nil)
	}
	d.report(fmt.Sprintf("journal holds %d events, %d of %d MiB", j.Events, j.Bytes>>20, j.MaxBytes>>20), err)
	if j.DeadLetters > 0 {
		d.report("dead letters", event.NewError(event.CodeConflict, fmt.Sprintf("%d events could not be delivered", j.DeadLetters), "hedgerow replay list shows why; hedgerow replay run tries them again", nil))
	}
}

func (d *doctor) connections(ctx context.Context, ctl *control) {
	var projects struct {
		Projects []api.Project `json:"projects"`
	}
	if err := ctl.call(ctx, "GET", "/api/v1/projects", nil, &projects); err != nil {
		d.report("projects", err)
		return
	}
	for _, p := range projects.Projects {
		q := "?project=" + url.QueryEscape(p.ID)
		var list struct {
			Connections []api.Connection `json:"connections"`
		}
		if err := ctl.call(ctx, "GET", "/api/v1/connections"+q, nil, &list); err != nil {
			d.report("connections of "+p.Name, err)
			continue
		}
		for _, c := range list.Connections {
			var out api.ConnectionResult
			err := ctl.call(ctx, "POST", "/api/v1/connections/"+url.PathEscape(c.ID)+"/test"+q, nil, &out)
			if err == nil && out.Test != nil && !out.Test.OK {
				i := slices.IndexFunc(out.Test.Checks, func(c api.TestCheck) bool { return !c.OK })
				err = event.NewError(event.CodeUpstream, out.Test.Checks[i].Message, out.Test.Checks[i].Hint, nil)
			}
			d.report("connection "+c.Name+" of project "+p.Name+" ("+c.Host+")", err)
		}
	}
}

// upstreams sees whether providers answer at all: any status will do, since no
// key is at hand.
func (d *doctor) upstreams(ctx context.Context, c *config) {
	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	all := c.upstreams()
	known := gateway.Known()
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
			err = event.NewError(event.CodeUpstream, "does not answer", "check the network, a firewall or proxy, and the base URL", err)
		}
		d.report("provider "+name+" at "+u.BaseURL, err)
	}
}
