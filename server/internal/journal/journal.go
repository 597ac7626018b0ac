package journal

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"golang.org/x/sync/semaphore"
)

const (
	streamEvents = "EVENTS"
	streamDead   = "DEAD"
	apiTimeout   = 10 * time.Second

	// Appends in flight, in bytes. JetStream drops what exceeds 128 MiB or
	// 100,000 messages of backlog, and all of it is memory.
	maxInFlight   = 32 << 20
	inFlightFloor = 1 << 10 // the size counted for the smallest event: at most 32,768 in flight
)

// Journal is the durable log of events.
//
// # Durability
//
// When [Journal.Append] returns nil, every event has been written by write(2) to
// the journal's current block file, with a checksum: it is in the operating
// system's page cache. The embedded journal has one replica, and for such a
// stream JetStream flushes each message before it answers (filestore.go:
// AsyncFlush is off, so writeMsgRecord flushes in place). Therefore:
//
//   - A crash of hedgerow (kill -9, panic, out of memory) loses no acknowledged
//     event and duplicates none. Tested by killing a process under load.
//   - A crash of the machine (power, kernel) loses at most the events
//     acknowledged in the last [Config.SyncInterval], 1 s by default, plus the
//     time of the fsync itself. With [Config.SyncAlways] it loses nothing: every
//     message is then fsynced before the answer. A block cut short by a crash is
//     read up to its last whole record.
//   - A queue's acknowledgments are written asynchronously, about ten times a
//     second, so that after a crash a sink may see events again that it had
//     just acknowledged. Sinks are idempotent by uuid. [Journal.Close] writes
//     everything.
//
// With [Config.NATSURL] durability is that of the user's servers: with
// replicas, a majority has the event in memory or page cache.
//
// # The bound
//
// Events stay until every queue has acknowledged them and [Config.Keep] has
// passed; with no queue at all, everything stays. At [Config.MaxBytes] Append
// returns [event.CodeFull] and drops no acknowledged event: a sink that lags by
// days (PostHog down) uses disk up to the bound, and capture stops only there.
// Keep is shortened first: from nine tenths of the bound on, events that every
// queue has acknowledged are deleted immediately. Append works again shortly
// after the slowest queue advances or is deleted. [Stats.Fill] and
// [QueueInfo.OldestUnacked] show how full the journal is and which queue lags.
//
// With [Config.Essential] a queue that is not essential (a PostHog connection
// whose host is down for days) never stops recording: from nine tenths of the
// bound on, the oldest events that the essential queues (the store) have ended
// are deleted, down to eight tenths. For the queues that still need them this is
// a [Gap], recorded before the events are deleted, counted, logged and reported
// by [Journal.Health]. Nothing is lost locally: the events can be sent again from
// the store with [Journal.Redeliver]. An essential queue that lags fills the
// journal as before.
//
// # Faults
//
// A journal that cannot write (the disk is full or failing, no file descriptors
// are left) reports the cause in [Journal.Health] and restarts its NATS server,
// first immediately and then about once a second, until it works. Meanwhile
// Append returns [event.CodeUnavailable] immediately, Fetch waits, and everything
// else returns CodeUnavailable. Queues and buckets remain valid: they continue
// with the next server. Acknowledged events are kept; an append without an answer
// may or may not be stored.
//
// All methods are safe for concurrent use.
type Journal struct {
	c   Config
	log *slog.Logger

	now       atomic.Pointer[instance] // the store at work; nil while there is none
	standing  standing
	lock      *os.File    // of the folder; nil with NATSURL, and until it was available. Of the supervisor, then of close
	folder    os.FileInfo // as it was at the start. Of the supervisor
	inspected bool        // its files were checked for damage. Of the supervisor

	inFlight *semaphore.Weighted
	frames   sync.Pool // *[]byte
	appended atomic.Uint64
	metrics  *metrics

	closing context.Context // ended by shut when Close begins
	shut    context.CancelFunc

	mu         sync.Mutex
	appends    sync.WaitGroup       // Add under mu while closing has not ended
	opened     map[string]*instance // the last in which a queue was opened
	queues     map[string]*Queue
	damage     []Damage        // all that was ever found and is still reported in the folder
	unreadable map[string]bool // queues whose cursor could not be read; see unrecoveredQueues

	partsMu sync.Mutex
	parts   map[partKey]*parts     // of delivered messages with several events
	out     map[partKey]*instance  // messages being processed by sinks, by their instance
	ended   map[partKey]bool       // ended messages that the store may not have recorded
	recent  map[string]*recentAcks // by queue
	means   map[string]mean        // by subjects; one for each queue there was

	kick        chan struct{} // wakes the janitor
	nudge       chan struct{} // wakes it soon
	sinceNudge  atomic.Int64  // bytes appended since the last nudge
	janitorDone chan struct{}
	supervised  chan struct{} // closed when the supervisor has ended
	closeDone   chan struct{} // closed when Close has ended
	closeErr    error
}

// Open opens the journal and creates what does not exist yet. It fails only if ctx
// ends or retrying is pointless, with an [*event.Error]: a wrong setting, a path
// that is not a writable folder ([event.CodeInvalid]), or a folder in use by another
// process ([event.CodeConflict]). Other problems (a full disk, damaged files, an
// unreachable NATS server) are reported by [Journal.Health] while the journal
// retries.
//
// Reading a folder that was not closed properly takes time in proportion to its
// last blocks. Open waits [Config.StartWait] for that and then returns a journal
// that is still starting.
func Open(ctx context.Context, c Config) (*Journal, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{
		c:           c,
		log:         c.Logger,
		inFlight:    semaphore.NewWeighted(maxInFlight),
		kick:        make(chan struct{}, 1),
		nudge:       make(chan struct{}, 1),
		janitorDone: make(chan struct{}),
		supervised:  make(chan struct{}),
		closeDone:   make(chan struct{}),
		queues:      make(map[string]*Queue),
	}
	j.closing, j.shut = context.WithCancel(context.Background())
	j.standing.begin(c.Now())
	if c.NATSURL == "" {
		if j.lock, err = takeFolder(c.Dir); err != nil {
			if wrongFolder(err) {
				return nil, err
			}
			j.standing.fail(j.explain(err), c.Now())
		}
	}
	if j.metrics, err = newMetrics(j); err != nil {
		j.unlock()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	tried := make(chan struct{})
	go j.supervise(tried)
	go j.janitor(j.closing)
	select {
	case <-tried:
	case <-time.After(c.StartWait):
		j.log.Warn("the journal is still starting; hedgerow continues without it until then", "after", c.StartWait)
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		_ = j.Close(ctx) // continues in the background
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

var errClosing = event.NewError(event.CodeUnavailable, "hedgerow is shutting down", "send it again in a moment", nil)

// enter counts a call in, so that Close waits for it.
func (j *Journal) enter() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closing.Err() != nil {
		return errClosing
	}
	j.appends.Add(1)
	return nil
}

// Close rejects new appends, ends every Fetch, waits for the appends in
// progress, passes the queues' acknowledgements to the store and closes it.
// Acknowledged events are safe however Close ends. When ctx ends first, Close
// returns its error and the rest continues in the background. A second call
// waits for the first.
func (j *Journal) Close(ctx context.Context) error {
	j.mu.Lock()
	first := j.closing.Err() == nil
	j.shut()
	j.mu.Unlock()
	if first {
		go func() {
			defer close(j.closeDone)
			j.closeErr = j.close(ctx)
		}()
	}
	select {
	case <-j.closeDone:
		return j.closeErr
	case <-ctx.Done():
		return fmt.Errorf("close journal: %w", ctx.Err())
	}
}

func (j *Journal) close(ctx context.Context) error {
	waited := make(chan struct{})
	go func() { j.appends.Wait(); close(waited) }()
	select {
	case <-waited:
	case <-ctx.Done(): // those still waiting get their error from the closed connection
	}
	<-j.janitorDone
	<-j.supervised
	j.metrics.unregister()
	defer j.unlock()
	l := j.now.Load()
	if l == nil {
		return nil
	}
	settleCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiTimeout/2)
	if err := j.acknowledgeParts(settleCtx, l); err != nil {
		j.log.Warn("some events come again that had ended", "err", err)
	}
	cancel()
	var err error
	// Sinks do not wait for their acknowledgments: a flush sends them. Without
	// a connection there is nothing to wait for.
	for range flushTries {
		if !l.ctl.IsConnected() {
			err = nil
			break
		}
		flushCtx, cancel := context.WithTimeout(ctx, apiTimeout/flushTries)
		err = l.ctl.FlushWithContext(flushCtx)
		cancel()
		if err == nil {
			settleCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiTimeout/flushTries)
			err = j.flushAcks(settleCtx, l)
			cancel()
		}
		if err == nil {
			break
		}
		err = fmt.Errorf("close journal: %w", err)
	}
	j.now.Store(nil)
	l.stop()
	return err
}

// flushTries is the number of waits of the last flush, because a flush does not
// notice a lost connection.
const flushTries = 20

func (j *Journal) unlock() {
	if j.lock != nil {
		j.lock.Close()
		j.lock = nil
	}
}

// Stats is the journal at a glance.
type Stats struct {
	Events   uint64    // events on disk, acknowledged ones being kept included; an estimate where many share messages
	Bytes    int64     // their size on disk
	MaxBytes int64     // the bound
	FirstSeq uint64    // position of the oldest event; LastSeq+1 if there is none. Events of one message have one
	LastSeq  uint64    // position of the newest event ever
	Oldest   time.Time // when the oldest event was appended; zero if there is none
	Newest   time.Time
	Dead     uint64 // dead letters of all queues
	DeadSize int64  // their size on disk
}

// Fill is how full the journal is, 0 to 1.
func (s Stats) Fill() float64 { return float64(s.Bytes) / float64(s.MaxBytes) }

// Stats queries the store.
func (j *Journal) Stats(ctx context.Context) (Stats, error) {
	l, err := j.up()
	if err != nil {
		return Stats{}, err
	}
	si, err := l.events.Info(ctx)
	if err != nil {
		return Stats{}, fmt.Errorf("journal stats: %w", l.lost(err))
	}
	di, err := l.dead.Info(ctx)
	if err != nil {
		return Stats{}, fmt.Errorf("dead letter stats: %w", l.lost(err))
	}
	s := Stats{
		Events:   si.State.Msgs,
		Bytes:    int64(si.State.Bytes),
		MaxBytes: j.c.MaxBytes,
		FirstSeq: si.State.FirstSeq,
		LastSeq:  si.State.LastSeq,
		Newest:   si.State.LastTime,
		Dead:     di.State.Msgs,
		DeadSize: int64(di.State.Bytes),
	}
	if s.Events == 0 {
		s.FirstSeq = s.LastSeq + 1
		return s, nil
	}
	s.Oldest = si.State.FirstTime
	s.Events, err = j.eventsIn(ctx, l, s.Events, s.FirstSeq)
	return s, err
}

// validToken reports whether s can be one token of a NATS subject and the name
// of a consumer on any file system: letters, digits, '-' and '_', at most 128.
func validToken(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}
