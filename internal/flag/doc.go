// Package flag evaluates PostHog's feature flags locally: it reads the
// definitions that PostHog serves for local evaluation and returns a user's
// value without I/O. It returns the same result as PostHog's own Go library for
// the same definitions; a test holds it to that.
//
// Read in this order:
//
//   - [Definition], [Condition], [Property], [Cohort]: a flag as PostHog writes it.
//   - [Parse] and [Set]: all flags of a project.
//   - [User] and [Set.Evaluate]: what somebody gets, or why that cannot be said
//     here ([ErrUndecided]): then PostHog is to be asked.
//   - [Hash]: into which share of the users somebody falls.
//   - operator.go, date.go and semver.go: what a property is compared by.
//   - [Split]: a flag that hedgerow itself makes of percentages, for those who
//     have no PostHog.
//
// The package knows nothing of hedgerow, does no I/O, logs nothing and keeps no
// state, so that the SDK can use it too.
//
// Source of formats and rules: shared/reference/posthog-contract.md, section 6.
package flag
