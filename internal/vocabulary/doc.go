// Package vocabulary writes one event in the words of a receiver: PostHog's own
// $ai_ events, the five events of the llm_events schema, or both. It is pure, and
// small enough for the SDK, which writes the same events as a connection of the
// server.
package vocabulary
