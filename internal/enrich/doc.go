// Package enrich has the first stage of what happens to an event before it is kept
// or sent: [Normalise] makes it what every later stage relies on, and never refuses
// one. It does no I/O. The server's other stages, and their order, are in
// server/internal/pipeline; the SDK's in direct.go of package hedgerow.
package enrich
