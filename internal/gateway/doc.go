// Package gateway is the streaming pass-through proxy between callers and LLM
// providers. A call reaches the provider, and its answer the caller, byte for
// byte; what passed is turned into one event after the exchange has ended.
//
// The promise: the caller's traffic comes first. Capture never delays, changes
// or fails a call. It is bounded in memory and in number, and what it has to
// drop is counted, logged and reported by [Gateway.Stats]. A call whose answer
// ended a quarter of a second ago has been handed to [Appender].
//
// Read in this order:
//
//   - [Config], [New] and [Gateway.ServeHTTP] (gateway.go): the way of one call.
//   - route.go: which path goes to which provider, and the known providers.
//   - keys.go: the caller's own keys, and hedgerow's in their place.
//   - body.go, edit.go and scan.go: how a request body is read, and the few
//     bytes of it that hedgerow changes.
//   - forward.go: the round trip, headers both ways, and what failure becomes.
//   - stream.go, strip.go and upgrade.go: how the answer is copied.
//   - record.go, capture.go, decode.go and attribution.go: from what was seen to
//     an event, off the caller's path.
//   - [Prompts] (prompt.go): the calls that name a prompt instead of writing it.
//   - [Own] and [Gateway.Call]: the calls that hedgerow makes itself.
//
// What hedgerow changes on the way, and nothing else: hop-by-hop headers, its own
// headers (X-Hedgerow-*, X-PostHog-*), a hedgerow key in the place of a
// provider's, top-level body fields that the provider would refuse, and
// stream_options.include_usage, whose traces it removes from the answer. A call that
// names a prompt and sends prompt_variables asks for another body, and gets it.
package gateway
