// Package posthog is the PostHog client: it delivers events to the connected
// projects, tests connections and runs HogQL queries.
//
// Read in this order:
//
//   - [Manager] follows the settings and runs one deliverer for each enabled
//     connection. Deliverers share nothing but the HTTP transport: each has its
//     own queue, batches, waits and counts, so that a slow PostHog delays nobody
//     else.
//   - deliverer.go: from the queue to batches. An event is acknowledged only
//     after PostHog's 2xx; what is held meanwhile is bounded and kept from
//     being delivered again.
//   - send.go: one batch and PostHog's answers to it, by the rules of
//     shared/reference/posthog-contract.md, section 2.
//   - sent.go: what leaves of an event, and when PostHog took it.
//   - shrink.go: what an event loses when PostHog finds it too large.
//   - client.go and guard.go: HTTP, and the addresses that it never reaches.
//   - [Test] and [Query]: the connection test and questions to PostHog.
//   - [Flags]: who gets which feature flag. flagdefinitions.go keeps the
//     definitions fresh, flagremote.go asks for what they leave open, and
//     flagcalled.go reports flag exposures to PostHog.
//
// Delivery is at least once. Timestamp, distinct id, name and uuid of an event
// are the same bytes each time, which is what PostHog de-duplicates by; the one
// exception is a distinct id whose hashing was switched while it waited.
//
// Nothing here logs, counts or reports a key or an event's content: PostHog's
// own words are quoted only where they are on a fixed list.
package posthog
