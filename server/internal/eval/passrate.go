package eval

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/hedgerow/hedgerow/event"
)

// Alpha is the error of a page's or an answer's intervals together: where it shows
// one figure the interval's level is 1 − Alpha, where it shows k each has
// 1 − Alpha/k.
const Alpha = 0.05

// PassRate is how many of the judged answers passed, with the interval of the share
// that would pass if all answers of the kind were judged. Answers count as
// independent of each other: where a few users or conversations gave most of them,
// the interval is too narrow.
type PassRate struct {
	Passed int                `json:"passed"`
	Judged int                `json:"judged"` // results that say passed or not
	Rate   event.Opt[float64] `json:"pass_rate,omitzero"`
	Lower  event.Opt[float64] `json:"lower,omitzero"`
	Upper  event.Opt[float64] `json:"upper,omitzero"`
	Level  float64            `json:"level"` // of the interval, such as 0.95
}

// RateOf is the pass rate of counts at a level between 0 and 1. The interval is the
// exact one of Clopper and Pearson ("The use of confidence or fiducial limits
// illustrated in the case of the binomial", Biometrika 26, 1934), from quantiles of
// the beta distribution: it holds at least at its level for every rate and every
// number of answers, and is never of width 0.
func RateOf(passed, judged int, level float64) PassRate {
	r := PassRate{Passed: passed, Judged: judged, Level: level}
	if judged <= 0 || passed < 0 || passed > judged {
		return r
	}
	x, n, tail := float64(passed), float64(judged), (1-level)/2
	r.Rate, r.Lower, r.Upper = event.Some(x/n), event.Some(0.0), event.Some(1.0)
	if passed > 0 {
		r.Lower.Value = distuv.Beta{Alpha: x, Beta: n - x + 1}.Quantile(tail)
	}
	if passed < judged {
		r.Upper.Value = distuv.Beta{Alpha: x + 1, Beta: n - x}.Quantile(1 - tail)
	}
	return r
}

// RateOfShare is the pass rate of a share of the judged answers, at a level of
// 1 − [Alpha].
func RateOfShare(share, judged float64) PassRate {
	return RateOf(int(math.Round(share*judged)), int(judged), 1-Alpha)
}
