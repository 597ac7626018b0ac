package eval

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// PassRate is how many of the judged answers passed, with the interval of the share
// that would pass if all answers of the kind were judged.
type PassRate struct {
	Passed int                `json:"passed"`
	Judged int                `json:"judged"` // results that say passed or not
	Rate   event.Opt[float64] `json:"pass_rate,omitzero"`
	Lower  event.Opt[float64] `json:"lower,omitzero"`
	Upper  event.Opt[float64] `json:"upper,omitzero"`
	Level  float64            `json:"level"` // of the interval, such as 0.95

	Users     int     `json:"-"` // who gave the answers; 0: each counts as independent
	Effective float64 `json:"-"` // as many independent answers would say as much
}

// RateOf is the pass rate of counts of independent answers, such as the examples of a
// dataset, at a level between 0 and 1. The interval is the
// exact one of Clopper and Pearson ("The use of confidence or fiducial limits
// illustrated in the case of the binomial", Biometrika 26, 1934), from quantiles of
// the beta distribution: it holds at least at its level for every rate and every
// number of answers, and is never of width 0.
func RateOf(passed, judged int, level float64) PassRate {
	r := PassRate{Passed: passed, Judged: judged, Level: level}
	if judged <= 0 || passed < 0 || passed > judged {
		return r
	}
	r.exact(float64(judged))
	return r
}

// exact sets the interval that so many independent answers give at the rate of those that
// there are.
func (r *PassRate) exact(n float64) {
	x, tail := n*float64(r.Passed)/float64(r.Judged), (1-r.Level)/2
	r.Rate, r.Lower, r.Upper = event.Some(float64(r.Passed)/float64(r.Judged)), event.Some(0.0), event.Some(1.0)
	if r.Passed > 0 {
		r.Lower.Value = distuv.Beta{Alpha: x, Beta: n - x + 1}.Quantile(tail)
	}
	if r.Passed < r.Judged {
		r.Upper.Value = distuv.Beta{Alpha: x + 1, Beta: n - x}.Quantile(1 - tail)
	}
	r.Effective = n
}

// RateByUser is the pass rate of answers to users, of whom some gave many: m has each
// user's passed (y) and judged (n) answers. The level is 1 − [stats.DefaultAlpha].
//
// Answers of a user are alike, so that they say less than as many independent ones. The
// interval is the exact one of as many answers as have the same variance with the user as
// cluster ([stats.Ratio], the delta method), and fewer where there are few users (Korn and
// Graubard, "Confidence intervals for proportions with small expected number of positive
// counts estimated from survey data", Survey Methodology 24, 1998):
//
//	n* = min(n, p·(1−p)/Var(p)) · (z / t)²
//
// where z and t are quantiles of the normal distribution and of Student's with users − 1
// degrees of freedom. p and its variance are taken with one average user added at each end
// of the scale: where all answers passed, as many count as there are users.
func RateByUser(m stats.Moments) PassRate {
	r := PassRate{Passed: int(math.Round(m.Y)), Judged: int(math.Round(m.N)), Level: 1 - stats.DefaultAlpha, Users: int(m.Users)}
	if r.Judged <= 0 || r.Passed < 0 || r.Passed > r.Judged {
		return r
	}
	if r.Users < 2 {
		r.exact(1)
		return r
	}
	each := m.N / m.Users
	m.Add(each, each)
	m.Add(0, each)
	e := stats.Ratio(m, stats.Scale{})
	n := min(float64(r.Judged), e.Value*(1-e.Value)/e.Variance)
	if n < float64(r.Judged) {
		at := 1 - (1-r.Level)/2
		f := distuv.UnitNormal.Quantile(at) / distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(r.Users - 1)}.Quantile(at)
		n = max(1, n*f*f)
	}
	r.exact(n)
	return r
}

// AtRandom is how far apart two figures made of so many independent answers each are by
// chance alone, in all but 5 % of cases; unknown where nothing is judged.
func (r PassRate) AtRandom(each float64) event.Opt[float64] {
	if !r.Rate.Known || each <= 0 {
		return event.Opt[float64]{}
	}
	// As for the interval: of a rate of 0 or 1 more can happen than has.
	p := (r.Rate.Value*r.Effective + 1) / (r.Effective + 2)
	return event.Some(min(1, distuv.UnitNormal.Quantile(1-stats.DefaultAlpha/2)*math.Sqrt(2*p*(1-p)/each)))
}
