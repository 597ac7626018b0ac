package posthog_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

func analyticsConnection(s *simposthog.Server) project.Connection {
	c := project.NewConnection("default", "production")
	c.Host, c.ProjectKey, c.PersonalKey = s.URL(), project.NewSecret(simposthog.Token), project.NewSecret(simposthog.PersonalKeyValue)
	return c
}

// TestDays pulls figures as PostHog's own query service counts them, and reads
// every form in which numbers come.
func TestDays(t *testing.T) {
	s := simposthog.Run(t, simposthog.Options{})
	c := analyticsConnection(s)
	var asked string
	s.HandleQuery("hedgerow 7d by day", func(q simposthog.Query) (simposthog.Result, error) {
		asked = q.HogQL
		return simposthog.Result{Columns: []string{"day", "calls", "in_tok", "out_tok", "cost", "errors", "p95_s", "uncosted"}, Rows: [][]any{
			{"2026-11-20", 3, 120, json.RawMessage(`"45"`), 0.0125, 1, 1.5, 0},
			{"2026-11-21T00:00:00Z", 2, nil, nil, nil, 0, nil, 2},
		}}, nil
	})
	since := time.Date(2026, 11, 15, 0, 0, 0, 0, time.UTC)
	days, err := posthog.Days(t.Context(), c, since, posthog.QueryOptions{AllowInsecureHosts: true})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(days)
	want := "[{2026-11-20 3 120 45 0.0125 1 {1.5s true} 0} {2026-11-21 2 0 0 0 0 {0s false} 2}]"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, w := range []string{"$ai_total_cost_usd", "toDateTime('2026-11-15 00:00:00', 'UTC')", "'$ai_generation','$ai_embedding'"} {
		if !strings.Contains(asked, w) {
			t.Errorf("the query lacks %s:\n%s", w, asked)
		}
	}
	c.Schema = project.SchemaLLMEvents
	if _, err := posthog.Days(t.Context(), c, since, posthog.QueryOptions{AllowInsecureHosts: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(asked, "llm_request_completed") || strings.Contains(asked, "$ai_") {
		t.Errorf("the other vocabulary asks\n%s", asked)
	}
	s.HandleQuery("hedgerow 7d by day", func(simposthog.Query) (simposthog.Result, error) {
		return simposthog.Result{Columns: []string{"day"}, Rows: [][]any{{7}}}, nil
	})
	if _, err := posthog.Days(t.Context(), c, since, posthog.QueryOptions{AllowInsecureHosts: true}); event.AsError(err).Code != event.CodeUpstream {
		t.Errorf("a strange answer: %v", err)
	}
	c.PersonalKey = project.Secret{}
	if _, err := posthog.Days(t.Context(), c, since, posthog.QueryOptions{AllowInsecureHosts: true}); event.AsError(err).Code != event.CodeInvalid {
		t.Errorf("without a personal key: %v", err)
	}
}
