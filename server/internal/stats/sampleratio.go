package stats

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// srmConcentration is the weight of the prior of [SampleRatio]: how near to the
// intended shares a broken assignment is looked for first. 500 users' worth finds
// a split of 52 to 48 in place of 50 to 50 within some thousands of users, and a
// grossly wrong one within a hundred.
const srmConcentration = 500

// SampleRatio compares how users fell to the variants with the shares that were
// intended.
type SampleRatio struct {
	ChiSquare float64 // Pearson's statistic, one degree of freedom fewer than variants
	P         float64 // of ChiSquare, at a single look
	AlwaysP   float64 // valid over all looks together; see CheckRatio
}

// CheckRatio tests counts against shares, which need not add up to 1. Users
// missing from one variant (for example because its calls fail before they are
// recorded) make an experiment worthless, regardless of its intervals.
//
// Looked at daily, a chi-square test finds a mismatch sooner or later if there is
// none. The always valid p-value is therefore one over the Bayes factor of a
// Dirichlet prior around the shares against the shares themselves (Lindon and
// Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022):
//
//	BF = Γ(k)/Γ(k+n) · Π Γ(k·θᵢ+nᵢ)/Γ(k·θᵢ) / Π θᵢ^nᵢ,   p = min(1, 1/BF)
func CheckRatio(counts, shares []float64) SampleRatio {
	var n, total float64
	for i := range counts {
		n += counts[i]
		total += shares[i]
	}
	out := SampleRatio{P: 1, AlwaysP: 1}
	if n == 0 || total <= 0 || len(counts) < 2 {
		return out
	}
	logBF := lgamma(srmConcentration) - lgamma(srmConcentration+n)
	for i, c := range counts {
		t := shares[i] / total
		if t <= 0 {
			if c > 0 {
				return SampleRatio{ChiSquare: math.Inf(1)}
			}
			continue
		}
		out.ChiSquare += (c - n*t) * (c - n*t) / (n * t)
		logBF += lgamma(srmConcentration*t+c) - lgamma(srmConcentration*t) - c*math.Log(t)
	}
	out.P = distuv.ChiSquared{K: float64(len(counts) - 1)}.Survival(out.ChiSquare)
	out.AlwaysP = min(1, math.Exp(-logBF))
	return out
}

func lgamma(x float64) float64 {
	v, _ := math.Lgamma(x)
	return v
}
