// Package enrich prepares events between a receiver (gateway, ingest, OTLP,
// SDK) and the journal: normalise → prompt → price → privacy, always in this
// order, always without I/O.
//
// Read in this order:
//
//   - [Enricher.Append]: what the receivers call; the order, and what happens to an
//     event with which a stage cannot cope.
//   - [Normalise]: the first stage. It makes an event what every later stage
//     relies on, and never refuses one.
//   - [Metrics]: what is counted.
//
// Prompts are server/internal/prompt, which reads the instructions before privacy takes
// them away. Pricing is internal/price and privacy is internal/privacy. Price comes before
// privacy because a price may depend on what privacy takes away; normalise comes
// first so that both read clean names.
package enrich
