package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/journal"
)

// TestUpgradeTakesNamesOver starts with a connection record from before the
// allow-list: names that were sent before and have no text are still sent, are
// listed, and can be blocked.
func TestUpgradeTakesNamesOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.flushFast()
	send := func(uuid string) {
		t.Helper()
		p.call("POST", "/batch/", `{"api_key":"`+p.token()+`","batch":[{"event":"$ai_generation","uuid":"`+uuid+`","distinct_id":"u","properties":{"$ai_trace_id":"t","$ai_model":"m",
			"labels":["eu","pro"],"deep":{"tier":"gold"},"said":["tell me where my parcel is, please"],"chat":[{"role":"user","content":"hi"}]}}]}`, nil)
	}
	sent := func(uuid string) string {
		t.Helper()
		var raw string
		w.await(func() bool {
			for _, e := range w.ph.Events() {
				if e.UUID == uuid {
					raw = string(e.Raw)
				}
			}
			return raw != ""
		}, func() string { return "PostHog lacks " + uuid })
		return raw
	}
	first, second, third := "01a22a96-fd09-7cde-8d37-000000000001", "01a22a96-fd09-7cde-8d37-000000000002", "01a22a96-fd09-7cde-8d37-000000000003"
	send(first)
	if raw := sent(first); strings.Contains(raw, "labels") {
		t.Fatalf("a new connection sends %s", raw)
	}
	w.await(func() bool { return p.hasStored(first) }, func() string { return "the event is not stored" })
	p.stop()
	forgetRules(t, filepath.Join(w.dir, "journal"))

	p = w.start()
	var book struct {
		SendProperties []string                                   `json:"send_properties"`
		LegacyNames    *struct{ Properties, Attributes []string } `json:"taken_over"`
	}
	ledger := func() bool {
		book.LegacyNames = nil
		p.call("GET", "/api/v1/connections/default/ledger", "", &book)
		return book.LegacyNames != nil
	}
	w.await(ledger, func() string { return "nothing was taken over\n" + p.logs() })
	if want := []string{"deep", "labels"}; !slices.Equal(book.LegacyNames.Properties, want) || len(book.LegacyNames.Attributes) > 0 || !slices.Equal(book.SendProperties, want) {
		t.Errorf("taken over: %+v", book)
	}
	w.await(func() bool { return strings.Contains(p.logs(), "names sent before") }, func() string { return "the log does not say so:\n" + p.logs() })
	send(second)
	if raw := sent(second); !strings.Contains(raw, `"labels":["eu","pro"]`) || !strings.Contains(raw, `"deep":{"tier":"gold"}`) || strings.Contains(raw, "parcel") || strings.Contains(raw, "chat") {
		t.Errorf("after the upgrade: %s", raw)
	}
	p.call("POST", "/api/v1/connections/default/ledger/taken-over", `{"keep":false}`, nil)
	send(third)
	if raw := sent(third); strings.Contains(raw, "labels") {
		t.Errorf("stopped: %s", raw)
	}
	p.stop()
	p = w.start() // only once
	if ledger(); book.LegacyNames != nil || len(book.SendProperties) > 0 {
		t.Errorf("taken over again: %+v", book)
	}
}

// hasStored reports whether the store has an event.
func (p *proc) hasStored(uuid string) bool {
	status, _ := p.send(context.Background(), "GET", "/api/v1/events/"+uuid, "")
	return status == 200
}

// forgetRules changes the records of connections to those from before the
// allow-list.
func forgetRules(t *testing.T, dir string) {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	kv, err := j.KeyValue(t.Context(), "hedgerow", 1)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := kv.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for _, key := range keys {
		if !strings.HasPrefix(key, "connection.") {
			continue
		}
		e, err := kv.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		var record struct {
			Record json.RawMessage   `json:"record"`
			Sealed map[string]string `json:"sealed,omitempty"`
		}
		if err := json.Unmarshal(e.Value(), &record); err != nil {
			t.Fatal(err)
		}
		old := bytes.Replace(record.Record, []byte(`"rules":1,`), nil, 1)
		if len(old) == len(record.Record) {
			t.Fatalf("the record of %s has no rules: %s", key, record.Record)
		}
		record.Record = old
		b, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), key, b); err != nil {
			t.Fatal(err)
		}
		changed++
	}
	if err := j.Close(t.Context()); err != nil || changed != 1 {
		t.Fatal(fmt.Errorf("%d records: %w", changed, err))
	}
}
