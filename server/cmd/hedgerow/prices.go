package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// priceFeed is the public list that "hedgerow prices sync" reads unless told
// otherwise.
const priceFeed = "https://openrouter.ai/api/v1/models"

// loadPrices lays the synced prices and the configuration's own over the
// built-in table.
func loadPrices(c *config) (*price.Table, error) {
	overlay, err := price.Load(c.path("prices.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c.ownPrices(price.Default())
	case err != nil:
		return nil, err
	}
	return c.ownPrices(price.Default().WithSynced(overlay))
}

// ownPrices lays the configuration's prices over a table.
func (c *config) ownPrices(t *price.Table) (*price.Table, error) {
	if c.Prices.Kind != 0 {
		rows, err := price.RowsFromYAML(&c.Prices)
		if err != nil {
			return nil, err
		}
		t = t.With(rows...)
	}
	if len(c.AzureDeployments) > 0 {
		t = t.WithAliases("azure", c.AzureDeployments)
	}
	return t, nil
}

// openPrices loads the prices. Synced ones that cannot be read are no reason not
// to start: costs then come from the other tables, which the report says.
func (a *app) openPrices(context.Context) error {
	a.reports.add(func() health.Report {
		if r := a.pricesReport.Load(); r != nil {
			return *r
		}
		return health.Report{Component: "prices", Status: health.OK, Since: a.started}
	})
	err := a.reloadPrices()
	if err == nil {
		return nil
	}
	t, own := a.cfg.ownPrices(price.Default())
	if own != nil {
		return &exitError{exitConfig, own}
	}
	a.prices.Store(t)
	file := a.cfg.path("prices.json")
	a.pricesReport.Store(&health.Report{Component: "prices", Status: health.Degraded, Message: "the synced prices in " + file + " cannot be read: costs are computed with the built-in ones",
		Hint: "run hedgerow prices sync, which writes the file anew", Since: time.Now()})
	a.log.Error("the synced prices cannot be read: costs are computed with the built-in ones", "file", file, "err", err)
	return nil
}

func (a *app) reloadPrices() error {
	t, err := loadPrices(a.cfg)
	if err != nil {
		return err
	}
	a.prices.Store(t)
	a.pricesReport.Store(nil)
	return nil
}

func pricesCommand() *cli.Command {
	c := new(config)
	flags := c.subFlags
	load := func(cmd *cli.Command) (*price.Table, error) {
		if err := c.loadSub(cmd); err != nil {
			return nil, err
		}
		if err := c.requireData(); err != nil {
			return nil, err
		}
		return loadPrices(c)
	}
	return &cli.Command{
		Name:  "prices",
		Usage: "show the prices that costs are computed with, and bring them up to date",
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
						fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", cmp.Or(r.Provider, "any"), r.Model, perMillion(r.Input), perMillion(r.Output), perMillion(r.CacheRead), perMillion(r.CacheWrite), r.Origin, dated(r.Date))
					}
					if listed == 0 {
						return event.NewError(event.CodeNotFound, fmt.Sprintf("no price of a provider %q is known", only), "hedgerow prices list shows all", nil)
					}
					return tw.Flush()
				},
			},
			{
				Name: "show", Usage: "show which price a model name takes, and where it is from", ArgsUsage: "[PROVIDER/]MODEL",
				Flags: flags(&cli.StringFlag{Name: "provider", Usage: "the provider that answers, as the gateway names it"}),
				Action: func(_ context.Context, cmd *cli.Command) error {
					t, err := load(cmd)
					if err != nil {
						return err
					}
					name := cmd.Args().First()
					if name == "" {
						return configError("no model is named", "give its name: hedgerow prices show gpt-4.1-mini", nil)
					}
					r, ok := t.Match(cmd.String("provider"), name)
					if !ok {
						return event.NewError(event.CodeNotFound, fmt.Sprintf("no price is known for %q: its calls have an unknown cost", name), "add it under prices: in hedgerow.yaml, or run hedgerow prices sync", nil)
					}
					tw := tabwriter.NewWriter(cmd.Root().Writer, 0, 4, 2, ' ', 0)
					fmt.Fprintf(tw, "model\t%s\nprovider\t%s\nfrom\t%s\n", r.Model, cmp.Or(r.Provider, "any"), priceOrigin(r))
					printRates(tw, "", r.Rates)
					for _, tier := range r.Tiers {
						printRates(tw, fmt.Sprintf(" above %d input tokens", tier.Above), tier.Rates)
					}
					printEach(tw, "request", r.Request)
					printEach(tw, "web search", r.WebSearch)
					return tw.Flush()
				},
			},
			{
				Name: "sync", Usage: "read prices in the form of OpenRouter's models API, show what is different, and take it over",
				Flags: flags(
					&cli.StringFlag{Name: "from", Value: priceFeed, Usage: "URL or file"},
					&cli.BoolFlag{Name: "dry-run", Usage: "show the differences and leave everything as it is"},
				),
				Action: func(ctx context.Context, cmd *cli.Command) error {
					return syncPrices(ctx, cmd, c, load)
				},
			},
		},
	}
}

func syncPrices(ctx context.Context, cmd *cli.Command, c *config, load func(*cli.Command) (*price.Table, error)) error {
	old, err := load(cmd)
	if exit := (*exitError)(nil); err != nil && !errors.As(err, &exit) {
		old, err = c.ownPrices(price.Default()) // a file that cannot be read is written anew
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
	if err := price.Save(c.path("prices.json"), overlay); err != nil {
		return err
	}
	fmt.Fprintf(w, "%d differences taken over\n", len(changes))
	if ctl, err := dialControl(ctx, c.socketPath()); err == nil {
		defer ctl.close()
		return ctl.call(ctx, "POST", "/api/v1/prices/reload", nil, nil)
	}
	return nil
}

func perMillion(p price.USD) string {
	if !p.Known {
		return "–"
	}
	return p.Value.Shift(6).String()
}

func printRates(w *tabwriter.Writer, suffix string, r price.Rates) {
	for _, x := range []struct {
		name string
		p    price.USD
	}{
		{"input", r.Input}, {"output", r.Output}, {"cache read", r.CacheRead}, {"cache write", r.CacheWrite}, {"cache write, 1 h", r.CacheWrite1h},
		{"reasoning", r.Reasoning}, {"audio input", r.InputAudio}, {"cached audio input", r.CacheReadAudio}, {"audio output", r.OutputAudio}, {"image input", r.InputImage}, {"image output", r.OutputImage},
	} {
		if x.p.Known {
			fmt.Fprintf(w, "%s%s\t$%s per million tokens\n", x.name, suffix, perMillion(x.p))
		}
	}
}

func printEach(w *tabwriter.Writer, name string, p price.USD) {
	if p.Known {
		fmt.Fprintf(w, "%s\t$%s each\n", name, p.Value)
	}
}

// priceWords are today's rates of a row in one sentence, "" where there is none.
func (a *app) priceWords(provider, model string) string {
	r, ok := a.prices.Load().Match(provider, model)
	if !ok {
		return ""
	}
	var parts []string
	for _, x := range []struct {
		name string
		p    price.USD
	}{{"input", r.Input}, {"cache read", r.CacheRead}, {"cache write", r.CacheWrite}, {"output", r.Output}} {
		if x.p.Known {
			parts = append(parts, x.name+" $"+perMillion(x.p))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "Today’s price per million tokens: " + strings.Join(parts, ", ") + " (" + priceOrigin(r) + ")."
}

// priceOrigin says in words where a price is from.
func priceOrigin(r price.Row) string {
	what := "the built-in table"
	switch r.Origin {
	case event.CostManual:
		what = "the configuration file"
	case event.CostSynced:
		what = "hedgerow prices sync"
	}
	for _, more := range []string{r.Source, dated(r.Date)} {
		if more != "" {
			what += ", " + more
		}
	}
	return what
}

// dated is a day, or nothing where it is not known.
func dated(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.DateOnly)
}
