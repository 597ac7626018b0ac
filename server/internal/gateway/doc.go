// Package gateway is the streaming pass-through proxy between callers and LLM
// providers. Requests and answers are passed on byte for byte; each call is recorded
// as one event after it has ended.
//
// The promise: the caller's traffic comes first. Capture never delays, changes or
// fails a call. It is bounded in memory and number, and what it has to drop is
// counted, logged and reported by [Gateway.Stats]. A call whose answer ended a
// quarter of a second ago has been passed to [Appender].
//
// While the journal accepts no events (its disk is full, it is being repaired, it
// does not answer), calls pass as usual and capture degrades in steps, reported by
// [Stats.Step], the metric hedgerow_gateway_capture_step and [Gateway.Health]:
//
//  1. waiting: calls that end are read at once, so that their raw bodies are given
//     back, and their events wait in memory with their content. The bounds are
//     [Limits.Queue] calls and [Limits.QueueBytes], of which an event takes its
//     content and 4 KiB.
//  2. without_content: beyond three quarters of these bytes the content of all that
//     waits, and of what comes, is dropped; such an event has the property
//     content_dropped with the value journal_unavailable, and tokens, costs,
//     attribution and outcome as ever.
//  3. dropping: if even that does not fit, calls are not recorded. They are
//     counted by reason (queue_full, queue_bytes) in [Stats.Dropped] and in
//     hedgerow_gateway_capture_dropped_total, logged at most every ten seconds,
//     and shown on the pages.
//
// The journal is retried after 100 ms, then at least once a second, without limit.
// Waiting events are recorded as soon as it is back, and capture returns to its
// first step when nothing waits.
//
// Read in this order:
//
//   - [Config], [New] and [Gateway.ServeHTTP] (gateway.go): the way of one call.
//   - route.go: which path goes to which provider, and the known providers.
//   - keys.go and local.go: the caller's own keys, hedgerow's in their place, which
//     never reach a provider, and the calls that may do without.
//   - body.go: how a request body is read, and the few bytes of it that hedgerow
//     changes (internal/provider/edit.go).
//   - forward.go: the round trip, headers both ways, and what failure becomes.
//   - stream.go and upgrade.go: how the answer is copied.
//   - origin.go: what an answer may not do to the origin that it shares with pages.
//   - record.go, capture.go, backlog.go, decode.go and attribution.go: from what was
//     seen to an event, off the caller's path.
//   - [Prompts] (prompt.go): the calls that name a prompt instead of writing it.
//   - [Own] and [Gateway.Call]: the calls that hedgerow makes itself.
//
// What hedgerow changes on the way, and nothing else: hop-by-hop headers, its own
// headers (X-Hedgerow-*, X-PostHog-*), a hedgerow key in the place of a provider's,
// or anywhere else in the headers and the query, headers of answers that act on the
// origin (origin.go), top-level body fields that the provider would refuse, and
// stream_options.include_usage, whose traces it removes from the answer. A call
// that names a prompt and sends prompt_variables requests another body, and gets
// it.
package gateway
