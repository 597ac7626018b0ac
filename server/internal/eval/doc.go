// Package eval judges models' answers: with checks that need no model, with
// another model, and from feedback of users and other programs.
//
// Read in this order:
//
//   - [Result] and [Result.Event]: one judgment, and the event that it becomes
//     (llm_output_rated), which refers to its generation.
//   - [Feedback]: a user's feedback.
//   - [Check]: a project's check. The kinds in builtin.go read only the answer;
//     judge.go calls a model.
//   - [Registry]: the checks of all projects, in a key-value bucket.
//   - [Runner]: one check on one generation. [Manager]: reads the journal and
//     runs each project's checks.
//   - budget.go: a judge's daily budget.
//
// A judgment's uuid is derived from its check and generation: if a generation is
// delivered twice, its judgment counts once.
//
// The package declares its dependencies as interfaces: [Caller] calls a model,
// [Appender] appends events, [Queues] opens the journal. Checks never delay a
// call: they run after it was answered and recorded.
package eval
