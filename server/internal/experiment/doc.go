// Package experiment compares variants of a prompt by the outcomes of their users,
// and stops a rollout whose guardrail broke.
//
// Read in this order:
//
//   - definition.go, registry.go: what is compared, in one key-value bucket.
//   - figures.go: each metric by its kind, with the intervals of package stats.
//   - report.go, format.go: [Evaluate] reads the variants from the store and reports
//     the result and its reasons.
//   - guard.go, alert.go: [Guard] checks running experiments, stops rollouts
//     whose guardrail broke, and sends alerts by webhook and e-mail.
package experiment

// DefaultMinUsers is how many users each variant needs before anything is concluded:
// the intervals assume that means are about normal.
const DefaultMinUsers = 50

// MismatchLevel is the always valid p-value below which an experiment's users
// are treated as a sample ratio mismatch.
const MismatchLevel = 0.01
