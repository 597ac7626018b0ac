package command

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// Project is the command that manages projects, their keys and settings.
func Project(c *config.Config) *cli.Command {
	common := func(more ...cli.Flag) []cli.Flag { return c.SubFlags(append([]cli.Flag{projectFlag()}, more...)...) }
	path := func(cmd *cli.Command, tail string) string {
		return "/api/v1/projects/" + url.PathEscape(cmd.String("project")) + tail
	}
	return &cli.Command{
		Name:  "project",
		Usage: "manage projects, their API keys and stored provider keys",
		Commands: []*cli.Command{
			{
				Name: "list", Usage: "show every project", Flags: c.SubFlags(),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var out struct {
							Projects []api.Project `json:"projects"`
						}
						if err := ctl.call(ctx, "GET", "/api/v1/projects", nil, &out); err != nil {
							return err
						}
						tw := tabwriter.NewWriter(cmd.Root().Writer, 0, 4, 2, ' ', 0)
						fmt.Fprintln(tw, "NAME\tID\tPROJECT TOKEN\tCONTENT\tCONTENT KEPT\tMETRICS KEPT\tPROVIDER KEYS")
						for _, p := range out.Projects {
							fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, p.ID, p.Token, map[bool]string{true: "kept", false: "not kept"}[p.Settings.KeepContent],
								days(p.Settings.ContentDays), days(p.Settings.MetricsDays), strings.Join(p.ProviderKeys, ", "))
						}
						return tw.Flush()
					})
				},
			},
			{
				Name: "create", Usage: "create a project and print its token and first API key", ArgsUsage: "NAME",
				Flags: c.SubFlags(&cli.BoolFlag{Name: "require-keys", Usage: "require a key on every gateway call from now on"}),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var out api.ProjectCreated
						in := api.CreateInput{Name: cmd.Args().First()}
						if cmd.Bool("require-keys") {
							in.RequireKey = ptr(true)
						}
						if err := ctl.call(ctx, "POST", "/api/v1/projects", in, &out); err != nil {
							return err
						}
						fmt.Fprintf(cmd.Root().Writer, "project %s (%s)\n  project token  %s\n  API key        %s   (shown once)\n", out.Project.Name, out.Project.ID, out.Project.Token, out.APIKey.Key)
						if out.Notice != "" {
							fmt.Fprintln(cmd.Root().Writer, out.Notice)
						}
						return nil
					})
				},
			},
			{
				Name: "require-keys", Usage: "require a key on every gateway call, or with --off assign calls without one to the first project",
				Flags: c.SubFlags(&cli.BoolFlag{Name: "off", Usage: "require none"}),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var out struct {
							Server api.Server `json:"server"`
						}
						if err := ctl.call(ctx, "PATCH", "/api/v1/server", api.ServerInput{RequireKey: ptr(!cmd.Bool("off"))}, &out); err != nil {
							return err
						}
						if out.Server.RequireKey {
							fmt.Fprintln(cmd.Root().Writer, "gateway calls without a key are now rejected")
						} else {
							fmt.Fprintf(cmd.Root().Writer, "gateway calls without a key go to the project %s\n", out.Server.KeylessProject)
						}
						return nil
					})
				},
			},
			{
				Name: "set", Usage: "change a project's name or settings",
				Flags: common(
					&cli.StringFlag{Name: "rename", Usage: "new name"},
					&cli.BoolFlag{Name: "keep-content", Value: true, Usage: "store prompts and responses"},
					&cli.BoolFlag{Name: "scrub-emails", Usage: "mask e-mail addresses before anything is stored"},
					&cli.StringFlag{Name: "content-role", Usage: "minimum role to read prompts and responses: viewer, member or admin"},
					&cli.IntFlag{Name: "content-days", Usage: "days that content is kept; 0 keeps it forever"},
					&cli.IntFlag{Name: "metrics-days", Usage: "days that events are kept; 0 keeps them forever"},
					&cli.StringFlag{Name: "surface", Usage: "surface of events without one from the call or the key; empty for none"},
					&cli.StringFlag{Name: "attribution-fields", Usage: "comma-separated members of gateway request bodies that become properties and are removed from the request; replaces the list"},
				),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					var in api.ProjectInput
					setIf(cmd, "rename", &in.Name, cmd.String)
					setIf(cmd, "keep-content", &in.KeepContent, cmd.Bool)
					setIf(cmd, "scrub-emails", &in.ScrubEmails, cmd.Bool)
					setIf(cmd, "content-role", &in.ContentRole, func(name string) project.Role { return project.Role(cmd.String(name)) })
					setIf(cmd, "content-days", &in.ContentDays, cmd.Int)
					setIf(cmd, "metrics-days", &in.MetricsDays, cmd.Int)
					setIf(cmd, "surface", &in.Surface, cmd.String)
					setIf(cmd, "attribution-fields", &in.AttributionFields, func(name string) []string { return strings.Split(cmd.String(name), ",") })
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var out struct {
							Project api.Project `json:"project"`
						}
						if err := ctl.call(ctx, "PATCH", path(cmd, ""), in, &out); err != nil {
							return err
						}
						fmt.Fprintf(cmd.Root().Writer, "saved: project %s\n", out.Project.Name)
						return nil
					})
				},
			},
			{
				Name: "rotate-token", Usage: "replace the project token; the old one stops working immediately", Flags: common(),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var out struct {
							Project api.Project `json:"project"`
						}
						if err := ctl.call(ctx, "POST", path(cmd, "/rotate-token"), nil, &out); err != nil {
							return err
						}
						fmt.Fprintln(cmd.Root().Writer, out.Project.Token)
						return nil
					})
				},
			},
			{
				Name: "keys", Usage: "list the project's API keys", Flags: common(),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var out struct {
							Keys []api.APIKey `json:"keys"`
						}
						if err := ctl.call(ctx, "GET", path(cmd, "/keys"), nil, &out); err != nil {
							return err
						}
						tw := tabwriter.NewWriter(cmd.Root().Writer, 0, 4, 2, ' ', 0)
						fmt.Fprintln(tw, "ID\tNAME\tKEY\tROLE\tSCOPES\tSURFACE\tCREATED\tLAST USED")
						for _, k := range out.Keys {
							used := "not since startup"
							if k.LastUsedAt != nil {
								used = time.Since(*k.LastUsedAt).Round(time.Second).String() + " ago"
							}
							fmt.Fprintf(tw, "%s\t%s\t%s…\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Name, k.Prefix, cmp.Or(string(k.Role), "-"), k.Scopes, cmp.Or(k.Surface, "-"), k.CreatedAt.Format(time.DateOnly), used)
						}
						return tw.Flush()
					})
				},
			},
			{
				Name: "add-key", Usage: "create an API key and print it once", ArgsUsage: "NAME",
				Flags: common(
					&cli.StringFlag{Name: "scopes", Usage: "comma-separated scopes: read, write, ingest, gateway, admin (default: all)"},
					&cli.StringFlag{Name: "surface", Usage: "surface of calls and events with this key that have none"},
					&cli.StringFlag{Name: "role", Usage: "in place of --scopes: viewer (read), member (read, write, ingest, gateway) or admin (all)"},
				),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					in := api.KeyInput{Name: cmd.Args().First(), Role: project.Role(cmd.String("role")), Surface: cmd.String("surface")}
					if cmd.IsSet("scopes") {
						in.Scopes = strings.Split(cmd.String("scopes"), ",")
					}
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var out struct {
							Key api.APIKey `json:"key"`
						}
						if err := ctl.call(ctx, "POST", path(cmd, "/keys"), in, &out); err != nil {
							return err
						}
						fmt.Fprintln(cmd.Root().Writer, out.Key.Key)
						return nil
					})
				},
			},
			{
				Name: "set-key", Usage: "change the default surface of an API key's calls and events", ArgsUsage: "ID",
				Flags: common(&cli.StringFlag{Name: "surface", Usage: "the surface; empty leaves it to the project's", Required: true}),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						return ctl.call(ctx, "PATCH", path(cmd, "/keys/"+url.PathEscape(cmd.Args().First())), api.KeyChange{Surface: ptr(cmd.String("surface"))}, nil)
					})
				},
			},
			{
				Name: "revoke-key", Usage: "revoke an API key", ArgsUsage: "ID", Flags: common(),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						return ctl.call(ctx, "DELETE", path(cmd, "/keys/"+url.PathEscape(cmd.Args().First())), nil, nil)
					})
				},
			},
			{
				Name: "provider-key", Usage: "store a provider's key, read from standard input, for callers with a hedgerow key", ArgsUsage: "PROVIDER",
				Flags: common(&cli.BoolFlag{Name: "delete", Usage: "delete the stored key instead"}),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					tail := "/provider-keys/" + url.PathEscape(cmd.Args().First())
					return withControl(ctx, c, cmd, func(ctl *control) error {
						if cmd.Bool("delete") {
							return ctl.call(ctx, "DELETE", path(cmd, tail), nil, nil)
						}
						s := bufio.NewScanner(os.Stdin)
						s.Scan()
						return ctl.call(ctx, "PUT", path(cmd, tail), map[string]string{"key": strings.TrimSpace(s.Text())}, nil)
					})
				},
			},
			{
				Name: "sign-in-link", Usage: "print a one-time link that signs an administrator in", Flags: c.SubFlags(),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var out api.SignInLink
						if err := ctl.call(ctx, "POST", "/api/v1/sign-in-links", nil, &out); err != nil {
							return err
						}
						fmt.Fprintf(cmd.Root().Writer, "%s\n", out.URL)
						return nil
					})
				},
			},
		},
	}
}

func days(n int) string {
	if n == 0 {
		return "forever"
	}
	return fmt.Sprintf("%d days", n)
}

func ptr[T any](v T) *T { return &v }
