// Package gateway is the streaming pass-through proxy between callers and LLM
// providers. Requests and responses are forwarded byte for byte; each call is
// recorded as one event after it has ended.
//
// The caller's traffic comes first. Capture never delays, changes or fails a
// call. It is bounded in memory and number; what it has to drop is counted,
// logged and reported by [Gateway.Stats]. A call has been passed to [Appender]
// a quarter of a second after the end of its response.
//
// While the journal accepts no events (its disk is full, it is being repaired,
// it does not respond), calls are forwarded as usual and capture degrades in
// steps, reported by [Stats.Step], the metric hedgerow_gateway_capture_step and
// [Gateway.Health]:
//
//  1. waiting: calls that end are parsed at once, so that their raw bodies can
//     be released, and their events wait in memory with their content. The
//     limits are [Limits.Queue] calls and [Limits.QueueBytes], where an event
//     counts as the size of its content plus 4 KiB.
//  2. without_content: when three quarters of these bytes are in use, the
//     content of waiting and new events is dropped. Such an event has the
//     property content_dropped with the value journal_unavailable; its tokens,
//     costs, attribution and status are complete.
//  3. dropping: if even that does not fit, calls are not recorded. They are
//     counted by reason (queue_full, queue_bytes) in [Stats.Dropped] and in
//     hedgerow_gateway_capture_dropped_total, logged at most every ten seconds,
//     and shown on the pages.
//
// The journal is retried after 100 ms, then at least once a second, without
// limit. Waiting events are recorded as soon as it is available again, and
// capture returns to its first step when nothing waits.
//
// Read in this order:
//
//   - [Config], [New] and [Gateway.ServeHTTP] (gateway.go): the steps of one call.
//   - route.go: which path goes to which provider, and the known providers.
//   - keys.go and local.go: the caller's own keys, hedgerow keys sent instead,
//     which never reach a provider, and the calls that need no key.
//   - body.go: how a request body is read, and the few bytes of it that hedgerow
//     changes (internal/provider/edit.go).
//   - forward.go: the round trip, headers in both directions, and the handling
//     of failures.
//   - stream.go and upgrade.go: how the response is copied.
//   - socket.go, frames.go and chain.go: WebSockets whose messages are read, each
//     response an event of its own.
//   - origin.go: keeping responses from affecting the origin that they share
//     with hedgerow's pages.
//   - record.go, capture.go, backlog.go, decode.go and attribution.go: from the
//     recorded exchange to an event, outside the caller's path.
//   - [Prompts] (prompt.go): calls that name a prompt instead of containing it.
//   - [InternalCall] and [Gateway.Call]: calls that hedgerow makes itself.
//
// hedgerow changes only the following: hop-by-hop headers; its own headers
// (X-Hedgerow-*, X-PostHog-*); a hedgerow key sent instead of a provider's, or
// anywhere else in the headers and the query; response headers that affect the
// origin (origin.go); a WebSocket's offer of compression if its messages are read;
// top-level body fields that the provider would reject; and
// stream_options.include_usage, whose usage chunk it removes from the response.
// A call that names a prompt and sends prompt_variables gets another body, as
// it requested.
package gateway
