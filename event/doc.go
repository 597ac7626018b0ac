// Package event is the one event model of hedgerow: what a gateway call, an
// SDK event or an OpenTelemetry span becomes, and what the store, the web pages
// and PostHog are given.
//
// Read in this order:
//
//   - [Event]: the model. Fields that may be unknown are [Opt] values: unknown
//     is never written as 0.
//   - [Usage], [Cost] and [Content]: tokens by kind, dollars by part, and the
//     text itself, kept apart from the rest so that privacy drops it in one move.
//   - [Event.Validate]: what makes an event acceptable.
//   - [Event.AppendFrame] and [DecodeFrame]: the journal's lossless form.
//   - [Event.MarshalPostHog] and [UnmarshalPostHog]: the form that PostHog's
//     capture API speaks, property names and units included.
//   - [Error]: the one error type that people get to read, with its HTTP status.
//
// The package does no I/O and imports nothing of hedgerow.
package event
