package event

// Schema is the set of events that a receiver gets for a call.
type Schema string

// The schemas. docs/events.md lists the events and properties of each.
const (
	SchemaPostHog   Schema = "posthog"    // PostHog's own: $ai_generation, $ai_span, $ai_trace …
	SchemaLLMEvents Schema = "llm_events" // llm_request_started, _completed and _failed, llm_output_rated, llm_task_completed
	SchemaBoth      Schema = "both"       // all of these
)

// Valid reports whether s is one of the schemas.
func (s Schema) Valid() bool { return s == SchemaPostHog || s == SchemaLLMEvents || s == SchemaBoth }
