package query_test

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// Each look has what was known then; limits are fixed at the first with enough users, and what
// users did before they met a variant is theirs.
func TestExperimentLooks(t *testing.T) {
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "e.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	r, err := query.New(s, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Reader: r, store: s}
	from := now.Add(-48 * time.Hour)
	arms := []string{"control", "treatment"}
	call := func(user int, at time.Time, cents int64, arm string) {
		e := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Generation, DistinctID: fmt.Sprint("u", user), Timestamp: at, Cost: event.Cost{Total: event.Some(decimal.New(cents, -2))}}
		if arm != "" {
			e.Flags = map[string]string{"test": arm}
		}
		f.events = append(f.events, e)
	}
	for i := range 10 {
		if i < 6 {
			call(i, from.Add(-time.Hour), int64(i+1), "")
		}
		call(i, from.Add(30*time.Minute), 2, arms[i%2])
	}
	call(0, from.Add(30*time.Hour), 100, "control")
	f.write(t, f.events...)
	x, err := f.Experiment(t.Context(), query.ExperimentQuery{Project: "default", From: from, Flag: "test", Variants: arms, Metrics: []query.Metric{{Measure: query.CostPerCall}}, Past: 28 * 24 * time.Hour, MinUsers: 5})
	if err != nil || len(x.Cells) != 2 {
		t.Fatalf("%+v, %v", x, err)
	}
	got := x.Cells[0].Figures[0]
	if len(got.Looks) != 2 || !got.Looks[0].At.Equal(from.Add(time.Hour)) || !got.Looks[1].At.Equal(from.Add(31*time.Hour)) {
		t.Fatalf("looks: %+v", got.Looks)
	}
	for _, c := range []struct {
		what      string
		got, want float64
	}{
		{"users at the first look", got.Looks[0].Users, 5},
		{"cost at the first look", got.Looks[0].Y, 0.1},
		{"cost", got.Y, 1.1},
		{"calls", got.N, 6},
		{"calls²", got.NN, 8},
		{"cost²", got.YY, 1.02*1.02 + 4*0.02*0.02},
		{"cost³", got.Third.YYY, 1.02*1.02*1.02 + 4*0.02*0.02*0.02},
		{"limit", got.Limits.High, 0.02},
		{"cost within the limit", got.Trimmed.Y, 0.12},
		{"earlier cost", got.Past.P, 0.09},
		{"earlier calls", got.Past.Q, 3},
		{"cost by earlier cost", got.Past.YP, 1.02*0.01 + 0.02*0.03 + 0.02*0.05},
		{"earlier cost within the limit", got.Trimmed.Past.P, 0.05},
	} {
		if math.Abs(c.got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
}
