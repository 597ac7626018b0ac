// Package provider parses one exchange with an LLM provider into an event. It does
// no I/O, keeps nothing of its input, and never fails: what cannot be parsed becomes
// a plain call with the reason in ParseError.
//
// Read in this order:
//
//   - provider.go: [Call], what the gateway recorded, and [Parse].
//   - operation.go: [Operation], the wire format of a path.
//   - request.go: model, parameters and attribution that requests have in common.
//   - response.go: streams and complete responses, the time to first token, and
//     the status of the call.
//   - chat.go, responses.go, messages.go, gemini.go, vertex.go, ollama.go,
//     cohere.go, bedrock.go, invoke.go, embeddings.go, media.go, interactions.go, batch.go:
//     one wire format each.
//   - [Socket] (socket.go, realtime.go, live.go): the messages of a WebSocket, grouped
//     into exchanges that Parse reads.
//   - usage.go: token counts, normalised.
//   - message.go: responses in PostHog's message format (contract section 3.4,
//     see docs/conformance.md).
//   - sse.go, eventstream.go, json.go, redact.go: server-sent events, JSON without
//     copies, files replaced by placeholders ([RedactBase64]).
//
// The authority on each format is the provider's official Go SDK; deviations of
// compatible servers are noted in the code.
package provider
