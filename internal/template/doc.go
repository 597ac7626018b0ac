// Package template is the text of a prompt: messages with variables in double
// braces, as PostHog's prompts have them, and what can be asked of them without
// a registry. It does no I/O and is shared by the registry and by the SDK, so
// that both render one text from one template.
//
// Read in this order:
//
//   - [Message], [Variable]: what a prompt is made of.
//   - [Check]: what is wrong with a template before it is kept.
//   - [Render]: the messages for one user, each value checked against its type.
//   - [Pattern]: the way back, from a rendered text to its template.
package template
