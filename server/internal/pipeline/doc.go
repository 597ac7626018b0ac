// Package pipeline is what every event passes once between its receiver
// (gateway, ingest, OTLP, the API) and the journal: admission, normalise →
// prompt → price → derive → local privacy, and the disk's reserve. It keeps
// nothing of an event from one call to the next, so that any number of
// processes can receive. What needs to have seen other events (joining, first
// value) reads the journal.
//
// Read in this order:
//
//   - [Pipeline.Append]: the stages, in their order, and what happens to an event
//     with which a stage cannot cope. It never waits but for the journal: the
//     gateway appends here.
//   - [Pipeline.Admit] (admit.go): for receivers whose callers keep their events and
//     send them again. They are refused while the disk is full, and wait a moment
//     while the store is behind ([Pipeline.Pace], pace.go).
//   - metrics.go: what is counted.
//
// Normalising is internal/enrich, pricing internal/price, and what is derived and
// made private internal/privacy. Prompts are server/internal/prompt, which reads the
// instructions before privacy takes them away. Price comes before privacy because a
// price may depend on what privacy takes away; normalise comes first so that all read
// clean names.
package pipeline
