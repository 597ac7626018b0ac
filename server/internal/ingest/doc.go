// Package ingest receives events from PostHog's SDKs. It implements PostHog's
// capture protocol at the server's root, so that an application switches from
// PostHog to hedgerow by changing its host only.
//
// The promise: a 2xx means that the journal has the events on disk. A status that
// SDKs retry (503 with Retry-After, 408) is no acknowledgement, and an SDK that
// sends its own uuids may repeat the request any number of times.
//
// Read in this order:
//
//   - [Config], [New], [Handler.Handles] and the table of routes (ingest.go): the
//     handler, tokens, and what follows a failed append.
//   - v0.go, v1.go and multipart.go: the three forms of a request and of its
//     answer. Wire formats are those of shared/reference/posthog-contract.md,
//     section 1.
//   - package httpbody: reading and decompressing within bounds; what a request holds, and
//     all of them together, is counted before it is allocated.
//   - payload.go and lz.go: queries, forms, base64 and lz-string.
//   - scan.go: one pass that validates JSON, and readers that walk it after that
//     without another look. request.go finds the events in it.
//   - event.go: from a JSON object to an [event.Event], clock skew corrected.
//   - flags.go: what SDKs ask a host for beside capture, relayed to the project's
//     PostHog.
//   - join.go: double capture.
//
// # What differs from PostHog, on purpose
//
//   - A batch with a bad event is not lost: the good ones are taken, and the
//     answer names the bad ones ("rejected" in v0, a drop in v1). Where nothing
//     was good the status is PostHog's.
//   - An unknown token is 401, not a 200 that loses everything.
//   - Limits are larger ([Limits]): an event that is too large for PostHog is
//     kept whole at home and made smaller on its way out.
//   - Session recordings are taken and forgotten, and browsers are told not to
//     record.
//
// # Events that are none of hedgerow's business
//
// Properties of $identify, $create_alias, $exception, $pageview and all other
// names without "$ai_" go on exactly as they came, $set and $groups included. A
// public client address becomes $ip where the event names none and has not
// forbidden it: PostHog would have seen that address, and would now see
// hedgerow's.
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
// [Joiner] is behind all receivers and knows the calls of the last hour. The
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
package ingest
