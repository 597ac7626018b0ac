// Package eval judges what models answer: by checks that need no model, by
// another model, and by taking in what people and other programs say.
//
// Read in this order:
//
//   - [Result] and [Result.Event]: one judgment, and the event that it becomes
//     (llm_output_rated), which joins the generation that it is about.
//   - [Feedback]: what a user said.
//   - [Check]: what a project asks to be checked. Its kinds are builtin.go's,
//     which read the answer only, and judge.go's, which asks a model.
//   - [Registry]: the checks of all projects, in a key-value bucket.
//   - [Runner]: one check on one generation. [Manager]: reads the journal behind
//     everybody else and runs the checks of each project that has any.
//   - budget.go: what a judge may spend in a day.
//
// A check of a generation has one uuid, made of the two: the same generation read
// twice from the journal is judged once, wherever that is counted.
//
// The package declares what it needs of the rest: [Caller] calls a model,
// [Appender] takes events, [Queues] opens the journal. Nothing here is in the
// way of a call: what is checked has been answered and recorded before.
package eval
