package journal

import (
	"log/slog"
	"math"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/prometheus/client_golang/prometheus"
)

// Defaults of [Config] and [QueueOptions].
const (
	DefaultMaxBytes      = 4 << 30
	DefaultDeadMaxBytes  = 256 << 20
	DefaultDeadMaxAge    = 30 * 24 * time.Hour
	DefaultKeep          = time.Hour
	DefaultKeepBytes     = 256 << 20
	DefaultSyncInterval  = time.Second
	DefaultJanitorEvery  = 5 * time.Second
	DefaultAckTimeout    = 15 * time.Second
	DefaultStartWait     = 10 * time.Second
	DefaultAckWait       = 30 * time.Second
	DefaultMaxAckPending = 20_000
	DefaultFetchBytes    = 32 << 20
)

// Config configures a [Journal].
type Config struct {
	// Dir is the folder of the embedded journal. It is made if it does not
	// exist, and belongs to one process at a time. Required unless NATSURL is
	// set.
	Dir string

	// NATSURL is the address of the user's own NATS servers with JetStream
	// (nats://host:4222, comma-separated for several). Dir is then used only while
	// a bucket of Erasing is recreated. Durability then depends on the
	// configuration of those servers.
	NATSURL string

	// Replicas is how many servers of a NATS cluster keep each event. It applies
	// with NATSURL only. Defaults to 1.
	Replicas int

	// MaxBytes limits the size of the events on disk, including those
	// kept for replay. Beyond it [Journal.Append] returns an error with
	// code full. Defaults to 4 GiB.
	MaxBytes int64

	// MaxEventBytes is the largest frame that is taken. Defaults to, and is at
	// most, [event.MaxEventBytes]; a NATS server may force it lower.
	MaxEventBytes int

	// DeadMaxBytes bounds the dead letters; beyond it the oldest go. Defaults to
	// 256 MiB.
	DeadMaxBytes int64

	// DeadMaxAge is how long a dead letter is kept. Defaults to 30 days, as
	// long as content is kept locally.
	DeadMaxAge time.Duration

	// Keep is how long an event stays after every queue has acknowledged it, so
	// that a new queue can begin a little in the past. Negative keeps nothing.
	// Defaults to 1 h.
	Keep time.Duration

	// KeepBytes bounds what Keep keeps. Defaults to 256 MiB, and is at most a
	// quarter of MaxBytes.
	KeepBytes int64

	// SyncAlways makes an acknowledgement mean that the event was fsynced, at the
	// price of one fsync an event. Embedded only.
	SyncAlways bool

	// SyncInterval is how often everything is fsynced where SyncAlways is off:
	// the window that a power failure may lose. Embedded only. Defaults to 1 s.
	SyncInterval time.Duration

	// Essential names the queues for which everything is kept up to MaxBytes. If all
	// of them exist and have ended their events, the other queues drop their oldest
	// events before the journal is full; see [Journal.Gaps]. If empty, no queue
	// drops events.
	Essential []string

	// Erasing names the key-value buckets whose records contain secrets. Once a write
	// or delete has returned, the files no longer contain the previous value. A
	// process that opens such a bucket without listing it here leaves previous values
	// on disk.
	Erasing []string

	// DedupeWindow makes the journal drop an event whose uuid it has stored
	// within this time. Zero disables it; see [Journal.Append].
	DedupeWindow time.Duration

	// JanitorEvery is how often space is taken back. Defaults to 5 s.
	JanitorEvery time.Duration

	// AckTimeout bounds the wait for the journal's own acknowledgement in
	// [Journal.Append] if ctx has a later deadline. Defaults to 15 s.
	AckTimeout time.Duration

	// StartWait is how long [Open] waits for a store that takes long to start.
	// Defaults to 10 s.
	StartWait time.Duration

	// Logger gets the logs of the journal and of NATS. Nil discards them.
	Logger *slog.Logger

	// Registerer gets the metrics. Nil means none.
	Registerer prometheus.Registerer

	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// withDefaults sets defaults and validates the configuration.
func (c Config) withDefaults() (Config, error) {
	orDefault(&c.Replicas, 1)
	orDefault(&c.MaxBytes, DefaultMaxBytes)
	orDefault(&c.MaxEventBytes, event.MaxEventBytes)
	orDefault(&c.DeadMaxBytes, DefaultDeadMaxBytes)
	orDefault(&c.DeadMaxAge, DefaultDeadMaxAge)
	orDefault(&c.Keep, DefaultKeep)
	orDefault(&c.KeepBytes, DefaultKeepBytes)
	orDefault(&c.SyncInterval, DefaultSyncInterval)
	orDefault(&c.JanitorEvery, DefaultJanitorEvery)
	orDefault(&c.AckTimeout, DefaultAckTimeout)
	orDefault(&c.StartWait, DefaultStartWait)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.KeepBytes = min(c.KeepBytes, c.MaxBytes/4)
	switch {
	case c.Dir == "" && c.NATSURL == "":
		return c, event.Invalid("the journal has no folder", "name a data folder, or the address of a NATS server")
	case c.MaxBytes < minMaxBytes:
		return c, event.Invalid("the journal's bound is below 1 MiB", "use at least the size of a few events; the default is 4 GiB")
	case c.MaxEventBytes < 0 || c.MaxEventBytes > event.MaxEventBytes:
		return c, event.Invalid("the maximum event size is at most 8 MiB", "leave it out for 8 MiB")
	case c.DeadMaxBytes < 0 || c.DeadMaxAge < 0 || c.KeepBytes < 0 || c.SyncInterval < 0 || c.JanitorEvery < 0 || c.AckTimeout < 0 || c.StartWait < 0 || c.DedupeWindow < 0:
		return c, event.Invalid("a size or a duration of the journal is negative", "leave it out for its default")
	case c.Replicas < 1 || c.Replicas > 5:
		return c, event.Invalid("the journal's replicas must be 1 to 5", "3 is usual for a cluster of three or more NATS servers")
	case c.Replicas > 1 && c.NATSURL == "":
		return c, event.Invalid("the embedded journal has one replica", "name a NATS cluster to have more")
	case c.SyncInterval > math.MaxInt64/2:
		return c, event.Invalid("the sync interval is too long", "leave it out for 1 s")
	}
	return c, nil
}

// minMaxBytes is the smallest bound with which the store still works sensibly.
const minMaxBytes = 1 << 20
