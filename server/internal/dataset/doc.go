// Package dataset keeps generations as examples and runs prompt versions over
// them, so that two versions, or two models, can be compared on the same inputs.
//
// Read in this order:
//
//   - [Set], [Example], [Run], [Result]: what is kept. All of it stays until it is
//     deleted: the project's retention is of events.
//   - [Registry]: sets and runs in memory, examples and results in a key-value
//     bucket, read when they are asked for.
//   - [FromGeneration]: how an event becomes an example.
//   - jsonl.go: one example a line, in and out.
//   - [Runner]: a run, with bounded concurrency and a budget. Its calls go through
//     hedgerow's own gateway and are recorded as generations of the surface
//     Dataset, each in a trace of its own. What is broken off can be resumed.
//   - [Compare]: two runs side by side.
package dataset
