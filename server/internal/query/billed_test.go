package query_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

// TestBilled sums up calls as bills do: by UTC day, provider, model and tier, those of
// unknown cost apart.
func TestBilled(t *testing.T) {
	f := newFixture(t)
	day := time.Date(now.Year()+2, 3, 1, 0, 0, 0, 0, time.UTC)
	some := func(n int64) event.Int { return event.Some(n) }
	call := func(at time.Duration, change func(*event.Event)) *event.Event {
		e := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Generation, DistinctID: "u", Timestamp: day.Add(at), Provider: "openai", Model: "m-1", ModelAsked: "m", Status: event.StatusSuccess}
		e.Usage = event.Usage{Input: some(100), Output: some(10), CacheRead: some(30)}
		e.Cost.Total, e.Cost.Tools, e.Cost.WebSearch = event.Some(decimal.RequireFromString("0.5")), event.Some(decimal.RequireFromString("0.1")), event.Some(decimal.RequireFromString("0.02"))
		change(e)
		return e
	}
	same := func(*event.Event) {}
	f.write(t,
		call(0, same), call(24*time.Hour-time.Microsecond, same), // the whole UTC day
		call(24*time.Hour, same), call(-time.Microsecond, same), // its neighbours
		call(time.Hour, func(e *event.Event) { e.ServiceTier = "batch" }),
		call(time.Hour, func(e *event.Event) { e.Speed = "fast" }),
		call(2*time.Hour, func(e *event.Event) { e.Cost = event.Cost{Tools: event.Some(decimal.NewFromInt(7))} }), // tools of an unknown total are in no sum
		call(2*time.Hour, func(e *event.Event) { e.Cost, e.Usage = event.Cost{}, event.Usage{} }),
		call(2*time.Hour, func(e *event.Event) {
			e.Cost, e.Usage, e.IsError, e.Status = event.Cost{}, event.Usage{}, true, event.StatusError
		}),
		call(3*time.Hour, func(e *event.Event) {
			e.Provider, e.Model, e.Usage.CacheExclusive, e.Usage.CacheWrite, e.Usage.CacheWrite1h = "anthropic", "", event.Some(true), some(20), some(5)
			e.Usage.InputAudio, e.Usage.InputImage, e.Usage.OutputAudio, e.Usage.OutputImage, e.Usage.CacheWrite12h = some(1), some(2), some(3), some(4), some(6)
			e.Usage.Images, e.Usage.Characters, e.Usage.MediaTime, e.Usage.WebSearches, e.Usage.FileSearches, e.Usage.CodeSessions = some(7), some(8), event.Some(1500*time.Millisecond), some(9), some(11), some(12)
		}),
		call(3*time.Hour, func(e *event.Event) { e.Provider = "gemini" }),
		call(3*time.Hour, func(e *event.Event) { e.Name = event.Span }),
		call(3*time.Hour, func(e *event.Event) { e.ProjectID = "other" }),
	)
	list, err := f.Billed(t.Context(), "default", []string{"openai", "anthropic"}, day, day.AddDate(0, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range list {
		got = append(got, fmt.Sprintf("%s %s %s %q %q costed %v: %d calls, %d failed, %d unmetered, $%s, tools $%s, in %d read %d write %d 1h %d 12h %d audio %d image %d, out %d audio %d image %d, pieces %d %d %v, tools %d %d %d", b.Day.Format(time.DateOnly), b.Provider, b.Model, b.Tier, b.Speed, b.Costed,
			b.Calls, b.Failed, b.Unmetered, b.CostUSD.Value, b.ToolsUSD.Value, b.Input, b.CacheRead, b.CacheWrite, b.CacheWrite1h, b.CacheWrite12h, b.InputAudio, b.InputImage, b.Output, b.OutputAudio, b.OutputImage, b.Images, b.Characters, b.MediaTime, b.WebSearches, b.FileSearches, b.CodeSessions))
	}
	date, none := day.Format(time.DateOnly), "12h 0 audio 0 image 0, out "
	want := []string{
		date + ` anthropic m "" "" costed true: 1 calls, 0 failed, 0 unmetered, $0.5, tools $0.12, in 150 read 30 write 20 1h 5 12h 6 audio 1 image 2, out 10 audio 3 image 4, pieces 7 8 1.5s, tools 9 11 12`,
		date + ` openai m-1 "" "" costed false: 3 calls, 1 failed, 1 unmetered, $0, tools $0, in 100 read 30 write 0 1h 0 ` + none + `10 audio 0 image 0, pieces 0 0 0s, tools 0 0 0`,
		date + ` openai m-1 "" "" costed true: 2 calls, 0 failed, 0 unmetered, $1, tools $0.24, in 200 read 60 write 0 1h 0 ` + none + `20 audio 0 image 0, pieces 0 0 0s, tools 0 0 0`,
		date + ` openai m-1 "" "fast" costed true: 1 calls, 0 failed, 0 unmetered, $0.5, tools $0.12, in 100 read 30 write 0 1h 0 ` + none + `10 audio 0 image 0, pieces 0 0 0s, tools 0 0 0`,
		date + ` openai m-1 "batch" "" costed true: 1 calls, 0 failed, 0 unmetered, $0.5, tools $0.12, in 100 read 30 write 0 1h 0 ` + none + `10 audio 0 image 0, pieces 0 0 0s, tools 0 0 0`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if three, err := f.Billed(t.Context(), "default", []string{"openai"}, day.AddDate(0, 0, -1), day.AddDate(0, 0, 2)); err != nil || len(three) != 6 {
		t.Errorf("three days have %d rows, %v", len(three), err)
	}
	wantInvalid(t, second(f.Billed(t.Context(), "", []string{"openai"}, day, day.AddDate(0, 0, 1))))
}
