// Package firstvalue keeps each user's first_value_reached once, however often, through
// whatever receiver and by whatever replica it is reported.
//
// # Design
//
// Every report is journaled as it comes: receivers and the pipeline know nothing of
// other reports. The readers of the journal that keep or send milestones, the store's
// sink and the delivery of each connection, ask [Deduplicator.Accept] about each report before
// they use it. The first reader that sees a report of a user claims the milestone for
// it: a record in a key-value bucket of the journal, under project and user, created
// only where there is none. The claim holds the report's uuid and time. From then on
// that report, and no other, is kept, by every reader, under that time.
//
// # Failures
//
//   - A crash after the claim: the reader has not acknowledged the report, which comes
//     again and finds its own uuid in the claim.
//   - Two readers, or two replicas, at once: one creates the claim, the other reads it.
//   - A report that its client sends again, with the same uuid: it is the same event,
//     of which the store and PostHog count one.
//   - The bucket cannot be reached: the reader has the report come again later.
//   - A connection that was made after a user's milestone: the report that is kept lies
//     before its beginning, so that it is not sent there. No later one takes its place.
//
// Versions before this one claimed before the journal had the report, and marked the
// claim afterwards. A claim that is not marked done may have no report in the journal:
// the next report takes its uuid and time, so that both count as one.
package firstvalue
