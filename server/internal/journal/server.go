package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	serverName  = "hedgerow"
	startWait   = 5 * time.Minute  // recovery of a large journal reads it once
	openWait    = 30 * time.Second // opening streams and queues after that
	headerRoom  = 64 << 10         // headers, subject and NATS's own record around a frame
	kvMaxBytes  = 256 << 20        // reserved for key-value buckets
	lockName    = "journal.lock"
	accountName = "$G" // NATS's global account: the only one here
)

// embedded is the NATS server inside this process.
type embedded struct {
	dir string
	srv *server.Server
	log *natsLog
}

// startEmbedded starts the server on the folder, which is the caller's. broken is
// called when it can no longer write. Where ctx ends first, startEmbedded returns
// after the server has ended nevertheless: two on one folder would do harm.
func startEmbedded(ctx context.Context, c Config, broken func(error)) (*embedded, error) {
	e := &embedded{dir: c.Dir, log: &natsLog{log: c.Logger, broken: broken}}
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
		return nil, fmt.Errorf("configure embedded NATS: %w", err)
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
		srv.Shutdown() // has ReadyForConnections return
		<-started
		e.stop()
		return nil, ctx.Err()
	}
	if !srv.JetStreamEnabled() {
		e.stop()
		if err := e.log.lastError(); err != nil {
			return nil, fmt.Errorf("embedded NATS: %w", err)
		}
		return nil, errors.New("embedded NATS did not start JetStream")
	}
	return e, nil
}

// checkRecovered compares the folder with the streams that the server loaded.
// NATS only logs a warning if it cannot read a stream's description; creating
// the stream again over the old files would then hide the loss of acknowledged
// events.
func (e *embedded) checkRecovered(ctx context.Context, js jetstream.JetStream) error {
	root := streamsDir(e.dir)
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
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
		if err := e.log.passingError(); err != nil {
			return err
		}
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			if api := (*jetstream.APIError)(nil); errors.As(err, &api) && api.Code != http.StatusServiceUnavailable {
				return &skippedError{d.Name(), errors.Join(err, e.log.lastError())} // it is "offline"
			}
			return fmt.Errorf("open stream %s: %w", d.Name(), err)
		}
		if hasMessages(path) {
			return &skippedError{d.Name(), e.log.lastError()}
		}
		// Killed while it was being made: nothing was ever acknowledged in it.
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// skippedError is returned if the server did not load an existing stream.
type skippedError struct {
	stream string
	said   error // by NATS
}

func (e *skippedError) Error() string {
	return fmt.Sprintf("NATS cannot read the stream %s: %v", e.stream, e.said)
}

// streamsDir is where JetStream keeps its streams, a folder each.
func streamsDir(dir string) string {
	return filepath.Join(dir, server.JetStreamStoreDir, accountName, "streams")
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

// unrecoveredQueues returns the queues in the folder whose cursor could not be
// read. Until they are opened or deleted nothing may be purged, because their
// positions are unknown.
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

func (e *embedded) queuesDir() string { return queuesDir(e.dir) }

// queuesDir is where JetStream keeps the queues' cursors.
func queuesDir(dir string) string { return filepath.Join(streamsDir(dir), streamEvents, "obs") }

// readableQueue reports whether JetStream can load the queue in a folder.
func readableQueue(folder string) bool {
	raw, err := os.ReadFile(filepath.Join(folder, server.JetStreamMetaFile))
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(folder, server.JetStreamMetaFileSum))
	var info server.FileConsumerInfo
	return err == nil && json.Unmarshal(raw, &info) == nil
}

func (e *embedded) stop() {
	e.log.over.Store(true)
	e.srv.Shutdown()
	e.srv.WaitForShutdown()
}

// natsLog passes NATS's log to slog. Notices are logged at debug level: they do
// not help users without their own NATS server.
type natsLog struct {
	log    *slog.Logger
	broken func(error)
	over   atomic.Bool // broken or stopping: ignore further messages
	mu     sync.Mutex
	last   string // the last warning or error, for messages about a failed start
	passed error  // the first one about the machine rather than the files
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
	// After a failed write (disk full, I/O error) JetStream stops answering
	// publishers of that stream, and reports it only in its log. The logged
	// message becomes the cause in the journal's health.
	broken := level >= slog.LevelWarn && slices.ContainsFunc(brokenSigns, func(sign string) bool { return strings.Contains(text, sign) })
	shown := level
	if broken || l.over.Load() {
		shown = slog.LevelDebug
	}
	l.log.Log(context.Background(), shown, "nats: "+text)
	if level < slog.LevelWarn {
		return
	}
	l.mu.Lock()
	l.last = text
	if err := errors.New(text); l.passed == nil && passing(err) {
		l.passed = err
	}
	l.mu.Unlock()
	if broken {
		l.over.Store(true)
		l.broken(errors.New(text))
	}
}

// brokenSigns are words of NATS's log after which a stream, a queue or all of
// JetStream does no more until the server is started again.
var brokenSigns = []string{"critical write error", "Critical write error", "will be DISABLED", "disabling JetStream", "failed to store a msg"}

// passingError returns the first logged error about a full disk or similar:
// files missing after it may exist.
func (l *natsLog) passingError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.passed
}

func (l *natsLog) lastError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" {
		return nil
	}
	return errors.New(l.last)
}
