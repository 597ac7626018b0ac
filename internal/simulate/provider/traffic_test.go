package provider_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
)

// TestTraffic runs the demo's traffic directly against the simulated providers
// and checks the requests.
func TestTraffic(t *testing.T) {
	s := start(t, simprovider.Options{Keep: 5000})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	traffic := &simprovider.Traffic{BaseURL: s.URL(), Key: "hr_test", Rate: 400, Seed: 5}
	go func() {
		_, _ = s.Await(ctx, func(l []simprovider.Received) bool { return len(l) >= 800 })
		cancel()
	}()
	if err := traffic.Run(ctx); err != nil {
		t.Fatal(err)
	}
	sent, failed := traffic.Counts()
	list := s.Requests()
	if sent < 100 || failed == 0 || failed > sent/3 {
		t.Errorf("%d sent, %d failed", sent, failed)
	}
	surfaces, models, traces, users := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	status, streams, tools := map[int]int{}, 0, 0
	for _, r := range list {
		h := r.Header
		surfaces[h.Get("X-Hedgerow-Surface")]++
		models[r.Model]++
		traces[h.Get("X-PostHog-Trace-Id")]++
		users[h.Get("X-PostHog-Distinct-Id")]++
		status[r.Status]++
		if r.Stream {
			streams++
		}
		if gjson.GetBytes(r.Body, "tools").Exists() {
			tools++
		}
		if h.Get("X-Hedgerow-Key") != "hr_test" || h.Get("X-PostHog-Session-Id") == "" {
			t.Fatalf("%s: headers %v", r.Path, h)
		}
		if r.Status == http.StatusNotFound || r.Status == http.StatusBadRequest && !strings.Contains(h.Get("X-Sim"), "quota") {
			t.Errorf("%s %s: status %d for %s", r.Method, r.Path, r.Status, r.Body)
		}
	}
	for _, want := range []string{"Conversation", "Compose", "Guide", "Playbook", "Orchestrate", "Conduct", "Test"} {
		if surfaces[want] == 0 {
			t.Errorf("no call of surface %s: %v", want, surfaces)
		}
	}
	for _, want := range []string{"gpt-4.1-mini", "gpt-4o", "o4-mini", "claude-sonnet-4-5", "claude-haiku-4-5", "text-embedding-3-small"} {
		if models[want] == 0 {
			t.Errorf("no call of model %s: %v", want, models)
		}
	}
	several := 0
	for _, n := range traces {
		if n > 1 {
			several++
		}
	}
	if several == 0 || len(users) < 5 || streams == 0 || tools == 0 || len(status) < 3 {
		t.Errorf("%d traces of several calls, %d users, %d streams, %d with tools, statuses %v", several, len(users), streams, tools, status)
	}
}

// TestTrafficEnds checks that Run leaves no call in progress.
func TestTrafficEnds(t *testing.T) {
	s := start(t, simprovider.Options{Behave: func(*simprovider.Received, *rand) simprovider.Behavior {
		return simprovider.Behavior{Gap: time.Hour}
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- (&simprovider.Traffic{BaseURL: s.URL(), Rate: 200, Seed: 1}).Run(ctx) }()
	if _, err := s.Await(t.Context(), func(l []simprovider.Received) bool {
		return slices.ContainsFunc(l, func(r simprovider.Received) bool { return r.Stream })
	}); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("Run continues after its context has ended")
	}
}
