// Package project stores everything that can be configured at run time: projects and
// their settings, API keys, PostHog connections, provider keys, users with their
// sign-in links and sessions, and the audit log.
//
// Read in this order:
//
//   - [Registry] and [Open]: one JetStream key-value bucket holds it all; a watch
//     keeps a [Snapshot] of it in memory. Whoever serves traffic asks the
//     snapshot: no I/O, no locks.
//   - [Project], [APIKey], [Connection], [ProviderKey], [User], [Session]: what
//     is kept. types.go has their meaning, units and defaults.
//   - [Dashboard] and [SavedView], in dashboards.go: what people put together to
//     look at.
//   - projects.go, connections.go, users.go: the changes, each validated,
//     compared-and-swapped against the bucket and written to the audit log. A
//     change returns when the registry's own snapshot has it; another process
//     on the same bucket sees it by its watch, in well under a second.
//   - [Secret], seal.go and [Registry.Rotate]: keys of others are sealed with
//     AES-256-GCM before they reach the bucket, and hidden from every printer.
//     hedgerow's own keys, links and sessions are kept as SHA-256 only: they
//     are random, so that a slow hash adds nothing. Passwords are argon2id.
//   - [Registry.Bootstrap]: the first start.
//
// The bucket should keep one revision a key (history 1): then a replaced value
// is gone at once. What is deleted is purged, with whatever history there is.
// JetStream reclaims the space of purged messages on disk when it next compacts
// the block; until then only ciphertext lies there.
package project
