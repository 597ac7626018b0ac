package reconcile_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/reconcile"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

type noCalls struct{}

func (noCalls) Billed(context.Context, string, []string, time.Time, time.Time) ([]query.BilledCalls, error) {
	return nil, nil
}

type rig struct {
	*reconcile.Bills
	t     *testing.T
	j     *journal.Journal
	audit []string
	keep  time.Duration
}

func newRig(t *testing.T) *rig {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{Dir: t.TempDir(), Erasing: []string{project.Bucket}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(context.Background()) })
	r := &rig{t: t, j: j}
	settings, err := project.Open(t.Context(), r.kv(project.Bucket), project.Options{SecretKey: bytes.Repeat([]byte{7}, project.KeySize)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = settings.Close() })
	if _, err := settings.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Bills = &reconcile.Bills{Registry: r.open(), Calls: noCalls{}, Prices: func() reconcile.Prices { return price.Default() }, Settings: settings}
	return r
}

func (r *rig) kv(name string) jetstream.KeyValue {
	r.t.Helper()
	kv, err := r.j.KeyValue(r.t.Context(), name, 1)
	if err != nil {
		r.t.Fatal(err)
	}
	return kv
}

func (r *rig) open() *reconcile.Registry {
	r.t.Helper()
	reg, err := reconcile.Open(r.t.Context(), reconcile.Buckets{Imports: r.kv(reconcile.ImportsBucket), Days: r.kv(reconcile.DaysBucket)}, reconcile.Options{
		Audit: func(_ context.Context, e project.AuditEntry) error {
			r.audit = append(r.audit, e.Action+" "+e.Detail)
			return nil
		},
		Keep: func(string) time.Duration { return r.keep },
		Now:  func() time.Time { return now },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = reg.Close() })
	return reg
}

func (r *rig) load(account string, files ...reconcile.File) []reconcile.Import {
	r.t.Helper()
	list, err := r.Import(r.t.Context(), project.DefaultID, reconcile.Source{Account: account}, files...)
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// billed is what the provider's figure is, by day.
func (r *rig) billed(provider, account string) string {
	r.t.Helper()
	rep, err := r.Compare(r.t.Context(), reconcile.Question{Project: project.DefaultID, Provider: provider, Account: account, From: now.AddDate(0, 0, -29), To: now.AddDate(0, 0, 1)})
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, d := range rep.Days {
		if d.ProviderUSD.Known {
			out = append(out, d.Day[8:]+" "+d.ProviderUSD.Value.String())
		}
	}
	return strings.Join(out, ", ")
}

func anthropic(day, usd string) reconcile.File {
	return reconcile.File{Name: "cost.csv", Data: []byte("usage_date_utc,model,token_type,cost_usd\n" + day + ",Claude Haiku 4.5,output," + usd + "\n")}
}

func TestImport(t *testing.T) {
	r := newRig(t)
	data, err := os.ReadFile("testdata/openai-costs.csv")
	if err != nil {
		t.Fatal(err)
	}
	first := r.load("", reconcile.File{Name: "costs.csv", Data: data})
	m := first[0]
	if len(first) != 1 || m.Feed != reconcile.OpenAICosts || m.Provider != "openai" || m.From != "2026-11-01" || m.To != "2026-11-02" || m.Days != 2 || m.DaysUsed != 2 || m.Lines != 2 ||
		!slices.Equal(m.Accounts, []string{"default"}) || !slices.Equal(m.Files, []string{"costs.csv"}) || !m.Complete || m.Unchanged || m.USD.Value.String() != "0.11" || !m.At.Equal(now) {
		t.Errorf("%+v", m)
	}
	if got := r.billed("openai", ""); got != "01 0.11, 02 0" {
		t.Errorf("billed %s", got)
	}
	// Twice is once, under another name and compressed or not.
	again := r.load("", reconcile.File{Name: "other.csv", Data: data})
	if !again[0].Unchanged || again[0].ID != m.ID || len(r.Imports(project.DefaultID)) != 1 || r.billed("openai", "") != "01 0.11, 02 0" {
		t.Errorf("%+v", again)
	}
	// A file that cannot be read leaves everything as it is, also next to one that can.
	if _, err := r.Import(t.Context(), project.DefaultID, reconcile.Source{}, anthropic("2026-11-01", "1"), reconcile.File{Data: []byte("a,b\n1,2\n")}); err == nil || len(r.Imports(project.DefaultID)) != 1 {
		t.Errorf("%v", err)
	}
	if !slices.Equal(r.audit, []string{"bill.import openai-costs, 2026-11-01 to 2026-11-02, 2 lines, 0.11 USD"}) {
		t.Errorf("audit: %q", r.audit)
	}
	// Other projects see nothing of it, and it outlives a restart.
	if len(r.Imports("other")) != 0 {
		t.Error("another project sees the import")
	}
	_ = r.Registry.Close()
	r.Registry = r.open()
	if list := r.Imports(project.DefaultID); len(list) != 1 || list[0].ID != m.ID || r.billed("openai", "") != "01 0.11, 02 0" {
		t.Errorf("after the restart: %+v, %s", list, r.billed("openai", ""))
	}
}

// TestReplaced: a later export of a day takes the place of the earlier one of its
// source and account, and of no other.
func TestReplaced(t *testing.T) {
	r := newRig(t)
	r.load("", anthropic("2026-11-01", "1"), anthropic("2026-11-02", "2"))
	r.load("eu", anthropic("2026-11-01", "10"))
	if got := r.billed("anthropic", ""); got != "01 11, 02 2" {
		t.Errorf("two accounts: %s", got)
	}
	late := r.load("", anthropic("2026-11-02", "2.5"), anthropic("2026-11-03", "3"))
	if got := r.billed("anthropic", ""); got != "01 11, 02 2.5, 03 3" {
		t.Errorf("a later export: %s", got)
	}
	if got := r.billed("anthropic", "eu"); got != "01 10" {
		t.Errorf("one account: %s", got)
	}
	var inUse []int
	for _, m := range r.Imports(project.DefaultID) {
		inUse = append(inUse, m.DaysUsed)
	}
	if slices.Sort(inUse); !slices.Equal(inUse, []int{1, 1, 2}) {
		t.Errorf("days in use: %v", inUse)
	}
	// An import without remaining rows is removed.
	r.load("", anthropic("2026-11-01", "1.5"))
	if n := len(r.Imports(project.DefaultID)); n != 3 {
		t.Errorf("%d imports", n)
	}
	// The earlier file again is the later one again.
	r.load("", anthropic("2026-11-02", "2"))
	if got := r.billed("anthropic", ""); got != "01 11.5, 02 2, 03 3" {
		t.Errorf("the first again: %s", got)
	}
	if err := r.Delete(t.Context(), project.DefaultID, late[0].ID); err != nil {
		t.Fatal(err)
	}
	if got := r.billed("anthropic", ""); got != "01 11.5, 02 2" {
		t.Errorf("erased: %s", got)
	}
	if err := r.Delete(t.Context(), project.DefaultID, late[0].ID); event.AsError(err).Code != event.CodeNotFound {
		t.Errorf("erased twice: %v", err)
	}
	if last := r.audit[len(r.audit)-1]; !strings.HasPrefix(last, "bill.erase anthropic-costs") {
		t.Errorf("audit: %s", last)
	}
	if err := r.Erase(t.Context(), project.DefaultID); err != nil || r.billed("anthropic", "") != "" || len(r.Imports(project.DefaultID)) != 0 {
		t.Errorf("a deleted project has %s, %v", r.billed("anthropic", ""), err)
	}
}

// TestAccountsOfAWS: accounts that a report names are kept apart.
func TestAccountsOfAWS(t *testing.T) {
	r := newRig(t)
	data, err := os.ReadFile("testdata/aws-legacy.csv")
	if err != nil {
		t.Fatal(err)
	}
	m := r.load("", reconcile.File{Data: data})[0]
	if !slices.Equal(m.Accounts, []string{"111122223333", "444455556666"}) || m.Days != 2 {
		t.Errorf("%+v", m)
	}
	if all, one := r.billed("amazon-bedrock", ""), r.billed("amazon-bedrock", "444455556666"); all != "01 1.622" || one != "01 1.5" {
		t.Errorf("all %s, one %s", all, one)
	}
}

// TestRetention: days whose events a project no longer keeps are deleted.
func TestRetention(t *testing.T) {
	r := newRig(t)
	r.load("", anthropic("2026-11-01", "1"), anthropic("2026-11-20", "2"))
	r.load("", anthropic("2026-11-02", "4"))
	r.keep = 15 * 24 * time.Hour
	if err := r.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	list := r.Imports(project.DefaultID)
	if got := r.billed("anthropic", ""); got != "20 2" || len(list) != 1 || list[0].DaysUsed != 1 {
		t.Errorf("kept %s of %+v", got, list)
	}
}

func TestQuestions(t *testing.T) {
	r := newRig(t)
	for name, q := range map[string]reconcile.Question{
		"no provider": {From: now.AddDate(0, 0, -3), To: now}, "no start": {Provider: "openai", To: now}, "no days": {Provider: "openai", From: now, To: now}, "too long": {Provider: "openai", From: now.AddDate(-1, 0, 0), To: now},
	} {
		q.Project = project.DefaultID
		if _, err := r.Compare(t.Context(), q); event.AsError(err) == nil || event.AsError(err).Code != event.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.Import(t.Context(), project.DefaultID, reconcile.Source{Account: "a\nb"}, anthropic("2026-11-01", "1")); event.AsError(err).Code != event.CodeInvalid {
		t.Errorf("an account of two lines: %v", err)
	}
}

// TestFetchAndImport: the kept key is sent to the provider and what it answers is
// imported; without a key, and for a key of another host, nothing is sent.
func TestFetchAndImport(t *testing.T) {
	r := newRig(t)
	var keys []string
	data, err := os.ReadFile("testdata/openrouter-activity.json")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		keys = append(keys, req.Header.Get("Authorization"))
		_, _ = w.Write(data)
	}))
	defer server.Close()
	fetch := func() ([]reconcile.Import, error) {
		return r.Fetch(t.Context(), project.DefaultID, "openrouter", "", now.AddDate(0, 0, -29), now)
	}
	fetcher := &reconcile.Fetcher{Client: server.Client(), Base: func(string) string { return server.URL }, Now: func() time.Time { return now }}
	if _, err := fetch(); event.AsError(err).Code != event.CodeNotFound || len(keys) != 0 {
		t.Errorf("without a key: %v", err)
	}
	if err := r.SetKey(t.Context(), project.DefaultID, "openai", "sk-proj-1"); event.AsError(err).Code != event.CodeInvalid {
		t.Errorf("a key for calls: %v", err)
	}
	if err := r.SetKey(t.Context(), project.DefaultID, "openrouter", "sk-or-v1-0123456789abcd"); err != nil {
		t.Fatal(err)
	}
	if k := r.Keys(project.DefaultID); len(k) != 1 || k[0].LastFour != "abcd" || k[0].Host != "https://openrouter.ai" {
		t.Errorf("%+v", k)
	}
	r.Fetcher = fetcher
	list, err := fetch()
	if err != nil || len(list) != 1 || !list[0].Fetched || list[0].USD.Value.String() != "0.7650001" || !slices.Equal(keys, []string{"Bearer sk-or-v1-0123456789abcd"}) {
		t.Errorf("%+v, %v, %v", list, err, keys)
	}
	r.Fetcher = nil
	if _, err := fetch(); event.AsError(err).Code != event.CodeUnavailable {
		t.Errorf("without a server: %v", err)
	}
	r.Fetcher = fetcher
	if list, err = fetch(); err != nil || !list[0].Unchanged {
		t.Errorf("again: %+v, %v", list, err)
	}
	if err := r.Settings.SetAdminKey(t.Context(), project.DefaultID, "openrouter", "https://evil.example", "sk-or-v1-other"); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(); event.AsError(err).Code != event.CodeInvalid || len(keys) != 2 {
		t.Errorf("a key of another host: %v", err)
	}
	if err := r.DeleteKey(t.Context(), project.DefaultID, "openrouter"); err != nil || len(r.Keys(project.DefaultID)) != 0 {
		t.Errorf("%v", err)
	}
	if err := r.DeleteKey(t.Context(), project.DefaultID, "openrouter"); event.AsError(err).Code != event.CodeNotFound {
		t.Errorf("deleted twice: %v", err)
	}
}
