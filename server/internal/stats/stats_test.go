package stats_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// reference is what testdata/reference.py computed.
type reference struct {
	Intervals []struct {
		Name              string       `json:"name"`
		Rate              bool         `json:"rate"`
		Alpha             float64      `json:"alpha"`
		Planned           float64      `json:"planned"`
		Control           [][2]float64 `json:"control"` // y, n of each user
		Treatment         [][2]float64 `json:"treatment"`
		ControlValue      float64      `json:"control_value"`
		ControlVariance   float64      `json:"control_variance"`
		TreatmentValue    float64      `json:"treatment_value"`
		TreatmentVariance float64      `json:"treatment_variance"`
		Difference        float64      `json:"difference"`
		Lower             float64      `json:"lower"`
		Upper             float64      `json:"upper"`
	} `json:"intervals"`
	Needed []struct {
		Effect  float64 `json:"effect"`
		Sigma2  float64 `json:"sigma2"`
		Alpha   float64 `json:"alpha"`
		Planned float64 `json:"planned"`
		Users   float64 `json:"users"`
		Power   float64 `json:"power"`
	} `json:"needed"`
	Ratios []struct {
		Counts    []float64 `json:"counts"`
		Shares    []float64 `json:"shares"`
		ChiSquare float64   `json:"chi_square"`
		P         float64   `json:"p"`
		AlwaysP   float64   `json:"always_p"`
	} `json:"ratios"`
}

func readReference(t *testing.T) (ref reference) {
	t.Helper()
	b, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &ref); err != nil {
		t.Fatal(err)
	}
	return ref
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-8*math.Max(1, math.Abs(want)) {
		t.Errorf("%s: %.12g, want %.12g", what, got, want)
	}
}

func moments(users [][2]float64) (m stats.Moments) {
	for _, u := range users {
		m.Add(u[0], u[1])
	}
	return m
}

func TestReferenceIntervals(t *testing.T) {
	ref := readReference(t)
	if len(ref.Intervals) < 20 {
		t.Fatalf("%d cases", len(ref.Intervals))
	}
	for _, c := range ref.Intervals {
		t.Run(fmt.Sprintf("%s/%v", c.Name, c.Alpha), func(t *testing.T) {
			var kind stats.Scale
			if c.Rate {
				kind = stats.Share
			}
			control, treatment := stats.Ratio(moments(c.Control), kind), stats.Ratio(moments(c.Treatment), kind)
			near(t, "control", control.Value, c.ControlValue)
			near(t, "its variance", control.Variance, c.ControlVariance)
			near(t, "treatment", treatment.Value, c.TreatmentValue)
			near(t, "its variance", treatment.Variance, c.TreatmentVariance)
			d := stats.Plan{Alpha: c.Alpha, Users: c.Planned}.Difference(control, treatment)
			if c.ControlVariance+c.TreatmentVariance == 0 {
				if !d.Known || !math.IsInf(d.Lower, -1) || !math.IsInf(d.Upper, 1) {
					t.Errorf("nothing varied, and the interval is %+v", d)
				}
				return
			}
			near(t, "level", d.Level, 1-c.Alpha)
			near(t, "difference", d.Value, c.Difference)
			near(t, "lower bound", d.Lower, c.Lower)
			near(t, "upper bound", d.Upper, c.Upper)
		})
	}
}

func TestReferenceUsersNeeded(t *testing.T) {
	for _, c := range readReference(t).Needed {
		p := stats.Plan{Alpha: c.Alpha, Users: c.Planned}
		got, ok := p.Needed(c.Effect, stats.Estimate{Variance: c.Sigma2 / 100, Users: 100, Known: true})
		if !ok || got != c.Users {
			t.Errorf("effect %v: %v users, want %v", c.Effect, got, c.Users)
		}
		near(t, "power", p.Power(c.Effect, stats.Estimate{Variance: c.Sigma2 / 100, Users: 100, Known: true}, c.Users), c.Power)
	}
	if _, ok := (stats.Plan{Alpha: 0.05, Users: 1000}).Needed(0, stats.Estimate{Variance: 1, Users: 100, Known: true}); ok {
		t.Error("no effect is found by a number of users")
	}
}

func TestReferenceSampleRatio(t *testing.T) {
	for _, c := range readReference(t).Ratios {
		got := stats.CheckRatio(c.Counts, c.Shares)
		what := fmt.Sprint(c.Counts, c.Shares)
		near(t, what+" chi-square", got.ChiSquare, c.ChiSquare)
		near(t, what+" p", got.P, c.P)
		near(t, what+" always valid p", got.AlwaysP, c.AlwaysP)
	}
	if got := stats.CheckRatio([]float64{5, 1}, []float64{1, 0}); !math.IsInf(got.ChiSquare, 1) || got.P != 0 || got.AlwaysP != 0 {
		t.Errorf("users in an arm that gets none: %+v", got)
	}
}

// Without two users in each variant nothing is said.
func TestTooFewUsers(t *testing.T) {
	plan := stats.Plan{Alpha: 0.05, Users: 1000}
	none, one, two := moments(nil), moments([][2]float64{{3, 4}}), moments([][2]float64{{3, 4}, {1, 1}})
	for _, m := range []stats.Moments{none, one} {
		for _, k := range []stats.Scale{stats.Scale{}, stats.Share} {
			if e := stats.Ratio(m, k); e.Known || e.Users != m.Users {
				t.Errorf("%v users: %+v", m.Users, e)
			}
			if d := plan.Difference(stats.Ratio(m, k), stats.Ratio(two, k)); d.Known {
				t.Errorf("%v users: %+v", m.Users, d)
			}
			if d := plan.Single(stats.Ratio(m, k)); d.Known {
				t.Errorf("%v users: %+v", m.Users, d)
			}
		}
	}
	if got := stats.Ratio(one, stats.Share).Value; got != 0.75 {
		t.Errorf("one user's rate: %v", got)
	}
	// Users of whom nothing is counted: events came, outcomes did not.
	if e := stats.Ratio(moments([][2]float64{{1, 0}, {2, 0}, {1, 0}}), stats.Scale{}); e.Known {
		t.Errorf("cost without a task: %+v", e)
	}
}

// One user who calls a thousand times is one user: the interval of 20 users is
// as wide as if each had called once.
func TestUsersAreClusters(t *testing.T) {
	var once, often stats.Moments
	for i := range 20 {
		y := float64(i % 2)
		once.Add(y, 1)
		often.Add(1000*y, 1000)
	}
	a, b := stats.Ratio(once, stats.Scale{}), stats.Ratio(often, stats.Scale{})
	near(t, "value", b.Value, a.Value)
	near(t, "variance", b.Variance, a.Variance)
}

func TestQuantileInterval(t *testing.T) {
	plan := stats.Plan{Alpha: 0.05, Users: 4000}
	of := func(n int) stats.Quantile {
		q := stats.Quantile{Level: 0.95, Value: 2000, Known: true, Levels: []float64{0.85, 0.9, 0.925, 0.95, 0.975, 0.99}, Values: []float64{1000, 1500, 1800, 2000, 2500, 4000}}
		for i := range n {
			y := 1.0
			if i%20 == 0 {
				y = 0
			}
			q.Below.Add(y, 1)
		}
		return q
	}
	i := plan.Quantile(of(2000))
	if !i.Known || i.Value != 2000 || i.Lower != 1800 || i.Upper != 2500 || i.Level != 0.95 {
		t.Errorf("2,000 users: %+v", i)
	}
	// So few that the 95th percentile might lie beyond all that was seen.
	if i := plan.Quantile(of(40)); !math.IsInf(i.Upper, 1) || i.Lower != 0 {
		t.Errorf("40 users: %+v", i)
	}
	if i := plan.Quantile(of(1)); i.Known {
		t.Errorf("one user: %+v", i)
	}
	d := plan.QuantileDifference(of(20000), of(20000))
	if !d.Known || d.Value != 0 || d.Lower != -d.Upper || d.Upper <= 0 || d.Upper > 1500 {
		t.Errorf("difference: %+v", d)
	}
	// The quantile of one variant may be beyond all its values: not known yet.
	if d := plan.QuantileDifference(of(20000), of(40)); d.Value != 0 || !math.IsInf(d.Upper, 1) {
		t.Errorf("difference from 40 users: %+v", d)
	}
}

// simulation is one experiment that is checked every day.
type simulation struct {
	days, users int     // new users a day, over both variants
	share       float64 // of users that get the treatment
	kind        stats.Scale
	user        func(rng *rand.Rand, treated bool) (y, n float64)
}

// firstCall plays an experiment and returns the day on which an interval first
// leaves out 0, and on which side; day 0 is never.
func (s simulation) firstCall(rng *rand.Rand, plan stats.Plan) (day int, up bool) {
	var variants [2]stats.Moments
	for d := 1; d <= s.days; d++ {
		for range s.users {
			variant := 0
			if rng.Float64() < s.share {
				variant = 1
			}
			variants[variant].Add(s.user(rng, variant == 1))
		}
		if min(variants[0].Users, variants[1].Users) < minUsers {
			continue
		}
		i := plan.Difference(stats.Ratio(variants[0], s.kind), stats.Ratio(variants[1], s.kind))
		if i.Known && (i.Lower > 0 || i.Upper < 0) {
			return d, i.Lower > 0
		}
	}
	return 0, false
}

// tasks is a user with one to five tasks, each of which succeeds with a
// probability that differs by user.
func tasks(p, lift float64) func(*rand.Rand, bool) (float64, float64) {
	return func(rng *rand.Rand, treated bool) (y, n float64) {
		q := p + 0.25*(rng.Float64()-0.5)
		if treated {
			q += lift
		}
		n = float64(1 + rng.IntN(5))
		for range int(n) {
			if rng.Float64() < q {
				y++
			}
		}
		return y, n
	}
}

// spend is a user's cost over some tasks, with a long tail.
func spend(factor float64) func(*rand.Rand, bool) (float64, float64) {
	return func(rng *rand.Rand, treated bool) (y, n float64) {
		n = float64(1 + rng.IntN(4))
		for range int(n) {
			y += math.Exp(0.8*rng.NormFloat64() - 4)
		}
		if treated {
			y *= factor
		}
		return y, n
	}
}

// Checking daily for eight weeks, and stopping at the first significant
// difference, is wrong in at most 5 % of experiments without any difference.
func TestNoDifferenceLookedAtDaily(t *testing.T) {
	const experiments = 500
	plan := stats.Plan{Alpha: stats.DefaultAlpha, Users: 2000}
	for _, c := range []struct {
		name string
		s    simulation
	}{
		{"tasks solved, half of the users", simulation{56, 60, 0.5, stats.Share, tasks(0.6, 0)}},
		{"tasks solved, 5 % of users", simulation{56, 60, 0.05, stats.Share, tasks(0.6, 0)}},
		{"rare escalations", simulation{56, 60, 0.5, stats.Share, func(rng *rand.Rand, _ bool) (float64, float64) {
			if rng.Float64() < 0.02 {
				return 1, 1
			}
			return 0, 1
		}}},
		{"almost all succeed, 5 % of users", simulation{56, 60, 0.05, stats.Share, func(rng *rand.Rand, _ bool) (float64, float64) {
			if rng.Float64() < 0.98 {
				return 1, 1
			}
			return 0, 1
		}}},
		{"cost per task", simulation{56, 60, 0.5, stats.Scale{}, spend(1)}},
		{"cost per task, 10 % of users", simulation{56, 60, 0.1, stats.Scale{}, spend(1)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, 5))
			wrong := 0
			for range experiments {
				if day, _ := c.s.firstCall(rng, plan); day > 0 {
					wrong++
				}
			}
			t.Logf("%d of %d called a difference that was not there: %.1f %%", wrong, experiments, 100*float64(wrong)/experiments)
			if float64(wrong) > stats.DefaultAlpha*experiments {
				t.Errorf("%d of %d experiments without a difference found one", wrong, experiments)
			}
		})
	}
}

// A known effect is found, and in the right direction.
func TestKnownEffectLookedAtDaily(t *testing.T) {
	const experiments = 200
	plan := stats.Plan{Alpha: stats.DefaultAlpha, Users: 2000}
	for _, c := range []struct {
		name string
		s    simulation
		up   bool
		min  float64
	}{
		{"8 points more tasks solved", simulation{56, 60, 0.5, stats.Share, tasks(0.6, 0.08)}, true, 0.95},
		{"8 points fewer", simulation{56, 60, 0.5, stats.Share, tasks(0.6, -0.08)}, false, 0.95},
		{"a fifth cheaper", simulation{56, 60, 0.5, stats.Scale{}, spend(0.8)}, false, 0.95},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(11, 13))
			found, wrong, days := 0, 0, 0
			for range experiments {
				switch day, up := c.s.firstCall(rng, plan); {
				case day > 0 && up == c.up:
					found, days = found+1, days+day
				case day > 0:
					wrong++
				}
			}
			t.Logf("%d of %d found, after %.1f days on average", found, experiments, float64(days)/float64(max(found, 1)))
			if float64(found) < c.min*experiments || wrong > 0 {
				t.Errorf("%d of %d found, %d with the wrong sign", found, experiments, wrong)
			}
		})
	}
}

// The promised power is kept: with the number of users that Needed gives, the
// effect is found in about 80 % of experiments or, because earlier looks count
// too, a little more.
func TestNeededUsersSuffice(t *testing.T) {
	plan := stats.Plan{Alpha: stats.DefaultAlpha, Users: 2000}
	const p, lift, experiments = 0.5, 0.06, 300
	variance := (p*(1-p) + (p+lift)*(1-p-lift)) / 500
	users, ok := plan.Needed(lift, stats.Estimate{Variance: variance, Users: 1000, Known: true})
	if !ok {
		t.Fatal("no number of users")
	}
	one := func(rng *rand.Rand, treated bool) (float64, float64) {
		q := p
		if treated {
			q += lift
		}
		if rng.Float64() < q {
			return 1, 1
		}
		return 0, 1
	}
	s := simulation{20, int(users) / 20, 0.5, stats.Share, one}
	rng := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range experiments {
		if day, up := s.firstCall(rng, plan); day > 0 && up {
			found++
		}
	}
	share := float64(found) / experiments
	t.Logf("with %.0f users %.0f %% were found", users, 100*share)
	if share < 0.75 || share > 0.93 {
		t.Errorf("with %.0f users %.2f were found, want about 0.8", users, share)
	}
}

// The guard against a wrong assignment is not fooled by daily looks either, and
// finds one that is there.
func TestSampleRatioLookedAtDaily(t *testing.T) {
	play := func(rng *rand.Rand, share float64) bool {
		counts := []float64{0, 0}
		for range 56 {
			for range 60 {
				if rng.Float64() < share {
					counts[1]++
				} else {
					counts[0]++
				}
			}
			if stats.CheckRatio(counts, []float64{1, 1}).AlwaysP < mismatchLevel {
				return true
			}
		}
		return false
	}
	rng := rand.New(rand.NewPCG(3, 9))
	wrong, missed := 0, 0
	for range 500 {
		if play(rng, 0.5) {
			wrong++
		}
		if !play(rng, 0.44) {
			missed++
		}
	}
	t.Logf("of 500: %d false warnings, %d missed at 44 to 56", wrong, missed)
	if float64(wrong) > mismatchLevel*500 || missed > 25 {
		t.Errorf("of 500: %d false warnings, %d missed", wrong, missed)
	}
}
