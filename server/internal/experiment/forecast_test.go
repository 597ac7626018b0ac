package experiment_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// before is what users did before an experiment.
type before struct {
	cell  query.Cell
	asked query.ExperimentQuery
}

func (b *before) Baseline(_ context.Context, q query.ExperimentQuery) (query.Cell, error) {
	b.asked = q
	return b.cell, nil
}

// A forecast for a rate of 50 % by 2,800 users in 28 days: 100 a day.
func TestForecast(t *testing.T) {
	ask := &before{cell: query.Cell{Users: 2800, Figures: []query.Figure{shares(1400, 2800)}}}
	d := seed()
	d.Detect, d.Segments = 0.05, nil
	of := func(change func(s *experiment.Spec)) experiment.Forecast {
		s := d.Spec
		s.Variants = append([]experiment.Variant(nil), s.Variants...)
		change(&s)
		f, err := experiment.ForecastOf(t.Context(), ask, "default", s, began)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	plain := of(func(*experiment.Spec) {})
	// A single test needs (1.96 + 0.84)² · (0.25 + 0.2475) · 2 / 0.05² users.
	once := 7.8489 * 2 * 0.4975 / 0.0025
	if plain.Users != 2800 || plain.PerDay != 100 || plain.Effect != 0.05 || math.Abs(plain.PlannedLooks.Value/once-1.024) > 0.01 || plain.Anytime.Value < 1.5*once || plain.Anytime.Value > 2.5*once {
		t.Errorf("%+v, a single test needs %v users", plain, once)
	}
	if days := plain.Days(plain.PlannedLooks); days.Value != math.Ceil(plain.PlannedLooks.Value/100) {
		t.Errorf("%v days", days)
	}
	if q := ask.asked; q.Flag != d.Flag || q.Prompt != d.Prompt || len(q.Metrics) != 1 || !q.To.Equal(began) || !q.From.Equal(began.AddDate(0, 0, -28)) {
		t.Errorf("asked %+v", q)
	}
	for name, f := range map[string]experiment.Forecast{
		"5 % get the treatment": of(func(s *experiment.Spec) { s.Variants[0].Share, s.Variants[1].Share = 95, 5 }),
		"a smaller effect":      of(func(s *experiment.Spec) { s.Detect = 0.04 }),
		"two treatments": of(func(s *experiment.Spec) {
			s.Variants = append(s.Variants, experiment.Variant{Key: "second", Share: s.Variants[1].Share})
		}),
	} {
		if f.Anytime.Value < 1.4*plain.Anytime.Value || f.PlannedLooks.Value < 1.4*plain.PlannedLooks.Value {
			t.Errorf("%s: %+v, without it %+v", name, f, plain)
		}
	}
	// What users did before explains part of it.
	rng := rand.New(rand.NewPCG(1, 2))
	var m query.Moments
	for range 2800 {
		p := 0.1 + 0.8*float64(rng.IntN(2))
		m.AddWithPast(chance(rng, p), 1, chance(rng, p), 1)
	}
	ask.cell.Figures[0].Moments = m
	with, without := of(func(*experiment.Spec) {}), of(func(s *experiment.Spec) { s.CUPED = experiment.CUPEDOff })
	if with.VarianceReduction < 0.3 || without.VarianceReduction != 0 || with.PlannedLooks.Value > 0.75*without.PlannedLooks.Value {
		t.Errorf("with the past %+v, without %+v", with, without)
	}
	ask.cell = query.Cell{Figures: make([]query.Figure, 1)}
	if f := of(func(*experiment.Spec) {}); f.Anytime.Known || f.Users != 0 || f.Days(f.Anytime).Known {
		t.Errorf("without users: %+v", f)
	}
}
