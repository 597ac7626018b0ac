package query_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/query"
)

func zoneNamed(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// TestBefore: the period before has the same local days and times.
func TestBefore(t *testing.T) {
	const layout = "2006-01-02T15:04 -0700"
	for _, c := range []struct{ name, zone, from, to, wantFrom, wantTo string }{
		{"a week up to Sunday noon is compared with the week before up to Sunday noon", "Europe/Paris",
			"2026-11-16T00:00 +0100", "2026-11-22T12:00 +0100", "2026-11-09T00:00 +0100", "2026-11-15T12:00 +0100"},
		{"a whole week", "UTC", "2026-11-16T00:00 +0000", "2026-11-23T00:00 +0000", "2026-11-09T00:00 +0000", "2026-11-16T00:00 +0000"},
		{"the last 168 hours", "UTC", "2026-11-15T12:34 +0000", "2026-11-22T12:34 +0000", "2026-11-08T12:34 +0000", "2026-11-15T12:34 +0000"},
		{"a week in which the clocks go forward", "Europe/Paris", "2026-03-23T00:00 +0100", "2026-03-29T15:00 +0200", "2026-03-16T00:00 +0100", "2026-03-22T15:00 +0100"},
		{"a week in which they go back", "America/New_York", "2026-10-26T00:00 -0400", "2026-11-02T00:00 -0500", "2026-10-19T00:00 -0400", "2026-10-26T00:00 -0400"},
		{"the week after that", "America/New_York", "2026-11-02T00:00 -0500", "2026-11-08T10:00 -0500", "2026-10-26T00:00 -0400", "2026-11-01T10:00 -0500"},
		{"30 days are compared five weeks earlier", "UTC", "2026-10-24T00:00 +0000", "2026-11-22T12:00 +0000", "2026-09-19T00:00 +0000", "2026-10-18T12:00 +0000"},
		{"90 days, 13 weeks", "UTC", "2026-08-25T00:00 +0000", "2026-11-22T12:00 +0000", "2026-05-26T00:00 +0000", "2026-08-23T12:00 +0000"},
		{"eight days, two weeks", "UTC", "2026-11-15T00:00 +0000", "2026-11-22T12:00 +0000", "2026-11-01T00:00 +0000", "2026-11-08T12:00 +0000"},
		{"three days are compared with the three before", "UTC", "2026-11-20T00:00 +0000", "2026-11-22T12:00 +0000", "2026-11-17T00:00 +0000", "2026-11-19T12:00 +0000"},
		{"an hour is compared with that of the day before", "Australia/Lord_Howe", "2026-10-04T12:00 +1100", "2026-10-04T13:00 +1100", "2026-10-03T12:00 +1030", "2026-10-03T13:00 +1030"},
		{"today up to now", "Africa/Cairo", "2026-04-25T00:00 +0300", "2026-04-25T09:00 +0300", "2026-04-24T01:00 +0300", "2026-04-24T09:00 +0300"}, // that day began at one
		{"an hour that the clocks skipped the day before", "Europe/Paris", "2026-03-30T02:10 +0200", "2026-03-30T02:50 +0200", "2026-03-29T03:00 +0200", "2026-03-29T03:40 +0200"},
		{"a day that Samoa skipped", "Pacific/Apia", "2011-12-31T10:00 +1400", "2011-12-31T11:00 +1400", "2011-12-31T00:00 +1400", "2011-12-31T01:00 +1400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := func(s string) time.Time {
				out, err := time.Parse(layout, s)
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			got, ok := query.Filter{From: at(c.from), To: at(c.to), Provider: "openai"}.PreviousPeriod(zoneNamed(t, c.zone))
			if !ok || !got.From.Equal(at(c.wantFrom)) || !got.To.Equal(at(c.wantTo)) || got.Provider != "openai" {
				t.Errorf("%v to %v, want %s to %s", got.From.In(zoneNamed(t, c.zone)).Format(layout), got.To.In(zoneNamed(t, c.zone)).Format(layout), c.wantFrom, c.wantTo)
			}
		})
	}
	for _, f := range []query.Filter{{}, {From: now}, {To: now}, {From: now, To: now}, {From: now, To: now.Add(-1)}} {
		if _, ok := f.PreviousPeriod(time.UTC); ok {
			t.Errorf("%v to %v has a period before", f.From, f.To)
		}
	}
}

// TestBeforeEverywhere: over zones whose clocks change in all ways, a period before is
// of whole local weeks or days, ends before the range begins, and begins as soon
// before it as that allows.
func TestBeforeEverywhere(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 17))
	for _, name := range []string{"UTC", "Europe/Paris", "America/New_York", "America/Sao_Paulo", "America/Havana", "Africa/Cairo", "Africa/Casablanca", "Asia/Tehran", "Asia/Kathmandu", "Asia/Beirut", "Australia/Lord_Howe", "Pacific/Auckland", "Pacific/Apia", "America/St_Johns"} {
		zone := zoneNamed(t, name)
		clock := func(at time.Time) time.Time {
			l := at.In(zone)
			return time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), l.Second(), 0, time.UTC)
		}
		for range 3000 {
			from := time.Date(2010+rng.IntN(17), 1, 1+rng.IntN(365), rng.IntN(24), rng.IntN(60), 0, 0, zone)
			if rng.IntN(2) == 0 {
				from = time.Date(from.Year(), from.Month(), from.Day(), 0, 0, 0, 0, zone)
			}
			length := time.Duration(1+rng.IntN(40*24*60)) * time.Minute
			if rng.IntN(2) == 0 {
				length = time.Duration(1+rng.IntN(9*24)) * time.Hour
			}
			to := from.Add(length)
			got, ok := query.Filter{From: from, To: to}.PreviousPeriod(zone)
			if !ok || got.To.After(from) || !got.From.Before(got.To) {
				t.Fatalf("%s: of %v to %v it is %v to %v", name, from, to, got.From.In(zone), got.To.In(zone))
			}
			days := clock(from).Sub(clock(got.From)).Hours() / 24
			if skew := days - float64(int(days+0.5)); skew > 0.1 || skew < -0.1 { // hours that clocks skipped; never the day's half
				if name != "Pacific/Apia" {
					t.Fatalf("%s: %v begins %v days before %v", name, got.From.In(zone), days, from)
				}
				continue
			}
			whole, least := int(days+0.5), length.Hours()/24
			if week := length >= 7*24*time.Hour; week && whole%7 != 0 || float64(whole) < least-0.1 || float64(whole) > max(least+1.1, 1.1) && whole%7 != 0 || float64(whole) > least+7.1 {
				t.Fatalf("%s: %v to %v is compared with %d days before", name, from, to, whole)
			}
			if skipped := clock(to).Sub(clock(got.To)).Hours()/24 - days; (skipped > 0.1 || skipped < -0.1) && name != "Pacific/Apia" {
				t.Fatalf("%s: %v to %v is compared with %v to %v", name, from, to, got.From.In(zone), got.To.In(zone))
			}
		}
	}
}
