package enrich

// Metrics counts what an [Enricher] does. The server's are Prometheus'; they are not
// made here, so that the SDK can use this package without them.
type Metrics interface {
	// Enriched counts events that were normalised, priced and scrubbed.
	Enriched(n int)

	// Panicked counts an event for which a stage panicked: normalise, prompt, price
	// or privacy.
	Panicked(stage string)
}
