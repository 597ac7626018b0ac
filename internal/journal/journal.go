package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"
)

const (
	streamEvents = "EVENTS"
	streamDead   = "DEAD"
	apiTimeout   = 10 * time.Second

	// Appends in flight, in bytes. JetStream drops what exceeds 128 MiB or
	// 100,000 messages of backlog, and all of it is memory.
	maxInFlight   = 32 << 20
	inFlightFloor = 1 << 10 // what the smallest event counts as: at most 32,768 in flight
)

// Journal is the durable log of events.
//
// # What an acknowledgement promises
//
// When [Journal.Append] returns nil, every event given to it has been written
// by write(2) into the journal's current block file, with a checksum: it is in
// the operating system's page cache. The embedded journal has one replica, and
// for such a stream JetStream flushes each message before it answers
// (filestore.go: AsyncFlush is off, so writeMsgRecord flushes in place). Hence:
//
//   - A crash of hedgerow (kill -9, panic, out of memory) loses no acknowledged
//     event and doubles none. Tested by killing a process under load.
//   - A crash of the machine (power, kernel) loses at most what was acknowledged
//     in the last [Config.SyncInterval], 1 s by default, plus the time of the
//     fsync itself. With [Config.SyncAlways] it loses nothing: every message is
//     then fsynced before the answer. A block cut short by a crash is read up to
//     its last whole record.
//   - A queue's acknowledgements are written behind, about ten times a second,
//     so that after a crash a sink may see again what it had acknowledged just
//     before. Sinks are idempotent by uuid. [Journal.Close] writes everything.
//
// With [Config.NATSURL] the promise is that of the user's servers: with
// replicas, a majority has the event in memory or page cache.
//
// # The bound
//
// Events stay until every queue has acknowledged them and [Config.Keep] has
// passed; with no queue at all, everything stays. At [Config.MaxBytes] Append
// refuses with [event.CodeFull] and drops nothing that was acknowledged: a sink
// that is days behind (PostHog down) costs disk up to the bound, and capture
// stops there, not before. Keep yields first: from nine tenths of the bound on,
// whatever every queue has acknowledged goes at once. Append works again within
// moments of the slowest queue's progress, or of its deletion. [Stats.Fill] and
// [QueueInfo.OldestUnacked] tell how near that is and who is behind.
//
// All methods are safe for concurrent use.
type Journal struct {
	c   Config
	log *slog.Logger
	srv *embedded // nil with NATSURL

	// Two connections, so that a sink catching up through megabytes does not
	// stand before the acknowledgements of captures.
	pub, ctl     *nats.Conn
	pubJS, ctlJS jetstream.JetStream
	events, dead jetstream.Stream
	maxFrame     int
	inFlight     *semaphore.Weighted
	frames       sync.Pool // *[]byte
	appended     atomic.Uint64
	metrics      *metrics

	closing context.Context // ended by shut when Close begins
	shut    context.CancelFunc

	mu         sync.Mutex
	appends    sync.WaitGroup  // Add under mu while closing has not ended
	opened     map[string]bool // queues, by this process
	queues     map[string]*Queue
	unreadable map[string]bool // queues whose cursor could not be read; see embedded.unrecoveredQueues

	partsMu sync.Mutex
	parts   map[partKey]*parts // of messages with several events that are out
	means   map[string]mean    // by subjects; one for each queue there was

	failed  chan struct{} // closed once by fail
	failOne sync.Once
	failure atomic.Pointer[event.Error]

	kick        chan struct{} // wakes the janitor at once
	nudge       chan struct{} // wakes it soon
	sinceNudge  atomic.Int64  // bytes appended since the last nudge
	janitorDone chan struct{}
	closeDone   chan struct{} // closed when Close has ended
	closeErr    error
}

// Open opens the journal, making what does not exist yet. Reading a folder that
// was not closed properly takes time in proportion to its last blocks; ctx
// bounds it. Errors for people are [*event.Error]: a folder that another process
// has ([event.CodeConflict]), that cannot be written or makes no sense
// ([event.CodeInvalid]), that is damaged ([event.CodeInternal], naming the path),
// a NATS server that cannot be reached ([event.CodeUpstream]).
func Open(ctx context.Context, c Config) (*Journal, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	j := &Journal{
		c:           c,
		log:         c.Logger,
		inFlight:    semaphore.NewWeighted(maxInFlight),
		failed:      make(chan struct{}),
		kick:        make(chan struct{}, 1),
		nudge:       make(chan struct{}, 1),
		janitorDone: make(chan struct{}),
		closeDone:   make(chan struct{}),
	}
	j.closing, j.shut = context.WithCancel(context.Background())
	if c.NATSURL == "" {
		if j.srv, err = startEmbedded(ctx, c, j.fail); err != nil {
			return nil, err
		}
		if free, err := freeBytes(c.Dir); err == nil && free < c.MaxBytes {
			j.log.Warn("less disk is free than the journal may use", "dir", c.Dir, "free_bytes", free, "max_bytes", c.MaxBytes)
		}
	}
	if err := j.open(ctx); err != nil {
		j.disconnect()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	go j.janitor(j.closing)
	return j, nil
}

func (j *Journal) open(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startWait)
		defer cancel()
	}
	var err error
	if j.pub, err = j.connect("append"); err != nil {
		return err
	}
	if j.ctl, err = j.connect("queues"); err != nil {
		return err
	}
	// The maximum of frames in flight is j.inFlight's business, in bytes.
	if j.pubJS, err = jetstream.New(j.pub, jetstream.WithPublishAsyncMaxPending(2*maxInFlight/inFlightFloor)); err != nil {
		return err
	}
	if j.ctlJS, err = jetstream.New(j.ctl, jetstream.WithDefaultTimeout(apiTimeout)); err != nil {
		return err
	}
	if j.srv != nil {
		if err := j.srv.checkRecovered(ctx, j.ctlJS); err != nil {
			return err
		}
		j.logLost(ctx)
	}
	j.maxFrame = min(j.c.MaxEventBytes, int(j.pub.MaxPayload())-headerRoom/2)
	if j.maxFrame < j.c.MaxEventBytes {
		j.log.Warn("the NATS server takes smaller messages than events may be: raise its max_payload", "max_payload", j.pub.MaxPayload(), "max_event_bytes", j.maxFrame)
	}
	dedupe := j.c.DedupeWindow
	if dedupe == 0 {
		// Zero means two minutes to NATS. Events then bear no id, so that the
		// window, however long, costs nothing.
		dedupe = time.Second
	}
	j.events, err = j.ensureStream(ctx, jetstream.StreamConfig{
		Name:        streamEvents,
		Description: "hedgerow: events on their way to the sinks",
		Subjects:    []string{"events.*", "replay.*.*"},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    j.c.MaxBytes,
		MaxMsgs:     -1,
		Replicas:    j.c.Replicas,
		Duplicates:  dedupe,
		// No direct reads: in a cluster they may come from a replica that is
		// behind, and the janitor must never take "not there yet" for "none".
		AllowDirect: false,
	})
	if err != nil {
		return err
	}
	j.dead, err = j.ensureStream(ctx, jetstream.StreamConfig{
		Name:        streamDead,
		Description: "hedgerow: events that a sink gave up, with the reason",
		Subjects:    []string{"dead.*.*"},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardOld,
		MaxBytes:    j.c.DeadMaxBytes,
		MaxAge:      j.c.DeadMaxAge,
		MaxMsgs:     -1,
		Replicas:    j.c.Replicas,
		Duplicates:  2 * time.Minute,
	})
	if err != nil {
		return err
	}
	if err := j.checkQueues(ctx); err != nil {
		return err
	}
	j.metrics, err = newMetrics(j)
	return err
}

// logLost says what could not be read at the start: NATS cuts a block at the
// first record whose checksum is wrong, and tells only who asks. After a crash
// that is a record which was being written, and nobody was told that it is
// stored.
func (j *Journal) logLost(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	for _, stream := range []string{streamEvents, streamDead} {
		// nats.go does not hand the field through.
		m, err := j.ctl.RequestWithContext(ctx, jetstream.DefaultAPIPrefix+"STREAM.INFO."+stream, []byte(`{"deleted_details":true}`))
		if err != nil {
			j.log.Warn("ask NATS what it could not read", "err", err)
			return
		}
		var info struct {
			State struct {
				Lost struct {
					Bytes uint64 `json:"bytes"`
				} `json:"lost"`
			} `json:"state"`
		}
		if err := json.Unmarshal(m.Data, &info); err == nil && info.State.Lost.Bytes > 0 {
			j.log.Warn("part of the journal could not be read: after a crash, what was never acknowledged; else the disk is failing, and only a backup of the folder has the rest",
				"dir", j.c.Dir, "stream", stream, "bytes", info.State.Lost.Bytes)
		}
	}
}

func (j *Journal) connect(name string) (*nats.Conn, error) {
	opts := []nats.Option{
		nats.Name("hedgerow " + name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectBufSize(-1), // an append fails at once rather than wait unseen
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			j.log.Warn("nats connection", "conn", name, "err", err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				j.log.Warn("nats connection lost, reconnecting", "conn", name, "err", err)
			}
		}),
	}
	url := j.c.NATSURL
	if j.srv != nil {
		opts = append(opts, nats.InProcessServer(j.srv.srv))
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil && j.srv == nil {
		return nil, event.NewError(event.CodeUpstream, "the NATS server could not be reached", "check its address and credentials, and that it runs", err)
	}
	return nc, err
}

// ensureStream makes the stream or, where its settings differ, changes them. An
// unchanged stream is left alone, so that a start writes nothing.
func (j *Journal) ensureStream(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := j.ctlJS.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if s, err = j.ctlJS.CreateStream(ctx, want); err == nil {
			return s, nil
		}
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return nil, j.streamError(want.Name, err)
		}
		s, err = j.ctlJS.Stream(ctx, want.Name) // another process made it meanwhile
	}
	if err != nil {
		return nil, j.streamError(want.Name, err)
	}
	have := s.CachedInfo().Config
	if have.MaxBytes == want.MaxBytes && have.MaxAge == want.MaxAge && have.Replicas == want.Replicas &&
		have.Duplicates == want.Duplicates && have.Discard == want.Discard && slices.Equal(have.Subjects, want.Subjects) {
		return s, nil
	}
	if s, err = j.ctlJS.UpdateStream(ctx, want); err != nil {
		return nil, j.streamError(want.Name, err)
	}
	return s, nil
}

func (j *Journal) streamError(name string, err error) error {
	if j.srv == nil {
		return event.NewError(event.CodeUpstream, fmt.Sprintf("the NATS server refused the stream %s", name),
			"check that JetStream is on, that the account may create streams, and that its limits allow the journal's size and replicas", err)
	}
	return fmt.Errorf("stream %s: %w", name, err)
}

// fail records that the embedded store cannot write any more.
func (j *Journal) fail(cause error) {
	j.failOne.Do(func() {
		j.failure.Store(event.NewError(event.CodeUnavailable, fmt.Sprintf("the journal cannot write to %s any more", j.c.Dir),
			"free disk space or mend the disk, then restart hedgerow: nothing acknowledged is lost", cause))
		close(j.failed)
	})
}

// Err returns why the journal can take no more events until hedgerow is started
// again (the disk is full or broken), or nil while all is well. A refusal at
// the journal's own bound is not such a case.
func (j *Journal) Err() error {
	if e := j.failure.Load(); e != nil {
		return e
	}
	return nil
}

// Failed is closed when [Journal.Err] becomes non-nil.
func (j *Journal) Failed() <-chan struct{} { return j.failed }

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

// Close refuses new appends, ends every Fetch, waits for the appends under way, hands the queues'
// acknowledgements to the store and closes it. What had been acknowledged to a
// caller is safe however Close ends. When ctx ends first, Close returns its
// error and the rest goes on behind it. A second call waits for the first.
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
	j.metrics.unregister()
	settleCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiTimeout/2)
	if err := j.settleParts(settleCtx); err != nil {
		j.log.Warn("some events come again that had ended", "err", err)
	}
	cancel()
	var err error
	// Acknowledgements of sinks are fire and forget: a flush brings them over.
	// Without a connection there is nobody to wait for.
	for range flushTries {
		if !j.ctl.IsConnected() {
			err = nil
			break
		}
		flushCtx, cancel := context.WithTimeout(ctx, apiTimeout/flushTries)
		err = j.ctl.FlushWithContext(flushCtx)
		cancel()
		if err == nil {
			settleCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiTimeout/flushTries)
			err = j.settleAcks(settleCtx)
			cancel()
		}
		if err == nil {
			break
		}
		err = fmt.Errorf("close journal: %w", err)
	}
	j.disconnect()
	return err
}

// flushTries is into how many waits the last flush is cut, since one does not see
// that its connection is gone.
const flushTries = 20

func (j *Journal) disconnect() {
	if j.pub != nil {
		j.pub.Close()
	}
	if j.ctl != nil {
		j.ctl.Close()
	}
	if j.srv != nil {
		j.srv.stop()
	}
}

// KeyValue returns the bucket of that name with that many revisions a key,
// making it where needed. It lives beside the events, with the same durability.
func (j *Journal) KeyValue(ctx context.Context, bucket string, history uint8) (jetstream.KeyValue, error) {
	cfg := jetstream.KeyValueConfig{
		Bucket:   bucket,
		History:  history,
		Storage:  jetstream.FileStorage,
		Replicas: j.c.Replicas,
	}
	kv, err := j.ctlJS.KeyValue(ctx, bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = j.ctlJS.CreateOrUpdateKeyValue(ctx, cfg)
	} else if err == nil {
		var st jetstream.KeyValueStatus
		if st, err = kv.Status(ctx); err == nil && st.History() != int64(max(history, 1)) {
			kv, err = j.ctlJS.CreateOrUpdateKeyValue(ctx, cfg)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", bucket, err)
	}
	return kv, nil
}

// Stats is the journal at a glance.
type Stats struct {
	Events   uint64    // events on disk, acknowledged ones being kept included; an estimate where many share messages
	Bytes    int64     // their size on disk
	MaxBytes int64     // the bound
	FirstSeq uint64    // position of the oldest event; LastSeq+1 where there is none. Events of one message have one
	LastSeq  uint64    // position of the newest event ever
	Oldest   time.Time // when the oldest event was appended; zero where there is none
	Newest   time.Time
	Dead     uint64 // dead letters of all queues
	DeadSize int64  // their size on disk
}

// Fill is how full the journal is, 0 to 1.
func (s Stats) Fill() float64 { return float64(s.Bytes) / float64(s.MaxBytes) }

// Stats asks the store.
func (j *Journal) Stats(ctx context.Context) (Stats, error) {
	si, err := j.events.Info(ctx)
	if err != nil {
		return Stats{}, fmt.Errorf("journal stats: %w", err)
	}
	di, err := j.dead.Info(ctx)
	if err != nil {
		return Stats{}, fmt.Errorf("dead letter stats: %w", err)
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
	s.Events, err = j.eventsIn(ctx, s.Events, s.FirstSeq)
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
