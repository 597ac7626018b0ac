// Package template is the text of a prompt: messages with variables in double
// braces, as PostHog's prompts have them, and functions on them that do not
// need a registry. It does no I/O and is shared by the registry and by the SDK,
// so that both render one text from one template.
//
// Read in this order:
//
//   - [Message], [Variable]: the parts of a prompt.
//   - [Check]: validation of a template.
//   - [Render]: the messages for one user, each value checked against its type.
//   - [Pattern]: the reverse: from a rendered text to its template.
package template
