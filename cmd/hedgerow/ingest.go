package main

import (
	"context"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/enrich"
	"github.com/hedgerow/hedgerow/internal/ingest"
	"github.com/hedgerow/hedgerow/internal/posthog"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

// openEnricher makes what stands behind every door: a call that comes through
// two of them is joined, then enriched, then put into the journal; a milestone is
// put there once.
func (a *app) openEnricher(ctx context.Context) (err error) {
	kv, err := a.journal.KeyValue(ctx, claimsBucket, 1)
	if err != nil {
		return dataError(err)
	}
	once := &enrich.Once{Claims: claims{kv}, Next: a.journal, Logger: a.log.With("part", "enrich")}
	enricher := &enrich.Enricher{
		Price:   func(e *event.Event) { a.prices.Load().Price(e) },
		Prompts: a.prompts, Policy: a.homePolicy, Next: once, Logger: a.log.With("part", "enrich"), Metrics: enrich.NewMetrics(a.metrics),
	}
	if a.doors, err = ingest.NewJoiner(enricher, ingest.JoinerConfig{Gateway: a.isGateway, Registerer: a.metrics}); err != nil {
		return err
	}
	a.joiner.Store(a.doors)
	// What the process before had seen. It only decides whether a call is counted
	// once or twice, so that hedgerow starts without it where it must.
	calls, err := a.query.RecentCalls(ctx, time.Now().Add(-ingest.JoinWindow), ingest.JoinedTo, rememberedCalls)
	if err != nil {
		a.log.Warn("calls of before the start are not known: one that was captured twice may be counted twice", "err", err)
		return nil
	}
	a.doors.Remember(calls...)
	return nil
}

// rememberedCalls is how many calls are read from the store at the start.
const rememberedCalls = 100_000

// stored is told of what the store has now.
func (a *app) stored(events []*event.Event) {
	a.live.publish(events)
	if j := a.joiner.Load(); j != nil {
		j.Remember(events...)
	}
}

// isGateway reports whether a base URL that a client names is this hedgerow's
// gateway. A client may know it under a name of its own, in a container network
// say; the port and the path are then the same.
func (a *app) isGateway(baseURL string) bool {
	u, err := url.Parse(baseURL)
	if err != nil || a.gateway == nil || !a.gateway.Handles(u.Path) {
		return false
	}
	if public, err := url.Parse(a.cfg.PublicURL); err == nil && strings.EqualFold(u.Host, public.Host) {
		return true
	}
	_, port, err := net.SplitHostPort(a.listener.Addr().String())
	return err == nil && u.Port() == port
}

// openIngest opens the door for PostHog's SDKs.
func (a *app) openIngest(context.Context) (err error) {
	client := posthog.NewHTTPClient(posthog.ClientConfig{}, a.cfg.AllowInsecurePostHog)
	a.onClose("PostHog relay", func(context.Context) error { client.CloseIdleConnections(); return nil })
	a.ingest, err = ingest.New(ingest.Config{
		Projects: a.registry.Snapshot, Append: paced{a.doors, &a.pace}, Flags: client,
		OutboundID: a.outboundID, Personal: privacy.Personal, OwnFlags: a.prompts.OwnFlags,
		Logger: a.log.With("part", "ingest"), Registerer: a.metrics,
	})
	return err
}
