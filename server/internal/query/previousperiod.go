package query

import "time"

// Range is the time from one moment on, up to another but without it.
type Range struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// PreviousPeriod is the filter over the period that the time range of f is compared with: the
// same days of the week and times of day in a zone, as many whole weeks earlier as the
// range has begun, or as many whole days where it is shorter than a week. A Sunday is
// compared with a Sunday, and 15:00 with 15:00 where the clocks have changed in
// between. There is no such period where the range has no start or no end.
func (f Filter) PreviousPeriod(zone *time.Location) (Filter, bool) {
	if f.From.IsZero() || f.To.IsZero() || !f.From.Before(f.To) {
		return f, false
	}
	from, to := f.From.In(zone), f.To.In(zone)
	// Seven days are a week, whether the clocks show an hour more or less of it.
	const day = 24 * time.Hour
	days := int((min(to.Sub(from), wall(to).Sub(wall(from))) + day - 1) / day)
	if days = max(days, 1); days >= 7 {
		days = (days + 6) / 7 * 7
	}
	before := f
	before.From, before.To = daysEarlier(from, days), daysEarlier(to, days)
	if before.To.After(f.From) { // by the hour that the clocks show more
		before.To = f.From
	}
	if !before.From.Before(before.To) { // the clocks skipped these hours on that day
		before.To = before.From.Add(to.Sub(from))
	}
	before.From, before.To = before.From.UTC(), before.To.UTC()
	return before, true
}

// wall is what the clocks show at a time, as a time in UTC.
func wall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// daysEarlier is the same time of day some days earlier, and the start of a day for the
// start of a day. Where the clocks skipped that time, it is the moment at which they did.
func daysEarlier(t time.Time, days int) time.Time {
	zone := t.Location()
	if t.Equal(startOfDay(t)) {
		return startOfDay(time.Date(t.Year(), t.Month(), t.Day()-days, 12, 0, 0, 0, zone))
	}
	want := wall(t).AddDate(0, 0, -days)
	got := time.Date(t.Year(), t.Month(), t.Day()-days, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone)
	start, end := got.ZoneBounds()
	switch {
	case wall(got).After(want):
		return start
	case wall(got).Before(want):
		return end
	}
	return got
}
