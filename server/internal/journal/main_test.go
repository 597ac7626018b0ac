package journal_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
)

// The test binary is also the process that tests kill: see child.
const (
	childEnv    = "HEDGEROW_JOURNAL_TEST_CHILD" // the folder
	childRole   = "HEDGEROW_JOURNAL_TEST_ROLE"
	childSync   = "HEDGEROW_JOURNAL_TEST_SYNC"
	roleAppend  = "append"  // appends forever
	roleConsume = "consume" // appends and consumes forever
	rolePurge   = "purge"   // as consume, and deletes consumed events
	roleFull    = "full"    // appends until the disk is full, and again after the repair
	roleFiles   = "files"   // the same with file descriptors
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir, os.Getenv(childRole)); err != nil {
			fmt.Println("error", strings.ReplaceAll(err.Error(), "\n", " "))
		}
		return
	}
	os.Exit(m.Run())
}

// child uses the journal in dir and prints a line for each completed step:
// "stored" and "acked" with uuids.
func child(dir, role string) error {
	ctx := context.Background()
	c := journal.Config{Dir: dir, SyncAlways: os.Getenv(childSync) != "", Keep: time.Hour, KeepBytes: 1 << 30}
	if role == rolePurge {
		c.Keep, c.JanitorEvery = -1, 10*time.Millisecond
	}
	j, err := journal.Open(ctx, c)
	if err != nil {
		return err
	}
	switch role {
	case roleFull:
		return childFull(ctx, j)
	case roleFiles:
		return childFiles(ctx, j)
	}
	q, err := j.Queue(ctx, "store", journal.QueueOptions{})
	if err != nil {
		return err
	}
	fmt.Println("open")
	var mu sync.Mutex
	say := func(word string, ids []string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(word + " " + strings.Join(ids, " "))
	}
	errs := make(chan error, 8)
	for w := range 4 {
		go func() {
			for n := 0; ; n++ {
				batch := make([]*event.Event, 1+(n+w)%3*10) // 1, 11, 21
				ids := make([]string, len(batch))
				for i := range batch {
					batch[i] = newEvent("p1", 200+(n*37+i*911)%9000)
					ids[i] = batch[i].UUID
				}
				if err := j.Append(ctx, batch...); err != nil {
					errs <- err
					return
				}
				say("stored", ids)
			}
		}()
	}
	if role == roleConsume || role == rolePurge {
		go func() {
			for {
				ds, err := q.Fetch(ctx, 100, 5*time.Millisecond)
				if err != nil {
					errs <- err
					return
				}
				ids := make([]string, len(ds))
				for i, d := range ds {
					ids[i] = d.Event.UUID
				}
				say("acked", ids) // printed before it is done: the parent must not expect it again
				for _, d := range ds {
					d.Ack()
				}
			}
		}()
	}
	return <-errs
}

// childFull appends on a disk that rejects more than 3 MB per file, until
// it is repaired.
func childFull(ctx context.Context, j *journal.Journal) error {
	q, err := j.Queue(ctx, "store", journal.QueueOptions{})
	if err != nil {
		return err
	}
	kv, err := j.KeyValue(ctx, "settings", 1)
	if err != nil {
		return err
	}
	fmt.Println("open")
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 3 << 20, Max: was.Max}); err != nil {
		return err
	}
	return breakAndMend(ctx, j, q, kv, func() error { return unix.Setrlimit(unix.RLIMIT_FSIZE, &was) })
}

// childFiles appends until no file descriptor is left, and on when they are free
// again.
func childFiles(ctx context.Context, j *journal.Journal) error {
	q, err := j.Queue(ctx, "store", journal.QueueOptions{})
	if err != nil {
		return err
	}
	kv, err := j.KeyValue(ctx, "settings", 1)
	if err != nil {
		return err
	}
	fmt.Println("open")
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 128, Max: 128}); err != nil {
		return err
	}
	var held []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		held = append(held, f)
	}
	return breakAndMend(ctx, j, q, kv, func() error {
		for _, f := range held {
			f.Close()
		}
		return nil
	})
}

// breakAndMend appends until an append fails, prints the journal's report, has
// the fault repaired, and prints how it continues.
func breakAndMend(ctx context.Context, j *journal.Journal, q *journal.Queue, kv jetstream.KeyValue, mend func() error) error {
	for {
		e := newEvent("p1", 50_000)
		start := time.Now()
		if err := j.Append(ctx, e); err != nil {
			fmt.Printf("refused %s %v %s\n", event.AsError(err).Code, time.Since(start) < 20*time.Second, err)
			break
		}
		fmt.Println("stored", e.UUID)
	}
	h := j.Health()
	fmt.Println("health", h.Status, h.Message, "TO DO", h.Hint)
	start := time.Now()
	err := j.Append(ctx, newEvent("p1", 10))
	fmt.Println("again", event.AsError(err).Code, time.Since(start) < time.Second)
	start = time.Now()
	_, err = kv.Get(ctx, "a")
	fmt.Println("settings", event.AsError(err).Code, time.Since(start) < time.Second)
	time.Sleep(2 * time.Second) // some restarts in vain
	if err := mend(); err != nil {
		return err
	}
	start = time.Now()
	for {
		e := newEvent("p1", 10)
		if err := j.Append(ctx, e); err == nil {
			fmt.Println("stored", e.UUID)
			break
		} else if time.Since(start) > time.Minute {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Println("mended", time.Since(start).Milliseconds(), j.Health().Status, j.Health().Restarts)
	if _, err := kv.PutString(ctx, "a", "b"); err != nil {
		return err
	}
	for {
		lag, err := j.Lag(ctx, "store")
		if err != nil {
			return err
		}
		if lag.Pending == 0 && lag.AckPending == 0 {
			break
		}
		fetchCtx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		ds, err := q.Fetch(fetchCtx, 100, time.Millisecond)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		for _, d := range ds {
			fmt.Println("came", d.Event.UUID)
			if err := d.Ack(); err != nil {
				return err
			}
		}
	}
	closeCtx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	fmt.Println("closed", j.Close(closeCtx))
	return nil
}

type process struct {
	*exec.Cmd
	lines *bufio.Scanner
}

// startChild starts the test binary as another process on dir and waits until it
// has the journal open.
func startChild(t *testing.T, dir, role string, syncAlways bool) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, childRole+"="+role)
	if syncAlways {
		cmd.Env = append(cmd.Env, childSync+"=1")
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	p := &process{Cmd: cmd, lines: bufio.NewScanner(out)}
	p.lines.Buffer(nil, 1<<20)
	if !p.lines.Scan() || p.lines.Text() != "open" {
		t.Fatalf("child said %q", p.lines.Text())
	}
	return p
}

// natsServer runs a NATS server with JetStream, as a user's own.
func natsServer(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true, MaxPayload: 9 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// freezer forwards connections to addr until it is frozen: then bytes are
// accepted and discarded, as by a host that hangs.
func freezer(t *testing.T, addr string) (url string, freeze func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var frozen atomic.Bool
	var mu sync.Mutex
	var conns []net.Conn
	keep := func(c net.Conn) { mu.Lock(); conns = append(conns, c); mu.Unlock() }
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	})
	pipe := func(dst, src net.Conn) {
		defer dst.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := src.Read(buf)
			if err != nil {
				return
			}
			if frozen.Load() {
				continue
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", addr)
			if err != nil {
				c.Close()
				continue
			}
			keep(c)
			keep(up)
			go pipe(up, c)
			go pipe(c, up)
		}
	}()
	return "nats://" + l.Addr().String(), func() { frozen.Store(true) }
}

// checkLeaks fails the test if more goroutines run at its end than now. Such a
// test cannot run in parallel with others.
func checkLeaks(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		var n int
		for range 300 { // goroutines need time to end
			if n = runtime.NumGoroutine(); n <= before {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after:\n%s", before, n, buf[:runtime.Stack(buf, true)])
	})
}

// wantError checks the code of a user-facing error and its text, and returns
// it.
func wantError(t testing.TB, err error, code event.Code, says string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", code)
	}
	e := event.AsError(err)
	if e.Code != code || !strings.Contains(e.Message, says) || e.Hint == "" {
		t.Errorf("error %s %q hint %q (%v), want %s with %q and a hint", e.Code, e.Message, e.Hint, err, code, says)
	}
}
