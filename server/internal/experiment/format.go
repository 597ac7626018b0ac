package experiment

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/hedgerow/hedgerow/server/internal/query"
)

// MeasureLabel is a measure's display name: "p95 latency".
func MeasureLabel(m query.Measure) string { return m.Info().Phrase }

// Label is a metric's display name.
func (m Metric) Label() string {
	switch {
	case m.Event == "":
		l := MeasureLabel(m.Measure)
		if m.Eval != "" {
			l += " of " + m.Eval
		}
		return l
	case m.As == query.AsUsers:
		return "share of users with " + m.Event
	case m.As == query.AsCount && m.Property != "":
		return m.Event + " with " + m.Property + " " + cmp.Or(m.Value, "true") + " per user"
	case m.As == query.AsCount:
		return m.Event + " per user"
	case m.As == query.AsMean:
		return "mean " + m.Property + " of " + m.Event
	case m.Value != "":
		return "share of " + m.Event + " with " + m.Property + " " + m.Value
	}
	return m.Property + " rate of " + m.Event
}

// The units of metrics.
const (
	UnitShare  = "share" // 0 to 1
	UnitMillis = "ms"
	UnitUSD    = "usd"
	UnitNone   = "" // a plain number
)

// Unit is what a metric is measured in.
func (m Metric) Unit() string {
	switch {
	case m.IsRate():
		return UnitShare
	case m.Quantile() > 0:
		return UnitMillis
	case m.Measure.Info().Unit == query.UnitUSD:
		return UnitUSD
	}
	return UnitNone
}

// Number writes a value with its unit: 61.3 %, 4.2 s, $0.031.
func (m Metric) Number(v float64) string {
	if math.IsInf(v, -1) {
		return "no known bound"
	}
	if math.IsInf(v, 1) {
		return "above all observed values"
	}
	switch m.Unit() {
	case UnitShare:
		return percent(v, 1)
	case UnitMillis:
		return millis(v)
	case UnitUSD:
		if v <= -1e-9 {
			return "−" + dollars(-v)
		}
		return dollars(v)
	}
	return strings.ReplaceAll(plain(v), "-", "−")
}

// Points writes the size of a difference: "5 points", "300 ms".
func (m Metric) Points(v float64) string {
	if m.Unit() == UnitShare {
		p := strconv.FormatFloat(math.Round(v*1000)/10, 'f', -1, 64)
		if p == "1" {
			return "1 point"
		}
		return strings.ReplaceAll(p, "-", "−") + " points"
	}
	return m.Number(v)
}

// Signed writes a difference; of a share in points, without the word.
func (m Metric) Signed(v float64) string {
	switch {
	case math.IsInf(v, 0):
		return "no known bound"
	case v > 0 && !(m.Unit() == UnitUSD && v < 1e-9):
		return "+" + m.short(v)
	}
	return m.short(v)
}

// Difference writes a difference with its unit: "+17.9 points", "+1.68 s".
func (m Metric) Difference(v float64) string {
	if m.Unit() == UnitShare && !math.IsInf(v, 0) {
		return m.Signed(v) + " points"
	}
	return m.Signed(v)
}

// short leaves out "points", for bounds of an interval.
func (m Metric) short(v float64) string {
	if m.Unit() == UnitShare {
		return strings.ReplaceAll(strconv.FormatFloat(v*100, 'f', 1, 64), "-", "−")
	}
	return m.Number(v)
}

// Format writes a value with its interval and the level that it was made with.
func (m Metric) Format(i Interval) string {
	if !i.Known {
		return "unknown"
	}
	return fmt.Sprintf("%s (%s interval %s to %s)", m.Number(i.Value), Level(i.Level), m.Number(i.Lower), m.Number(i.Upper))
}

// FormatDifference writes a difference with its interval and the level that it was
// made with.
func (m Metric) FormatDifference(i Interval) string {
	if !i.Known {
		return "an unknown amount"
	}
	return fmt.Sprintf("%s (%s interval %s to %s)", m.Difference(i.Value), Level(i.Level), m.Signed(i.Lower), m.Signed(i.Upper))
}

// Words describes a guardrail's limit: "at most 2 points more than control".
func (g *Guardrail) Words(control string) string {
	switch {
	case !g.Relative && g.Better == Up:
		return "at least " + g.Number(g.Limit)
	case !g.Relative:
		return "at most " + g.Number(g.Limit)
	case g.Limit == 0 && g.Better == Up:
		return "not below " + control
	case g.Limit == 0:
		return "not above " + control
	}
	amount, side := "at most "+g.Points(math.Abs(g.Limit)), "more"
	switch {
	case g.Better == Up && g.Limit < 0:
		side = "less"
	case g.Better == Up:
		amount = "at least " + g.Points(g.Limit)
	case g.Limit < 0:
		amount, side = "at least "+g.Points(-g.Limit), "less"
	}
	return amount + " " + side + " than " + control
}

// Level writes the level of an interval: "95 %", "96.7 %".
func Level(l float64) string {
	return strconv.FormatFloat(math.Round(l*1000)/10, 'f', -1, 64) + " %"
}

func percent(v float64, digits int) string {
	return strings.ReplaceAll(strconv.FormatFloat(v*100, 'f', digits, 64), "-", "−") + " %"
}

func millis(v float64) string {
	sign := ""
	if v < 0 {
		sign, v = "−", -v
	}
	if v < 1000 {
		return fmt.Sprintf("%s%.0f ms", sign, v)
	}
	return fmt.Sprintf("%s%s s", sign, strconv.FormatFloat(math.Round(v/10)/100, 'f', -1, 64))
}

// dollars writes three significant digits.
func dollars(v float64) string {
	if v < 1e-9 { // less than any token costs: rounding
		v = 0
	}
	if v >= 1 || v == 0 {
		return "$" + strconv.FormatFloat(v, 'f', 2, 64)
	}
	digits := 2 - int(math.Floor(math.Log10(v)))
	return "$" + strings.TrimRight(strconv.FormatFloat(v, 'f', digits, 64), "0")
}

func plain(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
