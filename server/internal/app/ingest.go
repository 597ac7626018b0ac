package app

import (
	"context"
	"net"
	"net/url"
	"strings"

	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
	"github.com/hedgerow/hedgerow/server/internal/outbound"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
)

// openIntake lets events into the journal.
func (a *App) openIntake(context.Context) error {
	if a.projectsKnown() {
		a.events.Open(a.journal, a.Prompts)
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
		a.events.Open(a.journal, a.Prompts)
		return nil
	}})
	return nil
}

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
		OutboundID: a.outboundID, Personal: privacy.Personal, OwnFlags: a.ownFlags, FlagRequest: outbound.FlagRequest, FlagQuery: outbound.FlagQuery,
		Logger: a.log.With("part", "ingest"), Registerer: a.metrics,
	})
	return err
}
