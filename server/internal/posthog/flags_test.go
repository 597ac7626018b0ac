package posthog

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/flag"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

const flagDefinitions = `{"flags":[
	{"id":11,"key":"support-prompt","active":true,"version":3,"filters":{"groups":[{"properties":[],"rollout_percentage":50}],
		"multivariate":{"variants":[{"key":"control","rollout_percentage":50},{"key":"treatment","rollout_percentage":50}]},"payloads":{"treatment":"{\"tone\":\"warm\"}"}}},
	{"id":12,"key":"pro-only","active":true,"filters":{"groups":[{"properties":[{"key":"plan","type":"person","operator":"exact","value":"pro"}],"rollout_percentage":100}]}}
],"group_type_mapping":{},"cohorts":{}}`

// flagRig is Flags in front of a PostHog, with its own clock.
type flagRig struct {
	*Flags
	ph   *simposthog.Server
	conn project.Connection

	mu     sync.Mutex
	now    time.Time
	events []*event.Event
}

func newFlagRig(t *testing.T, personalKey string) *flagRig {
	t.Helper()
	r := &flagRig{ph: simposthog.New(simposthog.Options{}), now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	if err := r.ph.SetDefinitions([]byte(flagDefinitions)); err != nil {
		t.Fatal(err)
	}
	r.conn = project.NewConnection("p", "main")
	r.conn.ID, r.conn.Host, r.conn.ProjectKey, r.conn.PersonalKey = "c_1", hostUS, project.NewSecret(simposthog.Token), project.NewSecret(personalKey)
	r.Flags = NewFlags(FlagsConfig{
		Connection: func(id string) (project.Connection, bool) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.conn, id == "p" && r.conn.Enabled
		},
		Append: func(_ context.Context, events ...*event.Event) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, events...)
			return nil
		},
		Client: ClientConfig{Transport: hosts{hostUS: r.ph.Transport(), "https://us.posthog.com": r.ph.Transport()}},
		Now: func() time.Time {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.now
		},
	})
	return r
}

func (r *flagRig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

// sent returns the events sent so far.
func (r *flagRig) sent(t *testing.T) []*event.Event {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // Run then only empties the queue
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func (r *flagRig) asked(path string) int { return len(r.ph.RequestsTo(path)) }

func property(e *event.Event, name string) string { return string(e.Properties[name]) }

// With a personal key flags are evaluated locally, like PostHog's own
// libraries, and PostHog evaluates only the others.
func TestFlagsLocal(t *testing.T) {
	r := newFlagRig(t, simposthog.PersonalKeyValue)
	set, err := flag.Parse([]byte(flagDefinitions))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		u := flag.User{DistinctID: fmt.Sprint("user-", i)}
		want, err := set.Evaluate("support-prompt", u)
		if err != nil {
			t.Fatal(err)
		}
		got, how, err := r.Decide(t.Context(), "p", "support-prompt", u)
		if err != nil || got != want || how != DecidedLocally {
			t.Fatalf("%s: %v, %s, %v, want %v", u.DistinctID, got, how, err, want)
		}
	}
	if n := r.asked("/flags/definitions"); n != 1 {
		t.Errorf("definitions were fetched %d times", n)
	}
	if n := r.asked("/flags"); n != 0 {
		t.Errorf("PostHog was asked %d times for what could be decided here", n)
	}
	if sent := r.sent(t); len(sent) != 200 {
		t.Errorf("%d of 200 users have an event", len(sent))
	}
	// Nothing is known of this user's plan: PostHog decides.
	v, how, err := r.Decide(t.Context(), "p", "pro-only", flag.User{DistinctID: "u"})
	if err != nil || v.Enabled || how != DecidedRemotely || r.asked("/flags") != 1 {
		t.Errorf("%v, %s, %v after %d questions", v, how, err, r.asked("/flags"))
	}
	v, how, err = r.Decide(t.Context(), "p", "pro-only", flag.User{DistinctID: "u", Properties: map[string]any{"plan": "pro"}})
	if err != nil || !v.Enabled || how != DecidedLocally {
		t.Errorf("%v, %s, %v", v, how, err)
	}
}

func TestFlagsPoll(t *testing.T) {
	r := newFlagRig(t, simposthog.PersonalKeyValue)
	ask := func() flag.Value {
		t.Helper()
		v, _, err := r.Decide(t.Context(), "p", "support-prompt", flag.User{DistinctID: "user-1"})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	before := ask()
	r.pass(29 * time.Second)
	ask()
	if n := r.asked("/flags/definitions"); n != 1 {
		t.Errorf("%d fetches within half a minute", n)
	}
	r.pass(5 * time.Second) // in the background
	ask()
	r.refresh.Wait()
	polls := r.ph.RequestsTo("/flags/definitions")
	if len(polls) != 2 || polls[1].Header.Get("If-None-Match") == "" || polls[1].Status != http.StatusNotModified || polls[1].Header.Get("Authorization") == "" {
		t.Fatalf("the second poll: %+v", polls)
	}
	// After a long outage stale definitions are not used.
	everybody := strings.Replace(flagDefinitions, `"rollout_percentage":50}],`, `"rollout_percentage":0}],`, 1)
	if err := r.ph.SetDefinitions([]byte(everybody)); err != nil {
		t.Fatal(err)
	}
	r.pass(time.Hour)
	if after := ask(); after.Enabled {
		t.Errorf("an hour later still %v (%v before)", after, before)
	}
	// Over quota, the definitions must not be used any more.
	r.ph.SetQuota("feature_flags")
	r.pass(time.Hour)
	_, _, err := r.Decide(t.Context(), "p", "support-prompt", flag.User{DistinctID: "user-1"})
	if event.AsError(err).Code != event.CodeRateLimited {
		t.Errorf("over quota: %v", err)
	}
}

func TestFlagsRemote(t *testing.T) {
	r := newFlagRig(t, "")
	u := flag.User{DistinctID: "user-3", Properties: map[string]any{"plan": "pro"}, Groups: map[string]string{"company": "acme"}}
	for range 3 {
		v, how, err := r.Decide(t.Context(), "p", "pro-only", u)
		if err != nil || !v.Enabled || how != DecidedRemotely {
			t.Fatalf("%v, %s, %v", v, how, err)
		}
	}
	if n := r.asked("/flags"); n != 1 {
		t.Errorf("PostHog was asked %d times within 10 s", n)
	}
	r.pass(11 * time.Second)
	if _, _, err := r.Decide(t.Context(), "p", "pro-only", u); err != nil || r.asked("/flags") != 2 {
		t.Errorf("%v after %d questions", err, r.asked("/flags"))
	}
	_, _, err := r.Decide(t.Context(), "p", "no-such", u)
	if event.AsError(err).Code != event.CodeNotFound {
		t.Errorf("a flag that there is not: %v", err)
	}
	sent := r.sent(t)
	if len(sent) != 2 {
		t.Fatalf("%d events, want one for each flag", len(sent))
	}
	e := sent[0]
	if e.Name != FlagCalled || e.DistinctID != "user-3" || e.Flags["pro-only"] != "true" || e.Groups["company"] != "acme" || e.ProjectID != "p" || !e.Timestamp.Equal(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)) {
		t.Errorf("%+v", e)
	}
	for name, want := range map[string]string{"$feature_flag": `"pro-only"`, "$feature_flag_response": "true", "locally_evaluated": "false", "$feature_flag_id": "12",
		"$feature_flag_reason": `"Matched condition set 1"`, "$feature_flag_error": ""} {
		if got := property(e, name); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
	if property(e, "$feature_flag_request_id") == "" || property(e, "$feature_flag_evaluated_at") == "" {
		t.Errorf("no request id or time: %v", e.Properties)
	}
	if got := property(sent[1], "$feature_flag_response") + property(sent[1], "$feature_flag_error"); got != `null"flag_missing"` || sent[1].Flags != nil {
		t.Errorf("of a missing flag: %s, %v", got, sent[1].Flags)
	}
}

// One event a user, flag and value; another where something of it changes.
func TestFlagCalledOnce(t *testing.T) {
	r := newFlagRig(t, simposthog.PersonalKeyValue)
	decide := func(u flag.User) {
		t.Helper()
		if _, _, err := r.Decide(t.Context(), "p", "support-prompt", u); err != nil {
			t.Fatal(err)
		}
	}
	u := flag.User{DistinctID: "user-1"}
	decide(u)
	decide(u)
	decide(flag.User{DistinctID: "user-1", Groups: map[string]string{"company": "acme"}})
	decide(flag.User{DistinctID: "user-2"})
	if n := len(r.sent(t)); n != 3 {
		t.Errorf("%d events, want 3", n)
	}
	e := r.sent(t)[0]
	if property(e, "locally_evaluated") != "true" || property(e, "$feature_flag_definitions_loaded_at") == "" || property(e, "$feature_flag_version") != "3" || property(e, "$feature_flag_reason") != `"Evaluated locally"` {
		t.Errorf("%v", e.Properties)
	}
	// New definitions may mean something else by the same value.
	if err := r.ph.SetDefinitions([]byte(strings.Replace(flagDefinitions, `"version":3`, `"version":4`, 1))); err != nil {
		t.Fatal(err)
	}
	r.pass(time.Hour)
	decide(u)
	if n := len(r.sent(t)); n != 4 {
		t.Errorf("%d events after the definitions changed, want 4", n)
	}
}

func TestFlagCalledShort(t *testing.T) {
	no, yes := false, true
	for want, d := range map[string]decision{
		"short":            {known: true, value: flag.Value{Enabled: true, Variant: "a"}, minimal: true, hasExperiment: &no, payload: []byte(`1`)},
		"long: experiment": {known: true, value: flag.Value{Enabled: true, Variant: "a"}, minimal: true, hasExperiment: &yes, payload: []byte(`1`)},
		"long: not known":  {known: true, value: flag.Value{Enabled: true, Variant: "a"}, minimal: true, payload: []byte(`1`)},
		"long: not wanted": {known: true, value: flag.Value{Enabled: true, Variant: "a"}, hasExperiment: &no, payload: []byte(`1`)},
	} {
		e := d.event("p", "k", flag.User{DistinctID: "u"})
		short := e.Flags == nil && property(e, "$feature_flag_payload") == ""
		if short != (want == "short") || property(e, "$feature_flag_response") != `"a"` {
			t.Errorf("%s: %v, %v", want, e.Flags, e.Properties)
		}
	}
}

// If PostHog does not answer in time, only one caller waits.
func TestFlagsTrouble(t *testing.T) {
	r := newFlagRig(t, "")
	r.ph.SetDown(true)
	for range 5 {
		_, _, err := r.Decide(t.Context(), "p", "pro-only", flag.User{DistinctID: "u"})
		if c := event.AsError(err).Code; c != event.CodeUpstream && c != event.CodeUnavailable {
			t.Fatalf("%v", err)
		}
	}
	if n := r.asked("/flags"); n != 1 {
		t.Errorf("a PostHog that is down was asked %d times", n)
	}
	r.ph.SetDown(false)
	r.pass(6 * time.Second)
	if _, _, err := r.Decide(t.Context(), "p", "pro-only", flag.User{DistinctID: "u"}); err != nil {
		t.Error(err)
	}
	for want, u := range map[event.Code]flag.User{event.CodeInvalid: {}, event.CodeNotFound: {DistinctID: "u"}} {
		id := "p"
		if want == event.CodeNotFound {
			id = "another project"
		}
		if _, _, err := r.Decide(t.Context(), id, "pro-only", u); event.AsError(err).Code != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestFlagTurnOff(t *testing.T) {
	r := newFlagRig(t, simposthog.PersonalKeyValue)
	on := flag.User{}
	for i := 0; on.DistinctID == ""; i++ {
		u := flag.User{DistinctID: fmt.Sprint("user-", i)}
		if v, _, err := r.Decide(t.Context(), "p", "support-prompt", u); err != nil {
			t.Fatal(err)
		} else if v.Enabled {
			on = u
		}
	}
	if err := r.TurnOff(t.Context(), "p", "support-prompt"); err != nil {
		t.Fatal(err)
	}
	if r.ph.FlagActive("support-prompt") || !r.ph.FlagActive("pro-only") {
		t.Error("the wrong flag is off")
	}
	if v, _, err := r.Decide(t.Context(), "p", "support-prompt", on); err != nil || v.Enabled {
		t.Errorf("after it was switched off: %v, %v", v, err)
	}
	if err := r.TurnOff(t.Context(), "p", "no-such"); event.AsError(err).Code != event.CodeNotFound {
		t.Errorf("%v", err)
	}
	if r := newFlagRig(t, ""); event.AsError(r.TurnOff(t.Context(), "p", "support-prompt")).Code != event.CodeForbidden {
		t.Error("without a personal key a flag cannot be switched off")
	}
	scoped := newFlagRig(t, "phx_reader")
	scoped.ph = simposthog.New(simposthog.Options{PersonalKeys: []simposthog.PersonalKey{{Key: "phx_reader", Scopes: []string{"feature_flag:read"}}}})
	if err := scoped.ph.SetDefinitions([]byte(flagDefinitions)); err != nil {
		t.Fatal(err)
	}
	scoped.caller = &caller{http: &http.Client{Transport: hosts{hostUS: scoped.ph.Transport(), "https://us.posthog.com": scoped.ph.Transport()}}, timeout: time.Second}
	err := scoped.TurnOff(t.Context(), "p", "support-prompt")
	var e *event.Error
	if !errors.As(err, &e) || e.Code != event.CodeForbidden || !strings.Contains(e.Hint, "Feature Flag Write") || !scoped.ph.FlagActive("support-prompt") {
		t.Errorf("%v", err)
	}
}

// Flags use the user's id in PostHog when ids are hashed.
func TestFlagsOutboundID(t *testing.T) {
	r := newFlagRig(t, "")
	r.c.OutboundID = func(_ project.Connection, id string) string { return "hashed-" + id }
	if _, _, err := r.Decide(t.Context(), "p", "support-prompt", flag.User{DistinctID: "ann@example.com"}); err != nil {
		t.Fatal(err)
	}
	if body := string(r.ph.RequestsTo("/flags")[0].Body); strings.Contains(body, `"ann@`) || !strings.Contains(body, `"hashed-ann@`) {
		t.Errorf("%s", body)
	}
	// The event is hashed where all events are.
	if e := r.sent(t)[0]; e.DistinctID != "ann@example.com" {
		t.Errorf("the event is of %s", e.DistinctID)
	}
}
