// Package kv keeps configuration records in a JetStream key-value bucket, with a
// view in memory that a watch keeps up to date. The records' meaning is up to its
// users: server/internal/prompt and others.
//
// [Open] reads all records and starts the watch; [Bucket.View] costs one atomic
// load. Changes are written to the bucket with compare-and-swap ([Bucket.Create],
// [Bucket.Change], [Bucket.Remove]), and return when the view includes them. Several
// processes may share a bucket; each sees the others' changes in well under a
// second. [Collection] is a bucket with one type of record.
package kv
