package app

import (
	"context"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
	"github.com/hedgerow/hedgerow/server/internal/outbound"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// openFlags makes the flags of connected PostHogs. Their events take the way of
// all others; subcommands have none.
func (a *App) openFlags() {
	a.flags = posthog.NewFlags(posthog.FlagsConfig{
		Connection: func(projectID string) (project.Connection, bool) {
			return a.snapshot().FlagConnection(projectID)
		},
		Append: func(ctx context.Context, events ...*event.Event) error {
			if a.listener == nil {
				return nil
			}
			return a.events.Append(ctx, events...)
		},
		OutboundID: a.outboundID,
		Client:     a.cfg.PostHogClient(0), AllowInsecureHosts: a.cfg.AllowInsecurePostHog, Version: a.cfg.Version, Logger: a.log.With("part", "flags"),
	})
}

// outboundID returns a user's id in a connection's PostHog.
func (a *App) outboundID(c project.Connection, id string) string {
	p, _ := a.snapshot().Project(c.ProjectID)
	return outbound.DistinctID(c, p, id)
}

// gatewayPrompts offers the prompts and their rollouts to the gateway.
type gatewayPrompts struct{ a *App }

func (g gatewayPrompts) Render(ctx context.Context, ask gateway.PromptRequest) (gateway.Prompt, error) {
	prompts := g.a.library.Load()
	if prompts == nil {
		return gateway.Prompt{}, errNotOpen("the prompts")
	}
	s, err := prompts.Resolve(ctx, ask.ProjectID, ask.Name, ask.Version, flag.User{DistinctID: ask.DistinctID})
	if err != nil {
		return gateway.Prompt{}, err
	}
	out, err := s.Render(ask.Variables)
	if err != nil {
		return gateway.Prompt{}, err
	}
	p := gateway.Prompt{Provider: out.Provider, Model: out.Model, Params: out.Params, Mark: s.Mark, Messages: make([]gateway.PromptMessage, len(out.Messages))}
	for i, m := range out.Messages {
		p.Messages[i] = gateway.PromptMessage(m)
	}
	return p, nil
}
