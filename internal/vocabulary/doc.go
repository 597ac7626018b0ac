// Package vocabulary converts an event to a receiver's event schema: PostHog's $ai_
// events, the five events of the llm_events schema, or both. It is pure, and small
// enough for the SDK, which sends the same events as a connection of the server.
package vocabulary
