package query_test

import (
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/query/querytest"
)

// Before an experiment begins its users are those of the flag; of a flag without traffic, those
// of the prompt.
func TestBaseline(t *testing.T) {
	f := rollout(t)
	q := query.ExperimentQuery{Project: "default", From: now.Add(-30 * 24 * time.Hour), MinUsers: 10, Metrics: []query.Metric{{Measure: query.ErrorRate}}}
	for _, c := range []struct {
		flag, prompt string
		takes        func(e *event.Event) bool
	}{
		{"answer-test", "answer", func(e *event.Event) bool {
			return (e.Flags["answer-test"] != "" || querytest.Text(e, "posthog_flag") == "answer-test") && e.PromptName == "answer"
		}},
		{"new-flag", "title", func(e *event.Event) bool { return e.PromptName == "title" }},
		{"", "", func(e *event.Event) bool { return e.IsCosted() || querytest.IsOutcome(e) }},
	} {
		users, calls := make(map[string]bool), 0.0
		for _, e := range f.events {
			if c.takes(e) && !e.Timestamp.Before(q.From) {
				users[e.DistinctID] = true
			}
		}
		q.Flag, q.Prompt = c.flag, c.prompt
		got, err := f.Baseline(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range f.events {
			if c.prompt == "" && e.IsCosted() {
				calls++
			}
		}
		if got.Users != int64(len(users)) || len(users) < 10 || len(got.Figures) != 1 || got.Figures[0].N == 0 || calls > 0 && got.Figures[0].N != calls {
			t.Errorf("%q, %q: %d users, %+v; want %d users, %v calls", c.flag, c.prompt, got.Users, got.Figures, len(users), calls)
		}
	}
	q.Prompt = "none of this name"
	if got, err := f.Baseline(t.Context(), q); err != nil || got.Users != 0 || len(got.Figures) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Results of evaluations by their users, of each evaluation and of all.
func TestJudgedByUser(t *testing.T) {
	f := rollout(t)
	var events []*event.Event
	want := map[string]map[string][2]float64{"": {}, "tone": {}, "facts": {}}
	for i := range 60 {
		name, user, passed := []string{"tone", "facts"}[i%2], "user-"+strconv.Itoa(i%7), i%3 > 0
		key := []string{"eval_passed", "$ai_evaluation_result"}[i%4/2]
		events = append(events, &event.Event{UUID: event.NewID(), ProjectID: "default", Name: "llm_output_rated", DistinctID: user, Timestamp: now.Add(-time.Duration(i+1) * time.Minute),
			Properties: raw(t, map[string]any{"eval_name": name, key: passed})})
		for _, n := range []string{"", name} {
			x := want[n][user]
			if x[1]++; passed {
				x[0]++
			}
			want[n][user] = x
		}
	}
	f.write(t, events...)
	got, err := f.JudgedByUser(t.Context(), "default", query.Filter{Name: "llm_output_rated"})
	if err != nil || len(got) != len(want) {
		t.Fatalf("%v, %v", got, err)
	}
	for name, users := range want {
		var m query.Moments
		for _, x := range users {
			m.Add(x[0], x[1])
		}
		g := got[name]
		for _, d := range []float64{g.Users - m.Users, g.N - m.N, g.Y - m.Y, g.NN - m.NN, g.YY - m.YY, g.NY - m.NY} {
			if math.Abs(d) > 1e-9 {
				t.Errorf("%q: %+v, want %+v", name, g, m)
				break
			}
		}
	}
}
