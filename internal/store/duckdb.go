package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/duckdb/duckdb-go/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/event"
)

// Defaults of [Config].
const (
	DefaultMemoryBytes  = 48 << 20 // of a small store
	DefaultReadConns    = 4
	DefaultQueryTimeout = 30 * time.Second
)

// Config says where and how a [DuckDB] is kept.
type Config struct {
	Path         string                // the database file; its folder must exist
	MemoryBytes  int64                 // bound on DuckDB's buffers, at least MinMemoryBytes; the process needs some 60 MB around it. 0: from DefaultMemoryBytes up, as memory.go says
	Threads      int                   // threads that one question may use. Defaults to the number of CPUs, at most 4
	ReadConns    int                   // questions answered at the same time; more wait. Defaults to DefaultReadConns
	QueryTimeout time.Duration         // bound on one question. Defaults to DefaultQueryTimeout
	Logger       *slog.Logger          // nil: no log
	Registerer   prometheus.Registerer // nil: no metrics
	Now          func() time.Time      // defaults to time.Now
}

func (c Config) withDefaults() Config {
	if c.Threads <= 0 {
		c.Threads = min(runtime.NumCPU(), 4)
	}
	if c.ReadConns <= 0 {
		c.ReadConns = DefaultReadConns
	}
	if c.QueryTimeout <= 0 {
		c.QueryTimeout = DefaultQueryTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// DuckDB is the embedded store: one file, one process. It is safe for
// concurrent use; writes take turns, and questions are answered from the last
// committed state without waiting for them.
//
// Durability: when [DuckDB.Write] returns, DuckDB has written the transaction to
// its write-ahead log (the file's name with ".wal") and called fsync on it, so
// it survives kill -9 and, as far as the disk keeps its word, a power cut. A
// transaction cut off in the middle is not there at all.
type DuckDB struct {
	c       Config
	metrics *metrics
	memory  *memory

	// gate is held by readers of engine, and locked to replace it: DuckDB runs
	// on until its last connection is closed, and two engines on one file would
	// ruin it.
	gate   sync.RWMutex
	engine *engine

	mu       sync.Mutex // held by whoever writes; taken before gate
	lastTime time.Time  // stored_at of the last row written
	closed   bool

	generation atomic.Uint64 // deletions of events; see Derive
	deletions  atomic.Bool   // table deleted_events may have rows
	told       atomic.Bool   // table span_content may have rows
	spare      sync.Pool     // *batch: those before, cleared
}

// engine is one running instance of DuckDB.
type engine struct {
	ctx       context.Context // ends when the engine is to be closed, and ends its questions
	cancel    context.CancelFunc
	connector *duckdb.Connector
	attached  atomic.Bool
	readers   *sql.DB
	writers   *sql.DB // at most one connection: writer
	writer    *sql.Conn
	threads   threads
}

// catalog is the name under which the file is attached. The database proper is
// in memory and empty: attaching takes any path as it is, and options that a
// connection string does not have.
const catalog = "hedgerow"

// The shape of the file, chosen by measuring. Until the next checkpoint each of
// some 90 columns fills blocks of its own, so DuckDB's usual blocks of 256 KiB
// need 60 MB where these need 25 MB. A row group is about what one checkpoint
// writes.
const (
	blockSize    = 64 << 10
	rowGroupSize = 20 << 10 // rows; a multiple of 2048
)

// MinMemoryBytes is what a checkpoint of table events needs. DuckDB does not
// survive running out of memory in the middle of one.
const MinMemoryBytes = 40 << 20

// OpenDuckDB opens the file, makes it if there is none, and migrates it. What
// people can cause is an [*event.Error] that says what to do: a folder that is
// missing or not writable, a file in use by another process, of a newer
// hedgerow, or damaged.
func OpenDuckDB(ctx context.Context, c Config) (*DuckDB, error) {
	d := &DuckDB{c: c.withDefaults()}
	d.memory = newMemory(d.c)
	if err := checkFolder(d.c.Path); err != nil {
		return nil, err
	}
	if err := d.open(ctx); err != nil {
		return nil, err
	}
	d.metrics = newMetrics(d.c.Registerer)
	return d, nil
}

// open starts an engine on the file. The caller holds mu and gate, or is the
// only one.
func (d *DuckDB) open(ctx context.Context) (err error) {
	e := new(engine)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			_ = e.close()
		}
	}()
	if e.connector, err = duckdb.NewConnector("", func(conn driver.ExecerContext) error {
		script := "USE " + catalog
		if !e.attached.Swap(true) {
			if err := d.learnMemory(context.Background(), conn); err != nil {
				return err
			}
			script = d.setUp()
		}
		_, err := conn.ExecContext(context.Background(), script, nil)
		return err
	}); err != nil {
		return fmt.Errorf("start duckdb: %w", err)
	}
	e.writers, e.readers = sql.OpenDB(e.connector), sql.OpenDB(e.connector)
	e.writers.SetMaxOpenConns(1)
	e.readers.SetMaxOpenConns(d.c.ReadConns)
	e.readers.SetMaxIdleConns(d.c.ReadConns)
	if e.writer, err = e.writers.Conn(ctx); err != nil {
		return openError(d.c.Path, err)
	}
	if err := checkLength(ctx, e.writer, d.c.Path); err != nil {
		return err
	}
	if err := migrate(ctx, e.writer, d.c.Path); err != nil {
		return err
	}
	var last sql.NullTime
	if err := e.writer.QueryRowContext(ctx, "SELECT max(stored_at) FROM events").Scan(&last); err != nil {
		return openError(d.c.Path, err)
	}
	var deletions, told int
	if err := e.writer.QueryRowContext(ctx, "SELECT count(*) FROM deleted_events").Scan(&deletions); err != nil {
		return openError(d.c.Path, err)
	}
	d.lastTime = last.Time
	d.deletions.Store(deletions > 0)
	if err := e.writer.QueryRowContext(ctx, "SELECT count(*) FROM span_content").Scan(&told); err != nil {
		return openError(d.c.Path, err)
	}
	d.told.Store(told > 0)
	d.engine = e
	return nil
}

// close returns when DuckDB has let go of the file, as long as nothing of the
// engine is in use.
func (e *engine) close() error {
	e.cancel()
	e.threads.changing.Wait()
	var errs []error
	if e.writer != nil {
		errs = append(errs, e.writer.Close())
	}
	if e.writers != nil {
		errs = append(errs, e.readers.Close(), e.writers.Close())
	}
	if e.connector != nil {
		errs = append(errs, e.connector.Close())
	}
	return errors.Join(errs...)
}

// setUp is the script of an engine's first connection.
func (d *DuckDB) setUp() string {
	return strings.Join([]string{
		// No question may make the engine fetch code from the network.
		"SET autoinstall_known_extensions = false",
		"SET autoload_known_extensions = false",
		d.memory.setting(),
		fmt.Sprintf("SET threads = %d", d.c.Threads),
		"SET temp_directory = " + quoteLiteral(d.c.Path+".tmp"),
		// By default the engine keeps up to 128 MB of freed memory.
		"SET allocator_flush_threshold = '8MB'",
		"SET allocator_bulk_deallocation_flush_threshold = '16MB'",
		// Rows stay in memory uncompressed until the log has this size.
		"SET checkpoint_threshold = '8MB'",
		// Checkpoints write what is new and rewrite nothing: merging small row
		// groups on the way made them 20 times as long. See compact.
		"SET max_vacuum_tasks = 0",
		// Close does it itself; after a fatal error nobody may.
		"PRAGMA disable_checkpoint_on_shutdown",
		// Of so many rows that a question names, as many as a page has, the engine
		// looks up each; of more it reads all from the first to the last.
		"SET GLOBAL dynamic_or_filter_threshold = 1024",
		"SET TimeZone = 'UTC'",
		attach(d.c.Path, catalog),
		"USE " + catalog,
	}, "; ")
}

func attach(path, as string) string {
	return fmt.Sprintf("ATTACH %s AS %s (STORAGE_VERSION 'v1.5.0', BLOCK_SIZE %d, ROW_GROUP_SIZE %d)", quoteLiteral(path), as, blockSize, rowGroupSize)
}

// quoteLiteral is for file names only: every value of a question is bound.
func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// Engine names the SQL dialect.
func (*DuckDB) Engine() string { return "duckdb" }

// Close waits for the write under way, writes the log into the file and closes
// it. Questions under way are cut off.
func (d *DuckDB) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.metrics.unregister()
	d.engine.cancel()
	d.gate.Lock()
	defer d.gate.Unlock()
	if _, err := d.engine.writer.ExecContext(context.Background(), "CHECKPOINT "+catalog); err != nil {
		// Nothing is lost: the log is read at the next start.
		d.c.Logger.Info("store closes without a checkpoint", "error", err)
	}
	return d.engine.close()
}

// needsRestart reports whether an error of a write leaves DuckDB in a state not
// to go on with. After a fatal or internal error it refuses everything; after
// running out of memory in the middle of a commit its rows in memory can be
// wrong, which only the next checkpoint notices (seen with 1.5.4). A restart
// cuts off the questions that took the memory, too: writes come first.
func needsRestart(err error) bool {
	s := err.Error()
	return isDuck(err, duckdb.ErrorTypeFatal, duckdb.ErrorTypeInternal, duckdb.ErrorTypeOutOfMemory) ||
		strings.Contains(s, "database has been invalidated") || strings.Contains(s, "Failed to commit") || strings.Contains(s, "Failed to append")
}

// restart starts the engine anew and cuts off the questions under way. What was
// committed is in the log and comes back. Where the start fails, the next write
// tries again. The caller holds mu.
func (d *DuckDB) restart(ctx context.Context, cause error) {
	d.c.Logger.Error("store engine stopped and is started again", "error", cause)
	d.engine.cancel()
	d.gate.Lock()
	defer d.gate.Unlock()
	if err := d.engine.close(); err != nil {
		d.c.Logger.Warn("store engine did not close cleanly", "error", err)
	}
	if err := d.open(context.WithoutCancel(ctx)); err != nil {
		d.c.Logger.Error("store engine did not start again", "error", err)
	}
}

// Ready reports whether the store answers questions.
func (d *DuckDB) Ready(ctx context.Context) error {
	return d.Read(ctx, func(rows *sql.Rows) error { return nil }, "SELECT 1 FROM schema_version LIMIT 1")
}

// Read runs one SELECT on a connection of its own, with bound parameters, and
// hands its rows to scan, which calls Next as often as it likes. It stops when
// ctx ends or after Config.QueryTimeout; both, and a question that needs more
// memory than allowed, are [*event.Error]s.
func (d *DuckDB) Read(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	return d.read(ctx, true, scan, query, args...)
}

// read is Read that takes more memory where it needs it, or does not.
func (d *DuckDB) read(ctx context.Context, grow bool, scan func(*sql.Rows) error, query string, args ...any) error {
	start := time.Now()
	inner, cancel := context.WithTimeout(ctx, d.c.QueryTimeout)
	defer cancel()
	d.gate.RLock()
	defer d.gate.RUnlock()
	e := d.engine
	d.adaptThreads(e, nil)
	defer context.AfterFunc(e.ctx, cancel)()
	var rows *sql.Rows
	err := d.ample(inner, e, grow, func() (err error) {
		rows, err = e.readers.QueryContext(inner, query, args...)
		return err
	})
	if err == nil {
		err = errors.Join(scan(rows), rows.Err(), rows.Close())
	}
	d.metrics.query(time.Since(start))
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return event.NewError(event.CodeCanceled, "the question was cancelled", "", err)
	case e.ctx.Err() != nil:
		return event.NewError(event.CodeUnavailable, "the store is stopping or starting again", "ask again in a moment", err)
	case inner.Err() != nil:
		return event.NewError(event.CodeTimeout, "the question took too long and was stopped", "ask for a shorter time range or add a filter", err)
	case isDuck(err, duckdb.ErrorTypeOutOfMemory):
		return event.NewError(event.CodeUnavailable, "the question needs more memory than the store may use", "ask for a shorter time range, or raise the store's memory", err)
	}
	return fmt.Errorf("read store: %w", err)
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

// checkFolder finds out what DuckDB would report less clearly.
func checkFolder(path string) error {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("the store's folder %s does not exist", dir), "create it, or name another data folder", nil)
	case err != nil:
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("the store's folder %s cannot be used", dir), "check its permissions, or name another data folder", err)
	case !info.IsDir():
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("%s is not a folder", dir), "name another data folder", nil)
	}
	f, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("the store's folder %s is not writable", dir), "give hedgerow's user the right to write there, or name another data folder", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// checkLength finds a file that was cut off, which the engine itself notices
// only when a question needs what is missing.
func checkLength(ctx context.Context, conn *sql.Conn, path string) error {
	var blocks int64
	if err := conn.QueryRowContext(ctx, "SELECT total_blocks FROM pragma_database_size() WHERE database_name = '"+catalog+"'").Scan(&blocks); err != nil {
		return openError(path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return openError(path, err)
	}
	if info.Size() >= lengthOf(blocks) {
		return nil
	}
	// The engine cuts free blocks off the end of its file after it has written
	// down how many blocks there are, so less is right as long as no data are
	// missing.
	if blocks, err = usedBlocks(ctx, conn); err != nil {
		return openError(path, err)
	}
	if want := lengthOf(blocks); info.Size() < want {
		return openError(path, fmt.Errorf("file has %d bytes of at least %d", info.Size(), want))
	}
	return nil
}

// fileHeader is what stands before the first block of a file: three headers.
const fileHeader = 3 * 4096

// lengthOf is the length of a file of so many blocks.
func lengthOf(blocks int64) int64 { return fileHeader + blocks*blockSize }

// usedBlocks is how many blocks the file needs to hold the last one in use. It
// takes longer the larger the store is.
func usedBlocks(ctx context.Context, conn *sql.Conn) (blocks int64, err error) {
	rows, err := conn.QueryContext(ctx, "SELECT table_name FROM duckdb_tables() WHERE database_name = '"+catalog+"'")
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	parts := []string{"SELECT max(block_id) AS id FROM pragma_metadata_info('" + catalog + "')"}
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			return 0, err
		}
		info := " FROM pragma_storage_info(" + quoteLiteral(table) + ")"
		parts = append(parts, "SELECT max(block_id)"+info, "SELECT max(list_max(additional_block_ids))"+info)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	err = conn.QueryRowContext(ctx, "SELECT coalesce(max(id), -1) + 1 FROM ("+strings.Join(parts, " UNION ALL ")+")").Scan(&blocks)
	return blocks, err
}

// openError turns DuckDB's words about a file that does not open into ours.
func openError(path string, err error) error {
	switch s := err.Error(); {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case strings.Contains(s, "Could not set lock"), strings.Contains(s, "already attached"), strings.Contains(s, "being used by another process"):
		return event.NewError(event.CodeConflict, fmt.Sprintf("the store %s is in use by another process", path), "stop the other hedgerow, or give this one a data folder of its own", err)
	case strings.Contains(s, "Permission denied"), strings.Contains(s, "Read-only file system"):
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("the store %s is not writable", path), "give hedgerow's user the right to read and write it", err)
	case strings.Contains(s, "No space left"):
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("there is no disk space for the store %s", path), "free some space and start again", err)
	case strings.Contains(s, "database file with version number"), strings.Contains(s, "newer version of DuckDB"):
		return newerError(path, err)
	case isDuck(err, duckdb.ErrorTypeOutOfMemory):
		return event.NewError(event.CodeUnavailable, fmt.Sprintf("the store %s needs more memory than it may use to open", path), "raise the store's memory", err)
	}
	return event.NewError(event.CodeUnavailable, fmt.Sprintf("the store %s is damaged and cannot be opened", path),
		fmt.Sprintf("keep a copy of it and of %s.wal, then restore a backup with \"hedgerow restore\", or move both away to start with an empty store", filepath.Base(path)), err)
}

func newerError(path string, err error) error {
	return event.NewError(event.CodeConflict, fmt.Sprintf("the store %s was written by a newer hedgerow", path), "start that version again, or restore a backup made before the upgrade", err)
}
