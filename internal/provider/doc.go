// Package provider parses one exchange with an LLM provider into an event. It does
// no I/O, keeps nothing of its input, and never fails: what cannot be parsed becomes
// a plain call with the reason in ParseError.
//
// Read in this order:
//
//   - provider.go: [Call], what the gateway recorded, and [Parse].
//   - operation.go: [Operation], which wire format a path speaks.
//   - request.go: model, parameters and attribution that requests have in common.
//   - response.go: streams and whole answers, the time of the first token, how
//     the call ended.
//   - chat.go, responses.go, messages.go, gemini.go, vertex.go, ollama.go,
//     cohere.go, bedrock.go, embeddings.go, media.go: one wire format each.
//   - usage.go: token counts, normalised.
//   - message.go: answers in PostHog's message form (contract section 3.4).
//   - sse.go, eventstream.go, json.go, redact.go: server-sent events, JSON without copies, files
//     replaced by placeholders ([RedactBase64]).
//
// The authority on each format is the provider's official Go SDK; the other
// servers' deviations are named where they are met.
package provider
