// Package journal is hedgerow's durable queue: every receiver appends events to it,
// and every sink reads them at its own pace.
//
// Read in this order:
//
//   - [Config] and [Open]: an embedded NATS JetStream in a folder, reached in
//     process and without any port, or the user's own NATS cluster.
//   - [Journal]: what an acknowledgement promises, and the bound on disk.
//   - [Journal.Append]: how events get in, and what a failure means; batch.go: how
//     they share messages.
//   - [Journal.Queue] and [Queue]: a durable cursor for one sink, an
//     [event.Queue]; [Journal.Lag] and [Journal.DeleteQueue].
//   - [Journal.DeadLetters], [Journal.Replay], [Journal.DeleteDead]: events
//     that a sink could not process, with the reason.
//   - janitor.go: how space comes back.
//   - [Journal.KeyValue]: the bucket in which server/internal/project keeps settings.
//   - [Journal.Health], supervise.go, instance.go: how the store is started again when
//     it fails; memory.go: what this process remembers meanwhile.
//   - [Check], [Repair], [Damage], damage.go, blocks.go: damaged files.
//   - metrics.go: hedgerow_journal_… for Prometheus.
//
// # On the wire
//
// Stream EVENTS holds subjects events.<project> and replay.<queue>.<project>,
// stream DEAD holds dead.<queue>.<project>. A message's body is
// [event.Event.AppendFrame], as it is, or several of them (batch.go); facts about a dead letter are headers
// (Hedgerow-…), so that lists never read a body.
package journal
