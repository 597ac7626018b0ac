package command

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/reconcile"
)

const reconcilePath = "/api/v1/reconcile"

// imported is the answer to an import.
type imported struct {
	Imports []reconcile.Import `json:"imports"`
}

// Reconcile is hedgerow reconcile.
func Reconcile(c *config.Config) *cli.Command {
	common := func(more ...cli.Flag) []cli.Flag { return c.SubFlags(append([]cli.Flag{projectFlag()}, more...)...) }
	account := &cli.StringFlag{Name: "account", Usage: "account name, if you have several accounts with a provider"}
	from := &cli.StringFlag{Name: "from", Usage: "first UTC day, such as 2026-11-01; default: the last 30 days"}
	to := &cli.StringFlag{Name: "to", Usage: "day after the last UTC day"}
	return &cli.Command{
		Name:  "reconcile",
		Usage: "compare a provider's bill with the recorded cost",
		Commands: []*cli.Command{
			{
				Name: "show", Usage: "show the provider's figure, hedgerow's, the difference and what explains it", ArgsUsage: "PROVIDER",
				Flags: common(from, to, account, &cli.StringFlag{Name: "by", Value: "model", Usage: "rows by model or day"}),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					if by := cmd.String("by"); by != "model" && by != "day" {
						return config.Invalid(fmt.Sprintf("--by has the unknown value %q", by), "use model or day", nil)
					}
					return withControl(ctx, c, cmd, func(ctl *control) error {
						q := url.Values{"provider": {cmd.Args().First()}, "from": {cmd.String("from")}, "to": {cmd.String("to")}, "account": {cmd.String("account")}, "project": {cmd.String("project")}}
						var r reconcile.Report
						if err := ctl.call(ctx, "GET", reconcilePath+"?"+q.Encode(), nil, &r); err != nil {
							return err
						}
						return printReport(cmd.Root().Writer, &r, cmd.String("by") == "day")
					})
				},
			},
			{
				Name: "import", Usage: "import exports of a provider's usage and costs: JSON or CSV, plain or gzip", ArgsUsage: "FILE …", Flags: common(account),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var body bytes.Buffer
						form := multipart.NewWriter(&body)
						for _, name := range cmd.Args().Slice() {
							if err := addFile(form, name); err != nil {
								return err
							}
						}
						if err := form.Close(); err != nil {
							return err
						}
						var out imported
						path := reconcilePath + "/imports" + projectQuery(cmd) + "&account=" + url.QueryEscape(cmd.String("account"))
						if err := ctl.send(ctx, "POST", path, form.FormDataContentType(), &body, &out); err != nil {
							return err
						}
						printImports(cmd.Root().Writer, out)
						return nil
					})
				},
			},
			{
				Name: "fetch", Usage: "fetch a provider's bill with the stored admin key and import it", ArgsUsage: "PROVIDER", Flags: common(from, to, account),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var out imported
						in := api.FetchBillInput{Provider: cmd.Args().First(), Account: cmd.String("account"), From: cmd.String("from"), To: cmd.String("to")}
						if err := ctl.call(ctx, "POST", reconcilePath+"/fetch"+projectQuery(cmd), in, &out); err != nil {
							return err
						}
						printImports(cmd.Root().Writer, out)
						return nil
					})
				},
			},
			{
				Name: "list", Usage: "show the imported bills", Flags: common(),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						var out imported
						if err := ctl.call(ctx, "GET", reconcilePath+"/imports"+projectQuery(cmd), nil, &out); err != nil {
							return err
						}
						tw := tabwriter.NewWriter(cmd.Root().Writer, 0, 4, 2, ' ', 0)
						fmt.Fprintln(tw, "ID\tREPORT\tACCOUNTS\tFROM\tTO\tDAYS IN USE\tLINES\tUSD\tIMPORTED")
						for _, m := range out.Imports {
							fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", m.ID, m.Feed, strings.Join(m.Accounts, ", "), m.From, m.To, m.DaysUsed, m.Lines, amountText(m.USD), m.At.Format("2006-01-02 15:04"))
						}
						return tw.Flush()
					})
				},
			},
			{
				Name: "erase", Usage: "delete an imported bill", ArgsUsage: "ID", Flags: common(),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return withControl(ctx, c, cmd, func(ctl *control) error {
						id := cmd.Args().First()
						if err := ctl.call(ctx, "DELETE", reconcilePath+"/imports/"+url.PathEscape(id)+projectQuery(cmd), nil, nil); err != nil {
							return err
						}
						fmt.Fprintf(cmd.Root().Writer, "%s erased: its days have no bill any more, or that of another import\n", id)
						return nil
					})
				},
			},
			{
				Name: "key", Usage: "store a provider's admin key, read from standard input and encrypted", ArgsUsage: "PROVIDER",
				Flags: common(&cli.BoolFlag{Name: "delete", Usage: "delete the stored key instead"}),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					path := reconcilePath + "/keys/" + url.PathEscape(cmd.Args().First()) + projectQuery(cmd)
					return withControl(ctx, c, cmd, func(ctl *control) error {
						provider, w := cmd.Args().First(), cmd.Root().Writer
						if cmd.Bool("delete") {
							if err := ctl.call(ctx, "DELETE", path, nil, nil); err != nil {
								return err
							}
							fmt.Fprintf(w, "the admin key of %s is deleted\n", provider)
							return nil
						}
						s := bufio.NewScanner(os.Stdin)
						s.Scan()
						if err := ctl.call(ctx, "PUT", path, api.AdminKeyInput{Key: strings.TrimSpace(s.Text())}, nil); err != nil {
							return err
						}
						fmt.Fprintf(w, "the admin key of %s is stored, encrypted; fetch its bills with hedgerow reconcile fetch %s\n", provider, provider)
						return nil
					})
				},
			},
		},
	}
}

func addFile(form *multipart.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return config.Invalid("the file "+name+" cannot be read", "name a file that exists", err)
	}
	defer f.Close()
	part, err := form.CreateFormFile("file", filepath.Base(name))
	if err != nil {
		return err
	}
	_, err = io.Copy(part, f)
	return err
}

func printImports(w io.Writer, out imported) {
	for _, m := range out.Imports {
		state := "imported"
		if m.Unchanged {
			state = "already imported"
		}
		fmt.Fprintf(w, "%s: %s as %s, %s to %s, %d lines", m.Feed, state, m.ID, m.From, m.To, m.Lines)
		if m.USD.Known {
			fmt.Fprintf(w, ", %s USD", m.USD.Value)
		}
		fmt.Fprintln(w)
		if len(m.Unknown) > 0 {
			fmt.Fprintln(w, "  not read: "+strings.Join(m.Unknown, ", "))
		}
		for _, n := range m.Notes {
			fmt.Fprintln(w, "  "+n)
		}
	}
}

func amountText(u reconcile.USD) string {
	if !u.Known {
		return "–"
	}
	return u.Value.StringFixed(2)
}

// recordedText is hedgerow's figure of a row.
func recordedText(row reconcile.Row) string {
	if row.AtLeast && row.HedgerowUSD.Known {
		return "at least " + amountText(row.HedgerowUSD)
	}
	return amountText(row.HedgerowUSD)
}

func printReport(w io.Writer, r *reconcile.Report, byDay bool) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	head, rows := "MODEL", r.Models
	if byDay {
		head, rows = "DAY", r.Days
	}
	fmt.Fprintf(tw, "%s\t%s\tHEDGEROW\tDIFFERENCE\t\n", head, strings.ToUpper(r.Provider))
	line := func(name string, row reconcile.Row) {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t\n", name, amountText(row.ProviderUSD), recordedText(row), amountText(row.Difference))
	}
	for _, row := range rows {
		name := row.Model
		if byDay {
			name = row.Day
		}
		if name == "" {
			name = "other lines"
		}
		line(name, row)
	}
	line("all", r.Total)
	if err := tw.Flush(); err != nil {
		return err
	}
	if more := r.ModelCount - len(r.Models); more > 0 && !byDay {
		fmt.Fprintf(w, "\n%d more models are in the sum and not listed; see the page Reconciliation\n", more)
	}
	if len(r.Total.Causes) > 0 {
		fmt.Fprintln(w, "\nwhat explains the difference:")
	}
	tw = tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, c := range r.Total.Causes {
		fmt.Fprintf(tw, "  %s\t%s\n", c.Label, amountText(c.USD))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if n := len(r.NoBill); n > 0 {
		fmt.Fprintf(w, "\n%d of %d days have no imported bill and are excluded from the totals\n", n, len(r.Days))
	}
	return nil
}
