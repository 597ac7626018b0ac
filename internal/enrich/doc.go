// Package enrich is the one way of an event from a door (gateway, ingest, OTLP,
// SDK) to the journal: normalise → price → privacy, always in this order, always
// without I/O.
//
// [Enricher.Append] is what the doors call.
package enrich
