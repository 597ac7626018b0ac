// Package join gives outcomes what their trace knows. Whoever reports that a task
// is done, or how an answer was rated, seldom knows which prompt, model and flag
// did it; the call of the same trace does.
//
// It stands behind the journal, before the store and before delivery, so that what
// is kept and what leaves say the same, and makes one event of two captures of a call.
// [Outcomes] asks the store for each trace
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
// # Merging
//
// Both captures are journaled as they come: receivers know nothing of other captures.
// [Joiner] is a reader of the journal. It keeps an index of the calls of the last hour,
// and appends an [event.Merge] for each pair: an event of its own, whose uuid follows
// from both. It has what the capture that does not count said of user, session, place in
// the tree and custom properties. The gateway's capture counts; of two others the first,
// and where one is the parent of the other the inner one, whose parent stays a span.
//
// The store applies a merge in one transaction: the call's row is replaced, the other is
// removed and not stored again, and the roll-ups of both are marked to be made again. A
// merge that comes before its captures waits in table merges. What named the call's
// former trace, such as a rating, moves to the new one where nothing else is left of it.
//
// Delivery asks [Joiner.Settle] about each call. One capture of a call leaves, once, with
// what its merges give it. A capture of which another is expected waits, [DefaultHold] at
// most: the gateway's where a wrapper has reported the project within the hour, a
// wrapper's where the gateway has, or where it names the gateway as base URL. Of a pair
// whose second capture comes later than that, or whose first was not held, the first is
// the one that leaves: it may be at PostHog, which has no updates and is never sent a
// second generation. Such a merge is late: the store has it, PostHog may not, and
// hedgerow_ingest_late_merges_total counts it.
//
// # Failures
//
//   - A start reads the last hour of the journal again. The merges that it finds there
//     stand; those that are missing are appended at its end, under the uuids that they
//     would have had. Until then no call is delivered.
//   - Delivery learns of a call only when the merges that it is part of are in the
//     journal. Whether a merge is late follows from what the journal has: when the
//     captures were appended, and which reports came before them.
//   - A call that delivery comes to later than an hour is looked up in the store.
//   - The journal keeps at least 256 MiB of what all readers have ended, and at most an
//     hour: of more than that, a start in the middle of a pair can part it.
package join
