package query

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
)

func FuzzCursor(f *testing.F) {
	f.Add(cursor{time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), uuid.MustParse(event.NewID())}.String())
	f.Add(cursor{time.UnixMicro(minMicros), uuid.UUID{}}.String())
	f.Add("")
	f.Add("AX____________________________________")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCursor(s)
		if err != nil {
			if event.AsError(err).Code != event.CodeInvalid || event.AsError(err).Hint == "" {
				t.Errorf("error %#v", err)
			}
			return
		}
		if got := c.String(); got != s {
			t.Errorf("%q came back as %q", s, got)
		}
		if y := c.ts.Year(); y < 1 || y > 9999 {
			t.Errorf("year %d", y)
		}
	})
}

func TestTimeBuckets(t *testing.T) {
	for name, c := range map[string]struct {
		zone, from, to string
		by             GroupBy
		want           []string
	}{
		"DayUTC":          {"UTC", "2026-01-01T12:00:00Z", "2026-01-03T00:00:00Z", ByDay, []string{"2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"}},
		"DaySpring":       {"Europe/Paris", "2026-03-28T23:00:00Z", "2026-03-30T22:00:00Z", ByDay, []string{"2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"}},
		"DayNoMidnight":   {"America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-05T12:00:00Z", ByDay, []string{"2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"}},
		"HourAutumn":      {"Europe/Paris", "2026-10-25T00:30:00Z", "2026-10-25T03:00:00Z", ByHour, []string{"2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"}},
		"HourHalfZone":    {"Asia/Kolkata", "2026-01-01T00:00:00Z", "2026-01-01T01:31:00Z", ByHour, []string{"2025-12-31T23:30:00Z", "2026-01-01T00:30:00Z", "2026-01-01T01:30:00Z"}},
		"HourHalfForward": {"Australia/Lord_Howe", "2026-10-03T14:00:00Z", "2026-10-03T17:00:00Z", ByHour, []string{"2026-10-03T13:30:00Z", "2026-10-03T14:30:00Z", "2026-10-03T15:00:00Z", "2026-10-03T16:00:00Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			zone, err := time.LoadLocation(c.zone)
			if err != nil {
				t.Fatal(err)
			}
			at := func(s string) time.Time {
				v, err := time.Parse(time.RFC3339, s)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			got, err := timeBuckets(at(c.from), at(c.to), c.by, zone)
			if err != nil {
				t.Fatal(err)
			}
			var text []string
			for _, b := range got {
				text = append(text, b.Format(time.RFC3339))
			}
			if len(text) != len(c.want) {
				t.Fatalf("got %v, want %v", text, c.want)
			}
			for i := range text {
				if text[i] != c.want[i] {
					t.Errorf("got %v, want %v", text, c.want)
					break
				}
			}
		})
	}
}
