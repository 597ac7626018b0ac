package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	posthogsdk "github.com/posthog/posthog-go"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/internal/flag"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
)

const rolloutFlag = `{"flags":[{"id":7,"key":"support-prompt","active":true,"version":1,"filters":{"groups":[{"properties":[],"rollout_percentage":80}],
	"multivariate":{"variants":[{"key":"control","rollout_percentage":50},{"key":"treatment","rollout_percentage":50}]}}}],"group_type_mapping":{},"cohorts":{}}`

// TestRollout gives users two versions of a prompt by the variants of a PostHog
// flag, through the gateway, the API and the SDK, and stops it.
func TestRollout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = append(w.env, "POSTHOG_PERSONAL_API_KEY="+simposthog.PersonalKeyValue)
	if err := w.ph.SetDefinitions([]byte(rolloutFlag)); err != nil {
		t.Fatal(err)
	}
	posthogSays, err := flag.Parse([]byte(rolloutFlag))
	if err != nil {
		t.Fatal(err)
	}
	p := w.start()
	w.flushFast()
	p.call("POST", "/api/v1/prompts", `{"name":"support","messages":[{"role":"system","content":"Be brief with {{name}}."}],"model":"gpt-4.1-mini"}`, nil)
	p.call("POST", "/api/v1/prompts/support/versions", `{"messages":[{"role":"system","content":"Be warm with {{name}}."}],"model":"gpt-4.1-mini"}`, nil)
	p.call("PUT", "/api/v1/prompts/support/rollout", `{"flag":"support-prompt","arms":{"control":{"version":"1"},"treatment":{"version":"2","model":"gpt-4.1"}}}`, nil)

	call := func(user string) (version, model string) {
		t.Helper()
		w.sim.Forget()
		status, body, err := p.post(t.Context(), "/openai/v1/chat/completions", "", `{"model":"any","messages":[{"role":"user","content":"Where is it?"}],"prompt_variables":{"name":"Ann"}}`,
			"X-Hedgerow-Prompt", "support", "X-PostHog-Distinct-Id", user)
		if err != nil || status != 200 {
			t.Fatalf("%d %s %v", status, body, err)
		}
		got := w.sim.Requests()
		if len(got) != 1 {
			t.Fatalf("%d calls of the provider", len(got))
		}
		var sent struct {
			Model     string
			Messages  []struct{ Role, Content string }
			Variables any `json:"prompt_variables"`
		}
		if err := json.Unmarshal(got[0].Body, &sent); err != nil || len(sent.Messages) != 2 || sent.Variables != nil || sent.Messages[1].Content != "Where is it?" {
			t.Fatalf("the provider got %s, %v", got[0].Body, err)
		}
		return map[string]string{"Be brief with Ann.": "1", "Be warm with Ann.": "2"}[sent.Messages[0].Content], sent.Model
	}
	const users = 20
	want := map[string]flag.Value{}
	seen := map[string]int{}
	for i := range users {
		user := fmt.Sprint("user-", i)
		v, err := posthogSays.Evaluate("support-prompt", flag.User{DistinctID: user})
		if err != nil {
			t.Fatal(err)
		}
		want[user] = v
		seen[v.String()]++
		version, model := call(user)
		if treated := v.Variant == "treatment"; treated != (version == "2" && model == "gpt-4.1") || !treated != (version == "1" && model == "gpt-4.1-mini") {
			t.Errorf("%s has %v and got version %s on %s", user, v, version, model)
		}
	}
	if len(seen) != 3 {
		t.Fatalf("these users get %v only", seen)
	}

	// In the store each call has its version, flag and variant.
	for _, e := range p.awaitStored("event=$ai_generation", users) {
		v := want[e.DistinctID]
		version, model := "1", "gpt-4.1-mini"
		if v.Variant == "treatment" {
			version, model = "2", "gpt-4.1"
		}
		if e.PromptName != "support" || e.PromptVersion != version || !strings.HasPrefix(e.PromptVersionID, "pv_") || e.ModelAsked != model || e.Flags["support-prompt"] != v.String() ||
			string(e.Properties["posthog_flag"]) != `"support-prompt"` || string(e.Properties["posthog_flag_variant"]) != fmt.Sprintf("%q", v) {
			t.Errorf("%s with %v: %s@%s on %s, %v %s", e.DistinctID, v, e.PromptName, e.PromptVersion, e.ModelAsked, e.Flags, e.Properties["posthog_flag_variant"])
		}
	}
	if n := len(p.stored("event=$ai_generation&flag=support-prompt&flag_variant=treatment")); n != seen["treatment"] {
		t.Errorf("%d calls with the treatment, want %d", n, seen["treatment"])
	}

	// PostHog gets them on the calls, and one flag call for each user.
	call("user-0")
	named := func(name string) []simposthog.Event {
		return slices.DeleteFunc(w.ph.Events(), func(e simposthog.Event) bool { return e.Name != name })
	}
	w.await(func() bool { return len(named("$ai_generation")) == users+1 && len(named(posthog.FlagCalled)) >= users }, func() string {
		return fmt.Sprintf("PostHog has %d calls and %d flag calls\n%s", len(named("$ai_generation")), len(named(posthog.FlagCalled)), p.logs())
	})
	for _, e := range named("$ai_generation") {
		if v := want[e.DistinctID]; e.Text("$feature/support-prompt") != v.String() || e.Text("posthog_flag_variant") != v.String() {
			t.Errorf("PostHog has %s with %s, want %v", e.DistinctID, e.Properties["$feature/support-prompt"], v)
		}
	}
	met := named(posthog.FlagCalled)
	if len(met) != users {
		t.Errorf("PostHog has %d flag calls of %d users", len(met), users)
	}
	for _, e := range met {
		if v := want[e.DistinctID]; e.Text("$feature_flag_response") != v.String() || e.Text("$feature/support-prompt") != v.String() || e.Text("locally_evaluated") != "true" || e.Text("$feature_flag") != "support-prompt" {
			t.Errorf("%s: PostHog has %v", e.DistinctID, e.Properties)
		}
	}
	if n := len(w.ph.RequestsTo("/flags")); n != 0 {
		t.Errorf("%d flag requests to PostHog that could be evaluated locally", n)
	}

	// The API and the SDK return the same as the gateway.
	var treated string
	for user, v := range want {
		if v.Variant == "treatment" {
			treated = user
		}
	}
	var out map[string]any
	p.call("POST", "/api/v1/prompts/support/resolve", `{"distinct_id":"`+treated+`","variables":{"name":"Ann"}}`, &out)
	if out["variant"] != "treatment" || out["model"] != "gpt-4.1" || out["reason"] != "posthog_local" {
		t.Errorf("the API returns %v", out)
	}
	prompts, err := hedgerow.NewPrompts(hedgerow.PromptsConfig{Key: w.key, Host: p.base})
	if err != nil {
		t.Fatal(err)
	}
	got, err := prompts.Resolve(hedgerow.WithUser(t.Context(), treated), "support")
	if err != nil || got.Version != 2 || got.Model != "gpt-4.1" || got.Variant != "treatment" {
		t.Errorf("the SDK returns %+v, %v", got, err)
	}
	token := regexp.MustCompile(`phc_hedgerow_\w+`).FindString(p.stdout())
	client, err := hedgerow.New(hedgerow.Config{APIKey: token, Host: p.base})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := client.Flag(hedgerow.WithUser(t.Context(), treated), "support-prompt"); err != nil || v != "treatment" {
		t.Errorf("the SDK's flag is %s, %v", v, err)
	}
	if err := client.Close(t.Context()); err != nil { // it sends the flag call while the server is running
		t.Error(err)
	}

	// A call that cannot be rendered never reaches a provider.
	w.sim.Forget()
	for body, want := range map[string]struct {
		prompt string
		status int
		says   string
	}{
		`{"prompt_variables":{"name":"Ann"},"model":"x"}`: {"nothing", 404, "no prompt named"},
		`{"prompt_variables":{},"model":"x"}`:             {"support", 400, "name"},
	} {
		status, answer, err := p.post(t.Context(), "/openai/v1/chat/completions", "", body, "X-Hedgerow-Prompt", want.prompt, "X-PostHog-Distinct-Id", "u")
		if err != nil || status != want.status || !strings.Contains(answer, want.says) {
			t.Errorf("%d %s %v, want %d with %q", status, answer, err, want.status, want.says)
		}
	}
	if n := len(w.sim.Requests()); n != 0 {
		t.Errorf("%d calls reached the provider", n)
	}

	// Stopped: all users get the control immediately, and PostHog's flag is
	// off.
	var stopped map[string]any
	p.call("POST", "/api/v1/prompts/support/rollout/stop", `{"reason":"escalations"}`, &stopped)
	if ro, _ := stopped["rollout"].(map[string]any); ro["stopped"] != true || ro["flag_off"] != "switched off" || w.ph.FlagActive("support-prompt") {
		t.Errorf("stopped: %v, PostHog's flag is on: %t", stopped, w.ph.FlagActive("support-prompt"))
	}
	if version, model := call(treated); version != "1" || model != "gpt-4.1-mini" {
		t.Errorf("after the stop %s gets version %s on %s", treated, version, model)
	}
	p.stop()
	if bytes.Contains([]byte(p.logs()), []byte(simposthog.PersonalKeyValue)) {
		t.Error("the log has the personal key")
	}
}

// TestRolloutAlone has a rollout without PostHog: hedgerow's own percentages,
// with PostHog's hash.
func TestRolloutAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = append(w.env, "POSTHOG_API_KEY=")
	p := w.start()
	p.call("POST", "/api/v1/prompts", `{"name":"support","messages":[{"role":"system","content":"Be brief."}]}`, nil)
	p.call("POST", "/api/v1/prompts/support/versions", `{"messages":[{"role":"system","content":"Be warm."}]}`, nil)
	p.call("PUT", "/api/v1/prompts/support/rollout", `{"flag":"support-prompt","percent":80,"shares":{"control":50,"treatment":50},"arms":{"control":{"version":"1"},"treatment":{"version":"2"}}}`, nil)
	posthogSays, err := flag.Parse([]byte(rolloutFlag)) // the same percentages
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		user := fmt.Sprint("user-", i)
		want, err := posthogSays.Evaluate("support-prompt", flag.User{DistinctID: user})
		if err != nil {
			t.Fatal(err)
		}
		var out map[string]any
		p.call("POST", "/api/v1/prompts/support/resolve", `{"distinct_id":"`+user+`"}`, &out)
		if out["variant"] != want.String() || out["reason"] != "own" {
			t.Errorf("%s: %v, want %v", user, out, want)
		}
	}
	// PostHog's SDKs with hedgerow as their host get the same, by request and
	// by local evaluation.
	silent := false
	for _, personalKey := range []string{"", w.key} {
		client, err := posthogsdk.NewWithConfig(p.token(), posthogsdk.Config{Endpoint: p.base, SecretKey: personalKey, Logger: mute{}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			user := fmt.Sprint("user-", i)
			want, _ := posthogSays.Evaluate("support-prompt", flag.User{DistinctID: user})
			got, err := client.GetFeatureFlag(posthogsdk.FeatureFlagPayload{Key: "support-prompt", DistinctId: user, OnlyEvaluateLocally: personalKey != "", SendFeatureFlagEvents: &silent})
			if err != nil || got != want.Any() {
				t.Errorf("%s: posthog-go returns %v (%v), want %v", user, got, err, want)
			}
		}
		_ = client.Close()
	}
	script := `import { PostHog } from "posthog-node";
const [host, token, key] = process.argv.slice(1);
for (const personalApiKey of [undefined, key]) {
  const posthog = new PostHog(token, { host, personalApiKey, flushAt: 1 });
  if (personalApiKey) await posthog.reloadFeatureFlags();
  const out = [];
  for (let i = 0; i < 10; i++) out.push(await posthog.getFeatureFlag("support-prompt", "user-" + i, { sendFeatureFlagEvents: false, onlyEvaluateLocally: !!personalApiKey }));
  console.log(JSON.stringify(out));
  await posthog.shutdown();
}`
	cmd := exec.CommandContext(t.Context(), "node", "--input-type=module", "-e", script, "--", p.base, p.token(), w.key)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var all []any
	for i := range 10 {
		want, _ := posthogSays.Evaluate("support-prompt", flag.User{DistinctID: fmt.Sprint("user-", i)})
		all = append(all, want.Any())
	}
	line, _ := json.Marshal(all)
	if got := strings.Fields(string(out)); len(got) != 2 || got[0] != string(line) || got[1] != string(line) {
		t.Errorf("posthog-node returns\n%s, want twice\n%s", out, line)
	}
	p.stop()
}

// mute is a logger for posthog-go that discards everything.
type mute struct{}

func (mute) Debugf(string, ...any) {}
func (mute) Logf(string, ...any)   {}
func (mute) Warnf(string, ...any)  {}
func (mute) Errorf(string, ...any) {}
