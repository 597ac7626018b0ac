// Package otlp takes OpenTelemetry: traces over OTLP/HTTP, in protobuf and JSON, at
// /i/v0/ai/otel (PostHog's path) and /v1/traces (OpenTelemetry's), and over gRPC.
// Logs, metrics and profiles are answered as well, since SDKs send them to the same
// address: log records of GenAI events become content of their span, and the rest
// is discarded.
// Spans of LLM instrumentations become the same events as what a gateway or a
// PostHog SDK records. Any other span (an HTTP request, a query of a database) is
// passed over, as PostHog does.
//
// The promise: a 2xx means that the journal has every span that was taken. A
// failure that is worth another try is answered 503 with Retry-After, since OTLP
// clients try 429, 502, 503 and 504 again and nothing else.
//
// Read in this order:
//
//   - [Config], [New] and [Handler] (otlp.go): the door, tokens and answers.
//   - body.go: reading and decompressing within bounds.
//   - decode.go: from bytes to OTLP's own types. What they will need in memory,
//     how deep they nest and whether their texts are valid is looked at before
//     anything is allocated.
//   - span.go: from a span to an [event.Event]: kind, place in the tree, times,
//     people, outcome.
//   - attributes.go: a span's attributes, from which each reader takes what it knows. What
//     nobody took is kept as a property.
//   - signal.go and logs.go: the other signals, and how the content of log records
//     meets its span: a span that comes later finds it in memory, and
//     [event.SpanContent] brings it to the store, where it meets a span that came
//     before, or came after a restart.
//   - usage.go: tokens by kind, and whether cached ones lie within the input.
//   - content.go and messages.go: the words, in PostHog's message form.
//
// # Conventions
//
// There is one reader for all instrumentations, not one for each: it knows the
// several names of a fact and takes the first that is there. So a span that mixes
// conventions, as those of the Vercel AI SDK and Mastra do, loses nothing.
// Understood are OpenTelemetry's GenAI conventions, the current ones
// (gen_ai.input.messages) and the older ones (span events and gen_ai.prompt),
// OpenInference, Traceloop's OpenLLMetry, the Vercel AI SDK, Pydantic AI with
// Logfire, LangSmith for LangChain, Mastra, Langfuse and OpenRouter's Broadcast.
// The mapping follows shared/reference/posthog-contract.md, section 5.
//
// # The tree, without a memory
//
// A span's place is told by its ids alone, which are kept as they are, so that
// parts may come in any order, in any number of requests and twice: an event's
// uuid is made of project, trace and span (see eventID), and a span that is
// exported again is the same event. Of spans nothing is remembered between requests.
// A parent that was passed over, or has not come yet, leaves its id behind; who
// assembles the trace knows what to do.
//
// # What differs from PostHog, on purpose
//
//   - text_completion and generate_content are generations, and so is a span that
//     names a model and tokens and says nothing of its operation.
//   - A span that cannot be taken is told by OTLP's partial success; the others of
//     its request are taken.
//   - The uuid is stable, texts that are no valid UTF-8 are repaired, numbers stay
//     numbers, and limits are larger.
//   - Tokens on a span that is no generation are kept on it; sums leave them out
//     where a generation below says the same.
package otlp
