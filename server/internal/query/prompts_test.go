package query_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

func TestPromptUse(t *testing.T) {
	f := newFixture(t)
	start := now.AddDate(1, 0, 0) // past all that the fixture holds
	call := func(minute int, name, version, id string, failed, drift bool) *event.Event {
		e := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Generation, DistinctID: "u", Timestamp: start.Add(time.Duration(minute) * time.Minute),
			PromptName: name, PromptVersion: version, PromptVersionID: id, IsError: failed}
		if drift {
			if err := e.SetProperty("prompt_drift", true); err != nil {
				t.Fatal(err)
			}
		}
		return e
	}
	outcome := call(9, "support", "1", "", false, false)
	outcome.Name = "llm_task_completed"
	f.write(t, call(0, "support", "1", "", false, false), call(1, "support", "1", "", true, true), call(2, "support", "2", "pv_2", false, false),
		call(3, "support", "", "pv_old", false, false), call(4, "support", "", "", false, true), call(5, "plan", "1", "", false, false), call(6, "", "", "", false, false), outcome)
	read := func(filter query.Filter, versions bool) string {
		t.Helper()
		filter.From = start
		list, err := f.PromptUse(t.Context(), "default", filter, versions)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, u := range list {
			out = append(out, fmt.Sprintf("%s@%s %d/%d drifted %d last %d", u.Name, u.Version, u.Totals.Errors, u.Totals.Calls, u.Drifted, int(u.Last.Sub(start).Minutes())))
		}
		return strings.Join(out, "; ")
	}
	for _, c := range []struct {
		name     string
		filter   query.Filter
		versions bool
		want     string
	}{
		{"prompts", query.Filter{}, false, "support@ 1/5 drifted 2 last 4; plan@ 0/1 drifted 0 last 5"},
		{"versions", query.Filter{PromptName: "support"}, true, "support@1 1/2 drifted 1 last 1; support@ 0/1 drifted 1 last 4; support@2 0/1 drifted 0 last 2; support@pv_old 0/1 drifted 0 last 3"},
		{"filtered", query.Filter{Properties: map[string]string{"prompt_drift": "true"}}, false, "support@ 1/2 drifted 2 last 4"},
		{"none", query.Filter{PromptName: "nothing"}, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := read(c.filter, c.versions); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	if list, err := f.PromptUse(t.Context(), "other", query.Filter{From: start}, false); err != nil || len(list) != 0 {
		t.Errorf("another project sees %v, %v", list, err)
	}
	wantInvalid(t, second(f.PromptUse(t.Context(), "", query.Filter{}, false)))
}
