// Package stats computes the intervals of experiments: pure functions of sums over
// users, without a clock, a store or a random number.
//
// The unit is the user. A user is one observation (y, n), however many calls came
// from them; every figure is a ratio Σy/Σn, and variances are those of the ratio
// estimator with the user as cluster ([Ratio]).
//
// What is measured determines the method:
//
//   - Rates and scores lie on a [Scale]. Each variance is taken with one user added
//     at each end of the scale, so that no interval has the width 0.
//   - Counts, costs and ratios of them have no upper end, and their means are
//     moved by few users. They are winsorised: a user's ratio above a limit that
//     is fixed at the start counts as the limit ([Scale] from 0 to the limit). The
//     mean without a limit is known only once enough users came for its
//     skewness ([Estimate.Settled]).
//   - Quantiles have an interval of their own ([Plan.Quantile]); a difference of two has
//     one sequence, with the variance that their intervals imply
//     ([Plan.QuantileDifference]).
//
// Two designs:
//
//   - Anytime ([Plan.Difference]): bounds that hold at all looks at once
//     (Robbins' normal mixture), widened for skewness as empirical-Bernstein bounds
//     are. The clock is the information 1/V. Because all
//     intervals hold together, so does their intersection ([Intersect]).
//   - Planned looks ([Planned]): few looks at dates fixed beforehand, with the bounds of
//     O'Brien and Fleming by the spending function of Lan and DeMets.
//
// [Adjust] takes from a difference what the users' own past explains (CUPED), and
// [Stratify] what their strata explain.
//
// An [Interval] states the level that it was made with. reference/agreement.py
// computes the same figures in other ways, and so does testdata/reference.py for cases at the
// edge; tables_test.go shows that the errors are at most the stated ones ("make stats").
package stats
