package pricefeed_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/pricefeed"
)

// feed serves the list with an ETag, as the real one does, or fails as it is set to.
type feed struct {
	mu     sync.Mutex
	status int
	body   string
	fresh  int // requests that were answered with a body
	hang   bool
	length string // Content-Length, "" for that of the body
}

func (f *feed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hang {
		f.mu.Unlock()
		<-r.Context().Done()
		f.mu.Lock()
		return
	}
	tag := fmt.Sprintf(`"%d-%d"`, len(f.body), f.status)
	if f.status == http.StatusOK && r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("ETag", tag)
	if f.length != "" {
		w.Header().Set("Content-Length", f.length)
	}
	w.WriteHeader(f.status)
	f.fresh++
	_, _ = io.WriteString(w, f.body)
}

// list is the built-in prices in the feed's form, with gpt-4.1 of OpenAI at another
// price of input where that is not "", and without the models of providers whose names
// begin with one of without.
func list(price41 string, without ...string) string {
	var b strings.Builder
	provider := ""
	b.WriteByte('[')
	for _, r := range price.Default().Builtin() {
		if slices.ContainsFunc(without, func(p string) bool { return strings.HasPrefix(r.Provider, p) }) {
			continue
		}
		if r.Provider != provider {
			if provider != "" {
				b.WriteString("]},")
			}
			provider = r.Provider
			fmt.Fprintf(&b, `{"id":%q,"models":[`, provider)
		} else {
			b.WriteByte(',')
		}
		input := "1"
		if r.Input.Known {
			input = r.Input.Value.Shift(6).String()
		}
		if price41 != "" && r.Provider == "openai" && r.Model == "gpt-4.1" {
			input = price41
		}
		fmt.Fprintf(&b, `{"id":%q,"match":{"equals":%q},"prices":{"input_mtok":%s`, r.Model, r.Model, input)
		if r.Output.Known {
			fmt.Fprintf(&b, `,"output_mtok":%s`, r.Output.Value.Shift(6))
		}
		b.WriteString("}}")
	}
	b.WriteString("]}]")
	return b.String()
}

func TestRefresh(t *testing.T) {
	f := &feed{status: http.StatusOK}
	server := httptest.NewServer(f)
	defer server.Close()
	now := time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
	file := filepath.Join(t.TempDir(), "prices.refreshed.json")
	table := price.Default()
	r := &pricefeed.Refresher{
		URL: server.URL + "/data.json", Interval: time.Hour, File: file, Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler),
		Client: &http.Client{Timeout: 300 * time.Millisecond},
		Table:  func() *price.Table { return table },
		Reload: func() error {
			o, err := price.Load(file)
			if err == nil {
				table = price.Default().WithRefreshed(o)
			}
			return err
		},
	}
	good := list("3")
	for _, step := range []struct {
		name   string
		set    func()
		fails  string // "" for none
		input  string // price of gpt-4.1 after it
		date   string
		fresh  int // bodies sent so far
		status health.Status
	}{
		{"the feed is away", func() { f.status = http.StatusBadGateway }, "502", "2", "2026-11-21", 1, health.OK},
		{"it hangs", func() { f.hang = true }, "too long", "2", "2026-11-21", 1, health.OK},
		{"it sends a web page", func() { f.hang, f.status, f.body = false, 200, "<html>" }, "not in the form", "2", "2026-11-21", 2, health.OK},
		{"it is cut off", func() { f.body = good[:len(good)/2] }, "not in the form", "2", "2026-11-21", 3, health.OK},
		{"it is larger than a list can be", func() { f.body, f.length = "[]", strconv.Itoa(price.MaxList+1) }, "larger than", "2", "2026-11-21", 4, health.OK},
		{"it has lost most models", func() {
			f.length = ""
			f.body = `[{"id":"openai","models":[{"id":"gpt-4.1","match":{"equals":"gpt-4.1"},"prices":{"input_mtok":2}}]}]`
		}, "refused", "2", "2026-11-21", 5, health.OK},
		{"it has lost a great vendor", func() { f.body = list("3", "deepseek") }, "none of the 8 models of deepseek", "2", "2026-11-21", 6, health.OK},
		{"it has lost the prices of output", func() { f.body = strings.ReplaceAll(good, "output_mtok", "output_x") }, "of anthropic", "2", "2026-11-21", 7, health.OK},
		{"a price has become 0", func() { f.body = list("0") }, "refused", "2", "2026-11-21", 8, health.OK},
		{"a price is absurd", func() { f.body = list("200") }, "refused", "2", "2026-11-21", 9, health.OK},
		{"a price has no meaning", func() { f.body = list("1e99") }, "cannot be read", "2", "2026-11-21", 10, health.OK},
		{"the clock is wrong", func() { f.body, now = good, now.AddDate(-1, 0, 0) }, "older than the built-in", "2", "2026-11-21", 11, health.OK},
		{"it is right, without a small provider", func() { f.body, now = list("3", "typesafe"), now.AddDate(1, 0, 0) }, "", "3", "2026-12-01", 12, health.OK},
		{"it has not changed", func() { now = now.AddDate(0, 0, 1) }, "", "3", "2026-12-02", 12, health.OK},
		{"it is away for long", func() { f.status, now = http.StatusNotFound, now.AddDate(0, 2, 0) }, "404", "3", "2026-12-02", 13, health.Degraded},
	} {
		f.mu.Lock()
		step.set()
		f.mu.Unlock()
		_, err := r.Refresh(t.Context())
		if step.fails == "" && err != nil || step.fails != "" && (err == nil || !strings.Contains(err.Error(), step.fails)) {
			t.Errorf("%s: error %v, want %q", step.name, err, step.fails)
		}
		row, _ := table.Match("openai", "gpt-4.1")
		if _, date := table.Dates(); price.PerMillion(row.Input) != step.input || date.Format(time.DateOnly) != step.date || f.fresh != step.fresh {
			t.Errorf("%s: gpt-4.1 costs %s by prices of %s after %d bodies; want %s, %s, %d", step.name, price.PerMillion(row.Input), date.Format(time.DateOnly), f.fresh, step.input, step.date, step.fresh)
		}
		if got := r.Health(); got.Status != step.status {
			t.Errorf("%s: health is %+v", step.name, got)
		}
	}
	if _, ok := table.Match("typesafe", "jev-1.14.0"); !ok {
		t.Error("a model that only the built-in prices have has lost its price")
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(r.Collectors()...)
	metrics, err := registry.Gather()
	got := map[string]float64{}
	for _, m := range metrics {
		got[m.GetName()] = m.GetMetric()[0].GetGauge().GetValue()
	}
	if want := now.Sub(time.Date(2026, 12, 2, 0, 0, 0, 0, time.UTC)).Seconds(); err != nil || got["hedgerow_prices_age_seconds"] != want || got["hedgerow_prices_refresh_failed"] != 1 {
		t.Errorf("metrics %v, %v, want an age of %v", got, err, want)
	}
	if words := pricefeed.FormatAge(table, now); words != "of 2026-12-02, 62 days old" {
		t.Errorf("the age in words is %q", words)
	}
	diff, err := os.ReadFile(file + ".diff")
	if err != nil || !strings.Contains(string(diff), "~ openai gpt-4.1: input $2 → $3") {
		t.Errorf("the diff is %.300s, %v", diff, err)
	}
	if row, ok := table.Match("openai", "omni-moderation-latest"); !ok || !row.Free() {
		t.Error("a refresh has taken a correction away")
	}
}
