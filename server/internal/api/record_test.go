package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// appended is a double of enrich and the journal.
type appended struct {
	mu     sync.Mutex
	events []*event.Event
	err    error
}

func (a *appended) Append(_ context.Context, events ...*event.Event) error {
	for _, e := range events {
		e.Bound() // as enrich does
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	for _, e := range events {
		if err := e.Validate(); err != nil {
			return err
		}
	}
	a.events = append(a.events, events...)
	return nil
}

const eventID = "0198c0de-0000-7000-8000-000000000001"

func TestRecordEvent(t *testing.T) {
	f := newFixture(t)
	a := f.ask(f.member, "POST", "/api/v1/events", `{"event":"llm_task_completed","uuid":"`+strings.ToUpper(eventID)+`","timestamp":"2026-03-30T15:00:00Z","distinct_id":"user_1","trace_id":"trace-1",
		"session_id":"s1","surface":"Playbook","environment":"production","task_type":"support_reply","prompt_name":"support_answer","prompt_version":"3","prompt_version_id":"pv_3","tags":["beta"],
		"properties":{"task_completed":true,"retry_count":2,"accepted_output":true,"plan":"pro","surface":"ignored","$set":{"plan":"pro"}}}`)
	if a.status != 200 || a.raw != `{"accepted":1,"uuids":["`+eventID+`"]}`+"\n" {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	if len(f.appended.events) != 1 {
		t.Fatalf("%d events", len(f.appended.events))
	}
	e := f.appended.events[0]
	got := fmt.Sprint(e.ProjectID, e.Name, e.UUID, e.DistinctID, event.FormatTime(e.Timestamp), e.Source, e.TraceID, e.SessionID, e.Surface, e.Environment, e.TaskType, e.PromptName, e.PromptVersion, e.PromptVersionID, e.Tags)
	want := fmt.Sprint("default", "llm_task_completed", eventID, "user_1", "2026-03-30T15:00:00.000000Z", "api", "trace-1", "s1", "Playbook", "production", "support_reply", "support_answer", "3", "pv_3", []string{"beta"})
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if p := e.Properties; len(p) != 5 || string(p["task_completed"]) != "true" || string(p["retry_count"]) != "2" || p["surface"] != nil {
		t.Errorf("properties %s", p)
	}
}

func TestRecordList(t *testing.T) {
	f := newFixture(t)
	names := []string{"prompt_shared", "prompt_published", "collection_created", "prompt_remixed", "playbook_completed", "playbook_failed", "llm_output_rated", "llm_task_completed", "first_value_reached", "our own event"}
	var list []api.EventInput
	for _, n := range names {
		list = append(list, api.EventInput{Event: n, DistinctID: "u", Properties: map[string]json.RawMessage{"surface": json.RawMessage(`"Compose"`)}})
	}
	a := f.ask(f.admin, "POST", "/api/v1/events", list)
	if a.status != 200 || a.body["accepted"] != float64(len(names)) || len(f.appended.events) != len(names) {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	uuids := a.body["uuids"].([]any)
	for i, e := range f.appended.events {
		if e.Name != names[i] || e.UUID != uuids[i] || e.Surface != "Compose" || !e.Timestamp.Equal(now) {
			t.Errorf("%d: %+v", i, e)
		}
	}
	// An outcome of a trace needs no user.
	if a := f.ask(f.member, "POST", "/api/v1/events", `[{"event":"llm_output_rated","trace_id":"t"},{"event":"own","properties":{"trace_id":"t"}}]`); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	// The key's project, regardless of the body.
	if a := f.ask(f.other, "POST", "/api/v1/events", `{"event":"own","distinct_id":"u"}`); a.status != 200 || f.appended.events[len(f.appended.events)-1].ProjectID != f.otherID {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

func TestRecordRefuses(t *testing.T) {
	f := newFixture(t)
	ok := `{"event":"own","distinct_id":"u"}`
	for _, tt := range []struct {
		body, code, says string
	}{
		{``, "invalid", "no body"},
		{`"own"`, "invalid", "not an object"},
		{`null`, "invalid", "not an object"},
		{`[]`, "invalid", "no events"},
		{`[` + ok + `,7]`, "invalid", "event 1 of the list: the event is not an object"},
		{`{"distinct_id":"u"}`, "invalid", "no name"},
		{`{"event":" ","distinct_id":"u"}`, "invalid", "no name"},
		{`{"event":"own"}`, "invalid", "neither a user nor a trace"},
		{`{"event":"first_value_reached","trace_id":"t"}`, "invalid", "names no user"},
		{`{"event":"$ai_generation","distinct_id":"u"}`, "invalid", "PostHog's own"},
		{`{"event":"own","distinct_id":"u","plan":"pro"}`, "invalid", `no field \"plan\"`},
		{`{"event":"own","distinct_id":7}`, "invalid", `\"distinct_id\" is a JSON number, not a string`},
		{`{"event":"own","distinct_id":"u","tags":"beta"}`, "invalid", `\"tags\" is a JSON string, not a list`},
		{`{"event":"own","distinct_id":"u","properties":[1]}`, "invalid", `\"properties\" is a JSON array, not an object`},
		{`{"event":"own","distinct_id":"u","uuid":"17"}`, "invalid", "not a UUID"},
		{`{"event":"own","distinct_id":"u","timestamp":"yesterday"}`, "invalid", "ISO 8601"},
		{`[` + ok + `,{"event":"own","distinct_id":"u","timestamp":"yesterday"}]`, "invalid", "event 1 of the list: the event's timestamp"},
		{`{"event":"` + strings.Repeat("n", 201) + `","distinct_id":"u"}`, "invalid", "longer than 200"},
		{`{"event":"own","distinct_id":"` + strings.Repeat("n", 201) + `"}`, "invalid", "longer than 200"},
		{`[` + strings.Repeat(ok+",", 1000) + ok + `]`, "too_large", "1001 events"},
		{`{"event":"own","distinct_id":"u","properties":{"x":"` + strings.Repeat("n", 1<<20) + `"}}`, "too_large", "1 MiB"},
		{`{"event":"own","distinct_id":"u"} {}`, "invalid", "does not match this route"},
	} {
		a := f.ask(f.member, "POST", "/api/v1/events", tt.body)
		if a.errorCode() != tt.code || !strings.Contains(a.raw, tt.says) || len(a.raw) > 600 {
			t.Errorf("%.80s: %d %.300s, want %s and %q", tt.body, a.status, a.raw, tt.code, tt.says)
		}
	}
	if a := f.ask(f.viewer, "POST", "/api/v1/events", ok); a.status != http.StatusForbidden {
		t.Errorf("a viewer: %d %s", a.status, a.raw)
	}
	if a := f.ask("", "POST", "/api/v1/events", ok); a.status != http.StatusUnauthorized {
		t.Errorf("nobody: %d %s", a.status, a.raw)
	}
	if n := len(f.appended.events); n != 0 {
		t.Errorf("%d events were taken", n)
	}
	f.appended.err = event.NewError(event.CodeFull, "the journal is full", "make room", nil)
	if a := f.ask(f.member, "POST", "/api/v1/events", ok); a.status != 507 {
		t.Errorf("a full journal: %d %s", a.status, a.raw)
	}
	h := api.New(api.Config{Services: f.server.Services, Now: func() time.Time { return now }})
	if a := ask(t, h, f.member, "POST", "/api/v1/events", ok); a.status != 503 {
		t.Errorf("no server: %d %s", a.status, a.raw)
	}
}

// An outcome is in its trace.
func TestOutcomeJoinsItsTrace(t *testing.T) {
	f := newFixture(t)
	if a := f.ask(f.member, "POST", "/api/v1/events", `{"event":"llm_output_rated","distinct_id":"user-1","trace_id":"trace-2","properties":{"user_feedback":"negative"}}`); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	if _, err := f.store.Write(t.Context(), f.appended.events); err != nil {
		t.Fatal(err)
	}
	a := f.ask(f.member, "GET", "/api/v1/traces/trace-2", nil)
	if a.status != 200 || !strings.Contains(a.raw, `"llm_output_rated"`) || !strings.Contains(a.raw, `"user_feedback":"negative"`) {
		t.Errorf("%d %.2000s", a.status, a.raw)
	}
	tr := a.body["trace"].(map[string]any)
	if roll := tr["totals"].(map[string]any); roll["events"] != float64(6) || roll["calls"] != float64(5) {
		t.Errorf("totals %v", roll)
	}
	if e := f.appended.events[0]; e.ProjectID != project.DefaultID {
		t.Errorf("project %s", e.ProjectID)
	}
}

// TestDeleteEvents deletes one event and a list, and says what stays.
func TestDeleteEvents(t *testing.T) {
	f := newFixture(t)
	admin := f.server.ScopedKey(project.DefaultID, project.ScopeAdmin, project.ScopeRead)
	var uuids []string
	list, _ := f.ask(admin, "GET", "/api/v1/events?limit=3", nil).body["events"].([]any)
	for _, e := range list {
		uuids = append(uuids, e.(map[string]any)["uuid"].(string))
	}
	if len(uuids) != 3 {
		t.Fatalf("%d events", len(uuids))
	}
	a := f.ask(admin, "DELETE", "/api/v1/events/"+uuids[0], nil)
	if a.status != 200 || !strings.Contains(a.raw, `"deleted":1`) || !strings.Contains(a.raw, "PostHog cannot delete single events") {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(admin, "GET", "/api/v1/events/"+uuids[0], nil); a.status != 404 {
		t.Errorf("a deleted event answers %d", a.status)
	}
	if a := f.ask(admin, "POST", "/api/v1/events/delete", map[string]any{"uuids": uuids}); a.status != 200 || !strings.Contains(a.raw, `"deleted":2`) {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(admin, "DELETE", "/api/v1/events/"+uuids[1]+"?request_person_deletion=true", nil); a.status != 400 || !strings.Contains(a.raw, "no PostHog is connected") {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := f.ask(admin, "DELETE", "/api/v1/events/"+uuids[1]+"?request_person_deletion=maybe", nil); a.status != 400 {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

// TestRecordOutOfRange says which numbers of an event were not taken.
func TestRecordOutOfRange(t *testing.T) {
	f := newFixture(t)
	a := f.ask(f.server.ScopedKey(project.DefaultID, project.ScopeIngest), "POST", "/api/v1/events", map[string]any{"event": "llm_output_rated", "distinct_id": "u", "uuid": "0192c0de-0000-7000-8000-000000000001", "properties": map[string]any{"eval_score": 1e300}})
	if want := `"warnings":{"0192c0de-0000-7000-8000-000000000001":["eval_score out of range"]}`; a.status != 200 || !strings.Contains(a.raw, want) {
		t.Errorf("%d %s, want %s", a.status, a.raw, want)
	}
}

// TestExamplesHaveOnePage rejects what examples do not have, rather than answer
// with the first ones again.
func TestExamplesHaveOnePage(t *testing.T) {
	f := newFixture(t)
	key := f.server.ScopedKey(project.DefaultID, project.ScopeRead)
	for query, want := range map[string]int{"measure=calls": 200, "measure=calls&cursor=x": 400, "measure=nosuch": 400, "measure=calls&offset=1": 400} {
		if a := f.ask(key, "GET", "/api/v1/examples?"+query, nil); a.status != want {
			t.Errorf("%s answers %d %s", query, a.status, a.raw)
		}
	}
}
