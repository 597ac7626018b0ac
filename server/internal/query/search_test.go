package query_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

func TestSearch(t *testing.T) {
	f := newFixture(t)
	var events []*event.Event
	for i := range 230 {
		said, _ := json.Marshal([]map[string]string{{"role": "user", "content": fmt.Sprintf("Where is order %03d?\nIt's \"LATE\" <b>é</b>", i)}})
		events = append(events, &event.Event{UUID: event.NewID(), ProjectID: "search", Name: event.Generation, Timestamp: now.Add(-time.Duration(i) * time.Minute), DistinctID: fmt.Sprintf("Ada%d", i%2),
			PromptName: "answer", ErrorMessage: map[bool]string{true: "100% wrong_thing"}[i == 7], Properties: map[string]json.RawMessage{"plan": json.RawMessage(`"Pro"`)},
			Content: event.Content{Input: said, Output: json.RawMessage(`[{"role":"assistant","content":[{"type":"text","text":"Soon"}],"n":4217}]`)}})
	}
	bare := &event.Event{UUID: event.NewID(), ProjectID: "search", Name: "$pageview", Timestamp: now}
	f.write(t, append(events, bare)...)

	for text, want := range map[string]int{
		"": 231, "ada1": 115, "ADA": 230, "pro": 230, "100% WRONG_thing": 1, "100_": 0, "answer\nada": 0, "late": 0, "$pageview": 1, "';--": 0,
	} {
		page, err := f.Events(t.Context(), query.EventsQuery{Project: "search", Filter: query.Filter{Text: text}, Limit: 1000})
		if err != nil || len(page.Events) != want {
			t.Errorf("%q in metadata: %d (%v), want %d", text, len(page.Events), err, want)
		}
	}
	if page, err := f.Events(t.Context(), query.EventsQuery{Project: "default", Filter: query.Filter{Text: "wrong_thing"}}); err != nil || len(page.Events) != 0 {
		t.Errorf("another project: %d, %v", len(page.Events), err)
	}

	if _, err := f.Series(t.Context(), query.SeriesQuery{Project: "search", Filter: query.Filter{From: now.AddDate(0, 0, -1), Text: "x"}, Measures: []query.Measure{query.Calls}}); event.AsError(err) == nil || event.AsError(err).Code != event.CodeInvalid {
		t.Errorf("figures of what holds words: %v", err)
	}
	if page, err := f.Events(t.Context(), query.EventsQuery{Project: "search", Filter: query.Filter{Text: "x", Kind: query.KindOutcomes, PromptName: "answer"}}); err != nil || len(page.Events) != 0 {
		t.Errorf("outcomes that hold words: %v, %v", page, err)
	}
	for words, want := range map[string]int{
		"late": 230, `it's "late" <B>É`: 230, "order 007": 1, "where is order 2": 30, "soon": 230, "4217": 230, "assistant": 230, "answer": 0, "?\nit": 230, "nothing": 0,
	} {
		got, searched, pages := 0, 0, 0
		q := query.EventsQuery{Project: "search", Limit: 100}
		for {
			page, err := f.SearchContent(t.Context(), q, words)
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for _, e := range page.Events {
				if e.Content != nil || e.ProjectID != "search" {
					t.Errorf("%q shows content, or another project's", words)
				}
			}
			got, searched = got+len(page.Events), searched+page.Searched
			if q.Cursor = page.Next; q.Cursor == "" {
				break
			}
		}
		if got != want || searched != 230 || want == 230 && pages < 3 {
			t.Errorf("%q: %d found of %d in %d pages, want %d", words, got, searched, pages, want)
		}
	}
	page, err := f.SearchContent(t.Context(), query.EventsQuery{Project: "search", Filter: query.Filter{User: "Ada1"}}, "order 00")
	if err != nil || len(page.Events) != 5 || page.Events[0].DistinctID != "Ada1" || !page.Until.Equal(events[229].Timestamp) {
		t.Errorf("with a filter: %+v, %v", page, err)
	}
	for _, q := range []struct {
		q     query.EventsQuery
		words string
	}{
		{query.EventsQuery{Project: "search"}, " "}, {query.EventsQuery{Project: "search"}, strings.Repeat("x", 2000)}, {query.EventsQuery{Project: "search", Sort: query.ByCost}, "x"},
		{query.EventsQuery{Project: "search", Cursor: "x"}, "x"}, {query.EventsQuery{}, "x"},
	} {
		if _, err := f.SearchContent(t.Context(), q.q, q.words); event.AsError(err) == nil || event.AsError(err).Code != event.CodeInvalid {
			t.Errorf("%+v %q: %v", q.q, q.words, err)
		}
	}
}
