// Package pricefeed keeps the prices current: once a day it asks for the feed of
// genai-prices, and takes it over if it is fit for it.
//
// Nothing waits for it. Without network, with a feed that is damaged or with one that
// is refused ([price.Table.CheckRefresh]) costs are computed with the prices that are
// there, and [Refresher.Health] says so.
package pricefeed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// MaxAge is the age of prices that is reported as trouble.
const MaxAge = 30 * 24 * time.Hour

// first is the wait before the first request, so that a start is not disturbed.
const first = 10 * time.Second

// Refresher renews the prices. Its fields must not be changed once it runs.
type Refresher struct {
	URL      string        // of the feed; "" switches refreshing off
	Interval time.Duration // between two requests
	File     string        // where the prices are kept; File + ".diff" has what the last change changed
	Table    func() *price.Table
	Reload   func() error // called once File has new prices
	Client   *http.Client // nil: one with a time limit
	Now      func() time.Time
	Logger   *slog.Logger

	mu      sync.Mutex
	trouble error     // of the last attempt
	since   time.Time // of errors
}

// Run refreshes the prices until ctx ends. It never fails.
func (r *Refresher) Run(ctx context.Context) error {
	if r.URL == "" {
		<-ctx.Done()
		return nil
	}
	for wait := first; ; wait = r.Interval {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		changed, err := r.Refresh(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			r.Logger.Warn("the prices could not be refreshed: costs are computed with the current ones", "err", err)
		case changed > 0:
			r.Logger.Info("prices refreshed", "changes", changed, "diff", r.File+".diff")
		}
	}
}

// Refresh fetches the feed once. It returns how many models have a changed
// price.
func (r *Refresher) Refresh(ctx context.Context) (changed int, err error) {
	changed, err = r.refresh(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.trouble == nil {
		r.since = r.Now()
	}
	r.trouble = err
	return changed, err
}

func (r *Refresher) refresh(ctx context.Context) (int, error) {
	have, err := price.Load(r.File)
	if err != nil {
		have = price.Overlay{} // none, or a damaged one: it is fetched whole
	}
	tag := ""
	if have.Source == price.SourceName(r.URL) {
		tag = have.ETag
	}
	list, err := price.FetchNew(ctx, r.Client, r.URL, tag)
	now := r.Now().UTC()
	if errors.Is(err, price.ErrUnchanged) {
		have.Date = now
		return 0, r.keep(have)
	}
	if err != nil {
		return 0, err
	}
	defer list.Close()
	rows, err := price.ParseGenAI(list, now)
	if err != nil {
		return 0, err
	}
	next := price.Overlay{Source: price.SourceName(r.URL), Notice: "data of genai-prices, Copyright (c) Pydantic Services Inc., MIT license", Date: now, ETag: list.ETag, Rows: rows}
	old := r.Table()
	if err := old.CheckRefresh(next); err != nil {
		return 0, err
	}
	changes := price.Diff(old, old.WithRefreshed(next))
	if len(changes) > 0 {
		var b strings.Builder
		fmt.Fprintf(&b, "%s: %s\n", now.Format(time.RFC3339), next.Source)
		for _, c := range changes {
			fmt.Fprintln(&b, c)
		}
		if err := os.WriteFile(r.File+".diff", []byte(b.String()), 0o644); err != nil {
			return 0, fmt.Errorf("keep what changed: %w", err)
		}
	}
	return len(changes), r.keep(next)
}

func (r *Refresher) keep(o price.Overlay) error {
	if err := price.Save(r.File, o); err != nil {
		return err
	}
	return r.Reload()
}

// Age is how old the prices in use are.
func (r *Refresher) Age() time.Duration {
	_, date := r.Table().Dates()
	return r.Now().Sub(date)
}

// FormatAge is the age in words: "of 2026-11-21, 9 days old".
func FormatAge(t *price.Table, now time.Time) string {
	_, date := t.Dates()
	days := int(now.Sub(date) / (24 * time.Hour))
	switch days {
	case 0:
		return "of " + date.Format(time.DateOnly) + ", of today"
	case 1:
		return "of " + date.Format(time.DateOnly) + ", 1 day old"
	}
	return fmt.Sprintf("of %s, %d days old", date.Format(time.DateOnly), days)
}

// Health reports the age of the prices, and why they are not newer. It is
// degraded if prices are old, not after one failed attempt.
func (r *Refresher) Health() health.Report {
	report := health.Report{Component: "price refresh", Status: health.OK}
	r.mu.Lock()
	trouble, since := r.trouble, r.since
	r.mu.Unlock()
	if r.Age() < MaxAge {
		return report
	}
	report.Status, report.Since = health.Degraded, since
	report.Message = "the prices are " + FormatAge(r.Table(), r.Now())
	switch {
	case r.URL == "":
		report.Hint = "refreshing is off (prices_refresh): turn it on, or upgrade hedgerow"
	case trouble != nil:
		report.Message += ": " + event.AsError(trouble).Message
		report.Hint = "let hedgerow reach " + price.SourceName(r.URL) + ", or set another URL in prices_refresh"
	default:
		report.Hint = "they will be fetched soon"
	}
	return report
}

// Collectors are the metrics of the prices.
func (r *Refresher) Collectors() []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hedgerow_prices_age_seconds", Help: "Age of the prices that costs are computed with."}, func() float64 { return r.Age().Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hedgerow_prices_refresh_failed", Help: "Whether the last refresh of the prices failed."}, func() float64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.trouble != nil {
				return 1
			}
			return 0
		}),
	}
}
