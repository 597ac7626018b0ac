package stats_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// Bounds of five equally spaced looks, as tabulated: Jennison and Turnbull (2000), and
// what the R packages ldbounds and gsDesign give for the same spending function.
func TestPlannedBounds(t *testing.T) {
	want := []float64{4.8769, 3.3569, 2.6803, 2.2898, 2.0310}
	got := stats.Planned{Alpha: 0.05, Looks: 5}.Bounds([]float64{1, 2, 3, 4, 5})
	for i, z := range want {
		if math.Abs(got[i]-z) > 2e-3 {
			t.Errorf("look %d: %.4f, want %.4f", i+1, got[i], z)
		}
	}
	// One look is a test of a fixed sample.
	if z := (stats.Planned{Alpha: 0.05, Looks: 1}).Bounds([]float64{3}); math.Abs(z[0]-1.959964) > 1e-5 {
		t.Errorf("one look: %v", z)
	}
	for looks, want := range map[int]float64{2: 1.008, 5: 1.028, 10: 1.040} {
		p := stats.Planned{Alpha: 0.05, Looks: looks}
		// 50 % against 55 %.
		once := 1.959964 + 0.841621
		users := once * once / (0.05 * 0.05) * 0.9975
		e := stats.Estimate{Variance: 0.9975 / 1000, Users: 1000, Known: true}
		n, ok := p.Needed(0.05, e)
		if !ok || math.Abs(n/users-want) > 0.01 {
			t.Errorf("%d looks need %v users, %.4f times those of one, want %.3f", looks, n, n/users, want)
		}
		// Skewness widens bounds. The users needed have the power by the integrals too.
		for _, skewness := range []float64{0, 0.1, 0.3, 1} {
			e.Third = skewness * math.Pow(e.Variance, 1.5)
			more, ok := p.Needed(0.05, e)
			if power := p.Power(0.05, e, more); !ok || math.Abs(power-0.8) > 0.006 {
				t.Errorf("%d looks, skewness %v: a power of %.4f with the %v users needed", looks, skewness, power, more)
			}
			if skewness > 0 && more < n*(1+skewness/50) {
				t.Errorf("%d looks, skewness %v: %v users needed, %v without", looks, skewness, more, n)
			}
		}
	}
}

// Repeated users and unequal information do not break the level: a random walk looked at
// where little or much has come.
func TestPlannedLooksAtUnequalInformation(t *testing.T) {
	const experiments = 4000
	p := stats.Planned{Alpha: 0.05, Looks: 6}
	information := []float64{1, 1.1, 4, 4.5, 9, 10}
	bounds := p.Bounds(information)
	wrong := each(experiments, 77, func(rng *rand.Rand) bool {
		var s, last float64
		for k, info := range information {
			s += rng.NormFloat64() * math.Sqrt(info-last)
			last = info
			if math.Abs(s)/math.Sqrt(info) > bounds[k] {
				return true
			}
		}
		return false
	})
	if got := float64(wrong) / experiments; got > atMost(0.05, experiments) || got < 0.03 {
		t.Errorf("%.2f %% cross a bound", 100*got)
	}
}

// What users did before explains part of what they do: the variance falls by the
// squared correlation, and no difference is made where there is none.
func TestAdjust(t *testing.T) {
	const experiments, users = 300, 400
	var raw, adjusted, gains float64
	for i := range experiments {
		rng := rand.New(rand.NewPCG(5, uint64(i)))
		var v [2]stats.Moments
		for u := range users {
			habit := rng.NormFloat64()
			n, q := float64(1+rng.IntN(3)), float64(rng.IntN(3))
			v[u%2].AddWithPast(n*(5+habit+0.75*rng.NormFloat64()), n, q*(5+habit+0.75*rng.NormFloat64()), q)
		}
		c, u := stats.Ratio(v[0], stats.Scale{}), stats.Ratio(v[1], stats.Scale{})
		ac, au, gain := stats.Adjust(v[0], v[1], stats.Scale{})
		raw += (u.Value - c.Value) * (u.Value - c.Value)
		adjusted += (au.Value - ac.Value) * (au.Value - ac.Value)
		gains += gain
	}
	// The true variance of the difference falls as much as is said.
	said, fact := gains/experiments, 1-adjusted/raw
	if said < 0.2 || math.Abs(said-fact) > 0.12 {
		t.Errorf("said %.2f of the variance goes, %.2f do", said, fact)
	}
	// Without a past nothing changes.
	var none [2]stats.Moments
	for i := range 50 {
		none[i%2].Add(float64(i%7), 1)
	}
	if c, u, gain := stats.Adjust(none[0], none[1], stats.Scale{}); gain != 0 || c != stats.Ratio(none[0], stats.Scale{}) || u != stats.Ratio(none[1], stats.Scale{}) {
		t.Errorf("without a past: %v %v %v", c, u, gain)
	}
}

// Strata of different means: what the mix of strata contributes to the variance goes.
func TestStratify(t *testing.T) {
	const experiments, users = 300, 400
	var raw, stratified, gains float64
	for i := range experiments {
		rng := rand.New(rand.NewPCG(6, uint64(i)))
		strata := make([][2]stats.Moments, 3)
		var whole [2]stats.Moments
		for range users {
			s, arm := rng.IntN(3), rng.IntN(2)
			y := float64(s)*2 + rng.NormFloat64()
			strata[s][arm].Add(y, 1)
			whole[arm].Add(y, 1)
		}
		c, u := stats.Ratio(whole[0], stats.Scale{}), stats.Ratio(whole[1], stats.Scale{})
		sc, su, gain := stats.Stratify(strata, stats.Scale{})
		raw += (u.Value - c.Value) * (u.Value - c.Value)
		stratified += (su.Value - sc.Value) * (su.Value - sc.Value)
		gains += gain
	}
	said, fact := gains/experiments, 1-stratified/raw
	if said < 0.5 || math.Abs(said-fact) > 0.1 {
		t.Errorf("said %.2f of the variance goes, %.2f do", said, fact)
	}
	// Few users of a rare stratum are counted with another: none is lost.
	var a, b stats.Moments
	for i := range 60 {
		a.Add(float64(i%5), 1)
		b.Add(float64(i%6), 1)
	}
	var rare stats.Moments
	rare.Add(3, 1)
	if c, u, _ := stats.Stratify([][2]stats.Moments{{a, b}, {b, a}, {rare, {}}}, stats.Scale{}); c.Users != 121 || u.Users != 120 || !c.Known {
		t.Errorf("%+v %+v", c, u)
	}
}
