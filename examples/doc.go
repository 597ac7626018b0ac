// Package examples holds small programs that use the SDK, one a folder; its test
// runs them all. Each takes its keys and hosts from the environment: set
// HEDGEROW_API_KEY and HEDGEROW_HOST (or POSTHOG_API_KEY and POSTHOG_HOST), and
// the provider's key.
//
//   - openai, anthropic: the middleware, streaming and not.
//   - transport: any http.Client.
//   - agent: a trace with steps, and calls within them.
//   - outcomes: whether it helped.
//   - otel: spans of OpenTelemetry.
package examples
