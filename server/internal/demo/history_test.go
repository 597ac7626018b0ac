package demo

import (
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// TestHistory finds in the made-up past what its story promises.
func TestHistory(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 30, 0, 0, time.UTC) // a Saturday
	h := newHistory(now)
	var events []*event.Event
	for h.next(&events) {
	}
	if len(events) < 20_000 || len(events) > 80_000 {
		t.Errorf("%d events", len(events))
	}
	if h.bad[0].Weekday() != time.Tuesday || now.Sub(h.bad[0]) > 8*24*time.Hour || !h.bad[1].Before(now) {
		t.Errorf("the worse version was out from %v to %v", h.bad[0], h.bad[1])
	}
	type tally struct{ calls, failed float64 }
	days, versions := make(map[string]*tally), make(map[string]*tally)
	var over tally
	completed := make(map[string][2]float64)
	variants := make(map[string]map[string]bool) // users by variant
	first := make(map[string]bool)
	count := func(m map[string]*tally, key string, e *event.Event) {
		if m[key] == nil {
			m[key] = new(tally)
		}
		m[key].calls++
		if e.IsError {
			m[key].failed++
		}
	}
	for _, e := range events {
		if err := e.Validate(); err != nil {
			t.Fatal(err)
		}
		if e.Name == event.FirstValue && first[e.DistinctID] {
			t.Errorf("%s reaches the first value twice", e.DistinctID)
		}
		first[e.DistinctID] = first[e.DistinctID] || e.Name == event.FirstValue
		if e.PromptName == "support_answer" && e.Name == "llm_task_completed" {
			c := completed[e.PromptVersion]
			c[1]++
			if string(e.Properties["task_completed"]) == "true" {
				c[0]++
			}
			completed[e.PromptVersion] = c
		}
		if e.Name != event.Generation {
			continue
		}
		if v := e.Flags[demoFlag]; v != "" {
			if variants[v] == nil {
				variants[v] = make(map[string]bool)
			}
			variants[v][e.DistinctID] = true
			if e.PromptName != demoSummary || (v == "treatment") != (e.PromptVersion == "8") || e.Timestamp.Before(h.trial) {
				t.Errorf("%s@%s at %v has the variant %s", e.PromptName, e.PromptVersion, e.Timestamp, v)
			}
		}
		count(days, e.Timestamp.Weekday().String(), e)
		if e.PromptName == "support_answer" {
			count(versions, e.PromptVersion, e)
			if cheap := e.ModelAsked == "gpt-4.1-mini"; cheap != e.Timestamp.After(h.cheap) && e.Timestamp.Sub(h.cheap).Abs() > 5*time.Minute {
				t.Errorf("%s at %v", e.ModelAsked, e.Timestamp)
			}
		}
		if e.Provider == "anthropic" && within(e.Timestamp, h.over) {
			over.calls++
			if e.IsError {
				over.failed++
			}
		}
	}
	if len(variants) != 2 || len(variants["control"]) < 80 || len(variants["treatment"]) < 80 {
		t.Errorf("%d users with the control, %d with the treatment", len(variants["control"]), len(variants["treatment"]))
	}
	if days["Sunday"].calls*2 > days["Wednesday"].calls {
		t.Errorf("Sunday has %v calls, Wednesday %v", days["Sunday"].calls, days["Wednesday"].calls)
	}
	rate := func(v string) float64 { return versions[v].failed / versions[v].calls }
	if rate("4") < 5*rate("3") || rate("4") < 5*rate("5") {
		t.Errorf("failures by version: %.3f %.3f %.3f", rate("3"), rate("4"), rate("5"))
	}
	done := func(v string) float64 { return completed[v][0] / completed[v][1] }
	if done("4") > done("3")-0.15 || done("5") < done("4")+0.15 {
		t.Errorf("completion by version: %.2f %.2f %.2f", done("3"), done("4"), done("5"))
	}
	if over.calls < 5 || over.failed < over.calls/5 {
		t.Errorf("while the provider was overloaded %v of %v calls failed", over.failed, over.calls)
	}
}
