package ledger_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/ledger"
)

func open(t *testing.T, dir string) (*journal.Journal, *ledger.Ledger) {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	kv, err := j.KeyValue(t.Context(), "ledger", 1)
	if err != nil {
		t.Fatal(err)
	}
	return j, ledger.New(ledger.Config{KV: kv, Known: func(id string) bool { return id != "c_gone" }})
}

func TestLedger(t *testing.T) {
	dir := t.TempDir()
	j, l := open(t, dir)
	other := func() *ledger.Ledger { // a second process
		kv, err := j.KeyValue(t.Context(), "ledger", 1)
		if err != nil {
			t.Fatal(err)
		}
		return ledger.New(ledger.Config{KV: kv})
	}()
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	secret := json.RawMessage(`"a value that must not be kept"`)
	l.Left("c_1", at.Add(time.Hour), map[string]json.RawMessage{"plan": secret, "n": json.RawMessage(`1`), "on": json.RawMessage(`true`), "o": json.RawMessage(`{}`), "l": json.RawMessage(`[]`), "x": json.RawMessage(`null`)})
	l.Held("c_1", at, []privacy.Withheld{{Name: "plan", Reason: privacy.ReasonAttribute, Attribute: true}, {Name: "note", Reason: privacy.ReasonLong}})
	l.Left("c_gone", at, map[string]json.RawMessage{"plan": secret})
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	other.Left("c_1", at, map[string]json.RawMessage{"plan": json.RawMessage(`3`)})
	if err := other.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.Held("c_1", at.Add(time.Minute), []privacy.Withheld{{Name: "note", Reason: privacy.ReasonQuotes}}) // pending only

	check := func(l *ledger.Ledger, notes int64) {
		t.Helper()
		p, err := l.Page(t.Context(), "c_1")
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Sent) != 6 || p.Sent[0].Name != "plan" || p.Sent[0].Count != 2 || !p.Sent[0].First.Equal(at) || !p.Sent[0].Last.Equal(at.Add(time.Hour)) || strings.Join(p.Sent[0].Kinds, " ") != "number text" {
			t.Errorf("left %+v", p.Sent)
		}
		if len(p.Withheld) != 2 {
			t.Fatalf("held %+v", p.Withheld)
		}
		for _, h := range p.Withheld {
			switch {
			case h.Name == "plan" && h.Attribute && h.Count == 1 && h.Reason == privacy.ReasonAttribute:
			case h.Name == "note" && !h.Attribute && h.Count == notes && (h.Reason == privacy.ReasonQuotes) == (notes == 2):
			default:
				t.Errorf("held %+v", h)
			}
		}
	}
	check(l, 2)
	check(other, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil { // writes what is pending as it ends
		t.Fatal(err)
	}
	if err := j.Close(context.Background()); err != nil {
		t.Fatal(err)
	}

	j, l = open(t, dir)
	check(l, 2)
	if p, err := l.Page(t.Context(), "c_gone"); err != nil || len(p.Sent) > 0 {
		t.Errorf("a connection that is gone: %+v, %v", p, err)
	}
	if err := l.Forget(t.Context(), "c_1"); err != nil {
		t.Fatal(err)
	}
	if p, err := l.Page(t.Context(), "c_1"); err != nil || len(p.Sent)+len(p.Withheld) > 0 {
		t.Errorf("forgotten: %+v, %v", p, err)
	}

	// Names are bounded, and what cannot be written is kept.
	for i := range ledger.MaxNames + 10 {
		l.Left("c_2", at, map[string]json.RawMessage{fmt.Sprintf("name %04d %s", i, strings.Repeat("x", 190)): json.RawMessage(`1`)})
		l.Held("c_2", at, []privacy.Withheld{{Name: fmt.Sprint(i), Reason: privacy.ReasonLong}})
	}
	closed, cancelNow := context.WithCancel(t.Context())
	cancelNow()
	if err := l.Flush(closed); err == nil {
		t.Error("written with a context that has ended")
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := l.Page(t.Context(), "c_2")
	if err != nil || len(p.Sent) != ledger.MaxNames || p.MoreSent != 10 || len(p.Withheld) != ledger.MaxNames || p.MoreWithheld != 10 {
		t.Errorf("%d left and %d more, %d held and %d more, %v", len(p.Sent), p.MoreSent, len(p.Withheld), p.MoreWithheld, err)
	}
	if err := j.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}
