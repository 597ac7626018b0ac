// Package join merges the captures of a call by several receivers, and fills in
// outcomes from their calls. An application that reports a finished task or a rating
// seldom knows the prompt, model and flags of the call; the call of the same trace
// does.
//
// Both work between the journal and its readers, so that the store and PostHog get the
// same. [Outcomes] queries the store once for each trace that an outcome names, and
// caches the result; it is notified of events of that trace that are stored later. A
// restart loses nothing, late outcomes find their call, and calls without outcomes
// cost almost nothing.
//
// # The call of an outcome
//
// An outcome names its call by span_id, generation_id, request_id,
// $ai_target_event_id or $ai_parent_id: they are compared with a call's span id, uuid,
// completion id and request_id. Without one it is the first call of the trace with a
// prompt or, if there is none, the first call, within [Reach] of the outcome. Package
// query has the same rule for calls that are stored after their outcome.
//
// Surface, environment, task type, agent configuration and feature flags that the call
// does not have come from the first event of the trace that has them. An outcome's own
// values are never changed. An outcome may name a merged call by any id or trace of its
// captures, as far as [Outcomes] knows the merge.
//
// # Double capture
//
// A call through the gateway that a wrapper (@posthog/ai, an OpenTelemetry
// instrumentation) captures as well arrives twice, with two uuids and usually two
// trace ids. Both captures have the provider's completion id. A wrapper without it
// names its base URL: if that is this gateway, the call is the gateway's with the same
// token counts. A wrapper with neither must agree in model, both token counts, user or
// trace, and time.
//
// An id or a count alone is not enough: provider or base URL, model, and token counts
// or time must agree as well, within one project (match.go). Some servers number their
// answers from 0 to 998.
//
// @mastra/posthog reports one generation per run of an agent, with the sum of its calls,
// and a span per call with the provider's id, its step. A call of the gateway goes below
// its step, with the step's user, session and trace. The run's generation merges with
// the call if there is only one. Otherwise it becomes a span once all its steps have
// their calls (run.go). Without the gateway it stays a generation with the sum.
//
// # Merging
//
// Receivers journal every capture immediately. [Joiner] reads the journal, keeps an
// index of the last hour's calls, and appends an [event.Merge] for each pair: an event
// whose uuid is derived from both, with the user, session, place in the trace and
// custom properties of the capture that does not count. The gateway's capture counts;
// of two others the first, or the inner one if one is the parent of the other, which
// stays a span.
//
// The store applies a merge in one transaction: it replaces the call's row, removes the
// other, which is not stored again, and marks the roll-ups of both to be rebuilt. Table
// merges keeps merges that precede their captures. Outcomes and other events in the
// call's former trace move to the new one if the former has no steps left.
//
// Delivery asks [Joiner.Decide] about each call. One capture of a call is sent, once,
// with the fields of its merges. If another capture is expected, it waits up to
// [JoinerConfig.Hold]: the gateway's if a wrapper has reported the project within the
// hour, a wrapper's if the gateway has, or if it names the gateway as its base URL. If
// the second capture comes later, or the first did not wait, the merge is late: the
// first capture is sent, or is at PostHog already, and the merge changes only the
// store. PostHog has no updates, and never gets a second generation.
// hedgerow_ingest_late_merges_total and the pages count late merges.
//
// # Failures
//
//   - A start reads the last hour of the journal again. Existing merges stay; missing
//     ones are appended, with the uuids that they would have had. No call is delivered
//     before.
//   - Delivery sees a call after its merges are in the journal. Whether a merge is
//     late follows from the journal alone: from the times of the captures and the
//     reports before them.
//   - Merges of a call that delivery reads after more than an hour come from the store.
//   - If one capture of a call was deleted, the other is deleted when it is merged.
//   - The journal keeps acknowledged events for an hour, but at most 256 MiB: with more,
//     a restart between two captures can leave them apart.
package join
