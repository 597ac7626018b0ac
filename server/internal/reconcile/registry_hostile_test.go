package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/reconcile"
)

// TestTooMuch: what cannot be kept is refused with the reason, and leaves nothing.
func TestTooMuch(t *testing.T) {
	r := newRig(t)
	var day, accounts strings.Builder
	day.WriteString("start_time,end_time,amount_value,amount_currency,line_item\n")
	for i := range 24_000 {
		fmt.Fprintf(&day, "1793491200,1793577600,0.01,usd,\"item %d %s\"\n", i, strings.Repeat("x", 300))
	}
	accounts.WriteString("line_item_usage_type,line_item_usage_amount,line_item_unblended_cost,line_item_product_code,line_item_usage_account_id,line_item_usage_start_date\n")
	for i := range 2000 {
		fmt.Fprintf(&accounts, "USE1-NovaLite-input-tokens,1,0.5,AmazonBedrock,%012d,2026-11-%02d\n", i, 1+i%28)
	}
	for name, c := range map[string]struct{ data, message string }{
		"a day":    {day.String(), "the lines of 2026-11-01 are too many"},
		"accounts": {accounts.String(), "2000 accounts and 28 days"},
	} {
		_, err := r.Import(t.Context(), project.DefaultID, reconcile.Source{}, reconcile.File{Data: []byte(c.data)})
		if e := event.AsError(err); e == nil || e.Code != event.CodeTooLarge || !strings.Contains(e.Message, c.message) || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list := r.Imports(project.DefaultID); len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
}

// TestNotKept: a bill of days that the project does not keep is refused, and of a
// longer one the rest is imported, with a note.
func TestNotKept(t *testing.T) {
	r := newRig(t)
	r.keep = 15 * 24 * time.Hour
	if _, err := r.Import(t.Context(), project.DefaultID, reconcile.Source{}, anthropic("2026-11-03", "1")); event.AsError(err) == nil || !strings.Contains(event.AsError(err).Message, "from 2026-11-15") {
		t.Errorf("an old bill: %v", err)
	}
	m := r.load("", anthropic("2026-11-03", "1"), anthropic("2026-11-20", "2"))[0]
	if m.Days != 1 || m.DaysUsed != 1 || m.From != "2026-11-20" || m.USD.Value.String() != "2" || m.Lines != 1 || len(m.Notes) != 1 || r.billed("anthropic", "") != "20 2" {
		t.Errorf("%+v, billed %s", m, r.billed("anthropic", ""))
	}
}

// dying is a bucket whose process is killed after some writes.
type dying struct {
	jetstream.KeyValue
	left int
}

func (d *dying) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	if d.left--; d.left < 0 {
		return 0, errors.New("killed")
	}
	return d.KeyValue.Put(ctx, key, value)
}

// TestKilled: after an import that was killed, what it replaced can be imported again,
// and the list says which days are whose.
func TestKilled(t *testing.T) {
	r := newRig(t)
	r.load("", anthropic("2026-11-01", "1"), anthropic("2026-11-02", "2"))
	_ = r.Registry.Close()
	reg, err := reconcile.Open(t.Context(), reconcile.Buckets{Imports: r.kv(reconcile.ImportsBucket), Days: &dying{r.kv(reconcile.DaysBucket), 1}}, reconcile.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Import(t.Context(), project.DefaultID, reconcile.Source{}, anthropic("2026-11-01", "10"), anthropic("2026-11-02", "20")); err == nil {
		t.Fatal("it was not killed")
	}
	_ = reg.Close()
	r.Registry = r.open()
	if got := r.billed("anthropic", ""); got != "01 10, 02 2" {
		t.Fatalf("billed %s", got)
	}
	m := r.load("", anthropic("2026-11-01", "1"), anthropic("2026-11-02", "2"))[0]
	if got := r.billed("anthropic", ""); m.Unchanged || got != "01 1, 02 2" {
		t.Errorf("again: %+v, billed %s", m, got)
	}
	for _, have := range r.Imports(project.DefaultID) {
		if have.ID != m.ID {
			t.Errorf("left: %+v", have)
		}
	}
}
