package journal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/journal"
)

// makeJournal writes a journal of n events, of which the queue "q" has ended the
// first half, and returns its folder and the uuids.
func makeJournal(t *testing.T, n, size int) (dir string, ids []string) {
	t.Helper()
	dir = t.TempDir()
	j := open(t, journal.Config{Dir: dir})
	q := mustQueue(t, j, "q", journal.QueueOptions{From: journal.FromNow})
	for range n {
		e := newEvent("p1", size)
		mustAppend(t, j, e)
		ids = append(ids, e.UUID)
	}
	ackAll(t, fetchN(t, q, n/2))
	waitLag(t, j, "q", func(qi journal.QueueInfo) bool { return qi.AckPending == 0 })
	closeJournal(t, j)
	return dir, ids
}

// find returns the files and folders in dir whose path ends with a match.
func find(t *testing.T, dir, pattern string) []string {
	t.Helper()
	var out []string
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		tail := p
		for range 1 + strings.Count(pattern, "/") {
			tail = filepath.Dir(tail)
		}
		if rel, rerr := filepath.Rel(tail, p); rerr == nil {
			if ok, _ := filepath.Match(pattern, rel); ok {
				out = append(out, p)
			}
		}
		return nil
	})
	if len(out) == 0 {
		t.Fatalf("nothing like %s in %s", pattern, dir)
	}
	return out
}

func garbage(t *testing.T, files []string) {
	t.Helper()
	for _, f := range files {
		if err := os.WriteFile(f, []byte("\x00\xff garbage that nothing can read {"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func remove(t *testing.T, paths []string) {
	t.Helper()
	for _, p := range paths {
		if err := os.RemoveAll(p); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHarmlessDamage damages files that the journal can do without: no event is
// lost, and the queue continues, at worst repeating some that it had ended.
func TestHarmlessDamage(t *testing.T) {
	const n = 60
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, events string)
		again  bool // the queue starts over
	}{
		{"Nothing", func(*testing.T, string) {}, false},
		{"IndexGarbage", func(t *testing.T, events string) { garbage(t, find(t, events, "msgs/index.db")) }, false},
		{"IndexEmpty", func(t *testing.T, events string) {
			for _, f := range find(t, events, "msgs/index.db") {
				if err := os.Truncate(f, 0); err != nil {
					t.Fatal(err)
				}
			}
		}, false},
		{"IndexMissing", func(t *testing.T, events string) { remove(t, find(t, events, "msgs/index.db")) }, false},
		{"TornTail", func(t *testing.T, events string) {
			// A record that had been begun when the machine stopped.
			blocks := find(t, events, "msgs/*.blk")
			f, err := os.OpenFile(blocks[len(blocks)-1], os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.Write([]byte("\x40\x01\x00\x00half a record")); err != nil {
				t.Fatal(err)
			}
			remove(t, find(t, events, "msgs/index.db"))
		}, false},
		{"CursorGarbage", func(t *testing.T, events string) { garbage(t, find(t, events, "obs/q/o.dat")) }, true},
		{"CursorMissing", func(t *testing.T, events string) { remove(t, find(t, events, "obs/q/o.dat")) }, true},
		{"QueueMetaGarbage", func(t *testing.T, events string) { garbage(t, find(t, events, "obs/q/meta.inf")) }, true},
		{"QueueMetaMissing", func(t *testing.T, events string) { remove(t, find(t, events, "obs/q/meta.inf")) }, true},
		{"QueueSumGarbage", func(t *testing.T, events string) { garbage(t, find(t, events, "obs/q/meta.sum")) }, false},
		{"QueueMissing", func(t *testing.T, events string) { remove(t, find(t, events, "obs/q")) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, ids := makeJournal(t, n, 3000)
			c.damage(t, find(t, dir, "streams/EVENTS")[0])
			j := open(t, journal.Config{Dir: dir, Keep: -1, JanitorEvery: time.Hour})
			// Nothing may be dropped because a cursor is missing.
			if err := j.Clean(t.Context()); err != nil && !c.again {
				t.Error(err)
			}
			if st, err := j.Stats(t.Context()); err != nil || (st.Events == n) != c.again {
				t.Errorf("%d events of %d are left, %v", st.Events, n, err)
			}
			o := journal.QueueOptions{From: journal.FromNow}
			if c.name == "QueueMissing" {
				o.From = journal.FromAll // the cursor's existence is unknown
			}
			q := mustQueue(t, j, "q", o)
			seen := drain(t, j, q)
			for _, id := range ids[n/2:] {
				if seen[id] != 1 {
					t.Errorf("event %s came %d times", id, seen[id])
				}
			}
			if !c.again && len(seen) != n/2 {
				t.Errorf("%d events came, want %d", len(seen), n/2)
			}
			// And it works on.
			e := newEvent("p1", 10)
			mustAppend(t, j, e)
			if d := fetchN(t, q, 1)[0]; d.Event.UUID != e.UUID {
				t.Errorf("came %s", d.Event.UUID)
			}
			if err := j.Clean(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCursorAhead rewinds the events to before the queue's position, as a
// power failure can: new events at those positions still reach it.
func TestCursorAhead(t *testing.T) {
	t.Parallel()
	dir, ids := makeJournal(t, 40, 3000)
	blocks := find(t, dir, "streams/EVENTS/msgs/*.blk")
	if len(blocks) != 1 {
		t.Fatalf("%d blocks", len(blocks))
	}
	st, err := os.Stat(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(blocks[0], st.Size()/4); err != nil {
		t.Fatal(err)
	}
	remove(t, find(t, dir, "streams/EVENTS/msgs/index.db"))
	j := open(t, journal.Config{Dir: dir})
	left := drain(t, j, mustQueue(t, j, "all", journal.QueueOptions{}))
	if len(left) < 5 || len(left) > 11 || left[ids[0]] != 1 {
		t.Errorf("%d events are left of a quarter of 40", len(left))
	}
	q := mustQueue(t, j, "q", journal.QueueOptions{From: journal.FromNow})
	var want []string
	for range 20 {
		e := newEvent("p1", 10)
		mustAppend(t, j, e)
		want = append(want, e.UUID)
	}
	if got := uuids(fetchN(t, q, 20)); !slices.Equal(got, want) {
		t.Errorf("came %d other events", len(got))
	}
}

// TestDescriptions damages the files that NATS needs to load a stream:
// hedgerow recreates them, and all events and queues are kept.
func TestDescriptions(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
	}{
		{"Garbage", func(t *testing.T, dir string) { garbage(t, find(t, dir, "streams/EVENTS/meta.inf")) }},
		{"Missing", func(t *testing.T, dir string) { remove(t, find(t, dir, "streams/EVENTS/meta.inf")) }},
		{"SumGarbage", func(t *testing.T, dir string) { garbage(t, find(t, dir, "streams/EVENTS/meta.sum")) }},
		{"SumMissing", func(t *testing.T, dir string) { remove(t, find(t, dir, "streams/EVENTS/meta.sum")) }},
		{"Empty", func(t *testing.T, dir string) {
			for _, f := range find(t, dir, "streams/EVENTS/meta.*") {
				if err := os.Truncate(f, 0); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"DeadLetters", func(t *testing.T, dir string) { garbage(t, find(t, dir, "streams/DEAD/meta.inf")) }},
		{"Settings", func(t *testing.T, dir string) { garbage(t, find(t, dir, "streams/KV_settings/meta.inf")) }},
		{"FromTheFuture", func(t *testing.T, dir string) {
			// A newer version could leave this: NATS loads it but does not serve it.
			rewriteMeta(t, find(t, dir, "streams/EVENTS/meta.inf")[0], func(m map[string]any) {
				m["metadata"] = map[string]string{"_nats.req.level": "99"}
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			j := open(t, journal.Config{Dir: dir})
			q := mustQueue(t, j, "q", journal.QueueOptions{})
			kv, err := j.KeyValue(t.Context(), "settings", 1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := kv.PutString(t.Context(), "a", "b"); err != nil {
				t.Fatal(err)
			}
			kill(t, j, q, 2, "p1")
			var ids []string
			for range 10 {
				e := newEvent("p1", 1000)
				mustAppend(t, j, e)
				ids = append(ids, e.UUID)
			}
			closeJournal(t, j)
			c.damage(t, dir)

			problems, err := journal.Check(t.Context(), dir)
			if err != nil || len(problems) != 1 && c.name != "FromTheFuture" {
				t.Errorf("problems %+v, %v", problems, err)
			}
			var log syncBuffer
			j = open(t, journal.Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			waitHealth(t, j, health.Degraded, 20*time.Second)
			if h := j.Health(); !strings.Contains(h.Message, "recreated") || !strings.Contains(h.Hint, filepath.Join(dir, "damaged")) || strings.Contains(h.Hint, "move") {
				t.Errorf("health %+v", h)
			}
			if n := lines(log.String(), "the journal was damaged"); n != 1 {
				t.Errorf("%d lines in the log:\n%s", n, log.String())
			}
			e := newEvent("p1", 10)
			mustAppend(t, j, e)
			q = mustQueue(t, j, "q", journal.QueueOptions{})
			got := drain(t, j, q)
			for _, id := range append(ids, e.UUID) {
				if got[id] != 1 {
					t.Errorf("event %s came %d times", id, got[id])
				}
			}
			if kv, err = j.KeyValue(t.Context(), "settings", 1); err != nil {
				t.Fatal(err)
			}
			if v, err := kv.Get(t.Context(), "a"); err != nil || string(v.Value()) != "b" {
				t.Errorf("setting %v, %v", v, err)
			}
			if n, err := j.DeadCounts(t.Context()); err != nil || n["q"] != 2 {
				t.Errorf("%v dead letters, %v", n, err)
			}
			closeJournal(t, j)
			// It is repaired permanently, and the original is kept.
			j = open(t, journal.Config{Dir: dir})
			if h := j.Health(); h.Status != health.OK {
				t.Errorf("health at the next start %+v", h)
			}
			if problems, err := journal.Check(t.Context(), dir); err != nil || len(problems) != 1 || problems[0].Repairable || !strings.HasPrefix(problems[0].Where, filepath.Join(dir, "damaged")) {
				t.Errorf("problems %+v, %v", problems, err)
			}
		})
	}
}

// rewriteMeta changes a stream's description, with a checksum that fits.
func rewriteMeta(t *testing.T, path string, f func(map[string]any)) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	f(m)
	if raw, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	sum := journal.MetaSum(filepath.Base(filepath.Dir(path)), raw)
	if err := errors.Join(os.WriteFile(path, raw, 0o600), os.WriteFile(strings.TrimSuffix(path, "inf")+"sum", []byte(sum), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// breakAt overwrites 64 bytes of a file at a share of its length.
func breakAt(t *testing.T, path string, part, of int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	at := st.Size() * int64(part) / int64(of)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 0x55
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestBrokenBlock flips bytes within a block, as a failing disk does: only the
// event at those bytes is lost, all others are kept, and the report has the time
// of the loss.
func TestBrokenBlock(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		part, of int
		index    bool
	}{
		{"Middle", 3, 4, true},
		{"MiddleWithoutIndex", 3, 4, false},
		{"Beginning", 0, 4, true},
		{"End", 39*40 + 20, 40 * 40, true}, // within the last event
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, ids := makeJournal(t, 40, 3000)
			block := find(t, dir, "streams/EVENTS/msgs/*.blk")[0]
			breakAt(t, block, c.part, c.of)
			if !c.index {
				remove(t, find(t, dir, "streams/EVENTS/msgs/index.db"))
			}
			before := time.Now().UTC().Add(-time.Hour)
			var log syncBuffer
			j := open(t, journal.Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil)), Keep: time.Hour})
			h := j.Health()
			if h.Status != health.Degraded || !strings.Contains(h.Message, "EVENTS") || !strings.Contains(h.Message, "up to 1 records from ") || !strings.Contains(h.Hint, "damaged") {
				t.Errorf("health %+v", h)
			}
			if s := log.String(); lines(s, "the journal was damaged") != 1 {
				t.Errorf("the log says %s", s)
			}
			problems, err := journal.Check(t.Context(), dir)
			if err != nil || len(problems) != 1 || problems[0].Repairable {
				t.Errorf("problems %+v, %v", problems, err)
			}
			var damage journal.Damage
			raw, err := os.ReadFile(filepath.Join(problems[0].Where, "damage.json"))
			if err == nil {
				err = json.Unmarshal(raw, &damage)
			}
			if err != nil || damage.Count() != 1 || c.name == "Middle" && (damage.Lost[0].After.Before(before) || damage.Lost[0].Before.Before(damage.Lost[0].After)) {
				t.Errorf("damage %+v, %v", damage, err)
			}
			e := newEvent("p1", 10)
			mustAppend(t, j, e)
			seen := drain(t, j, mustQueue(t, j, "all", journal.QueueOptions{}))
			lost := 0
			for _, id := range append(ids, e.UUID) {
				switch seen[id] {
				case 0:
					lost++
				case 1:
				default:
					t.Errorf("event %s came %d times", id, seen[id])
				}
			}
			if lost != 1 || seen[e.UUID] != 1 {
				t.Errorf("%d events are lost", lost)
			}
			rest := drain(t, j, mustQueue(t, j, "q", journal.QueueOptions{}))
			if n := len(rest); n != 20 && n != 21 || rest[ids[19]] != 0 || rest[e.UUID] != 1 {
				t.Errorf("%d events came to the queue", n)
			}
			closeJournal(t, j)
			j = open(t, journal.Config{Dir: dir})
			if h := j.Health(); h.Status != health.OK {
				t.Errorf("health at the next start %+v", h)
			}
		})
	}
}

// TestBrokenFiles damages, truncates and removes each file of a journal in turn:
// it opens within seconds, works, and loses no event whose bytes are intact.
func TestBrokenFiles(t *testing.T) {
	t.Parallel()
	template := t.TempDir()
	j := open(t, journal.Config{Dir: template})
	q := mustQueue(t, j, "q", journal.QueueOptions{})
	kv, err := j.KeyValue(t.Context(), "settings", 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if _, err := kv.PutString(t.Context(), fmt.Sprintf("k%d", i), strings.Repeat("v", 200)); err != nil {
			t.Fatal(err)
		}
	}
	kill(t, j, q, 3, "p1")
	var ids []string
	for range 30 {
		e := newEvent("p1", 2000)
		mustAppend(t, j, e)
		ids = append(ids, e.UUID)
	}
	closeJournal(t, j)
	var files []string
	filepath.WalkDir(template, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "journal.lock" {
			rel, _ := filepath.Rel(template, p)
			files = append(files, rel)
		}
		return nil
	})
	if len(files) < 12 {
		t.Fatalf("files %v", files)
	}
	for _, how := range []string{"break", "cut", "empty", "remove", "folder", "pipe", "link"} {
		for _, rel := range files {
			t.Run(how+"/"+strings.ReplaceAll(rel, "/", "_"), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(dir, rel)
				st, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				switch how {
				case "break":
					if st.Size() < 150 {
						garbage(t, []string{path})
					} else {
						breakAt(t, path, 1, 2)
					}
				case "cut":
					err = os.Truncate(path, st.Size()/2)
				case "empty":
					err = os.Truncate(path, 0)
				case "remove":
					err = os.Remove(path)
				case "folder":
					err = errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "x"), 0o700))
				case "pipe":
					err = errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600))
				case "link":
					err = errors.Join(os.Remove(path), os.Symlink(path, path))
				}
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				j := open(t, journal.Config{Dir: dir})
				for !j.Health().Working() {
					if time.Since(start) > 20*time.Second {
						t.Fatalf("it does not open: %+v", j.Health())
					}
					time.Sleep(10 * time.Millisecond)
				}
				e := newEvent("p1", 10)
				mustAppend(t, j, e)
				seen := drain(t, j, mustQueue(t, j, "all", journal.QueueOptions{}))
				lost := 0
				for _, id := range ids {
					if seen[id] == 0 {
						lost++
					}
				}
				may := 0
				if strings.Contains(rel, "EVENTS/msgs/") && strings.HasSuffix(rel, ".blk") {
					may = map[string]int{"break": 1, "cut": 16, "empty": 30, "remove": 30, "folder": 30, "pipe": 30, "link": 30}[how]
					if h := j.Health(); h.Status != health.Degraded {
						t.Errorf("%d events are lost and the health is %+v", lost, h)
					}
				}
				if lost > may || seen[e.UUID] != 1 {
					t.Errorf("%d events are lost, of the new one %d came", lost, seen[e.UUID])
				}
				// A bucket exists and can be written, regardless of what it
				// lost.
				kv, err := j.KeyValue(t.Context(), "settings", 1)
				if err != nil {
					t.Fatal(err)
				}
				w, err := kv.WatchAll(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer w.Stop()
				n := 0
				for told := false; !told; {
					select {
					case e := <-w.Updates():
						if told = e == nil; !told {
							n++
						}
					case <-time.After(10 * time.Second):
						t.Fatalf("the bucket is silent after %d records", n)
					}
				}
				if n < 19 && !strings.Contains(rel, "KV_settings/msgs/1.blk") {
					t.Errorf("%d settings are left", n)
				}
				if _, err := kv.PutString(t.Context(), "new", "v"); err != nil {
					t.Error(err)
				}
				if _, err := j.DeadLetters(t.Context(), journal.DeadFilter{}); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
