package experiment_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

var began = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// answer is a store that says what a test wants.
type answer struct {
	x     query.Experiment
	asked query.ExperimentQuery
	err   error
}

func (a *answer) Experiment(_ context.Context, q query.ExperimentQuery) (*query.Experiment, error) {
	if len(q.Metrics) > 0 { // a segment's sample ratio needs none
		a.asked = q
	}
	return &a.x, a.err
}

// shares is a figure of a rate: one task each for so many users.
func shares(good, all float64) query.Figure {
	return query.Figure{Moments: query.Moments{Users: all, N: all, NN: all, Y: good, YY: good, NY: good}}
}

// dollars is a figure of a mean, one task each, with a standard deviation.
func dollars(mean, deviation, users float64) query.Figure {
	return query.Figure{Moments: query.Moments{Users: users, N: users, NN: users, Y: mean * users, NY: mean * users, YY: users*mean*mean + (users-1)*deviation*deviation}}
}

// slow is a figure of a 95th percentile, whose neighbours lie 1 % apart.
func slow(p95, users float64) query.Figure {
	f := query.Figure{Moments: query.Moments{Users: users, N: users, NN: users, Y: 0.95 * users, YY: 0.95 * users, NY: 0.95 * users}, Value: event.Some(p95)}
	for i := -20; i <= 20; i++ {
		f.Levels = append(f.Levels, 0.95+0.0024*float64(i))
		f.Values = append(f.Values, p95*(1+0.01*float64(i)))
	}
	return f
}

func cell(variant string, users int64, figures ...query.Figure) query.Cell {
	return query.Cell{Variant: variant, Users: users, Calls: 3 * users, First: began, Last: began.Add(time.Hour), Versions: []string{"1"}, Figures: figures}
}

// seed is the experiment of the seed: a support prompt behind a flag.
func seed() experiment.Definition {
	return experiment.Definition{Project: "default", Started: began, Spec: experiment.Spec{
		Name: "Kinder answers", Flag: "support-answer-prompt-test", Prompt: "support_answer",
		Variants: []experiment.Variant{{Key: "control", Share: 50}, {Key: "treatment", Share: 50}},
		Primary:  experiment.Metric{Metric: query.Metric{Event: "support_ticket_resolved", Property: "resolved"}},
		Guardrails: []experiment.Guardrail{
			{Metric: experiment.Metric{Metric: query.Metric{Measure: query.EscalationRate}}, Limit: 0.02, Relative: true},
			{Metric: experiment.Metric{Metric: query.Metric{Measure: query.LatencyP95}}, Limit: 4000},
			{Metric: experiment.Metric{Metric: query.Metric{Measure: query.CostPerTask}}, Limit: 0.03},
		},
		Segments: []query.GroupBy{query.ByModel, query.ByProperty("plan")}, StopOnBreach: true,
	}}
}

// stored gives a definition its defaults.
func stored(t *testing.T, d experiment.Definition) experiment.Definition {
	t.Helper()
	if err := experiment.Normalise(&d); err != nil {
		t.Fatal(err)
	}
	d.ID = "x_1"
	return d
}

func TestVerdicts(t *testing.T) {
	fine := func(users float64) []query.Figure {
		return []query.Figure{shares(0.05*users, users), slow(2500, users), dollars(0.02, 0.01, users)}
	}
	with := func(primary query.Figure, guards []query.Figure) []query.Figure {
		return append([]query.Figure{primary}, guards...)
	}
	for _, c := range []struct {
		name               string
		control, treatment []query.Figure
		users              [2]int64
		mixed              [2]int64
		change             func(*experiment.Definition)
		state              experiment.State
		winner             string
		words              []string // of summary and reasons
	}{
		{name: "nothing came", state: experiment.Collecting, words: []string{"Each variant needs 50 users with resolved rate of support_ticket_resolved", "control has 0, treatment has 0"}},
		{name: "one user each", control: with(shares(1, 1), fine(1)), treatment: with(shares(0, 1), fine(1)), users: [2]int64{1, 1}, state: experiment.Collecting, words: []string{"control has 1"}},
		{name: "too few, however clear", control: with(shares(0, 45), fine(45)), treatment: with(shares(45, 45), fine(45)), users: [2]int64{45, 45}, state: experiment.Collecting, words: []string{"treatment has 45"}},
		{name: "clearly better", control: with(shares(550, 1000), fine(1000)), treatment: with(shares(680, 1000), fine(1000)), users: [2]int64{1000, 1000}, state: experiment.Winner, winner: "treatment",
			words: []string{"treatment is better than control", "+13.0 points (95 % interval +6.", "Escalation rate of treatment", "not yet significantly"}},
		{name: "clearly worse", control: with(shares(680, 1000), fine(1000)), treatment: with(shares(550, 1000), fine(1000)), users: [2]int64{1000, 1000}, state: experiment.Winner, winner: "control", words: []string{"control wins", "−13.0 points"}},
		{name: "all against none", control: with(shares(0, 100), fine(100)), treatment: with(shares(100, 100), fine(100)), users: [2]int64{100, 100}, state: experiment.Winner, winner: "treatment"},
		{name: "all succeed in both", control: with(shares(100, 100), fine(100)), treatment: with(shares(100, 100), fine(100)), users: [2]int64{100, 100}, state: experiment.Collecting, words: []string{"0.0 points"}},
		{name: "no difference yet", control: with(shares(120, 200), fine(200)), treatment: with(shares(124, 200), fine(200)), users: [2]int64{200, 200}, state: experiment.Collecting,
			words: []string{"Not significant yet", "Detecting a difference of 5 points", "users; there are 400", "At 40 users per day"}},
		{name: "no difference worth having", control: with(shares(12000, 20000), fine(20000)), treatment: with(shares(12040, 20000), fine(20000)), users: [2]int64{20000, 20000}, state: experiment.Inconclusive, words: []string{"No effect of the minimum detectable size", "less than 5 points"}},
		{name: "stopped without one", control: with(shares(120, 200), fine(200)), treatment: with(shares(124, 200), fine(200)), users: [2]int64{200, 200}, state: experiment.Inconclusive, words: []string{"Stopped without a significant difference"},
			change: func(d *experiment.Definition) { d.Stopped = began.Add(100 * time.Hour) }},
		{name: "stopped too early", control: with(shares(12, 20), fine(20)), treatment: with(shares(12, 20), fine(20)), users: [2]int64{20, 20}, state: experiment.Inconclusive, words: []string{"Stopped before there were enough users"},
			change: func(d *experiment.Definition) { d.Stopped = began.Add(100 * time.Hour) }},
		{name: "not begun", state: experiment.Draft, words: []string{"has not started"}, change: func(d *experiment.Definition) { d.Started = time.Time{} }},
		{name: "escalations", control: with(shares(550, 1000), fine(1000)), treatment: with(shares(680, 1000), []query.Figure{shares(180, 1000), slow(2500, 1000), dollars(0.02, 0.01, 1000)}), users: [2]int64{1000, 1000}, state: experiment.Broken,
			words: []string{"Escalation rate of treatment is +13.0 points", "the limit is at most 2 points more than control"}},
		{name: "escalations, not for certain", control: with(shares(550, 1000), fine(1000)), treatment: with(shares(680, 1000), []query.Figure{shares(85, 1000), slow(2500, 1000), dollars(0.02, 0.01, 1000)}), users: [2]int64{1000, 1000}, state: experiment.Collecting,
			words: []string{"treatment is better by", "cannot win while escalation rate is beyond its limit"}},
		{name: "slow", control: with(shares(550, 1000), fine(1000)), treatment: with(shares(550, 1000), []query.Figure{shares(50, 1000), slow(6000, 1000), dollars(0.02, 0.01, 1000)}), users: [2]int64{1000, 1000}, state: experiment.Broken, words: []string{"P95 latency of treatment is 6 s", "the limit is at most 4 s"}},
		{name: "both slow", control: with(shares(550, 1000), []query.Figure{shares(50, 1000), slow(6500, 1000), dollars(0.02, 0.01, 1000)}), treatment: with(shares(550, 1000), []query.Figure{shares(50, 1000), slow(6000, 1000), dollars(0.02, 0.01, 1000)}), users: [2]int64{1000, 1000}, state: experiment.Broken, words: []string{"control is beyond the limit too, at 6.5 s"}},
		{name: "dear", control: with(shares(550, 1000), fine(1000)), treatment: with(shares(550, 1000), []query.Figure{shares(50, 1000), slow(2500, 1000), dollars(0.04, 0.02, 1000)}), users: [2]int64{1000, 1000}, state: experiment.Broken, words: []string{"Cost per completed task of treatment is $0.04", "at most $0.03"}},
		{name: "slow, but of few", control: with(shares(25, 49), fine(49)), treatment: with(shares(25, 49), []query.Figure{shares(5, 49), slow(60000, 49), dollars(0.02, 0.01, 49)}), users: [2]int64{49, 49}, state: experiment.Collecting},
		{name: "users get lost", control: with(shares(550, 1000), fine(1000)), treatment: with(shares(600, 800), fine(800)), users: [2]int64{1000, 800}, state: experiment.Inconclusive, words: []string{"Users are not split as planned: 55.6 % / 44.4 % instead of 50.0 % / 50.0 %"}},
		{name: "many in both arms", control: with(shares(120, 200), fine(200)), treatment: with(shares(124, 200), fine(200)), users: [2]int64{200, 200}, mixed: [2]int64{20, 20}, state: experiment.Collecting, words: []string{"10.0 % of users (40) saw more than one variant and count for the variant that they saw first"}},
		{name: "many in both arms, excluded", control: with(shares(120, 200), fine(200)), treatment: with(shares(124, 200), fine(200)), users: [2]int64{200, 200}, mixed: [2]int64{20, 20}, state: experiment.Collecting, words: []string{"9.1 % of users (40) saw more than one variant and are excluded"},
			change: func(d *experiment.Definition) { d.Exclude.Mixed = true }},
		{name: "one arm falls back", control: with(shares(550, 1000), fine(1000)), treatment: with(shares(680, 1000), fine(1000)), users: [2]int64{1000, 1000}, mixed: [2]int64{14, 240}, state: experiment.Winner, winner: "treatment",
			words: []string{"depends on the variant that they saw first: 1.4 % of control, 24.0 % of treatment", "5.5 % / 94.5 % of these users, planned 50.0 % / 50.0 %", "Each variant keeps its users"}},
		{name: "one arm falls back, excluded", control: with(shares(550, 1000), fine(1000)), treatment: with(shares(680, 760), fine(760)), users: [2]int64{986, 760}, mixed: [2]int64{14, 240}, state: experiment.Inconclusive, words: []string{"With them excluded the variants cannot be compared"},
			change: func(d *experiment.Definition) { d.Exclude.Mixed = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := stored(t, seed())
			if c.change != nil {
				c.change(&d)
			}
			a := new(answer)
			for i, figures := range [][]query.Figure{c.control, c.treatment} {
				if c.users[i] > 0 {
					x := cell([]string{"control", "treatment"}[i], c.users[i], figures...)
					x.Mixed = c.mixed[i]
					a.x.Cells = append(a.x.Cells, x)
				}
			}
			r, err := experiment.Evaluate(t.Context(), a, d, began.Add(10*24*time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			words := r.Summary + " " + strings.Join(r.Why, " ")
			if r.State != c.state || r.Winner != c.winner {
				t.Errorf("%s %q: %s", r.State, r.Winner, words)
			}
			for _, w := range c.words {
				if !strings.Contains(words, w) {
					t.Errorf("%q is not in %q", w, words)
				}
			}
			if _, err := json.Marshal(r); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestQuestion(t *testing.T) {
	d := stored(t, seed())
	a := new(answer)
	now := began.Add(time.Hour)
	if _, err := experiment.Evaluate(t.Context(), a, d, now); err != nil {
		t.Fatal(err)
	}
	if q := a.asked; q.Project != "default" || q.Flag != d.Flag || q.Prompt != d.Prompt || !q.From.Equal(began) || !q.To.Equal(now) || len(q.Variants) != 2 || q.Variants[0] != "control" || len(q.Metrics) != 4 || q.Metrics[0].As != query.AsRate {
		t.Errorf("asked %+v", q)
	}
	d.Stopped = began.Add(time.Minute)
	if _, err := experiment.Evaluate(t.Context(), a, d, now); err != nil || !a.asked.To.Equal(d.Stopped) {
		t.Errorf("asked up to %v, %v", a.asked.To, err)
	}
	a.err = event.Invalid("no", "")
	if _, err := experiment.Evaluate(t.Context(), a, d, now); err == nil {
		t.Error("an error of the store is lost")
	}
}

func TestSegments(t *testing.T) {
	d := stored(t, seed())
	guards := []query.Figure{shares(5, 100), slow(2500, 100), dollars(0.02, 0.01, 100)}
	a := &answer{}
	for _, seg := range []string{"pro", "free"} {
		for i, variant := range []string{"control", "treatment"} {
			c := cell(variant, 100, append([]query.Figure{shares(50+20*float64(i), 100)}, guards...)...)
			c.Segment = seg
			a.x.Cells = append(a.x.Cells, c)
		}
	}
	lone := cell("treatment", 3, append([]query.Figure{shares(1, 3)}, guards...)...)
	a.x.Cells = append(a.x.Cells, lone)
	list, err := experiment.Segmented(t.Context(), a, d, query.ByProperty("plan"), began.Add(time.Hour))
	if err != nil || len(list) != 3 || a.asked.By != "property:plan" {
		t.Fatalf("%+v, %v", list, err)
	}
	s := list[0]
	if s.Value != "pro" || s.Variants[1].Users != 100 || math.Abs(s.Primary.Differences[0].Interval.Value-0.2) > 1e-9 || len(s.Guardrails) != 3 || s.Guardrails[1].Unit != experiment.UnitMillis {
		t.Errorf("%+v", s)
	}
	if s := list[2]; s.Variants[0].Users != 0 || s.Primary.Differences[0].Interval.Known {
		t.Errorf("a segment without control: %+v", s)
	}
	if _, err := experiment.Segmented(t.Context(), a, d, "user", began); err == nil {
		t.Error("users are no segments")
	}
}

// Three variants share the error between two comparisons.
func TestThreeVariants(t *testing.T) {
	d := seed()
	d.Variants = append(d.Variants, experiment.Variant{Key: "second", Share: 50})
	d.Guardrails = nil
	d = stored(t, d)
	a := &answer{x: query.Experiment{Cells: []query.Cell{cell("control", 1000, shares(550, 1000)), cell("treatment", 1000, shares(650, 1000)), cell("second", 1000, shares(700, 1000))}}}
	r, err := experiment.Evaluate(t.Context(), a, d, began.Add(time.Hour))
	if err != nil || r.State != experiment.Winner || r.Winner != "second" || len(r.Primary.Differences) != 2 || len(r.Power) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	two := d
	two.Variants = d.Variants[:2]
	narrow, err := experiment.Evaluate(t.Context(), a, two, began.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	width := func(r *experiment.Report) float64 {
		i := r.Primary.Differences[0].Interval
		return i.Upper - i.Lower
	}
	if width(r) <= width(narrow) {
		t.Errorf("with three arms the interval is %v wide, with two %v", width(r), width(narrow))
	}
}

func TestWords(t *testing.T) {
	m := func(x query.Measure) experiment.Metric { return experiment.Metric{Metric: query.Metric{Measure: x}} }
	guard := func(x query.Measure, better string, limit float64, relative bool) string {
		g := experiment.Guardrail{Metric: m(x), Limit: limit, Relative: relative}
		g.Better = better
		return g.Words("control")
	}
	for got, want := range map[string]string{
		guard(query.EscalationRate, "down", 0.02, true):   "at most 2 points more than control",
		guard(query.EscalationRate, "down", 0.01, true):   "at most 1 point more than control",
		guard(query.EscalationRate, "down", 0, true):      "not above control",
		guard(query.EscalationRate, "down", -0.02, true):  "at least 2 points less than control",
		guard(query.CompletionRate, "up", -0.015, true):   "at most 1.5 points less than control",
		guard(query.CompletionRate, "up", 0.01, true):     "at least 1 point more than control",
		guard(query.CompletionRate, "up", 0, true):        "not below control",
		guard(query.CompletionRate, "up", 0.9, false):     "at least 90.0 %",
		guard(query.LatencyP95, "down", 4000, false):      "at most 4 s",
		guard(query.LatencyP95, "down", 350, true):        "at most 350 ms more than control",
		guard(query.CostPerTask, "down", 0.03, false):     "at most $0.03",
		m(query.CostPerTask).Number(0.00481):              "$0.00481",
		m(query.CostPerTask).Number(-0.5):                 "−$0.5",
		m(query.EvalScore).Number(0.123456):               "0.1235",
		m(query.LatencyP95).Number(math.Inf(1)):           "above all observed values",
		m(query.EscalationRate).Number(0.0213):            "2.1 %",
		m(query.TTFTP50).Label():                          "median time to first token",
		m(query.LatencyP95).Format(experiment.Interval{}): "unknown",
		m(query.EscalationRate).FormatDifference(experiment.Interval{Value: 0.012, Lower: -0.01, Upper: 0.034, Known: true, Level: 0.95}): "+1.2 points (95 % interval −1.0 to +3.4)",
		m(query.LatencyP95).FormatDifference(experiment.Interval{Value: 120, Lower: -30, Upper: math.Inf(1), Known: true, Level: 0.967}):  "+120 ms (96.7 % interval −30 ms to no known bound)",
		experiment.Metric{Metric: query.Metric{Event: "x", As: "users"}}.Label():                                                          "share of users with x",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, x := range query.ExperimentMeasures() {
		if experiment.MeasureLabel(x) == "" {
			t.Errorf("%s has no label", x)
		}
	}
}

func TestIntervalJSON(t *testing.T) {
	for want, i := range map[string]experiment.Interval{
		`null`:                               {},
		`{"value":1,"lower":0.5,"upper":2}`:  {Value: 1, Lower: 0.5, Upper: 2, Known: true},
		`{"value":1,"lower":0,"upper":null}`: {Value: 1, Upper: math.Inf(1), Known: true},
	} {
		if b, err := json.Marshal(i); err != nil || string(b) != want {
			t.Errorf("%s, %v, want %s", b, err, want)
		}
	}
}

// Three guardrails, each exactly at its limit, checked on every day of eight
// weeks: a rollout that does no harm is stopped in no more than 5 % of all
// experiments.
func TestGuardrailsLookedAtDaily(t *testing.T) {
	t.Parallel()
	const experiments, days, users = 500, 56, 60
	d := seed()
	d.MinUsers = experiment.DefaultMinUsers
	const meanCost, cut = 0.02, 3000.0 // of the users' latencies, 95 % are below
	d.Guardrails[0].Limit = 0          // no more escalations than control has
	d.Guardrails[1].Limit, d.Guardrails[2].Limit = cut, meanCost
	d = stored(t, d)
	type variant struct {
		primary, escalated, cost query.Moments
		slow                     []float64 // sorted
	}
	broke := map[string]int{}
	wrong := 0
	rng := rand.New(rand.NewPCG(19, 23))
	for range experiments {
		var variants [2]variant
		any := false
		for day := 1; day <= days && !any; day++ {
			for range users {
				a := &variants[rng.IntN(2)]
				a.primary.Add(float64(rng.IntN(2)), 1)
				a.escalated.Add(chance(rng, 0.05), 1)
				a.cost.Add(rng.ExpFloat64()*meanCost, 1)
				v := cut * rng.ExpFloat64() / -math.Log(0.05)
				at, _ := slices.BinarySearch(a.slow, v)
				a.slow = slices.Insert(a.slow, at, v)
			}
			var x query.Experiment
			for i, key := range []string{"control", "treatment"} {
				a := &variants[i]
				n := int64(a.primary.Users)
				x.Cells = append(x.Cells, cell(key, n, query.Figure{Moments: a.primary}, query.Figure{Moments: a.escalated}, ninetyFifth(a.slow), query.Figure{Moments: a.cost}))
			}
			r, err := experiment.Evaluate(t.Context(), &answer{x: x}, d, began.AddDate(0, 0, day))
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range r.Guardrails {
				if g.Checks[0].Status == experiment.GuardBroken {
					broke[g.Label]++
					any = true
				}
			}
		}
		if any {
			wrong++
		}
	}
	t.Logf("in %d of %d experiments without harm a guardrail broke: %.1f %%, %v", wrong, experiments, 100*float64(wrong)/experiments, broke)
	if float64(wrong) > experiment.DefaultAlpha*experiments {
		t.Errorf("a guardrail broke in %d of %d experiments without harm", wrong, experiments)
	}
	if wrong == 0 {
		t.Error("none broke at all: the limits are not where the figures are")
	}
}

func chance(rng *rand.Rand, p float64) float64 {
	if rng.Float64() < p {
		return 1
	}
	return 0
}

// ninetyFifth is the figure of a 95th percentile of values that are sorted, one of
// each user, with the quantiles around it.
func ninetyFifth(values []float64) query.Figure {
	at := func(level float64) float64 { return values[min(int(level*float64(len(values))), len(values)-1)] }
	f := query.Figure{Value: event.Some(at(0.95))}
	for i := -40; i < 20; i++ {
		level := 0.95 + 0.0025*float64(i)
		f.Levels, f.Values = append(f.Levels, level), append(f.Values, at(level))
	}
	below, _ := slices.BinarySearch(values, math.Nextafter(f.Value.Value, math.Inf(1)))
	f.Moments = shares(float64(below), float64(len(values))).Moments
	return f
}

// Further guardrails widen the intervals of each, and of nothing else.
func TestGuardrailsShareTheError(t *testing.T) {
	width := func(guards int) (primary, cost float64) {
		d := seed()
		d.Guardrails = d.Guardrails[2:]
		for i := 1; i < guards; i++ {
			d.Guardrails = append(d.Guardrails, experiment.Guardrail{Metric: experiment.Metric{Metric: query.Metric{Event: fmt.Sprint("e", i), Property: "p"}}, Limit: 0.5})
		}
		figures := []query.Figure{shares(600, 1000), dollars(0.02, 0.01, 1000)}
		r, err := experiment.Evaluate(t.Context(), &answer{x: query.Experiment{Cells: []query.Cell{cell("control", 1000, figures...), cell("treatment", 1000, figures...)}}}, stored(t, d), began.AddDate(0, 0, 1))
		if err != nil {
			t.Fatal(err)
		}
		p, g := r.Primary.Differences[0].Interval, r.Guardrails[0].Values[1].Interval
		return p.Upper - p.Lower, g.Upper - g.Lower
	}
	p1, c1 := width(1)
	p2, c2 := width(2)
	p3, c3 := width(3)
	p10, c10 := width(10)
	if p1 != p2 || p1 != p3 || p1 != p10 {
		t.Errorf("the primary metric's interval changes: %v %v %v %v", p1, p2, p3, p10)
	}
	if c1 != c2 || c3 <= c2 || c10 <= c3 || c10 > 1.4*c1 {
		t.Errorf("widths of a guardrail's interval among 1, 2, 3 and 10: %v %v %v %v", c1, c2, c3, c10)
	}
}
