// Package otelexport sends the OpenTelemetry spans of model calls, by the GenAI
// semantic conventions, as $ai_ events. It is apart from package hedgerow so
// that who does not use OpenTelemetry does not get it.
//
// Read in this order:
//
//   - [NewExporter]: behind OpenTelemetry's own batching, where a program has it.
//   - [NewProcessor]: without it; spans then also have their context's
//     attribution ([hedgerow.WithUser], [hedgerow.WithTags] …).
//   - [SpanContext]: makes calls by hedgerow's wrappers children of the current
//     span. It is [hedgerow.Config.SpanContext].
//   - span.go: from a span to an event. The mapping is that of PostHog's own OTLP
//     endpoint (contract section 5) for OpenTelemetry's conventions, with the names
//     that OpenInference and Traceloop have for models and tokens. For anything
//     more, point an OTLP exporter at hedgerow's /v1/traces.
//
// Spans unrelated to models are skipped. A library that is instrumented for
// OpenTelemetry and wrapped by hedgerow gives two events for a call: use one of
// them.
package otelexport
