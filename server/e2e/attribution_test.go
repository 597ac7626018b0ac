package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
)

// Attribution in the body of a call to a provider that rejects unknown members:
// the call succeeds, and the store and PostHog have user, session and property.
// The surface comes from the caller, else the key, else the project.
func TestAttributionFields(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.flushFast()
	const ask = `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"x"}],"user":"user_123","session":"session_456","feature":"product_recommendations"}`
	if status, body, err := p.post(t.Context(), "/openai/v1/chat/completions", "known_only", ask); err != nil || status != http.StatusBadRequest || !strings.Contains(body, "feature") {
		t.Fatalf("a member that is not listed: %d %s, %v", status, body, err)
	}
	p.awaitStored("event="+event.Generation, 1) // with the settings at that time
	if status, body := p.send(t.Context(), "PATCH", "/api/v1/projects/default", `{"attribution_fields":["feature","messages"]}`); status != http.StatusBadRequest || !strings.Contains(body, "messages is a field of a provider") {
		t.Fatalf("a provider's own field: %d %s", status, body)
	}
	w.mustRun("project", "set", "--attribution-fields", "feature, tenant", "--surface", "Shop")
	if status, body, err := p.post(t.Context(), "/openai/v1/chat/completions", "known_only", ask, "X-Hedgerow-Environment", "staging"); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s, %v", status, body, err)
	}
	var made struct {
		Key struct{ ID, Key, Surface string }
	}
	p.call("POST", "/api/v1/projects/default/keys", `{"name":"playbooks","surface":"Playbook"}`, &made)
	for _, headers := range [][]string{{"X-Hedgerow-Key", made.Key.Key}, {"X-Hedgerow-Key", made.Key.Key, "X-PostHog-Property-Surface", "Mine"}} {
		if status, body, err := p.post(t.Context(), "/openai/v1/chat/completions", "", ask, headers...); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s, %v", status, body, err)
		}
	}
	calls := p.awaitStored("event="+event.Generation, 4)
	for _, surface := range []string{"Shop", "Playbook", "Mine"} {
		n := 0
		for _, e := range calls {
			if e.Surface != surface {
				continue
			}
			n++
			if e.DistinctID != "user_123" || e.SessionID != "session_456" || string(e.Properties["feature"]) != `"product_recommendations"` || (e.Environment == "staging") != (surface == "Shop") {
				t.Errorf("%s: user %q, session %q, feature %s, environment %q", surface, e.DistinctID, e.SessionID, e.Properties["feature"], e.Environment)
			}
		}
		if n != 1 {
			t.Errorf("%d calls of the surface %s, want 1", n, surface)
		}
	}
	w.await(func() bool { return len(w.ph.Named(event.Generation)) == 4 }, func() string { return p.logs() })
	found := false
	for _, e := range w.ph.Named(event.Generation) {
		if string(e.Properties["surface"]) == `"Shop"` {
			found = e.DistinctID == "user_123" && string(e.Properties["$ai_session_id"]) == `"session_456"` && string(e.Properties["feature"]) == `"product_recommendations"` && string(e.Properties["environment"]) == `"staging"`
		}
	}
	if !found {
		t.Error("PostHog did not get user, session, feature, surface and environment")
	}
	for _, r := range w.sim.Requests() {
		if r.Header.Get("X-Sim") == "" && strings.Contains(string(r.Body), "session_456") {
			t.Errorf("the session was sent to the provider: %s", r.Body)
		}
	}
	p.stop()
}
