package experiment_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// One experiment without a difference, with a fallback of 3 % of the treatment's
// calls, from events in the store: users are compared by the variant that they met
// first, which finds nothing; leaving out those who met both would find a
// difference, and is not believed.
func TestFallbackInTheStore(t *testing.T) {
	s, err := store.OpenDuckDB(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "e.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	now := began.Add(48 * time.Hour)
	r, err := query.New(s, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 7))
	var events []*event.Event
	var users, mixed [2]int64
	for i := range 1600 {
		v := visit(rng, 0.03)
		if users[v.first()]++; v.mixed() {
			mixed[v.first()]++
		}
		for j, variant := range v.calls {
			events = append(events, &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Generation, DistinctID: fmt.Sprint("user-", i), TraceID: fmt.Sprint("t-", i, "-", j),
				Timestamp: began.Add(time.Duration(i+60*j) * time.Minute / 60), IsError: float64(j) >= v.success, Flags: map[string]string{"answer-test": []string{"control", "treatment"}[variant]}})
		}
	}
	if _, err := s.Write(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	d := seed()
	d.Flag, d.Prompt, d.Guardrails, d.StopOnBreach = "answer-test", "", nil, false
	d.Primary = experiment.Metric{Metric: query.Metric{Measure: query.ErrorRate}}
	for _, without := range []bool{false, true} {
		d.Exclude.Mixed = without
		report, err := experiment.Evaluate(t.Context(), r, stored(t, d), now)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range report.Variants {
			want := users[i]
			if without {
				want -= mixed[i]
			}
			if a.Users != want || a.Mixed != mixed[i] || float64(a.Calls) != report.Primary.Values[i].Count {
				t.Errorf("%s: %d users, %d mixed, %d calls; want %d users and %d mixed, and %v calls", a.Key, a.Users, a.Mixed, a.Calls, want, mixed[i], report.Primary.Values[i].Count)
			}
		}
		found := report.Primary.Differences[0].Better != experiment.Unclear
		if found != without || !report.Mixing.Mismatch || report.State == experiment.Winner {
			t.Errorf("mixed users left out %v: %s %+v, %s", without, report.State, report.Primary.Differences[0], report.Summary)
		}
	}
}
