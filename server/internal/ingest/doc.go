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
package ingest
