package servertest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	registry "github.com/hedgerow/hedgerow/server/internal/prompt"
)

func (s *promptServer) rollOut(t *testing.T, name string) {
	t.Helper()
	_, err := s.prompts.SetRollout(t.Context(), "ann", project.DefaultID, registry.Rollout{Prompt: name, Flag: "support-prompt",
		Variants: map[string]registry.Variant{"control": {Version: "1"}, "treatment": {Version: "2", Model: "gpt-5"}},
		Own:      registry.Split("support-prompt", 100, map[string]float64{"control": 50, "treatment": 50})})
	if err != nil {
		t.Fatal(err)
	}
}

func tells(r *hedgerow.Resolved, err error) string {
	if err != nil {
		return "error " + string(event.AsError(err).Code)
	}
	return strings.TrimSpace(fmt.Sprintf("v%d %s %s %s=%s %s", r.Version, r.Source, r.Model, r.Flag, r.Variant, r.Reason))
}

// userWith returns a user who gets a variant.
func (s *promptServer) userWith(t *testing.T, variant string) context.Context {
	t.Helper()
	p := s.reader(t)
	for i := range 100 {
		ctx := hedgerow.WithUser(t.Context(), fmt.Sprint("user-", i))
		r, err := p.Resolve(ctx, "support")
		if err != nil {
			t.Fatal(err)
		}
		if r.Variant == variant {
			return ctx
		}
	}
	t.Fatal("nobody gets", variant)
	return nil
}

func TestResolve(t *testing.T) {
	s := newPromptServer(t)
	s.create(t, "support", "Be brief.", "Be warm.")
	s.rollOut(t, "support")
	treated := s.userWith(t, "treatment")
	p := s.reader(t)
	before := s.requests.Load()
	for i, want := range []string{"v2 server gpt-5 support-prompt=treatment own", "v2 cache gpt-5 support-prompt=treatment own"} {
		if got := tells(p.Resolve(treated, "support")); got != want {
			t.Errorf("%d: %s, want %s", i, got, want)
		}
	}
	if n := s.requests.Load() - before; n != 1 {
		t.Errorf("%d requests", n)
	}
	if got := tells(p.Resolve(t.Context(), "support")); got != "v1 server gpt-4.1-mini =" {
		t.Errorf("nobody: %s", got)
	}
	if got := tells(p.Resolve(treated, "support", hedgerow.PromptVersion(1))); got != "v1 server gpt-4.1-mini =" {
		t.Errorf("a version of his own: %s", got)
	}
	if got := tells(p.Resolve(treated, "nothing")); got != "error not_found" {
		t.Errorf("no such prompt: %s", got)
	}
	// A stopped rollout is off within half a minute.
	if err := s.prompts.StopRollout(t.Context(), "ann", project.DefaultID, "support", "slow"); err != nil {
		t.Fatal(err)
	}
	s.clock.Add(31)
	if got := tells(p.Resolve(treated, "support")); got != "v1 server gpt-4.1-mini support-prompt=false stopped" {
		t.Errorf("stopped: %s", got)
	}
}

func TestResolveWhileDown(t *testing.T) {
	s := newPromptServer(t)
	s.create(t, "support", "Be brief.", "Be warm.")
	s.rollOut(t, "support")
	treated := s.userWith(t, "treatment")
	p := s.reader(t)
	if got := tells(p.Resolve(treated, "support")); got != "v2 server gpt-5 support-prompt=treatment own" {
		t.Fatal(got)
	}
	if _, err := p.Get(t.Context(), "support"); err != nil {
		t.Fatal(err)
	}
	s.fail.Store(503)
	s.clock.Add(31)
	before := s.requests.Load()
	for range 3 {
		if got := tells(p.Resolve(treated, "support")); got != "v2 stale gpt-5 support-prompt=treatment own" {
			t.Errorf("who had something keeps it: %s", got)
		}
	}
	if n := s.requests.Load() - before; n != 1 {
		t.Errorf("%d requests to a server that is down", n)
	}
	stranger := hedgerow.WithUser(t.Context(), "somebody new")
	if got := tells(p.Resolve(stranger, "support")); got != "v1 cache gpt-4.1-mini =" {
		t.Errorf("who had nothing gets what everybody gets: %s", got)
	}
	fallback := hedgerow.PromptFallback(hedgerow.PromptMessage{Role: "system", Content: "In the code."})
	if got := tells(p.Resolve(stranger, "other", fallback)); got != "v0 fallback  =" {
		t.Errorf("fallback: %q", got)
	}
	var none *hedgerow.Prompts
	if got := tells(none.Resolve(stranger, "other", fallback)); got != "v0 fallback  =" {
		t.Errorf("no reader: %q", got)
	}
}

// The events of what is called with a resolved prompt have version and variant.
func TestResolvedContext(t *testing.T) {
	s := newPromptServer(t)
	s.create(t, "support", "Be brief.", "Be warm.")
	s.rollOut(t, "support")
	ctx := s.userWith(t, "treatment")
	r, err := s.reader(t).Resolve(ctx, "support")
	if err != nil {
		t.Fatal(err)
	}
	bodies := make(chan string, 10)
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bodies <- plainBody(t, r)
		_, _ = w.Write([]byte(`{"status":1}`))
	}))
	defer host.Close()
	c, err := hedgerow.New(hedgerow.Config{APIKey: "phc_test", Host: host.URL, DisableGzip: true})
	if err != nil {
		t.Fatal(err)
	}
	c.CaptureGeneration(r.Context(ctx), hedgerow.Generation{Provider: "openai", Model: r.Model})
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := <-bodies
	for _, want := range []string{`"$feature/support-prompt":"treatment"`, `"posthog_flag":"support-prompt"`, `"posthog_flag_variant":"treatment"`, `"$ai_prompt_version_id":"` + r.VersionID + `"`, `"$ai_prompt_version":2`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

func plainBody(t *testing.T, r *http.Request) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestFlag(t *testing.T) {
	var asked atomic.Int64
	answer := `{"flags":{"support-prompt":{"key":"support-prompt","enabled":true,"variant":"treatment","reason":{"code":"condition_match","description":"Matched condition set 1"}},"off":{"enabled":false,"variant":null}},"errorsWhileComputingFlags":false,"requestId":"r1"}`
	status := http.StatusOK
	var events strings.Builder
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/flags") {
			events.WriteString(plainBody(t, r))
			_, _ = w.Write([]byte(`{"status":1}`))
			return
		}
		asked.Add(1)
		var in struct {
			Token, DistinctID string
			Groups            map[string]string
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Token != "phc_test" || r.URL.Query().Get("v") != "2" {
			t.Errorf("asked %+v, %v", in, err)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}))
	defer host.Close()
	c, err := hedgerow.New(hedgerow.Config{APIKey: "phc_test", Host: host.URL, DisableGzip: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx := hedgerow.WithUser(t.Context(), "ann")
	for range 2 {
		if v, err := c.Flag(ctx, "support-prompt"); err != nil || v != "treatment" {
			t.Errorf("%s, %v", v, err)
		}
	}
	if v, err := c.Flag(ctx, "off"); err != nil || v != "false" {
		t.Errorf("%s, %v", v, err)
	}
	for want, f := range map[event.Code]func() (string, error){
		event.CodeNotFound:    func() (string, error) { return c.Flag(ctx, "nothing") },
		event.CodeInvalid:     func() (string, error) { return c.Flag(t.Context(), "off") },
		event.CodeUnavailable: func() (string, error) { return (*hedgerow.Client)(nil).Flag(ctx, "off") },
	} {
		if _, err := f(); event.AsError(err).Code != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	status = http.StatusBadGateway
	if _, err := c.Flag(ctx, "off"); event.AsError(err).Code != event.CodeUnavailable {
		t.Error(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(events.String(), `"$feature_flag":"support-prompt"`); n != 1 || !strings.Contains(events.String(), `"$feature/support-prompt":"treatment"`) {
		t.Errorf("%d events of a flag that was met twice: %s", n, events.String())
	}
}

// TestPromptPerson: what is known of a user goes along with the question, and
// users who differ in it are requested apart.
func TestPromptPerson(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		var q struct {
			DistinctID string         `json:"distinct_id"`
			Person     map[string]any `json:"person_properties"`
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.DistinctID != "ada" {
			t.Errorf("%+v, %v", q, err)
		}
		version, variant := 1, "control"
		if q.Person["plan"] == "pro" {
			version, variant = 2, "treatment"
		}
		fmt.Fprintf(w, `{"version": {"prompt": "support", "number": %d, "messages": [{"role": "system", "content": "Be brief."}]}, "flag": "f", "variant": %q, "reason": "posthog_local"}`, version, variant)
	}))
	defer s.Close()
	p, err := hedgerow.NewPrompts(hedgerow.PromptsConfig{Key: "hr_key", Host: s.URL, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx := hedgerow.WithUser(t.Context(), "ada")
	for _, step := range []struct{ plan, want string }{{"pro", "v2 server f=treatment posthog_local"}, {"free", "v1 server f=control posthog_local"}, {"pro", "v2 cache f=treatment posthog_local"}} {
		got := strings.Join(strings.Fields(tells(p.Resolve(ctx, "support", hedgerow.PromptPerson(hedgerow.Properties{"plan": step.plan})))), " ")
		if got != step.want {
			t.Errorf("%s: %s, want %s", step.plan, got, step.want)
		}
	}
	if asked != 2 {
		t.Errorf("%d questions", asked)
	}
}
