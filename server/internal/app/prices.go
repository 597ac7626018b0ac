package app

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/pricefeed"
)

// openPrices loads the prices. Unreadable synced prices do not prevent the
// start: costs then use the other tables, which the report states.
func (a *App) openPrices(context.Context) error {
	a.reports.add(func() health.Report {
		if r := a.pricesReport.Load(); r != nil {
			return *r
		}
		return health.Report{Component: "prices", Status: health.OK, Since: a.started}
	})
	a.prices.Store(price.Default())
	refresher := &pricefeed.Refresher{
		URL: a.cfg.PriceFeed(), Interval: cmp.Or(a.cfg.PricesRefreshInterval, 24*time.Hour), File: a.cfg.RefreshedPrices(),
		Table: a.prices.Load, Reload: a.reloadPrices, Now: time.Now, Logger: a.log.With("part", "prices"),
	}
	if !a.simulated {
		a.reports.add(refresher.Health)
		a.metrics.MustRegister(refresher.Collectors()...)
		a.run(closeLast, "price refresh", refresher.Run)
	}
	err := a.reloadPrices()
	if err == nil {
		return nil
	}
	t, own := a.cfg.OwnPrices(price.Default())
	if own != nil {
		return config.Exit(config.ExitConfig, own)
	}
	a.prices.Store(t)
	file := a.cfg.Path("prices.json")
	a.pricesReport.Store(&health.Report{Component: "prices", Status: health.Degraded, Message: "the synced prices in " + file + " cannot be read: costs are computed with the built-in ones",
		Hint: "run hedgerow prices sync, which rewrites the file", Since: time.Now()})
	a.log.Error("the synced prices cannot be read: costs are computed with the built-in ones", "file", file, "err", err)
	return nil
}

func (a *App) reloadPrices() error {
	t, err := a.cfg.LoadPrices()
	if err != nil {
		return err
	}
	a.prices.Store(t)
	a.pricesReport.Store(nil)
	return nil
}

// priceWords are today's rates of a row in one sentence, "" if there is none.
func (a *App) priceWords(provider, model string) string {
	r, ok := a.prices.Load().Match(provider, model)
	if !ok {
		return ""
	}
	r = r.At(time.Now())
	var parts []string
	for _, x := range []struct {
		name string
		p    price.USD
	}{{"input", r.Input}, {"cache read", r.CacheRead}, {"cache write", r.CacheWrite}, {"output", r.Output}} {
		if x.p.Known {
			parts = append(parts, x.name+" $"+price.PerMillion(x.p))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "Today’s price per million tokens: " + strings.Join(parts, ", ") + " (" + r.Provenance() + "). The table is " + pricefeed.FormatAge(a.prices.Load(), time.Now()) + "."
}

// priceAge is how old the prices are, in words.
func (a *App) priceAge() string { return pricefeed.FormatAge(a.prices.Load(), time.Now()) }

// Price sets the cost of an event by today's prices.
func (a *App) Price(e *event.Event) { a.prices.Load().Price(e) }
