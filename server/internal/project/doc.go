// Package project stores everything that can be configured at run time: projects and
// their settings, API keys, PostHog connections, provider keys, users with their
// sign-in links and sessions, and the audit log.
//
// Read in this order:
//
//   - [Registry] and [Open]: one JetStream key-value bucket stores everything; a
//     watch keeps a [Snapshot] of it in memory. Serving traffic reads only the
//     snapshot: no I/O, no locks.
//   - [Project], [APIKey], [Connection], [ProviderKey], [AdminKey], [User], [Session]: the
//     records. types.go has their meaning, units and defaults.
//   - [Dashboard] and [SavedView], in dashboards.go: pages created by users.
//   - projects.go, connections.go, users.go: the changes, each validated,
//     compared-and-swapped against the bucket and written to the audit log. A
//     change returns when the registry's own snapshot includes it; other processes on
//     the same bucket get it from their watch in well under a second.
//   - [Secret], seal.go and [Registry.Rotate]: keys of third parties are
//     encrypted with AES-256-GCM before they reach the bucket, and never printed.
//     hedgerow's own keys, links and sessions are kept as SHA-256 only: they are
//     random, so a slow hash is not needed. Passwords are argon2id.
//   - [Registry.Bootstrap]: the first start.
//
// The bucket should keep one revision a key (history 1): then a replaced value is
// deleted immediately. Deleted records are purged, with their history. JetStream
// reclaims the space of purged messages on disk when it next compacts the block;
// until then only ciphertext remains.
package project
