// Package firstvalue keeps each user's first_value_reached once, between enrichment
// and the journal: [Deduplicator].
package firstvalue
