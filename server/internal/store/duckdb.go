package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/duckdb/duckdb-go/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
)

// Defaults of [Config].
const (
	DefaultReadConns    = 4
	DefaultQueueWait    = 10 * time.Second
	DefaultQueryTimeout = 30 * time.Second
	DefaultOpenWait     = 10 * time.Second
)

// Config configures a [DuckDB].
type Config struct {
	Path         string                // the database file; its folder must exist
	MemoryBytes  int64                 // limit of DuckDB's buffers, at least MinMemoryBytes. 0: a quarter of the machine's memory, see memory.go
	Threads      int                   // threads that one question may use. Defaults to the number of CPUs, at most 4
	ReadConns    int                   // concurrent queries; more wait. Defaults to DefaultReadConns
	QueueWait    time.Duration         // how long a question waits for its turn. Defaults to DefaultQueueWait
	QueryTimeout time.Duration         // bound on one question, from its turn on. Defaults to DefaultQueryTimeout
	OpenWait     time.Duration         // how long OpenDuckDB waits for the file to be open; it continues in the background. Defaults to DefaultOpenWait
	Logger       *slog.Logger          // nil: no log
	Registerer   prometheus.Registerer // nil: no metrics
	Now          func() time.Time      // defaults to time.Now
	Deletions    *Deletions            // defaults to those of Path
	Opening      func(*DuckDB)         // if set, is called before OpenDuckDB waits: the health of a store that is being opened can be shown

	// Refill, if set, redelivers events that the store may lack: all that the
	// journal has captured since a time, or all if it is zero. It is called with
	// zero after the file was recreated or lost a part of its log, and once after
	// each start with a time shortly before the last write, because a truncated
	// log does not show its loss. It is repeated until it succeeds, and returns
	// when the first of these events was captured, or zero if there are none.
	Refill func(ctx context.Context, since time.Time) (from time.Time, err error)

	progress   func(progress) error // of a migration
	updateRows int64                // defaults to updateRows
}

func (c Config) withDefaults() Config {
	if c.Threads <= 0 {
		c.Threads = min(runtime.NumCPU(), 4)
	}
	if c.ReadConns <= 0 {
		c.ReadConns = DefaultReadConns
	}
	if c.QueueWait <= 0 {
		c.QueueWait = DefaultQueueWait
	}
	if c.QueryTimeout <= 0 {
		c.QueryTimeout = DefaultQueryTimeout
	}
	if c.OpenWait <= 0 {
		c.OpenWait = DefaultOpenWait
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.updateRows <= 0 {
		c.updateRows = updateRows
	}
	if c.Deletions == nil {
		c.Deletions = NewDeletions(c.Path)
	}
	return c
}

// DuckDB is the embedded store: one file, one process. It is safe for concurrent
// use; writes are serialized, and queries read the last committed state without
// waiting for them.
//
// Durability: when [DuckDB.Write] returns, DuckDB has written the transaction to
// its write-ahead log (the file's name with ".wal") and called fsync on it, so it
// survives kill -9 and, if the disk honors fsync, a power failure. An interrupted
// transaction is not stored at all.
//
// Faults: if the file cannot be opened, or the engine fails, the store closes and
// reopens it automatically, until [DuckDB.Close]. Meanwhile its methods return an
// [*event.Error] of code [event.CodeUnavailable] immediately, and [DuckDB.Health]
// reports the cause. A damaged file is set aside and recreated; a missing file is
// recreated: see [Incident].
type DuckDB struct {
	c       Config
	metrics *metrics
	queue   *admission

	stop context.CancelFunc // of keep
	kept chan struct{}      // closed when keep has returned
	wake chan struct{}      // signals that the engine has failed; buffered

	mu       sync.Mutex // locked by writers; taken before state.mu
	lastTime time.Time  // stored_at of the last row written

	state     state
	incidents incidents
	caughtUp  bool // the journal was queried after the start; only for keep

	generation     atomic.Uint64 // deletions, merges and repricings of events; see Derive
	changes        changes       // the merges and repricings among them
	deletions      atomic.Bool   // table deleted_events may have rows
	hasSpanContent atomic.Bool   // table span_content may have rows
	hasMerges      atomic.Bool   // table merges may have rows
	hasRepricings  atomic.Bool   // table repricings may have rows
	used           atomic.Int64  // end of the engine's last busy period, Unix ns; 0 while idle
	spare          sync.Pool     // *batch: those before, cleared
}

// state is the current engine, and the state of the store.
type state struct {
	mu     sync.Mutex
	engine *engine   // nil while there is none
	broken []*engine // to be closed
	report health.Report
	cause  *event.Error // the reason that there is no engine
	noRoom bool         // the last write was rejected for lack of disk space
	check  bool         // the file may be damaged and must be read completely before use
	closed bool
}

// OpenDuckDB opens the file, creates it if it does not exist, and migrates it. It
// returns an error only if a retry cannot help: the folder is missing or not
// writable, the file is in use by another process or from a newer hedgerow; each
// is an [*event.Error] with a hint. On any other failure it returns a failed
// store that reopens itself as soon as possible.
func OpenDuckDB(ctx context.Context, c Config) (*DuckDB, error) {
	c = c.withDefaults()
	if err := checkFolder(c.Path); err != nil && !passes(err) {
		return nil, err
	}
	d := &DuckDB{c: c, queue: newAdmission(c.ReadConns, c.QueueWait), kept: make(chan struct{}), wake: make(chan struct{}, 1), metrics: newMetrics(c.Registerer)}
	d.incidents.load(c.Path, c.Logger)
	d.state.report = health.Report{Component: "store", Status: health.Starting, Message: "the store is being opened", Since: c.Now()}
	d.state.cause = event.NewError(event.CodeUnavailable, "the store is being opened", "try again shortly", nil)
	keepCtx, stop := context.WithCancel(context.Background())
	d.stop = stop
	first := make(chan error, 1)
	if c.Opening != nil {
		c.Opening(d)
	}
	go d.keep(keepCtx, first)
	wait := time.NewTimer(c.OpenWait)
	defer wait.Stop()
	var err error
	select {
	case err = <-first:
	case <-wait.C:
		c.Logger.Warn("opening the store takes long and continues in the background", "path", c.Path)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if e := event.AsError(err); err != nil && (e.Code == event.CodeConflict || ctx.Err() != nil) {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// errClosed is returned after Close.
var errClosed = event.NewError(event.CodeUnavailable, "the store is closed", "", nil)

// acquire returns the engine for use until release is called.
func (d *DuckDB) acquire() (e *engine, err error) {
	d.state.mu.Lock()
	defer d.state.mu.Unlock()
	switch {
	case d.state.closed:
		return nil, errClosed
	case d.state.engine == nil:
		return nil, d.state.cause
	}
	d.state.engine.users.Add(1)
	return d.state.engine, nil
}

// Engine names the SQL dialect.
func (*DuckDB) Engine() string { return "duckdb" }

// Close waits for the current write, writes the log into the file and closes
// it. Running queries are canceled.
func (d *DuckDB) Close() error {
	d.state.mu.Lock()
	if d.state.closed {
		d.state.mu.Unlock()
		<-d.kept
		return nil
	}
	d.state.closed = true
	d.state.mu.Unlock()
	d.stop()
	<-d.kept
	d.metrics.unregister()
	d.mu.Lock() // the current write
	defer d.mu.Unlock()
	d.state.mu.Lock()
	e := d.state.engine
	d.state.engine = nil
	d.state.mu.Unlock()
	if e == nil {
		return nil
	}
	e.cancel()
	e.users.Wait()
	if _, err := e.writer.ExecContext(context.Background(), "CHECKPOINT "+catalog); err != nil {
		// Nothing is lost: the log is read at the next start.
		d.c.Logger.Info("store closes without a checkpoint", "err", err)
	}
	return e.close()
}

// Ready reports whether the store accepts queries.
func (d *DuckDB) Ready(ctx context.Context) error {
	return d.Read(ctx, func(rows *sql.Rows) error { return nil }, "SELECT 1 FROM schema_version LIMIT 1")
}

// Read runs one SELECT on its own connection, with bound parameters, and passes
// its rows to scan, which calls Next as often as it likes. It begins when it is
// its turn, within Config.QueueWait, and stops when ctx ends or after
// Config.QueryTimeout; all three, and a question that needs more memory than
// allowed, are [*event.Error]s. scan must not call Read.
func (d *DuckDB) Read(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	leave, err := d.queue.enter(ctx)
	if err != nil {
		d.metrics.refuse()
		return err
	}
	defer leave()
	e, err := d.acquire()
	if err != nil {
		return err
	}
	defer e.users.Done()
	start := time.Now()
	inner, cancel := context.WithTimeout(ctx, d.c.QueryTimeout)
	defer cancel()
	d.adjustThreads(e, nil)
	defer context.AfterFunc(e.ctx, cancel)()
	rows, err := e.readers.QueryContext(inner, query, args...)
	if err == nil {
		err = errors.Join(scan(rows), rows.Err(), rows.Close())
	}
	took := time.Since(start)
	if took > busyRead {
		d.used.Store(time.Now().UnixNano())
	}
	d.metrics.query(took)
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return event.NewError(event.CodeCanceled, "the query was canceled", "", err)
	case e.ctx.Err() != nil:
		return d.unavailable(err)
	case inner.Err() != nil:
		return event.NewError(event.CodeTimeout, "the query took too long and was stopped", "choose a shorter time range or add a filter", err)
	case isDuck(err, duckdb.ErrorTypeOutOfMemory):
		d.c.Logger.Warn("a query needed more memory than the store may use", "err", err)
		return event.NewError(event.CodeUnavailable, "the query needs more memory than the store may use", "choose a shorter time range, or raise store_memory", err)
	case stops(d.c.Path, err):
		d.fail(e, err)
		return d.unavailable(err)
	case passes(err):
		return event.NewError(event.CodeUnavailable, "the store cannot run this query now: "+passing(err), "try again shortly", err)
	}
	if isDuck(err, duckdb.ErrorTypeConversion, duckdb.ErrorTypeInvalidInput, duckdb.ErrorTypeOutOfRange, duckdb.ErrorTypeDecimal) {
		err = errors.New(withoutValues(err.Error()))
	}
	return fmt.Errorf("read store: %w", err)
}

// withoutValues cuts an error of the engine before the first value that it
// quotes: that may be what someone has written in an event, and the error is
// for the log.
func withoutValues(message string) string {
	if i := strings.IndexAny(message, `'"`); i >= 0 {
		message = message[:i] + "…"
	}
	return message
}

// unavailable is the error of a call that the engine's end has cut off.
func (d *DuckDB) unavailable(err error) error {
	d.state.mu.Lock()
	defer d.state.mu.Unlock()
	switch {
	case d.state.closed:
		return errClosed
	case d.state.cause != nil:
		return event.NewError(event.CodeUnavailable, d.state.cause.Message, d.state.cause.Hint, err)
	}
	return event.NewError(event.CodeUnavailable, "the store was opened again", "try again shortly", err)
}

func isDuck(err error, types ...duckdb.ErrorType) bool {
	var de *duckdb.Error
	if !errors.As(err, &de) {
		return false
	}
	for _, t := range types {
		if de.Type == t {
			return true
		}
	}
	return false
}
