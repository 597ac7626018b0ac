package query_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/query/querytest"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// rollout is 300 users of a flag's two variants, with calls, what happened to
// them, and much that has nothing to do with the experiment.
func rollout(t testing.TB) *fixture {
	t.Helper()
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
	rng := rand.New(rand.NewPCG(21, 22))
	one := func(v any) json.RawMessage { b, _ := json.Marshal(v); return b }
	add := func(e *event.Event) *event.Event {
		e.UUID, e.ProjectID = event.NewID(), "default"
		f.events = append(f.events, e)
		return e
	}
	for i := range 300 {
		user := fmt.Sprintf("user-%d", i)
		variant, version := "control", "pv_1"
		if i%3 == 0 {
			variant, version = "treatment", "pv_2"
		}
		mixed := i%50 == 7
		plan := []string{"free", "pro", ""}[i/3%3]
		for j := range 1 + rng.IntN(4) {
			at := now.Add(-time.Duration(rng.IntN(9*24*60)+60) * time.Minute)
			call := &event.Event{Name: event.Generation, DistinctID: user, Timestamp: at, TraceID: fmt.Sprintf("t-%d-%d", i, j), PromptName: "answer", PromptVersion: strconv.Itoa(1 + i%2), PromptVersionID: version,
				Latency: event.Some(time.Duration(rng.IntN(5000)) * time.Millisecond), IsError: rng.IntN(9) == 0, Flags: map[string]string{"answer-test": variant, "other": "a"}, Properties: map[string]json.RawMessage{}}
			if mixed && j > 0 {
				call.Flags["answer-test"] = "treatment"
			}
			if rng.IntN(8) > 0 {
				call.Cost.Total = event.Some(decimal.New(int64(rng.IntN(9000)), -6))
			}
			if plan != "" {
				call.Properties["plan"] = one(plan)
			}
			switch rng.IntN(12) {
			case 0: // the flag as two properties
				call.Flags, call.Properties["posthog_flag"], call.Properties["posthog_flag_variant"] = nil, one("answer-test"), one(call.Flags["answer-test"])
			case 1: // a call of another prompt, by the same user: no part of the experiment
				call.PromptName, call.TraceID = "title", call.TraceID+"-title"
			case 2: // another variant, which is not checked
				call.Flags["answer-test"] = "third"
			}
			add(call)
			if rng.IntN(3) == 0 { // a second call of the trace, which names no flag
				add(&event.Event{Name: event.Embedding, DistinctID: user, Timestamp: at.Add(time.Second), TraceID: call.TraceID, Latency: event.Some(300 * time.Millisecond), Cost: event.Cost{Total: event.Some(decimal.New(5, -6))}})
			}
			if rng.IntN(5) == 0 {
				continue
			}
			done := add(&event.Event{Name: "llm_task_completed", DistinctID: user, Timestamp: at.Add(time.Minute), TraceID: call.TraceID, Properties: map[string]json.RawMessage{
				"task_completed": one(rng.IntN(3) > 0), "escalated_to_human": one(rng.IntN(6) == 0)}})
			switch rng.IntN(8) {
			case 0:
				done.TraceID = "" // by its user
			case 1:
				done.DistinctID = "server" // by its trace
			case 2:
				done.TraceID = "elsewhere" // of something else
			case 3:
				done.TraceID, done.Timestamp = "", at.Add(-20*24*time.Hour) // before the user met a variant
			case 4:
				done.Properties["eval_name"], done.Properties["eval_score"] = one("accuracy"), one(0.25*float64(rng.IntN(5)))
			case 5:
				done.Properties["eval_name"], done.Properties["eval_score"] = one("tone"), one("0.5")
			}
			if rng.IntN(2) == 0 {
				add(&event.Event{Name: "support_ticket_resolved", DistinctID: user, Timestamp: at.Add(time.Hour), TraceID: call.TraceID, Properties: map[string]json.RawMessage{
					"resolved": one(rng.IntN(4) > 0), "customer_satisfaction_score": one(1 + rng.IntN(5)), "channel": one([]string{"chat", "mail"}[rng.IntN(2)])}})
			}
		}
	}
	f.write(t, f.events...)
	return f
}

// reading is one event's y and n for a metric.
type reading func(e *event.Event) (y, n float64, ok bool)

// variantOf returns the variant that an event names.
func variantOf(e *event.Event) string {
	a := e.Flags["answer-test"]
	if a == "" && querytest.Text(e, "posthog_flag") == "answer-test" {
		a = querytest.Text(e, "posthog_flag_variant")
	}
	if a != "control" && a != "treatment" {
		return ""
	}
	return a
}

// member is one user of an experiment.
type member struct {
	variant        string // the first that they met
	mixed, skipped bool
	first          *event.Event
	of             []*event.Event // what counts for them
}

// members computes, without SQL, each user's variant and which events count for them.
func members(events []*event.Event, prompt string, skip func(*event.Event) bool) map[string]*member {
	out, traces := make(map[string]*member), make(map[string]*event.Event)
	for _, e := range events {
		a := variantOf(e)
		if a == "" || !e.IsCosted() && !querytest.IsOutcome(e) || prompt != "" && e.PromptName != prompt && (e.IsCosted() || e.PromptName != "") {
			continue
		}
		m := out[e.DistinctID]
		if m == nil {
			m = &member{variant: a, first: e}
			out[e.DistinctID] = m
		}
		m.mixed, m.skipped = m.mixed || a != m.variant, m.skipped || skip(e)
		if at := e.Timestamp.Compare(m.first.Timestamp); at < 0 || at == 0 && e.UUID < m.first.UUID {
			m.variant, m.first = a, e
		}
		traces[e.TraceID] = e
	}
	for _, e := range events {
		u, traced := e.DistinctID, false
		if t := traces[e.TraceID]; t != nil && e.TraceID != "" {
			u, traced = t.DistinctID, true
		}
		m, ok := out[u]
		if !ok {
			continue
		}
		late := !e.Timestamp.Before(m.first.Timestamp)
		if traced || late && (variantOf(e) != "" || e.TraceID == "" && !e.IsCosted()) {
			m.of = append(m.of, e)
		}
	}
	return out
}

func TestExperiment(t *testing.T) {
	f := rollout(t)
	share := func(name, prop string) reading {
		return func(e *event.Event) (float64, float64, bool) {
			v := querytest.Text(e, prop)
			return map[string]float64{"true": 1}[v], 1, (name == "" && querytest.IsOutcome(e) || e.Name == name) && (v == "true" || v == "false")
		}
	}
	cases := []experimentCase{
		{query.Metric{Measure: query.CompletionRate}, share("llm_task_completed", "task_completed")},
		{query.Metric{Measure: query.EscalationRate}, share("", "escalated_to_human")},
		{query.Metric{Measure: query.ErrorRate}, func(e *event.Event) (y, n float64, ok bool) {
			if e.IsError {
				y = 1
			}
			return y, 1, e.IsCosted()
		}},
		{query.Metric{Measure: query.CostPerCall}, func(e *event.Event) (y, n float64, ok bool) {
			return e.Cost.Total.Value.InexactFloat64(), 1, e.IsCosted() && e.Cost.Total.Known
		}},
		{query.Metric{Measure: query.CostPerTask}, func(e *event.Event) (y, n float64, ok bool) {
			if e.IsCosted() && e.Cost.Total.Known {
				return e.Cost.Total.Value.InexactFloat64(), 0, true
			}
			return 0, 1, e.Name == "llm_task_completed" && querytest.Text(e, "task_completed") != "false"
		}},
		{query.Metric{Measure: query.EvalScore, Eval: "accuracy"}, func(e *event.Event) (y, n float64, ok bool) {
			y, err := strconv.ParseFloat(querytest.Text(e, "eval_score"), 64)
			return y, 1, err == nil && querytest.Text(e, "eval_name") == "accuracy"
		}},
		{query.Metric{Event: "support_ticket_resolved", Property: "resolved"}, share("support_ticket_resolved", "resolved")},
		{query.Metric{Event: "support_ticket_resolved", Property: "channel", Value: "mail"}, func(e *event.Event) (y, n float64, ok bool) {
			if querytest.Text(e, "channel") == "mail" {
				y = 1
			}
			return y, 1, e.Name == "support_ticket_resolved"
		}},
		{query.Metric{Event: "support_ticket_resolved", Property: "customer_satisfaction_score", As: query.AsMean}, func(e *event.Event) (y, n float64, ok bool) {
			y, err := strconv.ParseFloat(querytest.Text(e, "customer_satisfaction_score"), 64)
			return y, 1, err == nil
		}},
		{query.Metric{Event: "support_ticket_resolved", As: query.AsUsers}, nil},
		{query.Metric{Event: "support_ticket_resolved", As: query.AsCount}, func(e *event.Event) (y, n float64, ok bool) {
			return 1, 0, e.Name == "support_ticket_resolved"
		}},
		{query.Metric{Event: "support_ticket_resolved", As: query.AsCount, Property: "channel", Value: "mail"}, func(e *event.Event) (y, n float64, ok bool) {
			return 1, 0, querytest.Text(e, "channel") == "mail"
		}},
		{query.Metric{Measure: query.LatencyP95}, nil},
	}
	q := query.ExperimentQuery{Project: "default", From: now.Add(-30 * 24 * time.Hour), Flag: "answer-test", Prompt: "answer", Variants: []string{"control", "treatment"}}
	for _, c := range cases {
		q.Metrics = append(q.Metrics, c.metric)
	}
	colleagues := query.Exclusion{Users: []string{"user-4", "user-9", "nobody"}, Properties: []query.Condition{{Property: "mail", Operator: query.Contains, Value: "@ACME"}, {Property: "plan", Value: "pro"}, {Property: "load_test", Operator: query.IsSet}}}
	none := func(*event.Event) bool { return false }
	for _, c := range []struct {
		name    string
		by      query.GroupBy
		exclude query.Exclusion
		skip    func(*event.Event) bool
	}{
		{name: "all", skip: none},
		{name: "segments", by: query.ByProperty("plan"), skip: none},
		{name: "without mixed users", exclude: query.Exclusion{Mixed: true}, skip: none},
		{name: "without colleagues", exclude: colleagues, skip: func(e *event.Event) bool {
			return e.DistinctID == "user-4" || e.DistinctID == "user-9" || querytest.Text(e, "plan") == "pro"
		}},
	} {
		q.By, q.Exclude = c.by, c.exclude
		sameExperiment(t, c.name, f, q, cases, c.skip)
	}
}

// experimentCase is a metric and how an event is read for it, without SQL.
type experimentCase struct {
	metric query.Metric
	read   reading
}

func sameExperiment(t *testing.T, name string, f *fixture, q query.ExperimentQuery, cases []experimentCase, skip func(*event.Event) bool) {
	t.Helper()
	got, err := f.Experiment(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	type key struct{ seg, variant string }
	type size struct{ mixed, excluded, calls int64 }
	users, sizes, all := make(map[key][]*member), make(map[key]*size), make(map[key]bool)
	mixed := int64(0)
	for _, m := range members(f.events, "answer", skip) {
		k := key{variant: m.variant}
		if q.By != query.ByNone {
			k.seg = querytest.Text(m.first, "plan")
		}
		all[k] = true
		if sizes[k] == nil {
			sizes[k] = new(size)
		}
		switch s := sizes[k]; {
		case m.skipped:
			s.excluded++
			continue
		case m.mixed:
			mixed++
			if s.mixed++; q.Exclude.Mixed {
				continue
			}
		}
		users[k] = append(users[k], m)
		for _, e := range m.of {
			if e.IsCosted() {
				sizes[k].calls++
			}
		}
	}
	if len(got.Cells) != len(all) || len(users) < 2 || mixed == 0 {
		t.Fatalf("%s: %d cells, want %d; %d mixed", name, len(got.Cells), len(all), mixed)
	}
	for _, cell := range got.Cells {
		k := key{cell.Segment, cell.Variant}
		list := users[k]
		what := name + " " + cell.Segment + "/" + cell.Variant
		if want := sizes[k]; cell.Users != int64(len(list)) || cell.Mixed != want.mixed || cell.Excluded != want.excluded || cell.Calls != want.calls {
			t.Errorf("%s: %d users, %d mixed, %d excluded, %d calls; want %d and %+v", what, cell.Users, cell.Mixed, cell.Excluded, cell.Calls, len(list), *want)
		}
		if len(list) == 0 {
			continue
		}
		if q.By == query.ByNone && (len(cell.Versions) != 2 || !slices.Contains(cell.Versions, "1")) {
			t.Errorf("%s ran %v", what, cell.Versions)
		}
		var values []float64
		for i, c := range cases {
			var want query.Moments
			for _, u := range list {
				var y, n float64
				any := false
				if c.metric.As == query.AsCount {
					n, any = 1, true // also a user who has none
				}
				for _, e := range u.of {
					switch {
					case c.metric.As == query.AsUsers:
						if e.Name == c.metric.Event {
							y = 1
						}
						n, any = 1, true
					case c.metric.Measure == query.LatencyP95:
						if e.IsCosted() && e.Latency.Known && !e.IsError {
							values = append(values, float64(e.Latency.Value)/1e6)
						}
					default:
						if dy, dn, ok := c.read(e); ok {
							y, n, any = y+dy, n+dn, true
						}
					}
				}
				if any {
					want.Add(y, n)
				}
			}
			if c.metric.Measure != query.LatencyP95 {
				if c.metric.Measure == query.ErrorRate && float64(cell.Calls) != cell.Figures[i].N {
					t.Errorf("%s: %d calls are shown, the error rate is of %v", what, cell.Calls, cell.Figures[i].N)
				}
				sameMoments(t, fmt.Sprintf("%s %+v", what, c.metric), cell.Figures[i].Moments, want)
			}
		}
		fig := cell.Figures[len(cases)-1]
		slices.Sort(values)
		q95 := interpolated(values, 0.95)
		below, _ := slices.BinarySearch(values, math.Nextafter(fig.Value.Value, math.Inf(1)))
		if math.Abs(fig.Value.Value-q95) > 1e-6 || fig.N != float64(len(values)) || fig.Y != float64(below) {
			t.Errorf("%s: 95th percentile %v of %v with %v below, want %v of %d", what, fig.Value.Value, fig.N, fig.Y, q95, len(values))
		}
		for j, l := range fig.Levels {
			if want := interpolated(values, l); math.Abs(fig.Values[j]-want) > 1e-6 {
				t.Errorf("level %v: %v, want %v", l, fig.Values[j], want)
			}
		}
	}
}

// interpolated is the quantile of sorted values, between its two neighbours.
func interpolated(sorted []float64, level float64) float64 {
	at := level * float64(len(sorted)-1)
	i := int(at)
	next := sorted[min(i+1, len(sorted)-1)]
	return sorted[i] + (at-float64(i))*(next-sorted[i])
}

func sameMoments(t *testing.T, what string, got, want query.Moments) {
	t.Helper()
	g := []float64{got.Users, got.N, got.Y, got.NN, got.YY, got.NY, got.Third.NNN, got.Third.NNY, got.Third.NYY, got.Third.YYY}
	w := []float64{want.Users, want.N, want.Y, want.NN, want.YY, want.NY, want.Third.NNN, want.Third.NNY, want.Third.NYY, want.Third.YYY}
	for i := range g {
		if math.Abs(g[i]-w[i]) > 1e-9*max(1, math.Abs(w[i])) {
			t.Errorf("%s: %v, want %v", what, g, w)
			return
		}
	}
	if want.N == 0 {
		t.Errorf("%s: nothing is counted", what)
	}
}

// What contributes to a figure adds up to it, the worst first.
func TestExperimentContributions(t *testing.T) {
	f := rollout(t)
	q := query.ContributionsQuery{ExperimentQuery: query.ExperimentQuery{Project: "default", From: now.Add(-30 * 24 * time.Hour), Flag: "answer-test", Prompt: "answer", Variants: []string{"control", "treatment"}}, Variant: "treatment", Limit: 500}
	for _, m := range []query.Metric{{Measure: query.CompletionRate}, {Measure: query.CostPerTask}, {Measure: query.LatencyP95}, {Event: "support_ticket_resolved", As: query.AsUsers}} {
		for _, q.Descending = range []bool{false, true} {
			q.Metrics = []query.Metric{m}
			got, err := f.ExperimentContributions(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			x, err := f.Experiment(t.Context(), q.ExperimentQuery)
			if err != nil {
				t.Fatal(err)
			}
			want := x.Cells[1].Figures[0].Moments
			var y, n float64
			last := math.Inf(-1)
			for _, b := range got {
				y, n = y+b.Y.Value, n+b.N.Value
				v := b.Y.Value / max(1, b.N.Value)
				if q.Descending {
					v = -v
				}
				if v < last-1e-12 || b.User == "" || b.At.IsZero() {
					t.Fatalf("%+v comes after %v", b, last)
				}
				last = v
			}
			if len(got) == 0 || m.As == "" && m.Quantile() == 0 && (math.Abs(y-want.Y) > 1e-9 || n != want.N) || m.Quantile() > 0 && n != want.N {
				t.Errorf("%+v: %d with %v of %v, want %v of %v", m, len(got), y, n, want.Y, want.N)
			}
		}
	}
	q.Metrics = nil
	_, err := f.ExperimentContributions(t.Context(), q)
	wantInvalid(t, err)
}

// Versions of a prompt can be the variants, by number or id.
func TestExperimentOfVersions(t *testing.T) {
	f := rollout(t)
	for _, variants := range [][]string{{"1", "2"}, {"pv_1", "pv_2"}} {
		got, err := f.Experiment(t.Context(), query.ExperimentQuery{Project: "default", From: now.Add(-30 * 24 * time.Hour), Prompt: "answer", Variants: variants, Metrics: []query.Metric{{Measure: query.ErrorRate}}})
		if err != nil {
			t.Fatal(err)
		}
		users := make(map[string]map[string]bool)
		for _, e := range f.events {
			if e.PromptName == "answer" {
				for _, a := range variants {
					if e.PromptVersion == a || e.PromptVersionID == a {
						if users[a] == nil {
							users[a] = make(map[string]bool)
						}
						users[a][e.DistinctID] = true
					}
				}
			}
		}
		if len(got.Cells) != 2 {
			t.Fatalf("%v: %+v", variants, got.Cells)
		}
		for i, c := range got.Cells {
			if c.Variant != variants[i] || c.Users != int64(len(users[c.Variant])) || c.Figures[0].Users != float64(c.Users) {
				t.Errorf("%v: %+v, want %d users", variants, c, len(users[c.Variant]))
			}
		}
	}
}

func TestExperimentEmptyAndInvalid(t *testing.T) {
	f := rollout(t)
	ok := query.ExperimentQuery{Project: "default", From: now.Add(-time.Hour), Flag: "no-such", Variants: []string{"a", "b"}, Metrics: []query.Metric{{Measure: query.LatencyP95}, {Measure: query.CostPerTask}}}
	got, err := f.Experiment(t.Context(), ok)
	if err != nil || len(got.Cells) != 0 {
		t.Errorf("nothing there: %+v, %v", got, err)
	}
	for name, change := range map[string]func(*query.ExperimentQuery){
		"NoProject":     func(q *query.ExperimentQuery) { q.Project = "" },
		"NoStart":       func(q *query.ExperimentQuery) { q.From = time.Time{} },
		"OneVariant":    func(q *query.ExperimentQuery) { q.Variants = q.Variants[:1] },
		"NeitherNor":    func(q *query.ExperimentQuery) { q.Flag = "" },
		"NoMetric":      func(q *query.ExperimentQuery) { q.Metrics = []query.Metric{{}} },
		"UnknownMetric": func(q *query.ExperimentQuery) { q.Metrics = []query.Metric{{Measure: query.Calls}} },
		"Both":          func(q *query.ExperimentQuery) { q.Metrics = []query.Metric{{Measure: query.ErrorRate, Event: "x"}} },
		"EvalOfErrors":  func(q *query.ExperimentQuery) { q.Metrics = []query.Metric{{Measure: query.ErrorRate, Eval: "x"}} },
		"NoProperty":    func(q *query.ExperimentQuery) { q.Metrics = []query.Metric{{Event: "x"}} },
		"OddAs":         func(q *query.ExperimentQuery) { q.Metrics = []query.Metric{{Event: "x", As: "median"}} },
		"NUL":           func(q *query.ExperimentQuery) { q.Variants = []string{"a\x00", "b"} },
		"OddSegment":    func(q *query.ExperimentQuery) { q.By = "planet" },
		"TooMany":       func(q *query.ExperimentQuery) { q.Metrics = make([]query.Metric, query.MaxMeasures+1) },
	} {
		q := ok
		change(&q)
		_, err := f.Experiment(t.Context(), q)
		if event.AsError(err) == nil || event.AsError(err).Code != event.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	evil := `x'); DROP TABLE events; --`
	_, err = f.Experiment(t.Context(), query.ExperimentQuery{Project: evil, From: now.Add(-time.Hour), Flag: evil, Prompt: evil, Variants: []string{evil, "b"}, By: query.ByProperty(evil),
		Metrics: []query.Metric{{Event: evil, Property: evil, Value: evil}, {Measure: query.EvalScore, Eval: evil}}})
	if err != nil {
		t.Error(err)
	}
}

// Events that say that their user is a bot exclude them, unless the experiment
// counts bots; each condition excludes whom it names.
func TestExperimentExclusion(t *testing.T) {
	f := newFixture(t)
	for i, c := range []struct{ user, property, value string }{
		{"ann", "plan", `"pro"`}, {"otel", "user_agent.synthetic.type", `"bot"`}, {"check", "user_agent.synthetic.type", `"test"`}, {"crawler", "$browser_type", `"bot"`},
		{"virtual", "$virt_is_bot", `true`}, {"plain", "is_bot", `true`}, {"person", "is_bot", `false`}, {"colleague", "email", `"Eve@ACME.example"`}, {"load", "load_test", `7`},
	} {
		f.write(t, &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Generation, DistinctID: c.user, Timestamp: now.Add(-time.Hour), TraceID: "x" + c.user,
			Flags: map[string]string{"bot-test": []string{"control", "treatment"}[i%2]}, Properties: map[string]json.RawMessage{c.property: json.RawMessage(c.value)}})
	}
	q := query.ExperimentQuery{Project: "default", From: now.Add(-2 * time.Hour), Flag: "bot-test", Variants: []string{"control", "treatment"}}
	for name, c := range map[string]struct {
		exclude         query.Exclusion
		users, excluded int64
	}{
		"bots, by default": {query.Exclusion{}, 4, 5},
		"bots":             {query.Exclusion{Bots: query.BotsExcluded}, 4, 5},
		"nobody":           {query.Exclusion{Bots: query.BotsCount}, 9, 0},
		"by ID":            {query.Exclusion{Users: []string{"ann", "otel", "zoe"}}, 3, 6},
		"by a part":        {query.Exclusion{Bots: query.BotsCount, Properties: []query.Condition{{Property: "email", Operator: query.Contains, Value: "@acme.EXAMPLE"}}}, 8, 1},
		"by a value":       {query.Exclusion{Bots: query.BotsCount, Properties: []query.Condition{{Property: "plan", Operator: query.Exact, Value: "pro"}, {Property: "is_bot", Value: "false"}}}, 7, 2},
		"if it is there":   {query.Exclusion{Bots: query.BotsCount, Properties: []query.Condition{{Property: "load_test", Operator: query.IsSet}}}, 8, 1},
	} {
		q.Exclude = c.exclude
		got, err := f.Experiment(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		var users, excluded int64
		for _, cell := range got.Cells {
			users, excluded = users+cell.Users, excluded+cell.Excluded
		}
		if users != c.users || excluded != c.excluded {
			t.Errorf("%s: %d users and %d excluded, want %d and %d", name, users, excluded, c.users, c.excluded)
		}
	}
	for name, bad := range map[string]query.Exclusion{
		"TooManyUsers": {Users: make([]string, 501)},
		"EmptyUser":    {Users: []string{""}},
		"TooManyRules": {Properties: make([]query.Condition, 11)},
		"OddBots":      {Bots: "maybe"},
		"NoProperty":   {Properties: []query.Condition{{Value: "x"}}},
		"NoValue":      {Properties: []query.Condition{{Property: "x"}}},
		"OddOperator":  {Properties: []query.Condition{{Property: "x", Operator: "regex", Value: "x"}}},
		"SetToWhat":    {Properties: []query.Condition{{Property: "x", Operator: query.IsSet, Value: "x"}}},
		"NUL":          {Users: []string{"a\x00"}},
	} {
		q.Exclude = bad
		_, err := f.Experiment(t.Context(), q)
		if event.AsError(err) == nil || event.AsError(err).Code != event.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Filters by flag find what a variant is made of.
func TestEventsByFlag(t *testing.T) {
	f := rollout(t)
	for _, variant := range []string{"", "treatment"} {
		page, err := f.Events(t.Context(), query.EventsQuery{Project: "default", Filter: query.Filter{Flag: "answer-test", FlagVariant: variant}, Limit: query.MaxLimit})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range page.Events {
			got = append(got, e.UUID)
		}
		want := newest(f.events, func(e *event.Event) bool {
			v := cmp.Or(e.Flags["answer-test"], querytest.Text(e, "posthog_flag_variant"))
			return v != "" && (variant == "" || v == variant)
		})
		want = want[:min(len(want), query.MaxLimit)]
		if !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("%q: %d events, want %d", variant, len(got), len(want))
		}
	}
	page, err := f.Events(t.Context(), query.EventsQuery{Project: "default", Filter: query.Filter{FlagVariant: "treatment"}, Limit: query.MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	if want := newest(f.events, func(e *event.Event) bool { return querytest.Text(e, "posthog_flag_variant") == "treatment" }); len(page.Events) != len(want) || len(want) == 0 {
		t.Errorf("by variant alone: %d events, want %d", len(page.Events), len(want))
	}
}

// TestExperimentOfManyUsers: a store that has its memory from auto answers for
// 105,000 users, each with two calls in a trace of their own and an outcome.
func TestExperimentOfManyUsers(t *testing.T) {
	const users = 105_000
	path := filepath.Join(t.TempDir(), "many.duckdb")
	open := func() *store.DuckDB {
		t.Helper()
		s, err := store.OpenDuckDB(t.Context(), store.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := open().Close(); err != nil {
		t.Fatal(err)
	}
	in := inFile(t, path)
	in("INSERT INTO events (uuid, project_id, name, ts, stored_at, content_bytes, distinct_id, trace_id, span_id, latency_us, cost_total, is_error, private, flags, properties) "+
		"SELECT uuid(), 'default', CASE i % 3 WHEN 2 THEN 'llm_task_completed' ELSE '"+event.Generation+"' END, make_timestamp($1 + i), make_timestamp($1 + i), 0, 'user-' || md5(CAST(i // 3 AS VARCHAR)), md5(CAST(i // 3 AS VARCHAR)), "+
		"CAST(i AS VARCHAR), CASE WHEN i % 3 < 2 THEN 1000000 + i % 1000 END, CASE WHEN i % 3 < 2 THEN 0.002 END, i % 60 = 0, false, CASE WHEN i % 3 < 2 THEN '{\"model-choice\":\"' || ['control', 'test'][1 + i // 3 % 2] || '\"}' END, "+
		"CASE WHEN i % 3 = 2 THEN '{\"task_completed\":' || (i % 4 <> 0) || '}' END FROM range($2) r(i)", now.Add(-time.Hour).UnixMicro(), 3*users)
	in("CHECKPOINT; USE memory; DETACH bench")
	s := open()
	defer s.Close()
	r, err := query.New(s, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Experiment(t.Context(), query.ExperimentQuery{Project: "default", From: now.AddDate(0, 0, -1), Flag: "model-choice", Variants: []string{"control", "test"},
		Metrics: []query.Metric{{Measure: query.CompletionRate}, {Measure: query.LatencyP95}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Cells) != 2 {
		t.Fatalf("%d cells", len(got.Cells))
	}
	for _, c := range got.Cells {
		if c.Users != users/2 || c.Calls != users || c.Mixed != 0 {
			t.Errorf("%s: %d users, %d calls, %d mixed", c.Variant, c.Users, c.Calls, c.Mixed)
		}
		if n := c.Figures[0].N; n != users/2 {
			t.Errorf("%s: %v tasks", c.Variant, n)
		}
		if p95 := c.Figures[1].Value.Value; math.Abs(p95-1000.95) > 0.01 {
			t.Errorf("%s: p95 %v ms", c.Variant, p95)
		}
	}
}
