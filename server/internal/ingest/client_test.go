package ingest_test

import (
	"context"
	"maps"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/posthog/posthog-go"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
	"github.com/hedgerow/hedgerow/server/internal/journal"
)

// speak sends every kind of event that posthog-go supports.
func speak(t *testing.T, url, key string) {
	t.Helper()
	c, err := posthog.NewWithConfig(key, posthog.Config{Endpoint: url, BatchSize: 3, Interval: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 21, 11, 59, 0, 123456000, time.UTC)
	for _, m := range []posthog.Message{
		posthog.Capture{DistinctId: "u", Event: "prompt_shared", Timestamp: at, Uuid: id1, Properties: posthog.NewProperties().Set("n", 1.5).Set("list", []int{1, 2}).Set("surface", "Chat"), Groups: posthog.NewGroups().Set("company", "acme")},
		posthog.Identify{DistinctId: "u", Timestamp: at, Properties: posthog.NewProperties().Set("email", "u@example.com")},
		posthog.Alias{DistinctId: "u", Alias: "v", Timestamp: at},
		posthog.GroupIdentify{Type: "company", Key: "acme", Timestamp: at, Properties: posthog.NewProperties().Set("plan", "pro")},
		posthog.Capture{DistinctId: "u", Event: "$ai_generation", Timestamp: at, Uuid: id2, Properties: posthog.NewProperties().
			Set("$ai_trace_id", "t").Set("$ai_model", "gpt-4.1").Set("$ai_provider", "openai").Set("$ai_input_tokens", 10).Set("$ai_output_tokens", 3).Set("$ai_latency", 0.25).
			Set("$ai_input", []map[string]string{{"role": "user", "content": "hi <you> & me"}}).Set("$ai_is_error", false).Set("mine", map[string]any{"a": nil})},
	} {
		if err := c.Enqueue(m); err != nil {
			t.Fatal(err)
		}
	}
	if flags, err := c.GetAllFlags(posthog.FeatureFlagPayloadNoKey{DistinctId: "u"}); err != nil || flags["beta"] != true || flags["color"] != "green" {
		t.Errorf("flags %v, %v", flags, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPosthogGo runs a real client with another host and no other changes: what
// is stored equals what PostHog would have received.
func TestPosthogGo(t *testing.T) {
	o := simposthog.Options{Projects: []simposthog.Project{{Name: "p", Token: posthogKey}}}
	direct, behind := simposthog.New(o), simposthog.New(o)
	for _, ph := range []*simposthog.Server{direct, behind} {
		ph.SetFlags(map[string]any{"beta": true, "color": "green"})
	}
	ds := httptest.NewServer(direct)
	defer ds.Close()
	h, k := newHandler(t, ingest.Config{Now: time.Now, Flags: relayTo{behind}})
	hs := httptest.NewServer(h)
	defer hs.Close()
	speak(t, ds.URL, posthogKey)
	speak(t, hs.URL, posthogKey)

	key := func(w wire) string { return w.Name + " " + w.DistinctID }
	got, want := map[string]wire{}, map[string]wire{}
	for _, e := range k.events(t) {
		w := wireOf(t, e)
		got[key(w)] = w
	}
	for _, e := range direct.Events() {
		w := wireOfPostHog(t, e)
		want[key(w)] = w
	}
	if g, w := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(g, w) || len(w) != 5 {
		t.Fatalf("got %v, want %v", g, w)
	}
	for name := range want {
		g, w := got[name], want[name]
		if d := g.Timestamp.Sub(w.Timestamp).Abs(); d > time.Minute { // posthog-go sets it when it sends
			t.Errorf("%s: at %v, want %v", name, g.Timestamp, w.Timestamp)
		}
		if d := differ(g.Properties, w.Properties); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
	}
	for _, e := range k.events(t) {
		if e.Name == "prompt_shared" && (e.UUID != id1 || e.Surface != "Chat" || e.Groups["company"] != "acme") || e.Name == event.Generation && (e.UUID != id2 || e.Model != "gpt-4.1" || e.Content.Input == nil) {
			t.Errorf("%+v", e)
		}
	}
}

// TestAcknowledgedIsOnDisk checks that events that were acknowledged are in the
// journal after it is reopened.
func TestAcknowledgedIsOnDisk(t *testing.T) {
	dir := t.TempDir()
	j, err := journal.Open(t.Context(), journal.Config{Dir: dir, SyncAlways: true})
	if err != nil {
		t.Fatal(err)
	}
	h, _ := newHandler(t, ingest.Config{Append: j})
	var ids []string
	for range 50 {
		id := event.NewID()
		if w := call(h, "POST", "/batch/", batchOf(settings.def.Token, `{"event":"e","distinct_id":"d","uuid":"`+id+`"}`)); w.Code == 200 {
			ids = append(ids, id)
		}
	}
	if err := j.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if j, err = journal.Open(t.Context(), journal.Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	defer j.Close(context.Background())
	q, err := j.Queue(t.Context(), "test", journal.QueueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for len(found) < len(ids) {
		ds, err := q.Fetch(t.Context(), 100, time.Second)
		if err != nil || len(ds) == 0 {
			t.Fatalf("%d of %d found: %v", len(found), len(ids), err)
		}
		for _, d := range ds {
			found = append(found, d.Event.UUID)
			_ = d.Ack()
		}
	}
	if len(ids) != 50 || !slices.Equal(found, ids) {
		t.Errorf("%d acknowledged, %d found", len(ids), len(found))
	}
}
