// Package store is the event database: one wide row of metadata per event, and
// its content (prompts and answers) in another table, so that content can be
// deleted after 30 days while the metrics remain.
//
// Read in this order:
//
//   - [DuckDB] and [OpenDuckDB]: the embedded engine, its durability and its
//     errors.
//   - reopen.go: reopening after a fault; fault.go: classification of engine
//     errors; damage.go and [Incident]: damaged files.
//   - columns.go: the schema.
//   - [DuckDB.Write]: batches, idempotent by uuid.
//   - [Sink]: from the journal's queue to Write, with retries and dead letters.
//   - [Retention] and [Retainer]: deletion by age.
//   - [DuckDB.Backup] and [Restore].
//   - [DuckDB.DeleteEvents]: deletion of single events.
//   - [DuckDB.Derive]: tables that package query derives from the events.
//   - [DuckDB.Read]: queries by package query.
//
// SQL of queries is in package query.
package store
