package mcp

import (
	"context"

	"github.com/hedgerow/hedgerow/server/internal/reprice"
)

type repricingIn struct{}

func (s *Server) addRepriceTools() {
	add(s, spec{
		name: "reprice", title: "Recalculate costs", need: admin, destructive: true, repeats: true,
		description: "Recalculates the costs of recorded calls with the server's current prices, at the price in effect when each call was made. Without apply it is a dry run, which changes nothing. get_repricing shows the result. Show the user the dry run and ask before you apply. PostHog cannot change events that it has: with posthog, events with the differences are sent.",
	}, func(ctx context.Context, who caller, in reprice.Request) (reprice.Run, error) {
		return s.c.Repricer.Start(ctx, who.projectID, in)
	})
	add(s, spec{
		name: "get_repricing", title: "Show a repricing", need: admin,
		description: "Returns the progress and the result of the latest run of reprice: sums before and after by day, provider and model, the calls whose cost changes, and those whose cost is unknown or kept, with the reasons.",
	}, func(_ context.Context, who caller, _ repricingIn) (reprice.Run, error) {
		return s.c.Repricer.Latest(who.projectID)
	})
	add(s, spec{
		name: "cancel_repricing", title: "Cancel a repricing", need: admin, destructive: true,
		description: "Cancels the current run of reprice. Changes already made are kept.",
	}, func(ctx context.Context, who caller, _ repricingIn) (reprice.Run, error) {
		return s.c.Repricer.Cancel(ctx, who.projectID)
	})
}
