package flag

import (
	"strconv"
	"time"
)

// dateLayouts are those that PostHog takes; a date without a zone is UTC.
var dateLayouts = []string{time.RFC3339Nano, time.DateOnly, time.DateTime, "2006-01-02T15:04:05"}

func matchDate(operator string, have, want any, now time.Time) (bool, error) {
	a, aOK := date(have, now)
	b, bOK := date(want, now)
	if !aOK || !bOK {
		return false, undecided("a value is not a date")
	}
	if operator == "is_date_before" {
		return a.Before(b), nil
	}
	return a.After(b), nil
}

func date(v any, now time.Time) (time.Time, bool) {
	s, ok := v.(string)
	if !ok {
		return time.Time{}, false
	}
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return ago(s, now)
}

const maxAgo = 10_000 // of any unit; PostHog takes no more

// ago reads how long before now: "-7d" or "7d"; hours, days, weeks, months, years.
func ago(s string, now time.Time) (time.Time, bool) {
	if len(s) > 0 && s[0] == '-' {
		s = s[1:]
	}
	if len(s) < 2 {
		return time.Time{}, false
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if err != nil || n >= maxAgo {
		return time.Time{}, false
	}
	switch back := -int(n); s[len(s)-1] {
	case 'h':
		return now.Add(time.Duration(back) * time.Hour), true
	case 'd':
		return now.AddDate(0, 0, back), true
	case 'w':
		return now.AddDate(0, 0, 7*back), true
	case 'm':
		return now.AddDate(0, back, 0), true
	case 'y':
		return now.AddDate(back, 0, 0), true
	}
	return time.Time{}, false
}
