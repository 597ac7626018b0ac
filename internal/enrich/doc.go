// Package enrich is the first stage of processing an event before it is stored
// or sent: [Normalise] establishes what every later stage relies on, and never
// rejects an event. It does no I/O. The server's other stages, and their order,
// are in server/internal/pipeline; the SDK's in direct.go of package hedgerow.
package enrich
