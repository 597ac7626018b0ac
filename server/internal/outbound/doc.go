// Package outbound decides what leaves for a PostHog connection, and in which event
// schema: [Shape] for events, [FlagQuestion] and [FlagQuery] for questions about
// feature flags, [DistinctID] for the ids of users. These are pure: what leaves depends
// on the arguments alone, however often it is tried.
//
// Beside that it keeps the state of the delivery that outlives a batch: [Gaps],
// which a connection was not sent, and [AllowListUpgrade] for connections from
// before the allow-list.
package outbound
