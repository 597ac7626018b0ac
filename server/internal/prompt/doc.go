// Package prompt keeps a project's prompts: their immutable versions, and the
// labels and rollouts that say which of these runs where.
//
// Read in this order:
//
//   - [Registry] and [Open]: one JetStream key-value bucket with a view of it in
//     memory. Whoever serves traffic asks the view: no I/O, no locks.
//   - [Prompt] (registry.go), [Version] (version.go), [Label] (label.go): what is
//     kept, and how it is changed. Every change is written to the audit log.
//   - [Version.Render] (render.go): a version for one user, its values checked.
//   - [Version.Hash] and [HashText] (hash.go): what distinguishes versions, and
//     how it compares with the prompt_hash of an event.
//   - [Registry.Attribute] (attribute.go): which version an event ran, said by
//     its caller or recognised, and whether the text still is that version's.
//   - [Rollout] (rollout.go) and [Registry.Resolve] (resolve.go): who gets which
//     version, by the variants of a feature flag; [Registry.Withdraw] (withdraw.go)
//     when one of them does harm.
//   - [File] (file.go): a prompt as a YAML or JSON file, for import and export.
//   - [PostHogForm] (posthogform.go): a version as PostHog's prompt clients read it.
package prompt
