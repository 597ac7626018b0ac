package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/hedgerow/hedgerow/server/internal/atomicfile"
)

// engine is one running instance of DuckDB on one file.
type engine struct {
	ctx       context.Context // ends when the engine is to be closed, and ends its questions
	cancel    context.CancelFunc
	users     sync.WaitGroup // calls that use it; Add by DuckDB.acquire alone
	connector *duckdb.Connector
	attached  atomic.Bool
	readers   *sql.DB
	writers   *sql.DB // at most one connection: writer
	writer    *sql.Conn
	threads   threads
	memory    int64        // that it may take, in bytes
	file      os.FileInfo  // the file when it was opened
	held      atomic.Int32 // backups that read the file

	readMu sync.Mutex
	read   *os.File // the file, for backups; see open
}

// catalog is the name under which the file is attached. The database proper is
// in memory and empty: attaching takes any path as it is, and options that a
// connection string does not have.
const catalog = "hedgerow"

// Parameters of the file. Until the next checkpoint each of some 90 columns
// fills blocks of its own, so DuckDB's usual blocks of 256 KiB need 60 MB where
// these need 25 MB. A row group is about what one checkpoint writes.
const (
	blockSize    = 64 << 10
	rowGroupSize = 20 << 10 // rows; a multiple of 2048
)

// How large the log gets until its rows are written into the file: in general,
// and while nothing may be written into the file.
const (
	checkpointAt = "16MB"
	noCheckpoint = "1TB"
)

// opened is an engine's knowledge of its file.
type opened struct {
	lastTime       time.Time // stored_at of the last row
	deletions      bool      // table deleted_events has rows
	hasSpanContent bool      // table span_content has rows
	hasMerges      bool      // table merges has rows
	hasRepricings  bool      // table repricings has rows
}

// openEngine starts an engine on a file, which it makes if there is none, and
// migrates it.
func openEngine(ctx context.Context, c Config, path string) (_ *engine, have opened, err error) {
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
			var err error
			if e.memory, err = memoryFor(conn, c.MemoryBytes); err != nil {
				return err
			}
			script = setUp(c, path, e.memory)
		}
		_, err := conn.ExecContext(context.Background(), script, nil)
		return err
	}); err != nil {
		return nil, have, fmt.Errorf("start duckdb: %w", err)
	}
	e.writers, e.readers = sql.OpenDB(e.connector), sql.OpenDB(e.connector)
	e.writers.SetMaxOpenConns(1)
	e.readers.SetMaxOpenConns(c.ReadConns + 1) // questions, see admission, and settings
	e.readers.SetMaxIdleConns(c.ReadConns)
	e.readers.SetConnMaxIdleTime(idleAfter / 2) // each uses memory
	if e.writer, err = e.writers.Conn(ctx); err != nil {
		return nil, have, err
	}
	if err := checkLength(ctx, e.writer, path); err != nil {
		return nil, have, err
	}
	if err := migrate(ctx, e.writer, c); err != nil {
		return nil, have, err
	}
	var last sql.NullTime
	if err := e.writer.QueryRowContext(ctx, "SELECT (SELECT max(stored_at) FROM events), EXISTS (SELECT 1 FROM deleted_events), EXISTS (SELECT 1 FROM span_content), EXISTS (SELECT 1 FROM merges), EXISTS (SELECT 1 FROM repricings)").Scan(&last, &have.deletions, &have.hasSpanContent, &have.hasMerges, &have.hasRepricings); err != nil {
		return nil, have, err
	}
	have.lastTime = last.Time
	if _, err := e.writer.ExecContext(ctx, "SET checkpoint_threshold = '"+checkpointAt+"'"); err != nil {
		return nil, have, err
	}
	if e.file, err = os.Stat(path); err != nil {
		return nil, have, err
	}
	return e, have, nil
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
	e.readMu.Lock()
	defer e.readMu.Unlock()
	if e.read != nil {
		errs = append(errs, e.read.Close())
	}
	return errors.Join(errs...)
}

// setUp is the script of an engine's first connection.
func setUp(c Config, path string, memory int64) string {
	return strings.Join([]string{
		// No question may make the engine fetch code from the network.
		"SET autoinstall_known_extensions = false",
		"SET autoload_known_extensions = false",
		fmt.Sprintf("SET memory_limit = '%d bytes'", memory),
		fmt.Sprintf("SET threads = %d", c.Threads),
		"SET temp_directory = " + quoteLiteral(tempDir(path)),
		// By default the engine keeps up to 128 MB of freed memory.
		"SET allocator_flush_threshold = '8MB'",
		"SET allocator_bulk_deallocation_flush_threshold = '16MB'",
		// Reading the log must not need disk space: it is set when the file is open.
		"SET checkpoint_threshold = '" + noCheckpoint + "'",
		// Checkpoints write new rows and rewrite nothing: merging small row
		// groups in them made them 20 times as long. See compact.
		"SET max_vacuum_tasks = 0",
		// Close checkpoints; after a fatal error nothing may.
		"PRAGMA disable_checkpoint_on_shutdown",
		// The engine looks up each of at most this many rows of a query, the size
		// of a page; for more it reads the whole range.
		"SET GLOBAL dynamic_or_filter_threshold = 1024",
		"SET TimeZone = 'UTC'",
		attach(path, catalog),
		"USE " + catalog,
	}, "; ")
}

func attach(path, as string) string {
	return fmt.Sprintf("ATTACH %s AS %s (STORAGE_VERSION 'v1.5.0', BLOCK_SIZE %d, ROW_GROUP_SIZE %d)", quoteLiteral(path), as, blockSize, rowGroupSize)
}

// quoteLiteral is for file names only: every value of a question is bound.
func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// create makes an empty store in its own folder that only this user may read,
// and moves it to its path: a file that was not finished is never treated as
// one.
func create(ctx context.Context, c Config) (err error) {
	dir := filepath.Dir(c.Path)
	const prefix = ".store-new-"
	if left, err := filepath.Glob(filepath.Join(dir, prefix+"*")); err == nil { // by a process that was killed
		for _, l := range left {
			_ = os.RemoveAll(l)
		}
	}
	tmp, err := os.MkdirTemp(dir, prefix+"*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	path := filepath.Join(tmp, filepath.Base(c.Path))
	e, _, err := openEngine(ctx, c, path)
	if err != nil {
		return err
	}
	_, err = e.writer.ExecContext(ctx, "CHECKPOINT "+catalog)
	if err = errors.Join(err, e.close()); err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(path, 0o600), syncFile(path)); err != nil {
		return err
	}
	return errors.Join(os.Rename(path, c.Path), atomicfile.SyncDir(dir))
}

// checkLength detects a truncated file, which the engine itself notices only
// when a query needs the missing part.
func checkLength(ctx context.Context, conn *sql.Conn, path string) error {
	var blocks int64
	if err := conn.QueryRowContext(ctx, "SELECT total_blocks FROM pragma_database_size() WHERE database_name = '"+catalog+"'").Scan(&blocks); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() >= lengthOf(blocks) {
		return nil
	}
	// The engine truncates free blocks at the end of its file after storing
	// the number of blocks, so a shorter file is valid as long as no data are
	// missing.
	if blocks, err = usedBlocks(ctx, conn); err != nil {
		return err
	}
	if want := lengthOf(blocks); info.Size() < want {
		return fmt.Errorf("%w: %d bytes of at least %d", errCut, info.Size(), want)
	}
	return nil
}

// errCut is returned for a truncated file.
var errCut = errors.New("the file was cut off")

// fileHeader is what precedes the first block of a file: three headers.
const fileHeader = 3 * 4096

// lengthOf is the length of a file of so many blocks.
func lengthOf(blocks int64) int64 { return fileHeader + blocks*blockSize }

// usedBlocks returns the number of blocks up to the last used one. It is
// slower the larger the store is.
func usedBlocks(ctx context.Context, conn *sql.Conn) (blocks int64, err error) {
	tables, err := tablesOf(ctx, conn)
	if err != nil {
		return 0, err
	}
	parts := []string{"SELECT max(block_id) AS id FROM pragma_metadata_info('" + catalog + "')"}
	for _, table := range tables {
		info := " FROM pragma_storage_info(" + quoteLiteral(table) + ")"
		parts = append(parts, "SELECT max(block_id)"+info, "SELECT max(list_max(additional_block_ids))"+info)
	}
	err = conn.QueryRowContext(ctx, "SELECT coalesce(max(id), -1) + 1 FROM ("+strings.Join(parts, " UNION ALL ")+")").Scan(&blocks)
	return blocks, err
}

func tablesOf(ctx context.Context, conn *sql.Conn) (tables []string, err error) {
	rows, err := conn.QueryContext(ctx, "SELECT table_name FROM duckdb_tables() WHERE database_name = '"+catalog+"'")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			return nil, err
		}
		tables = append(tables, table)
	}
	return tables, rows.Err()
}

// readAll reads the whole file: the engine verifies each block that it reads.
func (e *engine) readAll(ctx context.Context) error {
	tables, err := tablesOf(ctx, e.writer)
	if err != nil {
		return err
	}
	for _, table := range tables {
		if _, err := e.writer.ExecContext(ctx, "SELECT max(hash(t)) FROM "+table+" t"); err != nil {
			return fmt.Errorf("read table %s: %w", table, err)
		}
	}
	return nil
}

// EngineVersion is DuckDB's version: v1.5.4.
func EngineVersion(ctx context.Context) (version string, err error) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return "", fmt.Errorf("open DuckDB: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.QueryRowContext(ctx, "SELECT version()").Scan(&version); err != nil {
		return "", fmt.Errorf("ask DuckDB for its version: %w", err)
	}
	return version, nil
}
