package kv_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/kv"
)

func openJournal(t *testing.T, dir string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(context.Background()) })
	return j
}

func kvOf(t *testing.T, j *journal.Journal) jetstream.KeyValue {
	t.Helper()
	bucket, err := j.KeyValue(t.Context(), "numbers", 1)
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

func closing(t *testing.T, c ...interface{ Close() error }) {
	t.Helper()
	for _, x := range c {
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func closeJournal(t *testing.T, j *journal.Journal) {
	t.Helper()
	if err := j.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, b *numbers, key string, n int) {
	t.Helper()
	if err := b.Create(t.Context(), key, n); err != nil {
		t.Fatal(err)
	}
}

func sees(t *testing.T, b *numbers, want string) {
	t.Helper()
	if got := b.View(); got != want {
		t.Errorf("the view is %q, want %q", got, want)
	}
}

func inFile(t *testing.T, path string) string {
	t.Helper()
	all, err := kv.ReadLastGood(path)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]int{}
	for k, v := range all {
		var n int
		if err := json.Unmarshal(v, &n); err != nil {
			t.Fatal(err)
		}
		m[k] = n
	}
	return show(m)
}

// The copy is written before a change returns, has what there is and nothing
// that was removed, and is for its owner alone.
func TestLastGoodFollows(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "settings", "numbers.json")
	if _, err := kv.ReadLastGood(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no copy: %v", err)
	}
	b := openWith(t, keyValue(t), path)
	for i := range 5 {
		key := fmt.Sprintf("k%d", i)
		create(t, b, key, i)
		if got := inFile(t, path); !strings.Contains(got, fmt.Sprintf("%s=%d", key, i)) {
			t.Errorf("after the change the copy has %q", got)
		}
	}
	if err := b.Remove(t.Context(), "k3"); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := inFile(t, path); got != "k0=0 k1=1 k2=2 k4=4" || strings.Contains(string(raw), "k3") {
		t.Errorf("the copy has %q", raw)
	}
	for p, mode := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if st, err := os.Stat(p); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, %v", p, st.Mode(), err)
		}
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
		t.Errorf("files are left: %v", left)
	}
	if h := b.Health(); h.Status != health.OK || h.Component != "numbers" {
		t.Errorf("health %+v", h)
	}
}

// A copy that cannot be written does not prevent changes, and is reported.
func TestLastGoodCannotBeWritten(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := openWith(t, keyValue(t), filepath.Join(file, "numbers.json"))
	create(t, b, "a", 1)
	sees(t, b, "a=1")
	if h := b.Health(); h.Status != health.Degraded || !strings.Contains(h.Message, "cannot be written") || h.Hint == "" {
		t.Errorf("health %+v", h)
	}
}

// lose deletes the bucket's files.
func lose(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, "jetstream", "$G", "streams", "KV_numbers")); err != nil {
		t.Fatal(err)
	}
}

// A bucket that was lost is filled again from its copy; one that was not is right.
func TestLastGoodRefills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "settings", "numbers.json")
	jdir := filepath.Join(dir, "journal")
	j := openJournal(t, jdir)
	b := openWith(t, kvOf(t, j), path)
	create(t, b, "a", 1)
	create(t, b, "b", 2)
	closing(t, b)
	closeJournal(t, j)

	lose(t, jdir)
	j = openJournal(t, jdir)
	b = openWith(t, kvOf(t, j), path)
	sees(t, b, "a=1 b=2")
	if e, err := kvOf(t, j).Get(t.Context(), "a"); err != nil || string(e.Value()) != "1" {
		t.Errorf("the bucket has %v, %v", e, err)
	}
	create(t, b, "c", 3)
	closing(t, b)
	// A record deleted by another process meanwhile remains deleted.
	bucket := kvOf(t, j)
	if err := bucket.Purge(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := bucket.PurgeDeletes(t.Context(), jetstream.DeleteMarkersOlderThan(-1)); err != nil {
		t.Fatal(err)
	}
	b = openWith(t, bucket, path)
	sees(t, b, "b=2 c=3")
	if got := inFile(t, path); got != "b=2 c=3" {
		t.Errorf("the copy has %q", got)
	}
	closing(t, b)
	closeJournal(t, j)

	// Another bucket that has its own records is right, too.
	lose(t, jdir)
	j = openJournal(t, jdir)
	if _, err := kvOf(t, j).Put(t.Context(), "z", []byte("26")); err != nil {
		t.Fatal(err)
	}
	b = openWith(t, kvOf(t, j), path)
	sees(t, b, "z=26")
	if got := inFile(t, path); got != "z=26" {
		t.Errorf("the copy has %q", got)
	}
}

// The end of the bucket is lost, as after a power failure: the copy has more.
func TestLastGoodKnowsMore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "settings", "numbers.json")
	jdir := filepath.Join(dir, "journal")
	blocks := filepath.Join(jdir, "jetstream", "$G", "streams", "KV_numbers", "msgs")
	j := openJournal(t, jdir)
	b := openWith(t, kvOf(t, j), path)
	create(t, b, "removed", 1)
	create(t, b, "stays", 2)
	closing(t, b)
	closeJournal(t, j)
	before, err := os.ReadFile(filepath.Join(blocks, "1.blk"))
	if err != nil {
		t.Fatal(err)
	}
	j = openJournal(t, jdir)
	b = openWith(t, kvOf(t, j), path)
	create(t, b, "later", 3)
	if err := b.Remove(t.Context(), "removed"); err != nil {
		t.Fatal(err)
	}
	closing(t, b)
	closeJournal(t, j)

	if err := errors.Join(os.WriteFile(filepath.Join(blocks, "1.blk"), before, 0o600), os.Remove(filepath.Join(blocks, "index.db"))); err != nil {
		t.Fatal(err)
	}
	j = openJournal(t, jdir)
	b = openWith(t, kvOf(t, j), path)
	sees(t, b, "later=3 stays=2")
	closing(t, b)
	b = openWith(t, kvOf(t, j), "") // the bucket itself
	sees(t, b, "later=3 stays=2")
}

// A record that cannot be read in the bucket is shown as it is in the copy.
func TestLastGoodUnreadableRecord(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "numbers.json")
	bucket := keyValue(t)
	b := openWith(t, bucket, path)
	create(t, b, "a", 1)
	create(t, b, "b", 2)
	closing(t, b)
	if _, err := bucket.Put(t.Context(), "a", []byte("{")); err != nil {
		t.Fatal(err)
	}
	b = openWith(t, bucket, path)
	sees(t, b, "a=1 b=2")
	create(t, b, "c", 3)
	if got := inFile(t, path); got != "a=1 b=2 c=3" {
		t.Errorf("the copy has %q", got)
	}
}

// gate is a bucket whose journal is down until opened.
type gate struct {
	jetstream.KeyValue
	open chan struct{}
}

var errDown = event.NewError(event.CodeUnavailable, "the disk is full", "free disk space", nil)

func (g gate) down() error {
	select {
	case <-g.open:
		return nil
	default:
		return errDown
	}
}

func (g gate) WatchAll(ctx context.Context, o ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	if err := g.down(); err != nil {
		return nil, err
	}
	return g.KeyValue.WatchAll(ctx, o...)
}

// While the bucket cannot be read its copy is shown and nothing can be changed;
// then it continues on its own.
func TestLastGoodWhileDown(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "numbers.json")
	bucket := keyValue(t)
	b := openWith(t, bucket, path)
	create(t, b, "a", 1)
	closing(t, b)

	g := gate{bucket, make(chan struct{})}
	b = openWith(t, g, path)
	sees(t, b, "a=1")
	start := time.Now()
	for _, err := range []error{
		b.Create(t.Context(), "b", 2),
		b.Remove(t.Context(), "a"),
		func() error { _, err := b.Guarded().Get(t.Context(), "a"); return err }(),
	} {
		if e := event.AsError(err); e == nil || e.Code != event.CodeUnavailable || e.Hint != "free disk space" {
			t.Errorf("a change: %v", err)
		}
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("refused after %v", took)
	}
	if h := b.Health(); h.Status != health.Degraded || !strings.Contains(h.Message, "shown as of") || h.Hint != "free disk space" {
		t.Errorf("health %+v", h)
	}
	// Without a copy there are no records, and an error reports that.
	none := openWith(t, g, filepath.Join(t.TempDir(), "other.json"))
	sees(t, none, "")
	if h := none.Health(); h.Status != health.Failed {
		t.Errorf("health %+v", h)
	}
	changed := b.Changed()
	close(g.open)
	for b.Health().Status != health.OK || none.Health().Status != health.OK {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("it does not go on")
		}
	}
	<-changed
	create(t, b, "b", 2)
	sees(t, b, "a=1 b=2")
	if err := none.Create(t.Context(), "c", 3); err != nil {
		t.Fatal(err)
	}
	sees(t, none, "a=1 b=2 c=3")
}

// silent is a bucket whose listing never ends, like one with a damaged block.
type silent struct{ jetstream.KeyValue }

type silentWatch struct{ jetstream.KeyWatcher }

func (silentWatch) Updates() <-chan jetstream.KeyValueEntry { return nil }

func (s silent) WatchAll(ctx context.Context, o ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	w, err := s.KeyValue.WatchAll(ctx, o...)
	return silentWatch{w}, err
}

func TestSilentBucket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "numbers.json")
	bucket := keyValue(t)
	b := openWith(t, bucket, path)
	create(t, b, "a", 1)
	closing(t, b)
	start := time.Now()
	b = openWith(t, silent{bucket}, path)
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("opened after %v", took)
	}
	sees(t, b, "a=1")
	if h := b.Health(); h.Status != health.Degraded {
		t.Errorf("health %+v", h)
	}
}

func FuzzLastGood(f *testing.F) {
	f.Add([]byte(`{"version":1,"bucket":"numbers","revision":3,"records":[{"key":"a","revision":3,"value":"MQ=="}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"records":[{"key":"a","value":1}]}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "x.json")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if all, err := kv.ReadLastGood(path); err == nil && !json.Valid(raw) {
			t.Errorf("%q gives %v", raw, all)
		}
	})
}

// Bytes of the bucket's files are overwritten anywhere: nothing is lost, and
// deleted records remain deleted.
func TestDamagedBucket(t *testing.T) {
	t.Parallel()
	template := t.TempDir()
	j := openJournal(t, filepath.Join(template, "journal"))
	b := openWith(t, kvOf(t, j), filepath.Join(template, "settings", "numbers.json"))
	for i := range 20 {
		create(t, b, fmt.Sprintf("k%02d", i), i)
	}
	for _, k := range []string{"k03", "k17", "k19"} {
		if err := b.Remove(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Change(t.Context(), "k05", func([]byte) (any, error) { return 500, nil }); err != nil {
		t.Fatal(err)
	}
	want := b.View()
	closing(t, b)
	closeJournal(t, j)
	for part := range 10 {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
				t.Fatal(err)
			}
			block := filepath.Join(dir, "journal", "jetstream", "$G", "streams", "KV_numbers", "msgs", "1.blk")
			raw, err := os.ReadFile(block)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 64 {
				raw[(len(raw)-64)*part/9+i] ^= 0x55
			}
			if err := os.WriteFile(block, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			j := openJournal(t, filepath.Join(dir, "journal"))
			b := openWith(t, kvOf(t, j), filepath.Join(dir, "settings", "numbers.json"))
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("opened after %v", took)
			}
			sees(t, b, want)
			create(t, b, "new", 1)
			closing(t, b)
			b = openWith(t, kvOf(t, j), "") // the bucket itself
			sees(t, b, want+" new=1")
		})
	}
}
