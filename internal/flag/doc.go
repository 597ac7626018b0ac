// Package flag evaluates PostHog's feature flags locally: it parses the
// definitions that PostHog serves for local evaluation and returns a user's value
// without I/O. A test compares its results with those of PostHog's own Go
// library.
//
// Read in this order:
//
//   - [Definition], [Condition], [Property], [Cohort]: a flag in PostHog's
//     format.
//   - [Parse] and [Set]: all flags of a project.
//   - [User] and [Set.Evaluate]: a user's value, or an error such as
//     [ErrUndecided], if only PostHog can evaluate it.
//   - [Hash]: the share of a user.
//   - operator.go, date.go and semver.go: comparisons of properties.
//   - [Split]: a flag that hedgerow makes from percentages, for projects without
//     PostHog.
//
// The package is independent of hedgerow, does no I/O, logs nothing and keeps no
// state, so that the SDK can use it too.
//
// Formats and rules are those of
// https://posthog.com/docs/feature-flags/local-evaluation and, where it is silent,
// of https://github.com/PostHog/posthog-go.
package flag
