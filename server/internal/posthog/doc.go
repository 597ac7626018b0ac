// Package posthog is the PostHog client: it delivers events to the connected
// projects, tests connections and runs HogQL queries.
//
// Read in this order:
//
//   - [Manager] follows the settings and runs one deliverer for each enabled
//     connection. Deliverers share nothing but the HTTP transport: each has its
//     own queue, batches, waits and counts, so that a slow PostHog does not
//     delay the others.
//   - deliverer.go: from the queue to batches. An event is acknowledged only
//     after PostHog's 2xx; the number of unacknowledged events is limited, and
//     their deliveries are extended.
//   - send.go: one batch and PostHog's responses to it, by the retry rules of
//     PostHog's SDKs (the contracts in
//     https://github.com/PostHog/posthog-sdk-test-harness).
//   - sent.go: the sent properties of an event, and when PostHog accepted it.
//   - shrink.go: reducing events that are too large for PostHog.
//   - client.go and guard.go: HTTP, and blocked addresses.
//   - [Test] and [Query]: the connection test and queries to PostHog.
//   - [Flags]: feature flags. flagdefinitions.go refreshes the definitions,
//     flagremote.go has PostHog evaluate the others, and flagcalled.go reports
//     exposures to PostHog.
//
// Delivery is at least once. Timestamp, distinct id, name and uuid of an event
// are the same bytes each time, because PostHog deduplicates by them; the only
// exception is a distinct id whose hashing was switched meanwhile.
//
// The package never logs, counts or reports a key or an event's content: it
// quotes only those of PostHog's texts that are on a fixed list.
package posthog
