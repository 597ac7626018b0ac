package query

import (
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// ParseTime reads an absolute time, or one relative to now: -90m, -24h, -7d.
func ParseTime(s string, now time.Time) (time.Time, error) {
	ago, ok := strings.CutPrefix(s, "-")
	if !ok {
		return event.ParseTime(s)
	}
	if days, ok := strings.CutSuffix(ago, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 15) // 89 years
		return now.AddDate(0, 0, -int(n)), err
	}
	d, err := time.ParseDuration(ago)
	if err == nil && d < 0 {
		err = strconv.ErrSyntax
	}
	return now.Add(-d), err
}
