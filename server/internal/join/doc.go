// Package join gives outcomes what their trace knows. Whoever reports that a task
// is done, or how an answer was rated, seldom knows which prompt, model and flag
// did it; the call of the same trace does.
//
// It stands behind the journal, before the store and before delivery, so that what
// is kept and what leaves say the same. [Outcomes] asks the store for each trace
// that an outcome names, once, and keeps what it learns: what is stored of that
// trace later it is told. So nothing is lost by a restart, late outcomes find their
// call, and calls without outcomes cost next to nothing.
//
// # The call of an outcome
//
// It is the call that the outcome names by span_id, generation_id, request_id,
// $ai_target_event_id or $ai_parent_id: by its span id, its uuid, the provider's
// completion id or its own request_id. Where it names none it is the first call of
// its trace that names a prompt or, where none does, the first; not further than
// [Reach] from the outcome. Package query has the same rule for calls that come
// after their outcome has been stored.
//
// What that call does not say of surface, environment, task type, agent
// configuration and feature flags, the first event of the trace that says it does.
// What the outcome itself says always stands.
//
// # Double capture
//
// A call that goes through the gateway and is also captured by a wrapper
// (@posthog/ai, an OpenTelemetry instrumentation) arrives twice, under two uuids
// and most often under two trace ids. What both have is the provider's completion
// id. Some wrappers leave it out; those name the base URL that they called, and
// where that is this gateway's own, the call is known to be one of the gateway's
// and the one with the same token counts is taken for it.
//
// An id or a count alone joins nothing: provider or base URL, model, and token
// counts or time have to agree as well, and both must be of one project
// (match.go). Some servers number their answers from 0 to 998.
//
// [Joiner] is behind all receivers and the pipeline, and knows the calls of the last hour. The
// second arrival of one, through another receiver than the first, is stored as an
// $ai_span in place of an $ai_generation: it keeps its place in the wrapper's
// trace, its user and its properties, and [JoinedTo] names the event that counts.
// Tokens, costs and content are taken out, since the other has them. So a call is
// counted once, at home and in PostHog, whichever came first, and nothing that
// the wrapper alone knew is lost.
//
// A process that starts reads the last hour's calls from the store
// ([Joiner.Remember]), and is told of those that reach the store later, so that a
// restart between the two halves of a call does not part them. The limit of this:
// of several replicas only the one that stores an event learns of it, and the two
// halves of one call may arrive within the moment before it does.
package join
