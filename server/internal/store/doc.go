// Package store keeps events where they can be queried about: one wide row of
// metadata an event, and its content (prompts and answers) in its own table, so
// that content can go after 30 days while the metrics stay.
//
// Read in this order:
//
//   - [DuckDB] and [OpenDuckDB]: the embedded engine, its durability and its
//     errors for people.
//   - keep.go: the store opens itself again after a fault; fault.go: what an error
//     of the engine says; damage.go and [Incident]: what happens to a damaged file.
//   - columns.go: how each field of an event is kept. This is the schema.
//   - [DuckDB.Write]: batches, idempotent by uuid.
//   - [Sink]: from the journal's queue into Write, with retries and dead letters.
//   - [Retention] and [Retainer]: what is deleted when.
//   - [DuckDB.Backup] and [Restore].
//   - [DuckDB.DeleteEvents]: deletion of single events.
//   - [DuckDB.Derive]: tables that package query derives from the events.
//   - [DuckDB.Read]: what package query asks through.
//
// SQL that answers questions is not here but in package query.
package store
