// Package prompt stores a project's prompts: their immutable versions, and the
// labels and rollouts that select versions.
//
// Read in this order:
//
//   - [Registry] and [Open]: one JetStream key-value bucket with a view of it in
//     memory. Serving traffic reads only the view: no I/O, no locks.
//   - [Prompt] (registry.go), [Version] (version.go), [Label] (label.go): the
//     records and their changes. Every change is written to the audit log.
//   - [Version.Render] (render.go): a version for one user, its values checked.
//   - [Version.Hash] and [HashText] (hash.go): what distinguishes versions, and
//     how it compares with the prompt_hash of an event.
//   - [Registry.Attribute] (attribute.go): the version of an event, set by its
//     caller or recognized, and whether the text is still that of the version.
//   - [Rollout] (rollout.go) and [Registry.Resolve] (resolve.go): versions by the
//     variants of a feature flag; [Registry.Withdraw] (withdraw.go) withdraws a
//     harmful one.
//   - [File] (file.go): a prompt as a YAML or JSON file, for import and export.
//   - [PostHogPrompt] (posthogprompt.go): a version in the format of PostHog's prompt
//     clients.
package prompt
