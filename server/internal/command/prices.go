package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/config"
)

// priceFeed is the public list that "hedgerow prices sync" reads without
// --from.
const priceFeed = "https://openrouter.ai/api/v1/models"

// Prices is hedgerow prices.
func Prices(c *config.Config) *cli.Command {
	flags := c.SubFlags
	load := func(cmd *cli.Command) (*price.Table, error) {
		if err := c.LoadSub(cmd); err != nil {
			return nil, err
		}
		if err := c.RequireData(); err != nil {
			return nil, err
		}
		return c.LoadPrices()
	}
	return &cli.Command{
		Name:  "prices",
		Usage: "show the prices that costs are computed with, and update them",
		Commands: []*cli.Command{
			{
				Name: "list", Usage: "show every price, in USD per million tokens", ArgsUsage: "[PROVIDER]", Flags: flags(),
				Action: func(_ context.Context, cmd *cli.Command) error {
					t, err := load(cmd)
					if err != nil {
						return err
					}
					tw := tabwriter.NewWriter(cmd.Root().Writer, 0, 4, 2, ' ', 0)
					fmt.Fprintln(tw, "PROVIDER\tMODEL\tINPUT\tOUTPUT\tCACHE READ\tCACHE WRITE\tFROM\tDATE")
					only, listed := strings.ToLower(cmd.Args().First()), 0
					for _, r := range t.Rows() {
						if !strings.Contains(r.Provider, only) {
							continue
						}
						listed++
						fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", cmp.Or(r.Provider, "any"), r.Model, price.PerMillion(r.Input), price.PerMillion(r.Output), price.PerMillion(r.CacheRead), price.PerMillion(r.CacheWrite), r.Origin, r.Day())
					}
					if listed == 0 {
						return event.NewError(event.CodeNotFound, fmt.Sprintf("no prices for the provider %q", only), "hedgerow prices list shows all", nil)
					}
					return tw.Flush()
				},
			},
			{
				Name: "show", Usage: "show the price that applies to a model name, and its source", ArgsUsage: "[PROVIDER/]MODEL",
				Flags: flags(&cli.StringFlag{Name: "provider", Usage: "the provider, as the gateway names it"}),
				Action: func(_ context.Context, cmd *cli.Command) error {
					t, err := load(cmd)
					if err != nil {
						return err
					}
					name := cmd.Args().First()
					if name == "" {
						return config.Invalid("no model name given", "add its name: hedgerow prices show gpt-4.1-mini", nil)
					}
					r, ok := t.Match(cmd.String("provider"), name)
					if !ok {
						return event.NewError(event.CodeNotFound, fmt.Sprintf("no price is known for %q: its calls have an unknown cost", name), "add it under prices: in hedgerow.yaml, or run hedgerow prices sync", nil)
					}
					tw := tabwriter.NewWriter(cmd.Root().Writer, 0, 4, 2, ' ', 0)
					fmt.Fprintf(tw, "model\t%s\nprovider\t%s\n", r.Model, cmp.Or(r.Provider, "any"))
					for i, source := range strings.Split(r.Provenance(), "; ") {
						fmt.Fprintf(tw, "%s\t%s\n", []string{"from", "kept"}[min(i, 1)], source)
					}
					for _, line := range r.Lines() {
						fmt.Fprintf(tw, "%s\t%s\n", line[0], line[1])
					}
					return tw.Flush()
				},
			},
			{
				Name: "sync", Usage: "read prices in the format of OpenRouter's models API, show the differences, and apply them",
				Flags: flags(
					&cli.StringFlag{Name: "from", Value: priceFeed, Usage: "URL or file"},
					&cli.BoolFlag{Name: "dry-run", Usage: "show the differences without applying them"},
				),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return syncPrices(ctx, cmd, c, load)
				},
			},
			repriceCommand(c),
		},
	}
}

func syncPrices(ctx context.Context, cmd *cli.Command, c *config.Config, load func(*cli.Command) (*price.Table, error)) error {
	old, err := load(cmd)
	if exit := (*config.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		old, err = c.OwnPrices(price.Default()) // a file that cannot be read is rewritten
	}
	if err != nil {
		return err
	}
	from := cmd.String("from")
	r, err := price.Fetch(ctx, &http.Client{Timeout: 30 * time.Second}, from)
	if err != nil {
		return err
	}
	defer r.Close()
	rows, err := price.ParseOpenRouter(r)
	if err != nil {
		return err
	}
	overlay := price.Overlay{Source: price.SourceName(from), Date: time.Now().UTC(), Rows: rows}
	changes := price.Diff(old, old.WithSynced(overlay))
	w := cmd.Root().Writer
	for _, ch := range changes {
		fmt.Fprintln(w, ch)
	}
	if cmd.Bool("dry-run") {
		fmt.Fprintf(w, "%d differences; nothing was changed\n", len(changes))
		return nil
	}
	if err := price.Save(c.Path("prices.json"), overlay); err != nil {
		return err
	}
	fmt.Fprintf(w, "%d differences applied\n", len(changes))
	if ctl, err := dialControl(ctx, c.SocketPath()); err == nil {
		defer ctl.close()
		return ctl.call(ctx, "POST", "/api/v1/prices/reload", nil, nil)
	}
	return nil
}
