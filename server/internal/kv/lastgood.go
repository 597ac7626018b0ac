package kv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/server/internal/atomicfile"
)

// record is one record of a bucket. Its value is kept byte for byte.
type record struct {
	Key      string `json:"key"`
	Revision uint64 `json:"revision"`
	Value    []byte `json:"value"`
}

// lastGood is the copy of a bucket outside of JetStream.
type lastGood struct {
	Version  int       `json:"version"`
	Bucket   string    `json:"bucket"`
	Created  time.Time `json:"created"`  // of the bucket: another one has another time
	Revision uint64    `json:"revision"` // the last that is in it
	SavedAt  time.Time `json:"saved_at"`
	Records  []record  `json:"records"` // by key
}

const lastGoodVersion = 1

// savedAs is the file's content.
type savedAs struct {
	created  time.Time // of the bucket that is being watched
	revision uint64
	records  map[string]record // nil: unknown
	failed   bool
}

// saveRetry is how often a copy that could not be written is tried again.
const saveRetry = 5 * time.Second

// ReadLastGood returns the records of a last-good copy by their keys. Where there
// is none it returns an error that is [fs.ErrNotExist].
func ReadLastGood(path string) (map[string][]byte, error) {
	l, err := readLastGood(path)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]byte, len(l.Records))
	for _, r := range l.Records {
		out[r.Key] = r.Value
	}
	return out, nil
}

func readLastGood(path string) (*lastGood, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseLastGood(raw)
}

func parseLastGood(raw []byte) (*lastGood, error) {
	var l lastGood
	if err := json.Unmarshal(raw, &l); err != nil {
		return nil, fmt.Errorf("read last-good copy: %w", err)
	}
	if l.Version != lastGoodVersion {
		return nil, fmt.Errorf("read last-good copy: unknown version %d", l.Version)
	}
	return &l, nil
}

func (b *Bucket[S, V]) readLastGood() *lastGood {
	if b.c.LastGood == "" {
		return nil
	}
	l, err := readLastGood(b.c.LastGood)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			b.log.Warn("the last-good copy cannot be read and is rewritten", "path", b.c.LastGood, "err", err)
		}
		return nil
	}
	return l
}

// showLastGood makes the first view where the bucket cannot be read.
func (b *Bucket[S, V]) showLastGood(last *lastGood, why error) {
	b.broken(why)
	st := b.newLoaded()
	if last != nil {
		for _, r := range last.Records {
			if err := b.c.Apply(st.state, r.Key, r.Value, r.Revision); err != nil {
				b.log.Error("a record of the last-good copy cannot be read", "key", r.Key, "err", err)
			}
		}
		st.revision = last.Revision
		b.mu.Lock()
		b.is.from, b.is.shown = last.SavedAt, true
		b.mu.Unlock()
		b.log.Warn("the "+b.c.Name+" are those of their last-good copy", "path", b.c.LastGood, "saved_at", last.SavedAt, "records", len(last.Records))
	}
	b.now.Store(&published[V]{view: b.c.View(st.state), revision: st.revision})
}

// copyOf returns the records read from the bucket as a copy for comparison.
func (b *Bucket[S, V]) copyOf(st *loaded[S]) *lastGood {
	if b.c.LastGood == "" {
		return nil
	}
	return b.lastGoodOf(st)
}

func (b *Bucket[S, V]) lastGoodOf(st *loaded[S]) *lastGood {
	l := &lastGood{Version: lastGoodVersion, Bucket: b.kv.Bucket(), Created: b.saved.created, Revision: st.revision, SavedAt: time.Now().UTC()}
	for _, k := range slices.Sorted(maps.Keys(st.records)) {
		l.Records = append(l.Records, st.records[k])
	}
	return l
}

// save writes the copy, where something has changed.
func (b *Bucket[S, V]) save(st *loaded[S]) {
	if b.c.LastGood == "" || b.saved.records != nil && b.saved.revision == st.revision && maps.EqualFunc(b.saved.records, st.records, record.equal) {
		return
	}
	err := writeLastGood(b.c.LastGood, b.lastGoodOf(st))
	b.saved.failed = err != nil
	switch {
	case err == nil:
		b.saved.revision, b.saved.records = st.revision, maps.Clone(st.records)
		if b.c.Secrets {
			b.forgetDamaged()
		}
	case b.c.Secrets:
		// No copy is better than one with secrets that are deleted.
		if rerr := os.Remove(b.c.LastGood); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		b.saved.records = nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err != nil && b.is.saveErr == nil:
		b.is.saveSince = time.Now()
		b.log.Error("the last-good copy cannot be written; retrying", "path", b.c.LastGood, "err", err)
	case err == nil && b.is.saveErr != nil:
		b.log.Info("the last-good copy is written again", "path", b.c.LastGood)
	}
	b.is.saveErr = err
}

// DamagedSuffix is in the names of copies that were set aside because they could not
// be read.
const DamagedSuffix = ".damaged-"

// forgetDamaged removes damaged copies, for there is a whole one.
func (b *Bucket[S, V]) forgetDamaged() {
	dir, name := filepath.Dir(b.c.LastGood), filepath.Base(b.c.LastGood)
	if err := atomicfile.Remove(dir, func(file string) bool { return strings.HasPrefix(file, name+DamagedSuffix) }); err != nil {
		b.log.Error("damaged copies of the "+b.c.Name+" contain secrets and cannot be removed: remove them manually", "folder", dir, "err", err)
	}
}

func (r record) equal(o record) bool {
	return r.Revision == o.Revision && bytes.Equal(r.Value, o.Value)
}

func (b *Bucket[S, V]) saveAgain(st *loaded[S]) {
	if b.saved.failed {
		b.save(st)
	}
}

func writeLastGood(path string, l *lastGood) error {
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(path, append(raw, '\n'))
}

// putBack compares the bucket with the last-good copy, and restores records that
// the bucket has lost:
//
//   - all, if the bucket is another one and empty (the stream was lost);
//   - changes after the bucket's end, if it is the same one and ends before the
//     copy does (its tail was lost), including deletions;
//   - single records that the journal reports as lost, and deletions that may be.
//
// A record that is unreadable in the bucket is shown from the copy.
func (b *Bucket[S, V]) putBack(ctx context.Context, st *loaded[S], last *lastGood) error {
	if b.c.LastGood == "" {
		return nil
	}
	status, err := b.kv.Status(ctx)
	if err != nil {
		return err
	}
	bs, ok := status.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return fmt.Errorf("the bucket's status is a %T", status)
	}
	info := bs.StreamInfo()
	if !info.Created.Equal(b.saved.created) {
		b.saved = savedAs{created: info.Created}
	}
	if last == nil {
		return nil
	}
	same := last.Created.Equal(info.Created)
	if same && last.Revision == st.revision && b.saved.records == nil {
		b.saved.revision, b.saved.records = last.Revision, last.byKey() // nothing to write
	}
	whole := !same && len(st.records) == 0 && len(st.bad) == 0
	tail := same && last.Revision > info.State.LastSeq
	lost, damaged := func(uint64) bool { return false }, false
	if l, ok := b.kv.(damageTeller); ok {
		lost, damaged = l.LostRevision, l.Damaged()
	}
	n := 0
	for _, r := range last.Records {
		have, there := st.records[r.Key]
		switch bad := st.bad[r.Key]; {
		case bad != nil:
			if err := b.c.Apply(st.state, r.Key, r.Value, r.Revision); err == nil {
				st.records[r.Key] = r
				b.log.Warn("a record cannot be read; its last-good copy is used", "key", r.Key)
			}
			continue
		case there && (have.Revision >= r.Revision || !(tail && r.Revision > info.State.LastSeq) && !lost(r.Revision)):
			continue
		case !there && !whole && !(tail && r.Revision > info.State.LastSeq) && !lost(r.Revision):
			continue // deleted since
		}
		var revision uint64
		if there {
			revision, err = b.kv.Update(ctx, r.Key, r.Value, have.Revision)
		} else {
			revision, err = b.kv.Create(ctx, r.Key, r.Value)
		}
		if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			continue // another process was first, or has removed it
		} else if err != nil {
			return err
		}
		n++
		if err := b.c.Apply(st.state, r.Key, r.Value, revision); err != nil {
			b.log.Error("a record of the last-good copy cannot be read", "key", r.Key, "err", err)
			continue
		}
		st.records[r.Key] = record{r.Key, revision, r.Value}
		st.revision = max(st.revision, revision)
	}
	if tail || damaged && same {
		removed, err := b.removeAgain(ctx, st, last.byKey(), min(info.State.LastSeq, last.Revision))
		if err != nil {
			return err
		}
		n += removed
	}
	if n > 0 {
		b.log.Warn("records missing in the journal were restored from the last-good copy", "bucket", b.kv.Bucket(), "records", n, "saved_at", last.SavedAt)
	}
	return nil
}

// damageTeller is a bucket that reports the records lost by damage of its
// files.
type damageTeller interface {
	LostRevision(revision uint64) bool // there was a record of that revision
	Damaged() bool                     // anything at all
}

// removeAgain repeats deletions that the bucket has lost.
func (b *Bucket[S, V]) removeAgain(ctx context.Context, st *loaded[S], last map[string]record, end uint64) (int, error) {
	n := 0
	for key, have := range st.records {
		if _, ok := last[key]; ok || have.Revision > end {
			continue
		}
		err := b.kv.Purge(ctx, key, jetstream.LastRevision(have.Revision))
		if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			continue
		} else if err != nil {
			return n, err
		}
		n++
		if err := b.c.Apply(st.state, key, nil, have.Revision); err != nil {
			b.log.Error("a record cannot be removed", "key", key, "err", err)
			continue
		}
		delete(st.records, key)
	}
	return n, nil
}

func (l *lastGood) byKey() map[string]record {
	out := make(map[string]record, len(l.Records))
	for _, r := range l.Records {
		out[r.Key] = r
	}
	return out
}
