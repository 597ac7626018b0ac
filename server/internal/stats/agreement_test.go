package stats_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// agreement is what reference/agreement.py computed with numpy and scipy.
type agreement struct {
	Configurations []configuration    `json:"configurations"`
	Inflation      map[string]float64 `json:"inflation"` // by looks
}

type configuration struct {
	Seed           uint64  `json:"seed"`
	Kind           string  `json:"kind"`
	Alpha          float64 `json:"alpha"`
	Planned        float64 `json:"planned"`
	ControlUsers   int     `json:"control_users"`
	TreatmentUsers int     `json:"treatment_users"`
	Most           float64 `json:"most"` // calls of a user
	Spread         float64 `json:"spread"`
	QuantileLevel  float64 `json:"level"`
	Looks          int     `json:"looks"`

	Single          []*float64 `json:"single"`  // value and bounds, of the treatment
	Settled         bool       `json:"settled"` // of it
	SettledUsers    float64    `json:"settled_users"`
	Limit           float64    `json:"limit"`
	Variances       [2]float64 `json:"variances"`
	Difference      []*float64 `json:"difference"`
	Gain            float64    `json:"gain"`
	Adjusted        []*float64 `json:"adjusted"`
	Stratified      [2]float64 `json:"stratified"` // value and variance
	Needed          float64    `json:"needed"`
	Information     []float64  `json:"information"`
	Bounds          []float64  `json:"bounds"`
	PlannedInterval []*float64 `json:"planned_interval"`
	ChiP            float64    `json:"chi_p"`
	AlwaysP         float64    `json:"always_p"`
}

// splitMix64 is the generator that reference/agreement.py has too (Steele, Lea and Flood,
// "Fast splittable pseudorandom number generators", OOPSLA 2014).
type splitMix64 uint64

func (s *splitMix64) float() float64 {
	*s += 0x9E3779B97F4A7C15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return float64((z^z>>31)>>11) / (1 << 53)
}

// call is one value. Conversions keep compilers from fusing, so that all machines agree.
func (c configuration) call(rng *splitMix64, habit float64) float64 {
	u := rng.float()
	switch c.Kind {
	case "rate":
		if u < 0.1+float64(habit*0.8) {
			return 1
		}
		return 0
	case "score":
		return (habit + u) / 2
	}
	amount := (habit + 0.05) / (1.005 - u)
	if c.Kind == "count" {
		return math.Floor(amount * 3)
	}
	return amount
}

// person is a user of a configuration.
type person struct {
	y, n, p, q float64
	stratum    int
	calls      []float64
}

func (c configuration) people(rng *splitMix64, count int) []person {
	out := make([]person, count)
	for i := range out {
		u := &out[i]
		habit := rng.float()
		u.n, u.stratum = 1+math.Floor(rng.float()*c.Most), int(habit*3)
		for range int(u.n) {
			v := c.call(rng, habit)
			u.y, u.calls = u.y+v, append(u.calls, v)
		}
		if rng.float() < 0.7 {
			u.q = 1 + math.Floor(rng.float()*3)
			for range int(u.q) {
				u.p += c.call(rng, habit)
			}
		}
	}
	return out
}

// sums are those of some users, winsorised at a limit, in all and by stratum.
func sums(people []person, limit float64) (all stats.Moments, strata [3]stats.Moments) {
	for _, u := range people {
		y, p := min(u.y, limit*u.n), u.p
		if u.q > 0 {
			p = min(p, limit*u.q)
		}
		all.AddWithPast(y, u.n, p, u.q)
		strata[u.stratum].AddWithPast(y, u.n, p, u.q)
	}
	return all, strata
}

func (c configuration) quantile(people []person) stats.Quantile {
	q := stats.Quantile{Level: c.QuantileLevel, Known: true}
	var values []float64
	for _, u := range people {
		values = append(values, u.calls...)
	}
	slices.Sort(values)
	at := func(level float64) float64 {
		x := level * float64(len(values)-1)
		i := min(int(x), len(values)-2)
		return values[i] + (x-float64(i))*(values[i+1]-values[i])
	}
	step := (1 - c.QuantileLevel) / 20
	for i := -20; i < 20; i++ {
		l := c.QuantileLevel + float64(step*float64(i))
		q.Levels, q.Values = append(q.Levels, l), append(q.Values, at(l))
	}
	q.Value = at(c.QuantileLevel)
	for _, u := range people {
		below := 0
		for _, v := range u.calls {
			if v <= q.Value {
				below++
			}
		}
		q.Below.Add(float64(below), u.n)
	}
	return q
}

func agree(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*math.Max(1, math.Abs(want))) {
		t.Errorf("%s: %.12g, the reference has %.12g", what, got, want)
	}
}

// agreeInterval takes a bound that is null for an infinite one.
func agreeInterval(t *testing.T, what string, got stats.Interval, want []*float64) {
	t.Helper()
	if !got.Known || len(want) != 3 {
		t.Errorf("%s: %+v", what, got)
		return
	}
	agree(t, what, got.Value, *want[0], 1e-9)
	for i, b := range []float64{got.Lower, got.Upper} {
		switch w := want[i+1]; {
		case w == nil && !math.IsInf(b, 2*i-1):
			t.Errorf("%s: bound %v, the reference has none", what, b)
		case w != nil:
			agree(t, what, b, *w, 1e-8)
		}
	}
}

func (c configuration) check(t *testing.T) {
	rng := splitMix64(c.Seed)
	control, treatment := c.people(&rng, c.ControlUsers), c.people(&rng, c.TreatmentUsers)
	plan := stats.Plan{Alpha: c.Alpha, Users: c.Planned}
	ratio := stats.CheckRatio([]float64{float64(c.ControlUsers), float64(c.TreatmentUsers)}, []float64{2, 1})
	agree(t, "chi-square's p", ratio.P, c.ChiP, 1e-9)
	agree(t, "always valid p", ratio.AlwaysP, c.AlwaysP, 1e-8)
	if c.Kind == "quantile" {
		a, b := c.quantile(control), c.quantile(treatment)
		agreeInterval(t, "quantile", plan.Quantile(b), c.Single)
		agreeInterval(t, "difference of quantiles", plan.QuantileDifference(a, b), c.Difference)
		return
	}
	var scale, raw stats.Scale
	if c.Kind == "rate" || c.Kind == "score" {
		scale, raw = stats.Share, stats.Share
	}
	limit := math.Inf(1)
	if c.Limit > 0 {
		limit, scale = c.Limit, stats.Scale{Low: 0, High: c.Limit}
	}
	single, _ := sums(treatment, math.Inf(1))
	e := stats.Ratio(single, raw)
	agreeInterval(t, "the treatment's value", plan.Single(e), c.Single)
	if ok, users := e.Settled(); ok != c.Settled || math.Abs(users-c.SettledUsers) > 1 {
		t.Errorf("settled: %v from %v users, the reference has %v from %v", ok, users, c.Settled, c.SettledUsers)
	}
	mc, sc := sums(control, limit)
	mt, st := sums(treatment, limit)
	x, y := stats.Ratio(mc, scale), stats.Ratio(mt, scale)
	agree(t, "the control's variance", x.Variance, c.Variances[0], 1e-9)
	agree(t, "the treatment's variance", y.Variance, c.Variances[1], 1e-9)
	d := y.Minus(x)
	plan.Spread = c.Spread * d.Variance * d.Users
	agreeInterval(t, "difference", plan.Difference(x, y), c.Difference)
	ax, ay, gain := stats.Adjust(mc, mt, scale)
	agree(t, "gain of the past", gain, c.Gain, 1e-8)
	agreeInterval(t, "difference with the past", plan.Difference(ax, ay), c.Adjusted)
	sx, sy, _ := stats.Stratify([][2]stats.Moments{{sc[0], st[0]}, {sc[1], st[1]}, {sc[2], st[2]}}, scale)
	agree(t, "stratified", sy.Value-sx.Value, c.Stratified[0], 1e-9)
	agree(t, "its variance", sy.Variance+sx.Variance, c.Stratified[1], 1e-9)
	n, ok := plan.Needed(2*math.Sqrt(d.Variance), stats.Estimate{Variance: d.Variance, Users: d.Users, Known: true})
	if !ok || math.Abs(n-c.Needed) > 1 {
		t.Errorf("%v users needed, the reference has %v", n, c.Needed)
	}
	if full || c.Seed%25 < 4 {
		c.checkPlanned(t, d)
	}
}

// checkPlanned is for a part of the configurations in the short form: it integrates.
func (c configuration) checkPlanned(t *testing.T, d stats.Estimate) {
	planned := stats.Planned{Alpha: c.Alpha, Looks: c.Looks}
	bounds := planned.Bounds(c.Information)
	for i, z := range c.Bounds {
		agree(t, fmt.Sprint("bound of look ", i+1), bounds[i], z, 1e-5)
	}
	// The same estimate at each look, with the information of that look.
	var looks []stats.Estimate
	last := c.Information[len(c.Information)-1]
	for _, info := range c.Information {
		at := d
		at.Variance *= last / info
		looks = append(looks, at)
	}
	agreeInterval(t, "planned looks", planned.Interval(looks), c.PlannedInterval)
}

// An independent implementation finds the same intervals, adjustments and bounds, in 200
// random configurations. "make stats" recomputes them (HEDGEROW_STATS_AGREEMENT).
func TestAgreement(t *testing.T) {
	raw, err := os.ReadFile(cmp.Or(os.Getenv("HEDGEROW_STATS_AGREEMENT"), "testdata/agreement.json"))
	if err != nil {
		t.Fatal(err)
	}
	var a agreement
	if err := json.Unmarshal(raw, &a); err != nil {
		t.Fatal(err)
	}
	if len(a.Configurations) != 200 || len(a.Inflation) < 5 {
		t.Fatalf("%d configurations, %d designs", len(a.Configurations), len(a.Inflation))
	}
	for _, c := range a.Configurations {
		t.Run(fmt.Sprint(c.Kind, " ", c.Seed), c.check)
	}
	for looks, want := range a.Inflation {
		n, err := strconv.Atoi(looks)
		if err != nil {
			t.Fatal(err)
		}
		e := stats.Estimate{Variance: 0.001, Users: 1000, Known: true}
		users, _ := stats.Planned{Alpha: 0.05, Looks: n}.Needed(0.001, e)
		once, _ := stats.Planned{Alpha: 0.05, Looks: 1}.Needed(0.001, e)
		agree(t, looks+" looks: users needed", users/once, want, 0.01)
		agree(t, looks+" looks: power", stats.Planned{Alpha: 0.05, Looks: n}.Power(0.001, e, once*want), 0.8, 1e-4)
	}
}
