// Package otlp receives OpenTelemetry: traces over OTLP/HTTP, in protobuf and JSON,
// at /i/v0/ai/otel (PostHog's path) and /v1/traces (OpenTelemetry's), and over gRPC.
// Logs, metrics and profiles are accepted too, since SDKs send them to the same
// address: log records of GenAI events become content of their span, the rest is
// discarded. Spans of LLM instrumentations become the same events as those of a
// gateway or a PostHog SDK. Other spans (HTTP requests, database queries) are
// skipped, as in PostHog.
//
// The promise: a 2xx means that the journal has every accepted span. Transient
// failures are answered 503 with Retry-After, since OTLP clients retry only 429,
// 502, 503 and 504.
//
// Read in this order:
//
//   - [Config], [New] and [Handler] (otlp.go): the handler, tokens and responses.
//   - package httpbody: reading and decompressing within bounds.
//   - decode.go: from bytes to OTLP's own types. What they will need in memory,
//     how deep they nest and whether their texts are valid is looked at before
//     anything is allocated.
//   - span.go: from a span to an [event.Event]: kind, place in the tree, times,
//     people, outcome.
//   - attributes.go: a span's attributes, from which each reader takes what it knows. What
//     nobody took is kept as a property.
//   - relate.go: what a span takes from others of its trace: user and session, and
//     which of two spans is the call where one wraps the other.
//   - signal.go and logs.go: the other signals, and how the content of log records
//     meets its span: a span that comes later finds it in memory, and
//     [event.SpanContent] brings it to the store, where it meets a span that came
//     before, or came after a restart.
//   - usage.go: tokens by kind, and whether cached ones lie within the input.
//   - content.go and messages.go: the words, in PostHog's message form.
//
// # Conventions
//
// One reader serves all instrumentations: it knows the several names of a field and
// uses the first that is present, so that spans with mixed conventions, such as
// those of the Vercel AI SDK and Mastra, lose nothing.
// Understood are OpenTelemetry's GenAI conventions, the current ones
// (gen_ai.input.messages) and the older ones (span events and gen_ai.prompt),
// OpenInference, Traceloop's OpenLLMetry, the Vercel AI SDK, Pydantic AI with
// Logfire, LangSmith for LangChain, Mastra, Langfuse, Google ADK, Strands, the spans of
// Anthropic's SDK and OpenRouter's Broadcast.
// The mapping follows shared/reference/posthog-contract.md, section 5.
//
// # Little state between requests
//
// A span's user and session may be those of a root that came earlier, and a span that
// wraps an earlier call is no call: both are remembered in memory for the last
// 10,000 traces. Everything else is stateless: a span's position in its trace is given by its ids alone, so parts may arrive in
// any order, in any number of requests, and twice: an event's uuid is derived from
// project, trace and span (see eventID), and a span that is exported again is the
// same event. A skipped or missing parent leaves its id on its children; readers of
// the trace handle that.
//
// # What differs from PostHog, on purpose
//
//   - text_completion and generate_content are generations, and so is a span that
//     names a model and tokens and says nothing of its operation.
//   - A span that cannot be accepted is reported by OTLP's partial success; the
//     others of its request are taken.
//   - The uuid is stable, texts that are no valid UTF-8 are repaired, numbers stay
//     numbers, and limits are larger.
//   - Tokens on a span that is no generation are kept on it; sums leave them out
//     where a generation below says the same.
package otlp
