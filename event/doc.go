// Package event is hedgerow's event model. Gateway calls, SDK events and
// OpenTelemetry spans are converted to it; the store, the web pages and PostHog
// read it.
//
// Read in this order:
//
//   - [Event]: the model. Fields that may be unknown are [Opt] values: unknown
//     is never written as 0.
//   - [Usage], [Cost] and [Content]: tokens by kind, dollars by part, and the
//     content, which is separate so that privacy rules can drop it as a whole.
//   - [Event.Validate]: the requirements of a valid event.
//   - [Event.AppendFrame] and [DecodeFrame]: the journal's lossless encoding.
//   - [Event.MarshalPostHog] and [UnmarshalPostHog]: the encoding of PostHog's
//     capture API, including property names and units.
//   - [Error]: the error type of all user-facing errors, with its HTTP status.
//
// The package does no I/O and imports no other package of hedgerow.
package event
