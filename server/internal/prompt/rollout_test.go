package prompt_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
)

// flags are PostHog's, by user; err is what it says instead.
type flags struct {
	values map[string]flag.Value
	err    error
	off    []string
	offErr error
}

func (f *flags) Decide(_ context.Context, projectID, key string, u flag.User) (flag.Value, string, error) {
	if projectID != shop || key != "support-prompt" {
		return flag.Value{}, "", event.NewError(event.CodeNotFound, "no such flag", "", nil)
	}
	return f.values[u.DistinctID], "posthog_local", f.err
}

func (f *flags) TurnOff(_ context.Context, _, key string) error {
	f.off = append(f.off, key)
	return f.offErr
}

// twoVersions is a prompt of which the first version is in production.
func twoVersions(t *testing.T, f prompt.Flags) (*prompt.Registry, *audit) {
	t.Helper()
	a := new(audit)
	r, err := prompt.Open(t.Context(), bucketOf(t), prompt.Options{Audit: a.add, Flags: f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	for i, text := range []string{"Be brief with {{name}}.", "Be warm with {{name}}."} {
		d := prompt.Draft{Messages: []prompt.Message{{Role: "system", Content: text}}, Provider: "openai", Model: "gpt-5-mini"}
		if i == 0 {
			_, err = r.Create(t.Context(), ann, shop, "support", "", d)
		} else {
			_, _, err = r.AddVersion(t.Context(), ann, shop, "support", d)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return r, a
}

func treatment() prompt.Rollout {
	return prompt.Rollout{Prompt: "support", Flag: "support-prompt", Variants: map[string]prompt.Variant{"control": {Version: "1"}, "treatment": {Version: "2", Model: "gpt-5"}}}
}

func setRollout(t *testing.T, r *prompt.Registry, ro prompt.Rollout) prompt.Rollout {
	t.Helper()
	out, err := r.SetRollout(t.Context(), ann, shop, ro)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func resolve(t *testing.T, r *prompt.Registry, ref, user string) string {
	t.Helper()
	s, err := r.Resolve(t.Context(), shop, "support", ref, flag.User{DistinctID: user})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(fmt.Sprintf("v%d %s %s=%s %s", s.Version.Number, s.Model, s.Flag, s.Variant, s.Reason))
}

func TestResolve(t *testing.T) {
	f := &flags{values: map[string]flag.Value{"in": {Enabled: true, Variant: "treatment"}, "ctl": {Enabled: true, Variant: "control"}, "odd": {Enabled: true, Variant: "unknown"}}}
	r, a := twoVersions(t, f)
	if got := resolve(t, r, "", "in"); got != "v1 gpt-5-mini = no_rollout" {
		t.Error(got)
	}
	ro := setRollout(t, r, treatment())
	if ro.By != ann || ro.Created.IsZero() || ro.Stopped {
		t.Errorf("%+v", ro)
	}
	if want := "u_ann prompt.rollout p_shop support flag support-prompt: control → 1, treatment → 2 on gpt-5"; a.last() != want {
		t.Errorf("audit: %s", a.last())
	}
	for _, c := range []struct{ ref, user, want string }{
		{"", "in", "v2 gpt-5 support-prompt=treatment posthog_local"},
		{"production", "in", "v2 gpt-5 support-prompt=treatment posthog_local"},
		{"", "ctl", "v1 gpt-5-mini support-prompt=control posthog_local"},
		{"", "odd", "v1 gpt-5-mini support-prompt=unknown posthog_local"},
		{"", "out", "v1 gpt-5-mini support-prompt=false posthog_local"},
		{"", "", "v1 gpt-5-mini support-prompt=false no_user"},
		{"latest", "ctl", "v2 gpt-5-mini = pinned"},
		{"1", "in", "v1 gpt-5-mini = pinned"},
	} {
		if got := resolve(t, r, c.ref, c.user); got != c.want {
			t.Errorf("%s for %q: %s, want %s", c.ref, c.user, got, c.want)
		}
	}
	// What PostHog can't say, hedgerow's own percentages do, if there are any.
	f.err = event.NewError(event.CodeUpstream, "no answer", "", nil)
	if got := resolve(t, r, "", "in"); got != "v1 gpt-5-mini support-prompt=false not_decided" {
		t.Error(got)
	}
	own := treatment()
	own.Own = prompt.Split(own.Flag, 100, map[string]float64{"control": 0, "treatment": 100})
	setRollout(t, r, own)
	if got := resolve(t, r, "", "anybody"); got != "v2 gpt-5 support-prompt=treatment own" {
		t.Error(got)
	}
	for ref, name := range map[string]string{"9": "support", "": "nothing"} {
		if _, err := r.Resolve(t.Context(), shop, name, ref, flag.User{}); event.AsError(err).Code != event.CodeNotFound {
			t.Errorf("%s@%s: %v", name, ref, err)
		}
	}
}

// Percentages are the same as those of a PostHog flag with the same key.
func TestOwnPercentages(t *testing.T) {
	r, _ := twoVersions(t, nil)
	ro := treatment()
	ro.Own = prompt.Split(ro.Flag, 20, map[string]float64{"treatment": 25, "control": 75})
	ro = setRollout(t, r, ro)
	if s := ro.Shares(); s[""] != 80 || s["control"] != 15 || s["treatment"] != 5 {
		t.Errorf("shares %v", s)
	}
	posthog, err := flag.Parse([]byte(`{"flags":[{"key":"support-prompt","active":true,"filters":{"groups":[{"properties":[],"rollout_percentage":20}],
		"multivariate":{"variants":[{"key":"control","rollout_percentage":75},{"key":"treatment","rollout_percentage":25}]}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	treated := 0
	for i := range 4000 {
		u := flag.User{DistinctID: fmt.Sprint("user-", i)}
		s, err := r.Resolve(t.Context(), shop, "support", "", u)
		if err != nil {
			t.Fatal(err)
		}
		want, err := posthog.Evaluate("support-prompt", u)
		if err != nil || s.Variant != want.String() || s.Reason != prompt.ReasonOwn {
			t.Fatalf("%s: %s (%s), PostHog %v, %v", u.DistinctID, s.Variant, s.Reason, want, err)
		}
		if s.Version.Number == 2 {
			treated++
		}
	}
	if treated < 145 || treated > 255 { // 200 ± 4 standard deviations
		t.Errorf("%d of 4000 got the treatment, want about 200", treated)
	}
}

func TestStopRollout(t *testing.T) {
	f := &flags{values: map[string]flag.Value{"in": {Enabled: true, Variant: "treatment"}}}
	r, a := twoVersions(t, f)
	if err := r.StopRollout(t.Context(), ann, shop, "support", "x"); event.AsError(err).Code != event.CodeNotFound {
		t.Errorf("no rollout: %v", err)
	}
	setRollout(t, r, treatment())
	if err := r.StopRollout(t.Context(), "guard", shop, "support", "escalations +4 points"); err != nil {
		t.Fatal(err)
	}
	if got := resolve(t, r, "", "in"); got != "v1 gpt-5-mini support-prompt=false stopped" {
		t.Error(got)
	}
	ro, _ := r.Rollout(shop, "support")
	if !ro.Stopped || ro.Reason != "escalations +4 points" || ro.StoppedBy != "guard" || ro.FlagOff != prompt.FlagOffDone || len(f.off) != 1 || f.off[0] != "support-prompt" {
		t.Errorf("%+v, %v", ro, f.off)
	}
	if want := "guard prompt.rollout_stop p_shop support escalations +4 points; PostHog's flag support-prompt: switched off"; a.last() != want {
		t.Errorf("audit: %s", a.last())
	}
	// Once is enough.
	if err := r.StopRollout(t.Context(), ann, shop, "support", "again"); err != nil || len(f.off) != 1 {
		t.Errorf("%v, %v", err, f.off)
	}
	// Set again, it runs again; and a flag that stays on is no secret.
	setRollout(t, r, treatment())
	if got := resolve(t, r, "", "in"); got != "v2 gpt-5 support-prompt=treatment posthog_local" {
		t.Error(got)
	}
	f.offErr = event.NewError(event.CodeForbidden, "the personal key lacks permission to change flags", "", nil)
	if err := r.StopRollout(t.Context(), ann, shop, "support", ""); err != nil {
		t.Fatal(err)
	}
	if ro, _ := r.Rollout(shop, "support"); !ro.Stopped || ro.FlagOff != "the personal key lacks permission to change flags" {
		t.Errorf("%+v", ro)
	}
}

func TestSetRolloutRefuses(t *testing.T) {
	r, _ := twoVersions(t, nil)
	for want, change := range map[string]func(*prompt.Rollout){
		"flag's key":                       func(ro *prompt.Rollout) { ro.Flag = "with space" },
		"1 to 20 variants":                 func(ro *prompt.Rollout) { ro.Variants = nil },
		"not a valid flag variant":         func(ro *prompt.Rollout) { ro.Variants = map[string]prompt.Variant{"false": {}} },
		"no version or label":              func(ro *prompt.Rollout) { ro.Variants = map[string]prompt.Variant{"treatment": {Version: "7"}} },
		"add up to":                        func(ro *prompt.Rollout) { ro.Own = prompt.Split("f", 5, map[string]float64{"treatment": 50}) },
		"percentage but no prompt version": func(ro *prompt.Rollout) { ro.Own = prompt.Split("f", 5, map[string]float64{"other": 100}) },
		"between 0 and 100":                func(ro *prompt.Rollout) { ro.Own = prompt.Split("f", 500, map[string]float64{"treatment": 100}) },
		"no prompt":                        func(ro *prompt.Rollout) { ro.Prompt = "nothing" },
	} {
		ro := treatment()
		change(&ro)
		if _, err := r.SetRollout(t.Context(), ann, shop, ro); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
	if _, ok := r.Rollout(shop, "support"); ok {
		t.Error("a refused rollout is there")
	}
}

// A prompt that takes the name of a deleted one does not take its rollout, and one
// process sees the rollouts of another.
func TestRolloutLife(t *testing.T) {
	kv := bucketOf(t)
	one, _ := open(t, kv)
	two, _ := open(t, kv)
	d := prompt.Draft{Messages: []prompt.Message{{Role: "system", Content: "Be brief."}}}
	create := func() {
		t.Helper()
		if _, err := one.Create(t.Context(), ann, shop, "support", "", d); err != nil {
			t.Fatal(err)
		}
	}
	create()
	setRollout(t, one, prompt.Rollout{Prompt: "support", Flag: "f", Variants: map[string]prompt.Variant{"test": {}}})
	// two sees one's changes by its watch, and in their order.
	for deadline := time.Now().Add(time.Minute); len(two.Rollouts(shop)) == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if list := two.Rollouts(shop); len(list) != 1 || list[0].Flag != "f" || list[0].Prompt != "support" {
		t.Errorf("%+v", list)
	}
	if err := one.RemoveRollout(t.Context(), ann, shop, "support"); err != nil {
		t.Fatal(err)
	}
	if list := one.Rollouts(shop); list != nil {
		t.Errorf("%+v", list)
	}
	setRollout(t, one, prompt.Rollout{Prompt: "support", Flag: "f", Variants: map[string]prompt.Variant{"test": {}}})
	if err := one.Delete(t.Context(), ann, shop, "support", "support"); err != nil {
		t.Fatal(err)
	}
	create()
	if _, ok := one.Rollout(shop, "support"); ok {
		t.Error("the new prompt has the old one's rollout")
	}
}

func TestMark(t *testing.T) {
	r, _ := twoVersions(t, &flags{values: map[string]flag.Value{"in": {Enabled: true, Variant: "treatment"}}})
	setRollout(t, r, treatment())
	s, err := r.Resolve(t.Context(), shop, "support", "", flag.User{DistinctID: "in"})
	if err != nil {
		t.Fatal(err)
	}
	e := &event.Event{PromptVersion: "production", Flags: map[string]string{"other": "x"}}
	s.Mark(e)
	if e.PromptName != "support" || e.PromptVersion != "2" || e.PromptVersionID != s.Version.ID || e.Flags["support-prompt"] != "treatment" || e.Flags["other"] != "x" || string(e.Properties["posthog_flag_variant"]) != `"treatment"` {
		t.Errorf("%+v", e)
	}
	out, err := s.Render(map[string]any{"name": "Ann"})
	if err != nil || out.Model != "gpt-5" || out.Messages[0].Content != "Be warm with Ann." {
		t.Errorf("%+v, %v", out, err)
	}
}

// What does harm is taken away by whatever gave it to users.
func TestWithdraw(t *testing.T) {
	f := &flags{values: map[string]flag.Value{"in": {Enabled: true, Variant: "treatment"}}}
	r, _ := twoVersions(t, f)
	ctx := t.Context()
	labels := func() string {
		t.Helper()
		p, _ := r.Prompt(shop, "support")
		var out []string
		for _, l := range slices.Sorted(maps.Keys(p.Labels)) {
			out = append(out, fmt.Sprint(l, "=", p.Labels[l].Version))
		}
		return strings.Join(out, " ")
	}
	versions := prompt.Withdrawal{Project: shop, Prompt: "support", Variant: "2", Control: "1", Reason: "too many escalations"}

	// Versions as variants: nothing of ours gives users version 2 yet.
	if err := r.Withdraw(ctx, "guard", versions); event.AsError(err).Code != event.CodeNotFound {
		t.Errorf("no label: %v", err)
	}
	must(t, r.SetLabel(ctx, ann, shop, "support", prompt.Production, "1", ""))
	must(t, r.SetLabel(ctx, ann, shop, "support", prompt.Production, "2", ""))
	must(t, r.SetLabel(ctx, ann, shop, "support", "canary", "2", ""))
	for range 2 { // twice is once
		must(t, r.Withdraw(ctx, "guard", versions))
		if got := labels(); got != "canary=1 production=1" {
			t.Errorf("labels %s", got)
		}
	}
	p, _ := r.Prompt(shop, "support")
	if h := p.Labels[prompt.Production].History; len(h) == 0 || h[0].By != "guard" || h[0].Reason != "too many escalations" || h[0].From != 2 {
		t.Errorf("history %+v", h)
	}

	// A flag alone.
	alone := prompt.Withdrawal{Project: shop, Prompt: "support", Flag: "support-prompt", Variant: "treatment", Control: "control"}
	must(t, r.Withdraw(ctx, "guard", alone))
	if len(f.off) != 1 || f.off[0] != "support-prompt" {
		t.Errorf("switched off: %v", f.off)
	}

	// A rollout whose control is what production points to, which was moved.
	ro := treatment()
	ro.Variants = map[string]prompt.Variant{"control": {}, "treatment": {Version: "2"}}
	setRollout(t, r, ro)
	must(t, r.SetLabel(ctx, ann, shop, "support", prompt.Production, "2", "too early"))
	for range 2 {
		must(t, r.Withdraw(ctx, "guard", alone))
		if got, _ := r.Rollout(shop, "support"); !got.Stopped || labels() != "canary=1 production=1" {
			t.Errorf("stopped %v, labels %s", got.Stopped, labels())
		}
	}
	if got := resolve(t, r, "", "in"); !strings.HasPrefix(got, "v1 ") || !strings.HasSuffix(got, "stopped") {
		t.Error(got)
	}
	// Where production points elsewhere it stays.
	ro = treatment()
	setRollout(t, r, ro)
	must(t, r.Withdraw(ctx, "guard", alone))
	if got := labels(); got != "canary=1 production=1" {
		t.Errorf("labels %s", got)
	}
	alone.Prompt = "none"
	if err := r.Withdraw(ctx, "guard", alone); event.AsError(err).Code != event.CodeNotFound {
		t.Errorf("no prompt: %v", err)
	}
}
