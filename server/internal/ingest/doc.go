// Package ingest receives events from PostHog's SDKs. It implements PostHog's
// capture protocol at the server's root, so that an application switches from
// PostHog to hedgerow by changing its host only.
//
// A 2xx means that the journal has the events on disk. A status that SDKs retry
// (503 with Retry-After, 408) is not an acknowledgement, and an SDK that sends its
// own uuids may repeat the request any number of times.
//
// Read in this order:
//
//   - [Config], [New], [Handler.Handles] and the table of routes (ingest.go): the
//     handler, tokens, and the handling of a failed append.
//   - v0.go, v1.go and multipart.go: the three formats of requests and responses.
//     "Contract section" in comments refers to docs/conformance.md.
//   - package httpbody: reading and decompressing within bounds; the memory of one
//     request, and of all of them together, is counted before it is allocated.
//   - payload.go and lz.go: queries, forms, base64 and lz-string.
//   - scan.go: one pass that validates JSON, and readers that then walk it without
//     validation. request.go finds the events in it.
//   - event.go: from a JSON object to an [event.Event], corrected for clock skew.
//   - flags.go: SDK requests other than capture, relayed to the project's PostHog.
//
// # Intended differences from PostHog
//
//   - A batch with an invalid event is not lost: the valid ones are accepted, and
//     the response lists the invalid ones ("rejected" in v0, a drop in v1). If no
//     event is valid, the status is PostHog's.
//   - An unknown token gets 401, not a 200 that loses everything.
//   - Limits are larger ([Limits]): an event that is too large for PostHog is stored
//     whole and reduced when it is sent.
//   - Session recordings are accepted and discarded, and browsers get settings that
//     disable recording.
//
// # Other events
//
// Properties of $identify, $create_alias, $exception, $pageview and all other
// names without "$ai_" are forwarded unchanged, $set and $groups included. A public
// client address is added as $ip unless the event has one or forbids it: PostHog
// would have seen that address, and would otherwise see hedgerow's.
package ingest
