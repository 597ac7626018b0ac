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
// Keys of providers and platforms by their published forms (secrets_table.go),
// or by the vendor that a name names (secrets_vendor.go); values assigned to
// names of passwords, tokens and keys, in env files, JSON, YAML, URLs, headers,
// options of commands and connection strings (secrets_assign.go); JSON web
// tokens, Authorization headers, PEM private keys, passwords in URLs, payment
// card numbers and, where the project asks for it, e-mail addresses. A secret
// that a line break or a joint of string literals parts is found as well
// (secrets_broken.go). Each is replaced by a mark that says what it was, such as
// [secret:openai_key], [card] or [email]. PostHog project tokens (phc_…) and
// publishable keys (pk_…) are public and stay. docs/privacy.md has the figures.
package privacy
