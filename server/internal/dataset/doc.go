// Package dataset keeps generations as examples and runs prompt versions over
// them, so that two versions, or two models, can be compared on the same inputs.
//
// Read in this order:
//
//   - [Set], [Example], [Run], [Result]: the records. They are kept until
//     deleted: the project's retention applies to events only.
//   - [Registry]: sets and runs in memory, examples and results in a key-value
//     bucket, read on request.
//   - [FromGeneration]: an example from an event.
//   - jsonl.go: import and export, one example per line.
//   - [Runner]: a run, with bounded concurrency and a budget. Its calls go
//     through hedgerow's own gateway and are recorded as generations of the
//     surface Dataset, each in a separate trace. An interrupted run can be
//     resumed.
//   - [Compare]: two runs side by side.
package dataset
