// Package outbound determines what is sent to a PostHog connection, and in which
// event schema: [Convert] for events, [FlagRequest] and [FlagQuery] for feature
// flag requests, [DistinctID] for user ids. These functions are pure: the result
// depends only on the arguments, so retries send the same.
//
// It also keeps delivery state that outlives a batch: [Gaps], the events that a
// connection was not sent, and [AllowListUpgrade] for connections from before the
// allowlist.
package outbound
