package command

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
)

// Connection is the command that manages PostHog connections. Keys are read
// from the environment or from standard input, never from a flag: the command
// line is visible to every user of the machine.
func Connection(c *config.Config) *cli.Command {
	common := func(more ...cli.Flag) []cli.Flag {
		return c.SubFlags(append([]cli.Flag{projectFlag(),
			&cli.StringFlag{Name: "name", Value: "default", Usage: "name of the project's connection"}}, more...)...)
	}
	return &cli.Command{
		Name:  "connection",
		Usage: "connect a PostHog project: set, test, status, enable, disable, delete",
		Commands: []*cli.Command{
			{
				Name:  "set",
				Usage: "create or change the connection; the project key (phc_…) comes from POSTHOG_API_KEY or standard input",
				Flags: common(
					&cli.StringFlag{Name: "host", Usage: "https://us.i.posthog.com, https://eu.i.posthog.com or your own", Sources: cli.EnvVars("POSTHOG_HOST")},
					&cli.BoolFlag{Name: "key-stdin", Usage: "read the project key, and on a second line a personal key, from standard input"},
					&cli.BoolFlag{Name: "privacy", Value: true, Usage: "do not send prompts and responses"},
					&cli.BoolFlag{Name: "hash-distinct-ids", Usage: "send an HMAC of each user ID instead of the ID"},
					&cli.StringFlag{Name: "environment", Usage: "environment to set on events without one"},
					&cli.StringFlag{Name: "surface", Usage: "surface to set on events without one from call, project or key"},
					&cli.StringFlag{Name: "schema", Usage: "event schema: posthog (default), llm_events or both"},
					&cli.FloatFlag{Name: "sample-rate", Usage: "fraction of traces to send, above 0 up to 1 (default 1)"},
					&cli.StringSliceFlag{Name: "only-event", Usage: "send only events of this name; repeatable"},
					&cli.StringSliceFlag{Name: "only-surface", Usage: "send only events of this surface; repeatable"},
					&cli.StringSliceFlag{Name: "only-tag", Usage: "send only events with one of these tags; repeatable"},
					&cli.StringSliceFlag{Name: "send-property", Usage: "property to send in privacy mode regardless of its value; repeatable, replaces the list"},
					&cli.StringSliceFlag{Name: "send-attribute", Usage: "span or resource attribute to send in privacy mode regardless of its value; repeatable, replaces the list"},
					&cli.IntFlag{Name: "flush-at", Usage: "maximum events per batch (default 20)"},
					&cli.DurationFlag{Name: "flush-interval", Usage: "maximum time before a batch is sent (default 10s)"},
					&cli.BoolFlag{Name: "skip-test", Usage: "save even if the connection test fails"},
				),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					in := api.ConnectionInput{SkipTest: cmd.Bool("skip-test")}
					key, personal := strings.TrimSpace(os.Getenv("POSTHOG_API_KEY")), strings.TrimSpace(os.Getenv("POSTHOG_PERSONAL_API_KEY"))
					if cmd.Bool("key-stdin") {
						lines := bufio.NewScanner(io.LimitReader(os.Stdin, 4096))
						if lines.Scan() {
							key = strings.TrimSpace(lines.Text())
						}
						if lines.Scan() {
							personal = strings.TrimSpace(lines.Text())
						}
					}
					if key != "" {
						in.ProjectKey = &key
					}
					if personal != "" {
						in.PersonalKey = &personal
					}
					setIf(cmd, "host", &in.Host, cmd.String)
					setIf(cmd, "privacy", &in.PrivacyMode, cmd.Bool)
					setIf(cmd, "hash-distinct-ids", &in.HashDistinctIDs, cmd.Bool)
					setIf(cmd, "environment", &in.Environment, cmd.String)
					setIf(cmd, "surface", &in.Surface, cmd.String)
					setIf(cmd, "schema", &in.Schema, cmd.String)
					setIf(cmd, "sample-rate", &in.SampleRate, cmd.Float)
					if cmd.IsSet("only-event") || cmd.IsSet("only-surface") || cmd.IsSet("only-tag") {
						in.Filter = &api.Filter{Events: cmd.StringSlice("only-event"), Surfaces: cmd.StringSlice("only-surface"), Tags: cmd.StringSlice("only-tag")}
					}
					setIf(cmd, "flush-at", &in.FlushAt, cmd.Int)
					setIf(cmd, "send-property", &in.SendProperties, cmd.StringSlice)
					setIf(cmd, "send-attribute", &in.SendAttributes, cmd.StringSlice)
					if cmd.IsSet("flush-interval") {
						s := cmd.Duration("flush-interval").Seconds()
						in.FlushIntervalSeconds = &s
					}
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var out api.ConnectionResult
						if err := ctl.call(ctx, "PUT", connectionPath(cmd, ""), in, &out); err != nil {
							return err
						}
						w := cmd.Root().Writer
						printTest(w, out.Test)
						fmt.Fprintf(w, "saved: connection %q of project %q sends to %s with key …%s\n", out.Connection.Name, out.Connection.Project, out.Connection.Host, out.Connection.ProjectKeyLast4)
						return nil
					})
				},
			},
			{
				Name:  "test",
				Usage: "send a test event and check the keys",
				Flags: common(),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var out api.ConnectionResult
						if err := ctl.call(ctx, "POST", connectionPath(cmd, "/test"), nil, &out); err != nil {
							return err
						}
						printTest(cmd.Root().Writer, out.Test)
						if out.Test == nil || !out.Test.OK {
							return fmt.Errorf("the connection does not work yet")
						}
						return nil
					})
				},
			},
			{
				Name:  "status",
				Usage: "show all connections, whether their keys are set, and their delivery status",
				Flags: c.SubFlags(projectFlag()),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var out struct {
							Connections []api.Connection `json:"connections"`
						}
						if err := ctl.call(ctx, "GET", "/api/v1/connections"+projectQuery(cmd), nil, &out); err != nil {
							return err
						}
						printConnections(cmd.Root().Writer, out.Connections)
						return nil
					})
				},
			},
			toggle(c, common, "enable", "resume delivery, starting with the queued events", true),
			toggle(c, common, "disable", "pause delivery; events stay stored in hedgerow", false),
			{
				Name:  "delete",
				Usage: "delete the connection and its keys",
				Flags: common(&cli.BoolFlag{Name: "yes", Usage: "skip the confirmation"}),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						if !cmd.Bool("yes") && !confirm(fmt.Sprintf("Delete connection %q and its keys? Type its name: ", cmd.String("name")), cmd.String("name")) {
							return fmt.Errorf("not deleted")
						}
						if err := ctl.call(ctx, "DELETE", connectionPath(cmd, ""), nil, nil); err != nil {
							return err
						}
						fmt.Fprintln(cmd.Root().Writer, "deleted with its keys")
						return nil
					})
				},
			},
		},
	}
}

func toggle(c *config.Config, common func(...cli.Flag) []cli.Flag, name, usage string, on bool) *cli.Command {
	flags := common()
	if on {
		flags = common(&cli.BoolFlag{Name: "from-now", Usage: "skip the queued events"})
	}
	return &cli.Command{Name: name, Usage: usage, Flags: flags, Action: func(ctx context.Context, cmd *cli.Command) error {
		in := api.ConnectionInput{Enabled: &on, SkipTest: true}
		if on && cmd.Bool("from-now") {
			in.Resume = "now"
		}
		return withControl(ctx, c, cmd, func(ctl *control) error {
			var out api.ConnectionResult
			if err := ctl.call(ctx, "PUT", connectionPath(cmd, ""), in, &out); err != nil {
				return err
			}
			fmt.Fprintf(cmd.Root().Writer, "connection %q is %sd\n", out.Connection.Name, name)
			return nil
		})
	}}
}

// withControl runs f against the hedgerow of the data folder.
func withControl(ctx context.Context, c *config.Config, cmd *cli.Command, f func(*control) error) error {
	if err := c.LoadSub(cmd); err != nil {
		return err
	}
	ctl, err := openControl(ctx, c)
	if err != nil {
		return err
	}
	defer ctl.close()
	return f(ctl)
}

func projectFlag() cli.Flag {
	return &cli.StringFlag{Name: "project", Value: "default", Usage: "id or name of the project", Sources: cli.EnvVars("HEDGEROW_PROJECT")}
}

func projectQuery(cmd *cli.Command) string {
	return "?project=" + url.QueryEscape(cmd.String("project"))
}

func connectionPath(cmd *cli.Command, tail string) string {
	return "/api/v1/connections/" + url.PathEscape(cmd.String("name")) + tail + projectQuery(cmd)
}

func setIf[T any](cmd *cli.Command, name string, dst **T, get func(string) T) {
	if cmd.IsSet(name) {
		v := get(name)
		*dst = &v
	}
}

func confirm(question, want string) bool {
	fmt.Fprint(os.Stderr, question)
	s := bufio.NewScanner(os.Stdin)
	return s.Scan() && strings.TrimSpace(s.Text()) == want
}

func printTest(w io.Writer, t *posthog.TestResult) {
	if t == nil {
		return
	}
	for _, c := range t.Checks {
		mark := "ok  "
		if !c.OK {
			mark = "FAIL"
		}
		fmt.Fprintf(w, "%s %s: %s\n", mark, c.Name, c.Message)
		if c.Hint != "" && !c.OK {
			fmt.Fprintf(w, "     fix: %s\n", c.Hint)
		}
	}
}

func printConnections(w io.Writer, list []api.Connection) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no PostHog connection yet: POSTHOG_API_KEY=phc_… hedgerow connection set")
		return
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tHOST\tPROJECT KEY\tPERSONAL KEY\tSTATE\tPRIVACY\tSENT\tFAILED\tDEAD\tWAITING\tLAST SUCCESS\tLAST ERROR")
	for _, c := range list {
		personal := "not set"
		if c.PersonalKeySet {
			personal = "…" + c.PersonalKeyLast4
		}
		privacy := "on"
		if !c.PrivacyMode {
			privacy = "off"
		}
		last := "never"
		if c.Delivery.LastSuccess != nil {
			last = time.Since(*c.Delivery.LastSuccess).Round(time.Second).String() + " ago"
		}
		fmt.Fprintf(tw, "%s\t%s\t…%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", c.Name, c.Host, c.ProjectKeyLast4, personal, c.Delivery.State, privacy,
			c.Delivery.Sent, c.Delivery.Failed, c.Delivery.Dead, c.Delivery.Waiting, last, c.Delivery.LastError)
	}
	tw.Flush()
}
