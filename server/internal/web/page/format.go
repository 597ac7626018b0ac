package page

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/shopspring/decimal"
)

const Unknown = "–"

// Count writes a number with thousands separators: 1,284.
func Count(n int64) string {
	s := strconv.FormatInt(n, 10)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(s) - 3; i > start; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Tokens writes a token count with its unit, or a dash where it is unknown.
func Tokens(n event.Int) string {
	if !n.Known {
		return Unknown
	}
	return Count(n.Value) + " tok"
}

// USD writes dollars with the significant digits only: $12.40, $0.0048.
func USD(c query.USD) string {
	if !c.Known {
		return Unknown
	}
	d := c.Value
	switch {
	case d.IsZero():
		return "$0"
	case d.Abs().GreaterThanOrEqual(cent.Shift(2)):
		return "$" + d.StringFixed(2)
	}
	// Two digits that count, at least two after the point.
	places := int32(2)
	for lim := cent.Shift(1); d.Abs().LessThan(lim) && places < 12; lim = lim.Shift(-1) {
		places++
	}
	s := d.StringFixed(places)
	for places > 2 && strings.HasSuffix(s, "0") {
		places, s = places-1, s[:len(s)-1]
	}
	return "$" + s
}

// PlainCount and plainUSD are for charts.
func PlainCount(n int64) string { return strconv.FormatInt(n, 10) }

// PlainUSD is a cost in full, without a sign; empty where it is unknown.
func PlainUSD(c query.USD) string {
	if !c.Known {
		return ""
	}
	return c.Value.String()
}

// Millis writes milliseconds as 412 ms, 1.84 s, 3 min 5 s or 2 h 10 min.
func Millis(m query.Millis) string {
	switch {
	case !m.Known:
		return Unknown
	case m.Value > 0 && m.Value < 1:
		return "<1 ms"
	case m.Value < 1000:
		return strconv.FormatFloat(m.Value, 'f', 0, 64) + " ms"
	case m.Value < 100_000:
		return strconv.FormatFloat(m.Value/1000, 'f', 2, 64) + " s"
	}
	total := int64(math.Round(m.Value / 1000))
	if total < 3600 {
		return fmt.Sprintf("%d min %d s", total/60, total%60)
	}
	total = (total + 30) / 60
	return Count(total/60) + fmt.Sprintf(" h %d min", total%60)
}

// Percent writes a share: 12.5 %.
func Percent(p event.Opt[float64]) string {
	if !p.Known {
		return Unknown
	}
	return strconv.FormatFloat(100*p.Value, 'f', 1, 64) + " %"
}

// Size writes a number of bytes: 412 B, 1.2 KiB.
func Size(n event.Int) string {
	switch {
	case !n.Known:
		return Unknown
	case n.Value < 1<<10:
		return Count(n.Value) + " B"
	case n.Value < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n.Value)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n.Value)/(1<<20))
}

// Sentence capitalizes the first letter: errors are written so that they can be
// part of a sentence.
func Sentence(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return strings.TrimSuffix(string(unicode.ToUpper(r))+s[n:], ".")
}

// Clock writes a time of a zone.
func Clock(zone *time.Location, t time.Time) string { return t.In(zone).Format("2006-01-02 15:04:05") }

// SplitList splits a comma-separated list.
func SplitList(s string) []string {
	var out []string
	for _, item := range strings.Split(s, ",") {
		if item = strings.TrimSpace(item); item != "" && !slices.Contains(out, item) {
			out = append(out, item)
		}
	}
	return out
}

// Ago writes how long something is past: 12 s ago.
func Ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return FormatDuration(now.Sub(t)) + " ago"
}

// FormatDuration writes a duration with one unit.
func FormatDuration(d time.Duration) string {
	switch {
	case d < time.Second:
		return "<1 s"
	case d < 2*time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " h"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + " days"
}

// PlainFloat writes a number with all its digits.
func PlainFloat(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// Plural writes a number with its noun: 1 call, 1,284 calls.
func Plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return Count(n) + " " + thing + "s"
}

// Signed writes a difference with its sign.
func Signed(n int64) string {
	if n > 0 {
		return "+" + Count(n)
	}
	return strings.Replace(Count(n), "-", "−", 1)
}

// SomeUSD is a known cost.
func SomeUSD(d decimal.Decimal) query.USD { return query.USD(event.Some(d)) }

var cent = decimal.New(1, -2)

// PerCall is the mean cost of the calls whose cost is known.
func PerCall(t query.Totals) string {
	n := t.Calls - t.UncostedCalls
	if !t.PricedUSD.Known || n <= 0 {
		return Unknown
	}
	return USD(query.USD(event.Some(t.PricedUSD.Value.DivRound(decimal.NewFromInt(n), 12))))
}

// OneDecimal writes a number with one decimal, for drawings.
func OneDecimal(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
