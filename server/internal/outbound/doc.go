// Package outbound decides what leaves for a PostHog connection, and in which event
// schema: [Shape] for events, [FlagQuestion] and [FlagQuery] for questions about
// feature flags, [DistinctID] for the ids of users. It is pure: what leaves depends on
// the arguments alone, however often it is tried.
package outbound
