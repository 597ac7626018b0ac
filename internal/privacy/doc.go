// Package privacy decides what is kept of an event and what leaves: it drops,
// masks, hashes, buckets and scrubs. It is pure: no I/O, no state, no logging.
//
// Read in this order:
//
//   - [AtHome]: what happens to every event before the journal: safe fields are
//     derived while the content is there ([Derive]), content is dropped where the
//     project keeps none, base64 files and secrets are taken out everywhere, and
//     the event is made to fit the journal ([Fit]).
//   - [Outbound]: the copy that leaves for PostHog. In privacy mode, the default,
//     it bears no prompt, no answer and nothing that could echo one.
//   - [ScrubJSON] and [ScrubText]: the secret scrubber, on raw bytes.
//   - [RedactBase64] and [Truncate]: the rules of PostHog's own wrappers for
//     files and long strings (contract section 3.5).
//   - [HashID]: the keyed hash of a user's id.
//
// # What is a secret
//
// Keys of providers and platforms by their published prefixes, AWS key pairs,
// JSON web tokens, Authorization headers, PEM private keys, passwords in URLs,
// values assigned to a name like api_key, payment card numbers and, where the
// project asks for it, e-mail addresses. Each is replaced by a mark that says
// what it was, such as [secret:openai_key], [card] or [email]. PostHog project
// tokens (phc_…) and publishable keys (pk_…) are public and stay.
package privacy
