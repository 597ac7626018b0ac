// Package otlp receives OpenTelemetry: traces over OTLP/HTTP, in protobuf and
// JSON, at /i/v0/ai/otel (PostHog's path) and /v1/traces (OpenTelemetry's), and
// over gRPC. Logs, metrics and profiles are accepted too, since SDKs send them to
// the same address: log records of GenAI events become content of their span, the
// rest is discarded. Spans of LLM instrumentations become the same events as those
// of the gateway or a PostHog SDK. Other spans (HTTP requests, database queries)
// are skipped, as in PostHog.
//
// A 2xx means that the journal has every accepted span. Temporary failures get 503
// with Retry-After, since OTLP clients retry only 429, 502, 503 and 504.
//
// Read in this order:
//
//   - [Config], [New] and [Handler] (otlp.go): the handler, tokens and responses.
//   - package httpbody: reading and decompressing within bounds.
//   - decode.go: from bytes to OTLP's own types. The memory they will need, their
//     nesting and the validity of their text are checked before anything is
//     allocated.
//   - span.go: from a span to an [event.Event]: kind, parent, times, user and
//     session, status.
//   - attributes.go: a span's attributes, from which each reader takes those it
//     knows. The remaining ones are kept as properties.
//   - relate.go: what a span takes from others of its trace: user and session, and
//     which of two nested spans is the call.
//   - signal.go and logs.go: the other signals, and how the content of log records
//     is added to its span: a span that arrives later finds it in memory, and
//     [event.SpanContent] adds it in the store to a span that arrived earlier, or
//     after a restart.
//   - usage.go: token counts, and whether the input count includes cached tokens.
//   - content.go and messages.go: content, in PostHog's message format.
//
// # Conventions
//
// One reader serves all instrumentations: it knows the names of a field in each of
// them and uses the first that is present, so that spans with mixed conventions,
// such as those of the Vercel AI SDK and Mastra, lose nothing. It reads
// OpenTelemetry's GenAI conventions, the current ones (gen_ai.input.messages) and
// the older ones (span events and gen_ai.prompt), OpenInference, Traceloop's
// OpenLLMetry, the Vercel AI SDK, Pydantic AI with Logfire, LangSmith for LangChain,
// Mastra, Langfuse, Google ADK, Strands, the spans of Anthropic's SDK and
// OpenRouter's Broadcast. The mapping follows PostHog's; "contract section" in
// comments refers to docs/conformance.md.
//
// # Little state between requests
//
// A span may take user and session from a root that arrived earlier, and a span
// that wraps an earlier call is not a call itself: both are remembered in memory
// for the last 10,000 traces. Everything else is stateless: a span's position in
// its trace depends on its ids alone, so the spans of a trace may arrive in any
// order, in any number of requests, and repeatedly: an event's uuid is derived from
// project, trace and span (see eventID), and a span that is exported again is the
// same event. Children of a skipped or missing parent keep its id; readers of the
// trace handle that.
//
// # Intended differences from PostHog
//
//   - text_completion and generate_content are generations, and so is a span that
//     has a model and token counts but no operation.
//   - A span that cannot be accepted is reported in OTLP's partial success; the
//     others of its request are accepted.
//   - The uuid is stable, invalid UTF-8 is repaired, numbers stay numbers, and
//     limits are larger.
//   - Token counts of a span that is not a generation are kept; sums exclude them
//     if a generation below has the same counts.
package otlp
