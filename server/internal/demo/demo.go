package demo

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/app"
	"github.com/hedgerow/hedgerow/server/internal/config"
)

// demoKey is the project key of the simulated PostHog: nothing secret.
const demoKey = "phc_simulated_posthog_of_the_hedgerow_demo"

// Run serves with a simulated provider and a simulated PostHog until ctx ends, and
// makes rate calls a second. It prints what it does to w.
func Run(ctx context.Context, c *config.Config, rate float64, w io.Writer) error {
	sim := simprovider.New(simprovider.Options{Seed: 7, Latency: simprovider.Realistic, Keep: -1,
		Behave: func(r *simprovider.Received, rng *rand.Rand) simprovider.Behavior { return trouble(rng) }})
	if err := sim.Start(); err != nil {
		return fmt.Errorf("start simulated provider: %w", err)
	}
	defer sim.Close()
	ph := simposthog.New(simposthog.Options{Projects: []simposthog.Project{{Name: "Simulated", Token: demoKey}}, Keep: 50_000, KeepRequests: -1})
	if err := ph.Start(); err != nil {
		return fmt.Errorf("start simulated PostHog: %w", err)
	}
	defer ph.Stop()
	c.UpstreamOpenAI, c.UpstreamAnthropic, c.UpstreamOpenRouter = sim.OpenAIURL(), sim.AnthropicURL(), sim.OpenRouterURL()
	c.AllowInsecurePostHog, c.TLSCert, c.TLSKey = true, "", ""
	c.PostHogAPIKey, c.PostHogHost, c.PostHogPersonalAPIKey = demoKey, ph.URL(), simposthog.PersonalKeyValue
	a, err := app.Simulated(ctx, c)
	if err != nil {
		return err
	}
	fmt.Fprint(w, "DEMO: all data is simulated. The provider, the traffic and the PostHog project are made up; no key is used and nothing leaves this machine.\n\n")
	a.Banner(w)
	if !a.FirstStart().First {
		// A demo that is started again shows a way in again.
		if token, _, err := a.Registry.AdminLink(ctx); err == nil {
			fmt.Fprintf(w, "  %-18s %s\n\n", "sign in", api.SignInURL(c.PublicURL, token))
		}
	}
	begin := time.Now()
	n, err := writeHistory(ctx, a, begin)
	if err != nil {
		a.Logger().Warn("the simulated history could not be written: the pages show new events only", "err", err)
	} else if n > 0 {
		fmt.Fprintf(w, "wrote %d simulated events of the last %d days in %.1f s\n", n, historyDays, time.Since(begin).Seconds())
	}
	if err := runDemoSet(ctx, &a.Services); err != nil {
		a.Logger().Warn("the dataset could not be run", "err", err)
	}
	traffic := &simprovider.Traffic{BaseURL: "http://" + a.Address(), Rate: rate, Seed: uint64(time.Now().UnixNano())}
	done := make(chan error, 1)
	go func() { done <- traffic.Run(ctx) }()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			sent, failed := traffic.Counts()
			fmt.Fprintf(w, "simulated so far: %d calls, %d of them not ended well; %d events in the simulated PostHog\n", sent, failed, ph.Count())
		}
	}
	err = <-done
	a.Close(context.WithoutCancel(ctx))
	return err
}

// trouble makes a few of the simulated calls fail, as real ones do.
func trouble(rng *rand.Rand) simprovider.Behavior {
	switch p := rng.IntN(1000); {
	case p < 12:
		return simprovider.Behavior{Fail: simprovider.RateLimit}
	case p < 16:
		return simprovider.Behavior{Fail: simprovider.Quota}
	case p < 24:
		return simprovider.Behavior{Fail: simprovider.ServerError}
	case p < 28:
		return simprovider.Behavior{Fail: simprovider.MidError}
	case p < 40:
		return simprovider.Behavior{Refuse: true}
	case p < 46:
		return simprovider.Behavior{Length: true}
	}
	return simprovider.Behavior{}
}
