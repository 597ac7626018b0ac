// Package privacy decides what is stored of an event and what is sent: it drops,
// masks, hashes, buckets and scrubs. It is pure: no I/O, no state, no logging.
//
// Read in this order:
//
//   - [ApplyStorage]: processing of every event before the journal: derived fields are
//     set while the content is present ([Derive]), content is dropped if the
//     project keeps none, base64 files and secrets are replaced everywhere, and
//     the event is reduced to the journal's size limit ([Fit]).
//   - [ApplyOutbound] and [Outbound]: the copy that is sent to PostHog. In privacy mode,
//     the default, it has no prompt, no response and nothing that could repeat
//     one. names.go has the list of names, allow.go the rules, canary.go the
//     check for quotations.
//   - [ScrubJSON] and [ScrubText]: the secret scrubber, on raw bytes.
//   - [RedactBase64] and [Truncate]: the rules of PostHog's own wrappers for
//     files and long strings (contract section 3.5, see docs/conformance.md).
//   - [HashID]: the keyed hash of a user's id.
//
// # What is sent in privacy mode
//
// An allow-list, whose rule for each property depends on its source:
//
//   - Content is never sent. Of tools only the names are sent, of an error a
//     sentence from a fixed list ([SafeError]), of model parameters and provider
//     metadata numbers, booleans and words of known enumerations.
//   - The event's own fields and known names of PostHog and hedgerow are sent if the
//     value has the type of the name: a number, a word, an id, a name of one line
//     (names.go).
//   - Callers' properties are those of headers, of the body's trace and metadata, of
//     SDKs and events at the capture endpoint, and of attributes that known exporters
//     use for the caller's metadata (ai.telemetry.metadata.…,
//     langfuse.trace.metadata.…, metadata). Numbers, booleans and texts of at most
//     200 characters in one line are sent, unless the name is known for content.
//     Lists and objects are not; metadata and $set are filtered by member. An unknown
//     name that begins with $ is sent with a number or a boolean only.
//   - Attributes of spans and resources are sent only if names.go has the name, also
//     with numbers: what a new library adds is withheld. A property is such an
//     attribute if the event's source is otlp, or if [event.Event.Attributes] lists
//     it (the SDK's exporter).
//   - Properties listed in a connection's send_properties or send_attributes are sent
//     unchanged.
//   - Product events, which are not about calls ($ai_… and llm_… are), are the
//     customer's own data: surveys, exceptions and others are sent unchanged, except
//     for properties known for prompts and responses by name or shape. An exception
//     with a trace id keeps its types and locations, but not its messages.
//
// In addition, the canary compares what would be sent with the event's own content,
// in windows of 24 letters and digits (12 in scripts that write words in few
// characters), ignoring case, punctuation and white space, and decoding escapes of
// JSON and URLs, base64 and hexadecimal digits. Ids, identifiers in code and names of
// this event's tools, agents, models and prompts that occur in prompts are not
// quotations. A property that quotes content is removed and listed in [PropWithheld];
// if the distinct id, the event's name or the ids of trace and span quote content,
// nothing is sent ([OutboundResult].Block). Properties that a user allowed by name are not
// checked. If content is dropped before storage ([ApplyStorage]), the canary runs before
// that.
//
// # What is a secret
//
// Keys of providers and platforms in their published forms (secrets_table.go), or
// with the vendor's name in the variable (secrets_vendor.go); values assigned to
// names of passwords, tokens and keys, in env files, JSON, YAML, URLs, headers,
// command-line options and connection strings (secrets_assign.go); JSON Web Tokens,
// Authorization headers, PEM private keys, passwords in URLs, payment card numbers
// and, if the project enables it, e-mail addresses. A secret split by a line break or
// between string literals is found as well (secrets_broken.go). Each is replaced by
// a mark with its kind, such as [secret:openai_key], [card] or [email]. PostHog
// project tokens (phc_…) and publishable keys (pk_…) are public and kept.
// docs/privacy.md has the detection rates.
package privacy
