package journal_test

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/internal/health"
	"github.com/hedgerow/hedgerow/internal/journal"
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

// find returns the files and folders below dir whose path ends with a match.
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

// TestHarmlessDamage damages what the journal can do without: no event is lost,
// and the queue goes on, at worst with some that it had ended.
func TestHarmlessDamage(t *testing.T) {
	const n = 60
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, events string)
		again  bool // the queue begins anew
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
			// Nothing may be dropped on the word of a cursor that is not there.
			if err := j.Clean(t.Context()); err != nil && !c.again {
				t.Error(err)
			}
			if st, err := j.Stats(t.Context()); err != nil || (st.Events == n) != c.again {
				t.Errorf("%d events of %d are left, %v", st.Events, n, err)
			}
			o := journal.QueueOptions{From: journal.FromNow}
			if c.name == "QueueMissing" {
				o.From = journal.FromAll // nobody can know that it had been there
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

// TestCursorAhead takes the events back to before what the queue has had, as a
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

// TestHarmfulDamage damages what cannot be done without: the journal does not
// open as if nothing had been there, and says what to do.
func TestHarmfulDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
	}{
		{"StreamMetaGarbage", func(t *testing.T, dir string) { garbage(t, find(t, dir, "streams/EVENTS/meta.inf")) }},
		{"StreamMetaMissing", func(t *testing.T, dir string) { remove(t, find(t, dir, "streams/EVENTS/meta.inf")) }},
		{"StreamSumGarbage", func(t *testing.T, dir string) { garbage(t, find(t, dir, "streams/EVENTS/meta.sum")) }},
		{"StreamSumMissing", func(t *testing.T, dir string) { remove(t, find(t, dir, "streams/EVENTS/meta.sum")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, _ := makeJournal(t, 10, 100)
			c.damage(t, dir)
			before := tree(t, dir)
			j, err := journal.Open(t.Context(), journal.Config{Dir: dir})
			if err == nil {
				defer closeJournal(t, j)
			}
			if err != nil || j.Health().Status != health.Failed {
				t.Errorf("error %v, health %+v", err, j.Health())
			}
			if after := tree(t, dir); !slices.Equal(after, before) {
				t.Errorf("opening changed the folder:\n%v\n%v", before, after)
			}
		})
	}
}

// tree lists the block files below dir.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(p) == ".blk" {
			out = append(out, p)
		}
		return nil
	})
	return out
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

// TestBrokenBlock flips bytes within a block, as a failing disk does: the events
// around them are there, and the journal works on.
func TestBrokenBlock(t *testing.T) {
	t.Parallel()
	for _, index := range []bool{true, false} {
		dir, ids := makeJournal(t, 40, 3000)
		block := find(t, dir, "streams/EVENTS/msgs/*.blk")[0]
		b, err := os.ReadFile(block)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 64 {
			b[len(b)*3/4+i] ^= 0x55
		}
		if err := os.WriteFile(block, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if !index {
			remove(t, find(t, dir, "streams/EVENTS/msgs/index.db"))
		}
		var log syncBuffer
		j := open(t, journal.Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		q := mustQueue(t, j, "q", journal.QueueOptions{})
		e := newEvent("p1", 10)
		mustAppend(t, j, e)
		seen := drain(t, j, q)
		// NATS itself tells when it comes upon it later, we tell what it found at the start.
		if s := log.String(); !strings.Contains(s, dir) || !strings.Contains(s, "corrupt record") && !strings.Contains(s, "the end of the journal could not be read") {
			t.Errorf("index kept %v: the log says %s", index, s)
		}
		t.Logf("index kept %v: %d of 20 events came", index, len(seen)-1)
		if seen[e.UUID] != 1 || seen[ids[20]] != 1 || len(seen) < 9 {
			t.Errorf("index kept %v: %d events came, the new one %d times", index, len(seen), seen[e.UUID])
		}
		closeJournal(t, j)
	}
}
