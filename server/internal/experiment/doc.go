// Package experiment compares variants of a prompt by what happened to their
// users, and stops a rollout that does harm.
//
// Read in this order:
//
//   - stats.go: the figures, pure. [Ratio] with the user as cluster, intervals
//     that may be looked at every day ([Plan.Difference]), quantiles
//     ([Plan.Quantile]), users still needed ([Plan.Needed]), and whether users
//     fell to the variants as intended ([CheckRatio]). testdata/reference.py computes
//     the same figures in other ways.
//   - definition.go, registry.go: what is compared, in one key-value bucket.
//   - report.go, words.go: [Evaluate] reads the variants from the store and says how
//     the experiment stands, and why.
//   - guard.go, alert.go: [Guard] looks at running experiments, stops rollouts
//     whose guardrail broke, and sends alerts by webhook and e-mail.
package experiment

// DefaultMinUsers is how many users each variant needs before anything is concluded:
// the intervals rest on means being about normal.
const DefaultMinUsers = 50

// MismatchLevel is the always valid p-value below which an experiment's users
// are taken not to have fallen to the variants as intended.
const MismatchLevel = 0.01
