package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	serverName  = "hedgerow"
	startWait   = 5 * time.Minute // recovery of a large journal reads it once
	headerRoom  = 64 << 10        // headers, subject and NATS's own record around a frame
	kvMaxBytes  = 256 << 20       // reserved for key-value buckets
	lockName    = "journal.lock"
	accountName = "$G" // NATS's global account: the only one here
)

// embedded is the NATS server inside this process.
type embedded struct {
	dir  string
	srv  *server.Server
	lock *os.File
	log  *natsLog
}

// startEmbedded locks the folder and starts the server on it.
func startEmbedded(ctx context.Context, c Config, broken func(error)) (*embedded, error) {
	if err := prepareDir(c.Dir); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(c.Dir, lockName))
	if errors.Is(err, errLocked) {
		return nil, event.NewError(event.CodeConflict, fmt.Sprintf("another hedgerow is running on the folder %s", c.Dir),
			"stop it first, or give this one a data folder of its own", nil)
	} else if err != nil {
		return nil, unwritable(c.Dir, err)
	}
	e := &embedded{dir: c.Dir, lock: lock, log: &natsLog{log: c.Logger, broken: broken}}
	if err := e.start(ctx, c); err != nil {
		return nil, err
	}
	return e, nil
}

// prepareDir makes the folder and finds out whether files can be made in it,
// because NATS would say so much later and less clearly.
func prepareDir(dir string) error {
	if st, err := os.Stat(dir); err == nil && !st.IsDir() {
		return event.NewError(event.CodeInvalid, fmt.Sprintf("the journal's folder %s is a file", dir), "move the file away, or name another folder", nil)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return unwritable(dir, err)
	}
	f, err := os.CreateTemp(dir, ".write-test-*")
	if err != nil {
		return unwritable(dir, err)
	}
	f.Close()
	return os.Remove(f.Name())
}

func unwritable(dir string, err error) error {
	return event.NewError(event.CodeInvalid, fmt.Sprintf("the journal's folder %s cannot be written", dir),
		"make it a folder that the user running hedgerow owns, on a disk with free space", err)
}

func corrupt(path string, err error) error {
	return event.NewError(event.CodeInternal, fmt.Sprintf("the journal in %s is damaged", path),
		"restore that folder from a backup, or move it away to begin with an empty journal: what the store has is not touched by that", err)
}

// start starts the server. Where it fails, the lock is given back once nothing
// touches the folder any more.
func (e *embedded) start(ctx context.Context, c Config) error {
	opts := &server.Options{
		ServerName:             serverName,
		DontListen:             true, // in process only: no port
		NoSigs:                 true,
		JetStream:              true,
		DisableJetStreamBanner: true,
		StoreDir:               c.Dir,
		// Explicit, or NATS would derive its own bounds from memory and free disk.
		JetStreamMaxMemory: 16 << 20,
		JetStreamMaxStore:  c.MaxBytes + c.DeadMaxBytes + kvMaxBytes,
		MaxPayload:         int32(c.MaxEventBytes + headerRoom),
		SyncInterval:       c.SyncInterval,
		SyncAlways:         c.SyncAlways,
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		e.lock.Close()
		return fmt.Errorf("configure embedded NATS: %w", err)
	}
	srv.SetLoggerV2(e.log, false, false, false)
	e.srv = srv

	started := make(chan struct{})
	go func() {
		defer close(started)
		srv.Start()
		srv.ReadyForConnections(startWait)
	}()
	select {
	case <-started:
	case <-ctx.Done():
		go func() { <-started; e.stop() }()
		return fmt.Errorf("open journal in %s: %w", c.Dir, ctx.Err())
	}
	if !srv.JetStreamEnabled() {
		e.stop()
		return corrupt(c.Dir, e.log.lastError())
	}
	return nil
}

// checkRecovered compares what lies in the folder with what the server took in.
// NATS skips a stream whose description is damaged with a warning; creating it
// anew over the old files would then hide that acknowledged events are gone.
func (e *embedded) checkRecovered(ctx context.Context, js jetstream.JetStream) error {
	root := filepath.Join(e.dir, server.JetStreamStoreDir, accountName, "streams")
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return unwritable(root, err)
	}
	for _, d := range entries {
		if strings.HasPrefix(d.Name(), ".") { // half-deleted: NATS removes these
			continue
		}
		_, err := js.Stream(ctx, d.Name())
		if err == nil {
			continue
		}
		path := filepath.Join(root, d.Name())
		if !errors.Is(err, jetstream.ErrStreamNotFound) || hasMessages(path) {
			return corrupt(path, errors.Join(err, e.log.lastError()))
		}
		// Killed while it was being made: nothing was ever acknowledged in it.
		if err := os.RemoveAll(path); err != nil {
			return unwritable(path, err)
		}
	}
	return nil
}

func hasMessages(streamDir string) bool {
	blocks, _ := filepath.Glob(filepath.Join(streamDir, "msgs", "*.blk"))
	for _, b := range blocks {
		if st, err := os.Stat(b); err == nil && st.Size() > 0 {
			return true
		}
	}
	return false
}

// unrecoveredQueues names the queues whose cursor lies in the folder but could
// not be read. Until they are opened or deleted nothing may be purged, since
// nobody knows what they still need.
func (e *embedded) unrecoveredQueues(known map[string]bool) map[string]bool {
	entries, _ := os.ReadDir(e.queuesDir()) // not there before the first queue
	lost := make(map[string]bool)
	for _, d := range entries {
		if d.IsDir() && validToken(d.Name()) && !known[d.Name()] {
			lost[d.Name()] = true
		}
	}
	return lost
}

// queuesDir is where JetStream keeps the queues' cursors.
func (e *embedded) queuesDir() string {
	return filepath.Join(e.dir, server.JetStreamStoreDir, accountName, "streams", streamEvents, "obs")
}

func (e *embedded) stop() {
	e.srv.Shutdown()
	e.srv.WaitForShutdown()
	e.lock.Close()
}

// natsLog hands NATS's words to slog. A notice of NATS is of no use to people
// who do not run a NATS server, hence debug.
type natsLog struct {
	log    *slog.Logger
	broken func(error)
	mu     sync.Mutex
	last   string // the last warning or error, for messages about a failed start
}

func (l *natsLog) Noticef(f string, v ...any) { l.say(slog.LevelDebug, f, v...) }
func (l *natsLog) Debugf(f string, v ...any)  { l.say(slog.LevelDebug, f, v...) }
func (l *natsLog) Tracef(string, ...any)      {}
func (l *natsLog) Warnf(f string, v ...any)   { l.say(slog.LevelWarn, f, v...) }
func (l *natsLog) Errorf(f string, v ...any)  { l.say(slog.LevelError, f, v...) }
func (l *natsLog) Fatalf(f string, v ...any)  { l.say(slog.LevelError, f, v...) }

func (l *natsLog) say(level slog.Level, f string, v ...any) {
	if level < slog.LevelWarn && !l.log.Enabled(context.Background(), level) {
		return
	}
	text := strings.TrimSpace(fmt.Sprintf(f, v...))
	if strings.HasPrefix(text, "Maximum payloads over") {
		level = slog.LevelDebug // meant for networks; events of 8 MB are meant to fit
	}
	l.log.Log(context.Background(), level, "nats: "+text)
	if level < slog.LevelWarn {
		return
	}
	l.mu.Lock()
	l.last = text
	l.mu.Unlock()
	// After a failed write (disk full, I/O error) JetStream stops answering
	// publishers of that stream, and says so nowhere but in its log.
	for _, sign := range []string{"critical write error", "Critical write error", "will be DISABLED", "disabling JetStream"} {
		if strings.Contains(text, sign) {
			l.broken(errors.New(text))
			return
		}
	}
}

func (l *natsLog) lastError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" {
		return nil
	}
	return errors.New(l.last)
}
