package experiment_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

const ann = "u_ann"

// clock is the present of a test.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

type audit struct {
	mu   sync.Mutex
	list []string
}

func (a *audit) add(_ context.Context, e project.AuditEntry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, strings.TrimSpace(strings.Join([]string{e.Actor, e.Action, e.ProjectID, e.Target, e.Detail}, " ")))
	return nil
}

type bundle struct {
	kv    jetstream.KeyValue
	clock *clock
	audit *audit
}

func open(t *testing.T) (*experiment.Registry, *bundle) {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(context.Background()) })
	kv, err := j.KeyValue(t.Context(), "experiments", 1)
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{kv: kv, clock: &clock{at: began.Add(24 * time.Hour)}, audit: new(audit)}
	return b.open(t), b
}

// open is one replica.
func (b *bundle) open(t *testing.T) *experiment.Registry {
	t.Helper()
	r, err := experiment.Open(t.Context(), b.kv, experiment.Options{Audit: b.audit.add, Ask: harm(), Now: b.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func wantCode(t *testing.T, what string, err error, code event.Code) {
	t.Helper()
	if e := event.AsError(err); e == nil || e.Code != code || e.Message == "" {
		t.Errorf("%s: error %v, want code %s", what, err, code)
	}
}

func TestLife(t *testing.T) {
	r, b := open(t)
	ctx := t.Context()
	draft := seed()
	draft.Started, draft.Variants[0].Share, draft.Variants[1].Share = time.Time{}, 0, 0
	draft.ID, draft.Breaches = "x_mine", []experiment.Breach{{Key: "x"}}
	d, err := r.Create(ctx, ann, draft)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(d.ID, "x_") || d.ID == "x_mine" || d.Breaches != nil || d.Variants[1].Share != 1 || d.Planned != experiment.DefaultPlanned || d.MinUsers != experiment.DefaultMinUsers || d.Alpha != 0.05 ||
		d.Primary.Better != experiment.Up || d.Guardrails[0].Better != experiment.Down || d.Running() {
		t.Errorf("created %+v", d)
	}
	_, err = r.Create(ctx, ann, func() experiment.Definition { o := seed(); o.Name = " kinder ANSWERS "; return o }())
	wantCode(t, "same name", err, event.CodeConflict)

	// A draft may change altogether.
	d, err = r.Update(ctx, ann, "default", d.ID, func(d *experiment.Spec) error {
		d.Variants[1].Key = "kinder"
		return nil
	})
	if err != nil || d.Variants[1].Key != "kinder" || d.Running() {
		t.Fatalf("updated %+v, %v", d, err)
	}
	if d, err = r.Start(ctx, ann, "default", d.ID); err != nil || !d.Running() || !d.Started.Equal(b.clock.now()) {
		t.Fatalf("started %+v, %v", d, err)
	}
	_, err = r.Start(ctx, ann, "default", d.ID)
	wantCode(t, "started twice", err, event.CodeConflict)

	// What runs keeps what its intervals rest on.
	for name, f := range map[string]func(*experiment.Spec){
		"arms":    func(d *experiment.Spec) { d.Variants[1].Share = 3 },
		"primary": func(d *experiment.Spec) { d.Primary.Better = experiment.Down },
		"planned": func(d *experiment.Spec) { d.Planned = 100 },
		"detect":  func(d *experiment.Spec) { d.Detect = 0.2 },
		"alpha":   func(d *experiment.Spec) { d.Alpha = 0.2 },
		"flag":    func(d *experiment.Spec) { d.Flag = "other" },
	} {
		_, err := r.Update(ctx, ann, "default", d.ID, func(d *experiment.Spec) error { f(d); return nil })
		wantCode(t, name, err, event.CodeConflict)
	}
	d, err = r.Update(ctx, ann, "default", d.ID, func(d *experiment.Spec) error {
		d.Name, d.StopOnBreach, d.Guardrails = "Kindest answers", false, d.Guardrails[:1]
		return nil
	})
	if err != nil || d.Name != "Kindest answers" || len(d.Guardrails) != 1 {
		t.Errorf("updated %+v, %v", d, err)
	}
	if d, err = r.Stop(ctx, ann, "default", d.ID, "enough seen"); err != nil || d.Running() || d.StopReason != "enough seen" {
		t.Errorf("stopped %+v, %v", d, err)
	}
	_, err = r.Stop(ctx, ann, "default", d.ID, "")
	wantCode(t, "stopped twice", err, event.CodeConflict)

	// Another replica, and a restart, show the same.
	again := b.open(t)
	if got, ok := again.Experiment("default", d.ID); !ok || got.Name != d.Name || got.Project != "default" || !got.Stopped.Equal(d.Stopped) {
		t.Errorf("elsewhere %+v", got)
	}
	if _, ok := again.Experiment("other", d.ID); ok {
		t.Error("another project sees it")
	}
	wantCode(t, "another project", r.Delete(ctx, ann, "other", d.ID), event.CodeNotFound)
	_, err = r.Start(ctx, ann, "default", "x_none")
	wantCode(t, "missing", err, event.CodeNotFound)
	if err := r.Delete(ctx, ann, "default", d.ID); err != nil || len(r.Experiments("default")) != 0 {
		t.Errorf("deleted: %v, %v", err, r.Experiments("default"))
	}
	want := []string{"u_ann experiment.create default Kinder answers", "u_ann experiment.update default Kinder answers", "u_ann experiment.start default Kinder answers sha256 " + d.Versions[0].Hash,
		"u_ann experiment.update default Kindest answers", "u_ann experiment.stop default Kindest answers enough seen", "u_ann experiment.delete default Kindest answers"}
	if !slices.Equal(b.audit.list, want) {
		t.Errorf("audit %q", b.audit.list)
	}
}

func TestInvalidDefinitions(t *testing.T) {
	r, _ := open(t)
	for name, f := range map[string]func(*experiment.Definition){
		"NoName":          func(d *experiment.Definition) { d.Name = " " },
		"ControlChars":    func(d *experiment.Definition) { d.Name = "a\x07" },
		"NeitherNor":      func(d *experiment.Definition) { d.Flag, d.Prompt = "", "" },
		"OneVariant":      func(d *experiment.Definition) { d.Variants = d.Variants[:1] },
		"SameVariant":     func(d *experiment.Definition) { d.Variants[1].Key = "control" },
		"NegativeShare":   func(d *experiment.Definition) { d.Variants[1].Share = -1 },
		"NoPrimary":       func(d *experiment.Definition) { d.Primary = experiment.Metric{} },
		"QuantileFirst":   func(d *experiment.Definition) { d.Primary.Metric = query.Metric{Measure: query.LatencyP95} },
		"Sideways":        func(d *experiment.Definition) { d.Primary.Better = "sideways" },
		"TwiceGuarded":    func(d *experiment.Definition) { d.Guardrails = append(d.Guardrails, d.Guardrails[0]) },
		"TwoHundred":      func(d *experiment.Definition) { d.Guardrails[0].Limit = 2 },
		"OddSegment":      func(d *experiment.Definition) { d.Segments = []query.GroupBy{"user"} },
		"Planned":         func(d *experiment.Definition) { d.Planned = 3 },
		"MinUsers":        func(d *experiment.Definition) { d.MinUsers = 2 },
		"Alpha":           func(d *experiment.Definition) { d.Alpha = 0.5 },
		"Detect":          func(d *experiment.Definition) { d.Detect = 5 },
		"Future":          func(d *experiment.Definition) { d.Started = began.Add(1000 * time.Hour) },
		"NoProject":       func(d *experiment.Definition) { d.Project = "" },
		"NothingToStop":   func(d *experiment.Definition) { d.Prompt = "" },
		"TooManyGuards":   func(d *experiment.Definition) { d.Guardrails = make([]experiment.Guardrail, 11) },
		"TooManyVariants": func(d *experiment.Definition) { d.Variants = make([]experiment.Variant, 11) },
		"EndlessName":     func(d *experiment.Definition) { d.Name = strings.Repeat("x", 101) },
		"UnknownMeasure":  func(d *experiment.Definition) { d.Guardrails[0].Measure = query.Calls },
	} {
		d := seed()
		f(&d)
		_, err := r.Create(t.Context(), ann, d)
		wantCode(t, name, err, event.CodeInvalid)
	}
	if len(r.Experiments("default")) != 0 {
		t.Error("an invalid one was saved")
	}
}

// The definition is sealed at the start, and each change after it is a version.
func TestRecord(t *testing.T) {
	r, b := open(t)
	ctx := t.Context()
	store := harm() // of 2,000 users
	seen := func(d experiment.Definition) experiment.Record {
		t.Helper()
		report, err := experiment.Evaluate(ctx, store, d, b.clock.now())
		if err != nil {
			t.Fatal(err)
		}
		return report.Record
	}
	draft := seed()
	draft.Started = time.Time{}
	d, err := r.Create(ctx, ann, draft)
	if err != nil || len(d.Versions) != 0 || seen(d).Sealed || len(seen(d).Notes) != 0 {
		t.Fatalf("draft %+v, %v", d.Versions, err)
	}
	if d, err = r.Start(ctx, ann, "default", d.ID); err != nil {
		t.Fatal(err)
	}
	rec := seen(d)
	sum := sha256.Sum256([]byte(d.Versions[0].Definition))
	if !rec.Sealed || rec.MadeAfterData || len(rec.Notes) != 0 || rec.Hash != hex.EncodeToString(sum[:]) || rec.Versions[0].By != ann || rec.Versions[0].Users != event.Some[int64](0) ||
		!strings.HasPrefix(d.Versions[0].Definition, `{"alpha":0.05,"arms":[{"key":"control","share":50},`) || !strings.Contains(d.Versions[0].Definition, `"started_at":"2026-06-02T00:00:00Z"`) {
		t.Errorf("sealed %+v", rec)
	}
	if !slices.Contains(b.audit.list, "u_ann experiment.start default Kinder answers sha256 "+rec.Hash) {
		t.Errorf("audit %q", b.audit.list)
	}
	edit := func(f func(*experiment.Spec)) {
		t.Helper()
		b.clock.add(time.Hour)
		if d, err = r.Update(ctx, "u_bob", "default", d.ID, func(s *experiment.Spec) error { f(s); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	edit(func(*experiment.Spec) {}) // no change
	edit(func(s *experiment.Spec) { s.Guardrails[0].Limit, s.Description = 0.2, "hope" })
	edit(func(s *experiment.Spec) { s.Guardrails = s.Guardrails[:2] })
	var words []string
	for _, v := range seen(d).Versions {
		for _, c := range v.Changes {
			words = append(words, fmt.Sprint(v.Number, " ", v.By, " ", v.Users.Value, " ", c.Words()))
		}
	}
	want := []string{"2 u_bob 2000 description: hope (new)", "2 u_bob 2000 guardrail escalation rate, difference: from at most 2 points more than control to at most 20 points more than control",
		"3 u_bob 2000 guardrail cost per completed task: removed (was at most $0.03)"}
	if !slices.Equal(words, want) || !strings.Contains(seen(d).Notes[0], "changed 2 times after the start") {
		t.Errorf("versions %q, notes %q", words, seen(d).Notes)
	}
	if rec := seen(d); rec.Hash != hex.EncodeToString(sum[:]) || rec.Versions[1].Hash == rec.Hash || rec.Versions[1].Hash == rec.Versions[2].Hash {
		t.Errorf("hashes %+v", rec)
	}

	// A start in the past counts data that was there already.
	late := seed()
	late.Name = "Late"
	late, err = r.Create(ctx, ann, late)
	if err != nil {
		t.Fatal(err)
	}
	if rec := seen(late); !rec.Sealed || !rec.MadeAfterData || !strings.Contains(rec.Notes[0], "made after the data") || !strings.Contains(rec.Notes[0], "when 2,000 users were already there") {
		t.Errorf("late %+v", rec)
	}

	// An older hedgerow stored no versions.
	old := late
	old.Versions, old.Created = nil, old.Started
	if rec := seen(old); rec.Sealed || rec.MadeAfterData || len(rec.Versions) != 0 || !strings.Contains(rec.Notes[0], "not sealed") {
		t.Errorf("old %+v", rec)
	}
	raw, err := b.kv.Get(ctx, "experiment.default."+late.ID)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw.Value(), &members); err != nil {
		t.Fatal(err)
	}
	delete(members, "versions")
	value, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.kv.Put(ctx, "experiment.default."+late.ID, value); err != nil {
		t.Fatal(err)
	}
	again := b.open(t)
	old, err = again.Update(ctx, "u_bob", "default", late.ID, func(s *experiment.Spec) error { s.StopOnBreach = false; return nil })
	if rec := seen(old); err != nil || rec.Sealed || len(rec.Versions) != 1 || rec.Versions[0].Number != 2 || rec.Versions[0].Changes[0].Words() != "stop_on_guardrail: removed (was true)" {
		t.Errorf("old, changed %+v, %v", rec, err)
	}
}

// A definition that was sealed before design and cuped existed stays as it was sealed: an
// update neither fills them in nor lists them, whether they are left out or sent as they are shown.
func TestRecordOfAnOlderDefinition(t *testing.T) {
	r, b := open(t)
	ctx := t.Context()
	d, err := r.Create(ctx, ann, seed())
	if err != nil {
		t.Fatal(err)
	}
	key := "experiment.default." + d.ID
	raw, err := b.kv.Get(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	// As an older hedgerow stored and sealed it.
	sealed := strings.NewReplacer(`"cuped":"auto",`, "", `"design":"anytime",`, "").Replace(d.Versions[0].Definition)
	sum := sha256.Sum256([]byte(sealed))
	hash := hex.EncodeToString(sum[:])
	var members map[string]any
	if err := json.Unmarshal(raw.Value(), &members); err != nil {
		t.Fatal(err)
	}
	delete(members, "design")
	delete(members, "cuped")
	version := members["versions"].([]any)[0].(map[string]any)
	version["definition"], version["sha256"] = sealed, hash
	value, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	if sealed == d.Versions[0].Definition || strings.Contains(string(value), "cuped") {
		t.Fatalf("not an older definition: %s", value)
	}
	if _, err := b.kv.Put(ctx, key, value); err != nil {
		t.Fatal(err)
	}
	again := b.open(t)
	for name, f := range map[string]func(*experiment.Spec){
		"nothing":         func(*experiment.Spec) {},
		"the same values": func(s *experiment.Spec) { s.Design, s.CUPED = experiment.Anytime, experiment.CUPEDAuto },
	} {
		got, err := again.Update(ctx, "u_bob", "default", d.ID, func(s *experiment.Spec) error { f(s); return nil })
		if err != nil || len(got.Versions) != 1 || got.Versions[0].Hash != hash || got.Versions[0].Definition != sealed {
			t.Errorf("%s: %+v, %v", name, got.Versions, err)
		}
	}
	got, err := again.Update(ctx, "u_bob", "default", d.ID, func(s *experiment.Spec) error { s.Description = "hope"; return nil })
	if err != nil || len(got.Versions) != 2 || got.Versions[0].Hash != hash || len(got.Versions[1].Changes) != 1 || got.Versions[1].Changes[0].Words() != "description: hope (new)" {
		t.Errorf("described: %+v, %v", got.Versions, err)
	}
	// What was sealed with that change is what the new version's hash is of.
	changed := strings.Replace(sealed, `"flag"`, `"description":"hope","flag"`, 1)
	if sum := sha256.Sum256([]byte(changed)); err == nil && got.Versions[1].Hash != hex.EncodeToString(sum[:]) {
		t.Errorf("the changes do not lead from the sealed definition to the second version: %s", got.Versions[1].Hash)
	}
	_, err = again.Update(ctx, "u_bob", "default", d.ID, func(s *experiment.Spec) error { s.CUPED = experiment.CUPEDOff; return nil })
	wantCode(t, "another method", err, event.CodeConflict)
	report, err := experiment.Evaluate(ctx, harm(), got, b.clock.now())
	if err != nil || report.Record.Hash != hash || !report.Record.Sealed {
		t.Errorf("%+v, %v", report.Record, err)
	}
}
