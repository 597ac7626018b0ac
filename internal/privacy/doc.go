// Package privacy decides what is stored of an event and what is sent: it drops,
// masks, hashes, buckets and scrubs. It is pure: no I/O, no state, no logging.
//
// Read in this order:
//
//   - [AtHome]: what happens to every event before the journal: safe fields are
//     derived while the content is there ([Derive]), content is dropped where the
//     project keeps none, base64 files and secrets are taken out everywhere, and
//     the event is made to fit the journal ([Fit]).
//   - [Leave] and [Outbound]: the copy that leaves for PostHog. In privacy
//     mode, the default, it has no prompt, no answer and nothing that could
//     echo one. names.go has the list of names, allow.go the rule, canary.go
//     the check.
//   - [ScrubJSON] and [ScrubText]: the secret scrubber, on raw bytes.
//   - [RedactBase64] and [Truncate]: the rules of PostHog's own wrappers for
//     files and long strings (contract section 3.5).
//   - [HashID]: the keyed hash of a user's id.
//
// # What leaves in privacy mode
//
// An allow-list, which asks for each property where it comes from:
//
//   - Content never leaves. Of tools their names do, of an error a sentence of a
//     fixed list ([SafeError]), of model parameters and provider metadata numbers,
//     booleans and words of known enumerations.
//   - The event's own fields and PostHog's and hedgerow's known names leave where the
//     value is of the kind that the name has: a number, a word, an id, a name of one
//     line (names.go).
//   - Callers' properties: headers, the body's trace and metadata, properties of SDKs
//     and of events at the capture endpoint, and what known exporters carry for the
//     caller (ai.telemetry.metadata.…, langfuse.trace.metadata.…, metadata). Numbers,
//     booleans and texts of at most 200 characters in one line leave, unless the name
//     is known for content. Lists and objects do not; metadata and $set leave by their
//     members. An unknown name that begins with $ leaves with a number or a boolean
//     only.
//   - Attributes of spans and resources leave where names.go knows the name, numbers
//     too: what a new library writes stays at home. A property is one where the
//     event's source is otlp, whatever frame or row it was read from, or where
//     [event.Event.Attributes] names it (the SDK's exporter).
//   - What a connection names in send_properties or send_attributes leaves as it is.
//   - Product events, which are not about calls ($ai_… and llm_… are), are the
//     customer's own data: surveys, exceptions and others are sent unchanged, except for
//     properties that are known for prompts and answers by name or shape. An exception
//     with a trace id keeps its types and locations, but not its messages.
//
// On top of it the canary: what leaves is compared with the event's own content, in
// windows of 24 letters and digits (12 of scripts that write words in few
// characters), whatever case, punctuation and white space, through escapes of JSON
// and URLs, base64 and hexadecimal digits. Ids, names in code and names of this
// event's tools, agents, models and prompts are no quotation where prompts mention
// them. What quotes is taken out and named in [PropWithheld]; where the distinct
// id, the event's name or the ids of trace and span quote, nothing leaves
// ([Outcome].Block). Properties that a person named are not checked. Where content
// goes locally already ([AtHome]), the canary looks before it goes.
//
// # What is a secret
//
// Keys of providers and platforms by their published forms (secrets_table.go),
// or by the vendor that a name names (secrets_vendor.go); values assigned to
// names of passwords, tokens and keys, in env files, JSON, YAML, URLs, headers,
// options of commands and connection strings (secrets_assign.go); JSON web
// tokens, Authorization headers, PEM private keys, passwords in URLs, payment
// card numbers and, where the project requests it, e-mail addresses. A secret
// that a line break or a joint of string literals parts is found as well
// (secrets_broken.go). Each is replaced by a mark that says what it was, such
// as [secret:openai_key], [card] or [email]. PostHog project tokens (phc_…) and
// publishable keys (pk_…) are public and stay. docs/privacy.md has the figures.
package privacy
