package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// secretOf is a value that can be found anywhere in a file.
func secretOf(n int) string { return fmt.Sprintf("sealed-value-%06d-of-the-test", n) }

// secretsIn returns the values that lie in any file of a folder.
func secretsIn(t *testing.T, dir string) (found []int) {
	t.Helper()
	seen := make(map[int]bool)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
			return nil
		} else if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // just renamed
			return nil
		}
		for n := range 100 {
			if bytes.Contains(b, []byte(secretOf(n))) {
				seen[n] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(seen))
}

func openWith(t *testing.T, dir string, erasing ...string) (*Journal, jetstream.KeyValue) {
	t.Helper()
	j, err := Open(t.Context(), Config{Dir: dir, Erasing: erasing})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(context.Background()) })
	kv, err := j.KeyValue(t.Context(), "secrets", 1)
	if err != nil {
		t.Fatal(err)
	}
	return j, kv
}

func put(t *testing.T, kv jetstream.KeyValue, key string, n int) {
	t.Helper()
	if _, err := kv.Put(t.Context(), key, []byte(secretOf(n))); err != nil {
		t.Fatal(err)
	}
}

func has(t *testing.T, kv jetstream.KeyValue, want map[string]int) {
	t.Helper()
	keys, err := kv.Keys(t.Context())
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		t.Fatal(err)
	}
	slices.Sort(keys)
	if sorted := slices.Sorted(maps.Keys(want)); !slices.Equal(keys, sorted) {
		t.Fatalf("keys %v, want %v", keys, sorted)
	}
	for key, n := range want {
		if e, err := kv.Get(t.Context(), key); err != nil || string(e.Value()) != secretOf(n) {
			t.Errorf("%s: %v, want value %d (%v)", key, e, n, err)
		}
	}
}

// fill makes a bucket as it was before there was erasing, with living and dead values.
func fill(t *testing.T, dir string) (living map[string]int) {
	t.Helper()
	j, kv := openWith(t, dir)
	for n, key := range []string{"a", "b", "c", "a", "d", "b"} {
		put(t, kv, key, n)
	}
	if err := kv.Purge(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := secretsIn(t, dir), []int{0, 1, 2, 3, 4, 5}; !slices.Equal(got, want) {
		t.Fatalf("without erasing the files hold %v, want %v", got, want)
	}
	return map[string]int{"a": 3, "b": 5, "d": 4}
}

// TestErasing uses a bucket of secrets and searches every file for replaced or
// removed values, while the journal is open and afterwards.
func TestErasing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	living := fill(t, dir)
	look := func(when string) {
		t.Helper()
		for _, n := range secretsIn(t, dir) {
			if !slices.Contains(slices.Collect(maps.Values(living)), n) {
				t.Errorf("%s the files hold the dead value %d", when, n)
			}
		}
	}
	j, kv := openWith(t, dir, "secrets")
	look("after the upgrade")
	has(t, kv, living)

	put(t, kv, "a", 10)
	living["a"] = 10
	look("after Put")
	e, err := kv.Get(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Update(t.Context(), "b", []byte(secretOf(11)), e.Revision()); err != nil {
		t.Fatal(err)
	}
	living["b"] = 11
	look("after Update")
	if _, err := kv.Update(t.Context(), "b", []byte(secretOf(12)), e.Revision()); err == nil {
		t.Error("an update of what is not the last revision was taken")
	}
	if _, err := kv.Create(t.Context(), "f", []byte(secretOf(13))); err != nil {
		t.Fatal(err)
	}
	if err := kv.Purge(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	look("after Purge")
	if err := kv.Delete(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	delete(living, "d")
	look("after Delete")
	if _, err := kv.Create(t.Context(), "d", []byte(secretOf(14))); err != nil {
		t.Fatal(err)
	}
	living["d"] = 14
	for n := 20; n < 30; n++ { // many in a row
		put(t, kv, "g", n)
		living["g"] = n
	}
	look("after many")
	has(t, kv, living)
	for range 2 {
		if err := j.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		look("after a stop")
		if got := secretsIn(t, dir); len(got) != len(living) {
			t.Errorf("the files hold %v, want all of %v", got, living)
		}
		j, kv = openWith(t, dir, "secrets")
		has(t, kv, living)
	}
}

// TestErasingAfterOlderVersion opens a bucket in turn by an older version, which makes its
// stream its own again, and by this one: no record is lost, and none of the dead remains.
func TestErasingAfterOlderVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	living := fill(t, dir)
	for round := range 3 {
		j, kv := openWith(t, dir, "secrets")
		has(t, kv, living)
		if got := secretsIn(t, dir); len(got) != len(living) {
			t.Errorf("round %d: the files hold %v, want all of %v", round, got, living)
		}
		if err := j.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		j, kv = openWith(t, dir)
		has(t, kv, living)
		put(t, kv, "e", 20+round)
		living["e"] = 20 + round
		// A record as it was stored with the headers of a direct read.
		l, err := j.up()
		if err != nil {
			t.Fatal(err)
		}
		m := &nats.Msg{Subject: "$KV.secrets.f", Data: []byte(secretOf(30 + round)), Header: nats.Header{jetstream.SequenceHeader: {"1000"}}}
		if _, err := l.ctlJS.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		living["f"] = 30 + round
		put(t, kv, "g", 40+round)
		living["g"] = 40 + round
		if err := j.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestErasingAfterCrash simulates the files of processes that are killed at a bad
// time.
func TestErasingAfterCrash(t *testing.T) {
	t.Parallel()
	stream := func(t *testing.T, j *Journal) jetstream.Stream {
		t.Helper()
		l, err := j.up()
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.ctlJS.Stream(t.Context(), "KV_secrets")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	tests := map[string]func(t *testing.T, dir string, j *Journal){
		"ReplacedNotErased": func(t *testing.T, _ string, j *Journal) {
			l, err := j.up()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.ctlJS.Publish(t.Context(), "$KV.secrets.a", []byte(secretOf(50))); err != nil {
				t.Fatal(err)
			}
		},
		"ForgottenNotErased": func(t *testing.T, _ string, j *Journal) {
			s := stream(t, j)
			m, err := s.GetLastMsgForSubject(t.Context(), "$KV.secrets.a")
			if err != nil {
				t.Fatal(err)
			}
			l, _ := j.up()
			if _, err := l.ctlJS.Publish(t.Context(), "$KV.secrets.a", []byte(secretOf(50))); err != nil {
				t.Fatal(err)
			}
			if err := s.DeleteMsg(t.Context(), m.Sequence); err != nil { // the server's marker exists, and so do the bytes
				t.Fatal(err)
			}
		},
		"HalfWritten": func(t *testing.T, dir string, j *Journal) {
			put(t, mustKV(t, j), "a", 50)
			msgs := filepath.Join(streamsDir(dir), "KV_secrets", "msgs")
			for _, path := range []string{
				filepath.Join(msgs, "1.blk.tmp"), filepath.Join(msgs, "1.new"), filepath.Join(msgs, ".new-123"), filepath.Join(dir, ".new-45"),
				filepath.Join(streamsDir(dir), ".KV_secrets", "msgs", "1.blk"), filepath.Join(dir, damagedName, "KV_secrets-20261121-101010", "1.blk"),
			} {
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(secretOf(60)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		},
		"RenewalBrokenOff": func(t *testing.T, dir string, j *Journal) {
			put(t, mustKV(t, j), "a", 50)
			l, err := j.up()
			if err != nil {
				t.Fatal(err)
			}
			if err := l.saveRecords(t.Context(), stream(t, j)); err != nil {
				t.Fatal(err)
			}
			if err := l.deleteStream(t.Context(), "KV_secrets"); err != nil {
				t.Fatal(err)
			}
		},
		"RenewalAlmostDone": func(t *testing.T, dir string, j *Journal) {
			put(t, mustKV(t, j), "a", 50)
			l, err := j.up()
			if err != nil {
				t.Fatal(err)
			}
			if err := l.saveRecords(t.Context(), stream(t, j)); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, crash := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			j, kv := openWith(t, dir, "secrets")
			put(t, kv, "a", 1)
			put(t, kv, "b", 2)
			crash(t, dir, j)
			if err := j.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := secretsIn(t, dir)
			if dead := slices.Contains(before, 1) || slices.Contains(before, 60); !dead && !strings.HasPrefix(name, "Renewal") {
				t.Fatalf("the files hold %v: nothing is left to erase", before)
			}
			j, kv = openWith(t, dir, "secrets")
			has(t, kv, map[string]int{"a": 50, "b": 2})
			if got, want := secretsIn(t, dir), []int{2, 50}; !slices.Equal(got, want) {
				t.Errorf("the files hold %v, want %v; before the start %v", got, want, before)
			}
			if err := j.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, kv = openWith(t, dir, "secrets")
			has(t, kv, map[string]int{"a": 50, "b": 2})
		})
	}
}

func mustKV(t *testing.T, j *Journal) jetstream.KeyValue {
	t.Helper()
	kv, err := j.KeyValue(t.Context(), "secrets", 1)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// TestErasingDamaged damages the files of a bucket of secrets: readable records
// are restored, and no copy remains of values deleted later.
func TestErasingDamaged(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, folder string){
		"Block": func(t *testing.T, folder string) {
			path := filepath.Join(folder, "msgs", "1.blk")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			copy(b[bytes.Index(b, []byte(secretOf(1))):], "garbage")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"Description": func(t *testing.T, folder string) {
			if err := os.WriteFile(filepath.Join(folder, "meta.inf"), []byte("garbage"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			j, kv := openWith(t, dir, "secrets")
			for n, key := range []string{"z", "a", "b", "c"} {
				put(t, kv, key, n)
			}
			if err := j.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			damage(t, filepath.Join(streamsDir(dir), "KV_secrets"))
			_, kv = openWith(t, dir, "secrets")
			if all, err := readDamage(dir); err != nil || len(all) == 0 {
				t.Fatalf("no damage was found: %v", err)
			}
			put(t, kv, "b", 50)
			if err := kv.Purge(t.Context(), "c"); err != nil {
				t.Fatal(err)
			}
			want := []int{0, 1, 50}
			if name == "Block" {
				want = []int{0, 50}
			}
			if got := secretsIn(t, dir); !slices.Equal(got, want) {
				t.Errorf("the files hold %v, want %v", got, want)
			}
		})
	}
}
