package app

import (
	"context"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
	"github.com/hedgerow/hedgerow/server/internal/join"
	"github.com/hedgerow/hedgerow/server/internal/outbound"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
)

// openIntake lets events into the journal: a call that comes through two receivers is
// joined.
func (a *App) openIntake(context.Context) error {
	joiner, err := join.NewJoiner(a.journal, join.JoinerConfig{Gateway: a.isGateway, Registerer: a.metrics})
	if err != nil {
		return err
	}
	a.joiner.Store(joiner)
	if a.projectsKnown() {
		a.events.Open(joiner, a.Prompts)
		return nil
	}
	// The first project is not made yet, nor the connection that the
	// environment requests: its queue has to be there before the first event.
	a.supervise(closeSinks, supervise.Loop{Name: "intake", Once: true, Run: func(ctx context.Context) error {
		select {
		case <-a.known:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := a.openQueues(ctx); err != nil {
			return err
		}
		a.events.Open(joiner, a.Prompts)
		return nil
	}})
	return nil
}

// remember restores the joiner's memory of the previous process. It only
// decides whether a call is counted once or twice, so that hedgerow starts
// without it where it must.
func (a *App) remember(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	calls, err := a.Query.RecentCalls(ctx, time.Now().Add(-join.JoinWindow), join.JoinedTo, rememberedCalls)
	if err != nil {
		a.log.Warn("calls from before the start are unknown: one that was captured twice may be counted twice", "err", err)
		return
	}
	a.joiner.Load().Remember(calls...)
}

// rememberedCalls is how many calls are read from the store at the start.
const rememberedCalls = 100_000

// isGateway reports whether a client's base URL is this gateway. A client may
// use another host name, for example in a container network; the port and the
// path are then the same.
func (a *App) isGateway(baseURL string) bool {
	u, err := url.Parse(baseURL)
	if err != nil || a.gateway == nil || !a.gateway.Handles(u.Path) {
		return false
	}
	if public, err := url.Parse(a.cfg.PublicURL); err == nil && strings.EqualFold(u.Host, public.Host) {
		return true
	}
	_, port, err := net.SplitHostPort(a.gatewayAddr())
	return err == nil && u.Port() == port
}

// openIngest makes the handler for PostHog's SDKs.
func (a *App) openIngest() (err error) {
	client := posthog.NewHTTPClient(a.cfg.PostHogClient(0), a.cfg.AllowInsecurePostHog)
	a.onClose(closeCalls, "PostHog relay", func(context.Context) error { client.CloseIdleConnections(); return nil })
	a.ingest, err = ingest.New(ingest.Config{
		Projects: a.snapshot, Append: a.events.Admit(true), Flags: client,
		OutboundID: a.outboundID, Personal: privacy.Personal, OwnFlags: a.ownFlags, FlagQuestion: outbound.FlagQuestion, FlagQuery: outbound.FlagQuery,
		Logger: a.log.With("part", "ingest"), Registerer: a.metrics,
	})
	return err
}
