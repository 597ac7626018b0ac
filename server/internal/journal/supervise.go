package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

const (
	restartFirst = 50 * time.Millisecond // wait before the first restart, doubled with each
	restartMax   = time.Second           // up to this: recovery is complete within seconds of a fault's end

	probeEvery = 2 * time.Second  // how often a silent store is probed
	probeWait  = 10 * time.Second // for an answer, twice in a row

	// Free space required for a restart. It is more after a short run, so that a few
	// free bytes do not cause a restart each.
	probeBytes    = 512 << 10
	probeBytesMax = 8 << 20
	shortLife     = 10 * time.Second

	probeFiles = 48 // descriptors that must be free
)

// supervise keeps the store running until the journal closes: it starts it,
// waits for it to fail, and restarts it. tried is closed after the first start,
// even if it failed.
func (j *Journal) supervise(tried chan<- struct{}) {
	defer close(j.supervised)
	first := true
	room := int64(0) // that the disk must have for another start
	wait := restartFirst
	restarts := 0
	skipped := make(map[string]int) // streams, by how often in a row the server did not take them in
	for j.closing.Err() == nil {
		l, err := j.begin(first, room, skipped)
		if skip := (*skippedError)(nil); errors.As(err, &skip) {
			skipped[skip.stream]++
		} else {
			clear(skipped)
		}
		if err == nil {
			j.now.Store(l)
			since, failed := j.standing.work(j.c.Now(), restarts)
			switch {
			case failed:
				j.log.Info("the journal works again", "dir", j.c.Dir, "after", j.c.Now().Sub(since).Round(time.Millisecond), "restarts", restarts)
			case l.srv != nil:
				j.log.Info("the journal is open", "dir", j.c.Dir, "took", j.c.Now().Sub(since).Round(time.Millisecond))
			}
			if first {
				close(tried)
				first = false
			}
			wait = restartFirst
			begun := time.Now()
			select {
			case <-j.closing.Done():
				return // Close stops it, in its own order
			case err = <-l.broken:
			}
			restarts++
			j.metrics.restarts.Inc()
			j.failed(err)
			j.now.Store(nil)
			j.stop(l)
			if errors.Is(err, errFolderRemoved) {
				if err := j.noteGone(); err != nil {
					j.log.Error("it could not be noted that a folder of the journal was removed", "err", err)
				}
			}
			j.recall()
			room = probeBytes
			if lived := time.Since(begun); lived < shortLife {
				room = min(2*max(room, probeBytes), probeBytesMax)
			}
		} else if j.closing.Err() == nil {
			j.failed(err)
		}
		if first {
			close(tried)
			first = false
		}
		select {
		case <-j.closing.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, restartMax)
		room = max(room, probeBytes)
	}
	if first {
		close(tried)
	}
}

// failed sets the health and, if the error is new, logs it.
func (j *Journal) failed(err error) {
	e := j.explain(err)
	if j.standing.fail(e, j.c.Now()) {
		j.log.Error("the journal does not work and is started again until it does: "+e.Message, "hint", e.Hint, "err", err)
	}
}

// stop stops an instance. A server that does not end keeps its folder: another one on
// it would do harm.
func (j *Journal) stop(l *instance) {
	done := make(chan struct{})
	go func() { defer close(done); l.stop() }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		j.log.Error("the journal's server does not stop; another start has to wait for it", "dir", j.c.Dir)
		<-done
	}
}

// begin starts an instance.
func (j *Journal) begin(first bool, room int64, skipped map[string]int) (*instance, error) {
	ctx := j.closing
	l := &instance{j: j, broken: make(chan error, 1), salvaged: make(chan struct{})}
	l.over, l.end = context.WithCancel(context.Background())
	if j.c.NATSURL == "" {
		if err := j.readyFolder(ctx, first, room); err != nil {
			l.end()
			return nil, err
		}
		if first || len(skipped) > 0 || !j.inspected {
			aside := ""
			for name, n := range skipped {
				if n > 1 {
					aside = name
				}
			}
			if err := j.step(ctx, "look for damage", startWait, func(ctx context.Context) error { return j.inspect(ctx, aside) }); err != nil {
				l.end()
				return nil, err
			}
			j.inspected = true
		}
		err := j.step(ctx, "start the store and read its last blocks", startWait, func(ctx context.Context) (err error) {
			l.srv, err = startEmbedded(ctx, j.c, l.fail)
			return err
		})
		if err != nil {
			l.end()
			return nil, err
		}
	}
	if err := j.step(ctx, "open streams and queues", openWait, l.open); err != nil {
		j.stop(l)
		// NATS's log is closer to the cause than its response.
		if l.srv != nil && !passing(err) {
			if said := l.srv.log.lastError(); said != nil {
				err = errors.Join(err, said)
			}
		}
		return nil, err
	}
	if l.srv != nil {
		l.watch.Go(l.probe)
		l.watch.Go(func() {
			defer close(l.salvaged)
			l.salvage()
		})
	}
	return l, nil
}

// readyFolder checks, before the server starts, that this process owns the
// folder, that it is writable, and that its files are readable.
func (j *Journal) readyFolder(ctx context.Context, first bool, room int64) error {
	if j.lock == nil {
		var err error
		if j.lock, err = takeFolder(j.c.Dir); err != nil {
			return err
		}
	}
	if err := j.sameFolder(); err != nil {
		return err
	}
	if err := probeFolder(j.c.Dir, room); err != nil {
		return err
	}
	if first {
		if free, err := freeBytes(j.c.Dir); err == nil && free < j.c.MaxBytes {
			j.log.Warn("less disk is free than the journal may use", "dir", j.c.Dir, "free_bytes", free, "max_bytes", j.c.MaxBytes)
		}
	}
	return nil
}

// step runs one step of the start with a deadline, and logs it.
func (j *Journal) step(ctx context.Context, what string, limit time.Duration, f func(context.Context) error) error {
	j.log.Debug("journal: "+what, "within", limit)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	slow := time.AfterFunc(10*time.Second, func() { j.log.Warn("journal: this takes long: "+what, "within", limit) })
	defer slow.Stop()
	if err := f(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// probe checks regularly that the store responds and has its folders, and ends
// its instance if not: not every failure shows in NATS's log.
func (l *instance) probe() {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	folders := foldersOf(l.j.c.Dir)
	for silent := 0; ; {
		select {
		case <-l.over.Done():
			return
		case <-tick.C:
		}
		if folders.gone() {
			l.fail(errFolderRemoved)
			return
		}
		ctx, cancel := context.WithTimeout(l.over, probeWait)
		_, err := l.ctlJS.Stream(ctx, streamEvents)
		cancel()
		switch {
		case l.over.Err() != nil:
			return
		case err == nil:
			silent = 0
		default:
			if silent++; silent == 2 {
				l.fail(fmt.Errorf("the store does not answer: %w", err))
				return
			}
		}
	}
}

// takeFolder makes the folder and locks it for this process.
func takeFolder(dir string) (*os.File, error) {
	if st, err := os.Stat(dir); err == nil && !st.IsDir() {
		return nil, event.NewError(event.CodeInvalid, fmt.Sprintf("the journal's folder %s is a file", dir), "move the file away, or name another folder", nil)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unwritable(dir, err)
	}
	lock, err := lockFile(filepath.Join(dir, lockName))
	if errors.Is(err, errLocked) {
		return nil, event.NewError(event.CodeConflict, fmt.Sprintf("another hedgerow is running on the folder %s", dir),
			"stop it first, or use another data folder", nil)
	} else if err != nil {
		return nil, unwritable(dir, err)
	}
	return lock, nil
}

// unwritable is an error of a folder that this user cannot use, or err itself
// where the machine's state is the cause.
func unwritable(dir string, err error) error {
	if passing(err) && !errors.Is(err, os.ErrPermission) {
		return err
	}
	return event.NewError(event.CodeInvalid, fmt.Sprintf("the journal's folder %s cannot be written", dir),
		"make it a folder owned by the user running hedgerow", err)
}

// wrongFolder reports whether retrying with this folder is pointless.
func wrongFolder(err error) bool {
	var e *event.Error
	return errors.As(err, &e)
}

// probeFolder checks that the folder is writable and descriptors are available
// before the NATS server is started, which reports such errors less clearly and
// might mistake unreadable files for missing ones. room is the number of bytes
// that must be free; 0 writes a small file.
func probeFolder(dir string, room int64) (err error) {
	f, err := os.CreateTemp(dir, ".write-test-*")
	if err != nil {
		return fmt.Errorf("try to write: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}()
	if room > 0 {
		// Random bytes, since some file systems store nothing for zeros.
		random := rand.NewChaCha8([32]byte{1})
		buf := make([]byte, 64<<10)
		for n := int64(0); n < room; n += int64(len(buf)) {
			_, _ = random.Read(buf)
			if _, err := f.Write(buf); err != nil {
				return fmt.Errorf("try to write: %w", err)
			}
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("try to write: %w", err)
		}
	} else if _, err := f.Write(make([]byte, 4096)); err != nil {
		return fmt.Errorf("try to write: %w", err)
	}
	var open []*os.File
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	for range probeFiles {
		f, err := os.Open(dir)
		if err != nil {
			return fmt.Errorf("try to open files: %w", err)
		}
		open = append(open, f)
	}
	return nil
}
