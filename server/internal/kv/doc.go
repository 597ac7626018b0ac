// Package kv keeps what can be configured in one JetStream key-value bucket,
// with a view of it in memory that a watch keeps fresh. It knows nothing of what
// the records mean: server/internal/prompt and others give them meaning.
//
// [Open] reads all there is and begins to watch; [Bucket.View] costs one atomic
// load. Changes go to the bucket first, compared and swapped ([Bucket.Create],
// [Bucket.Change], [Bucket.Remove]), and return when the view has them. Any
// number of processes may work on one bucket; each sees the others' changes by
// its watch, in well under a second. [Collection] is a bucket of records of one type.
package kv
