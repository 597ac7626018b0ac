package journal

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/atomicfile"
)

// A bucket of [Config.Erasing] leaves nothing on disk of a replaced or deleted
// value. With plain nats.go the server only forgets the value's position, and its
// bytes remain in the block file. Therefore:
//
//   - The stream keeps replaced values, so that they can be erased by position:
//     the server then overwrites them with random bytes. Every write does that
//     before it returns.
//   - Values left by a crash are erased when the bucket is opened or, if the
//     server has already forgotten them, before the server starts
//     ([inspection.wipe]).
//   - Copies of damaged files are removed once everything readable is back.
//   - A bucket from an older version does not allow erasing and contains old
//     values: its stream is recreated ([instance.renew]).
//
// With a cluster the same requests erase on each of its servers. A value in a
// server's raft log is removed when NATS compacts that log.

// eraseHistory is how many values of a key a bucket may keep until they are erased:
// the most that a key-value bucket takes, so that the server itself drops none.
const eraseHistory = 64

// markerAge is how long the mark of a removed key stays: watchers learn by it.
const markerAge = 30 * time.Minute

// eraseRetry is how often erasing is tried again that has failed.
const eraseRetry = 5 * time.Second

func (c Config) erases(stream string) bool {
	bucket, isKV := strings.CutPrefix(stream, "KV_")
	return isKV && slices.Contains(c.Erasing, bucket)
}

// erasingStream is the stream of an erasing bucket.
func (c Config) erasingStream(bucket string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: "KV_" + bucket, Subjects: []string{"$KV." + bucket + ".>"}, Storage: jetstream.FileStorage, Replicas: max(c.Replicas, 1),
		Discard: jetstream.DiscardNew, MaxMsgsPerSubject: eraseHistory, MaxMsgs: -1, MaxBytes: -1, MaxConsumers: -1, MaxMsgSize: -1, Duplicates: 2 * time.Minute,
		// No direct reads: a replica that lags would hide values to erase. No
		// roll-ups: they remove without erasing.
	}
}

// erasingBucket opens an erasing bucket, and makes it or recreates it where
// needed.
func (l *instance) erasingBucket(ctx context.Context, bucket string) (jetstream.KeyValue, error) {
	want := l.j.c.erasingStream(bucket)
	s, err := l.ctlJS.Stream(ctx, want.Name)
	switch {
	case err == nil && s.CachedInfo().Config.DenyDelete:
		s, err = l.withoutDirectReads(ctx, s)
		if err == nil {
			err = l.saveRecords(ctx, s)
		}
		if err == nil {
			err = l.deleteStream(ctx, want.Name)
		}
		if err == nil {
			s, err = l.renew(ctx, want)
		}
	case errors.Is(err, jetstream.ErrStreamNotFound):
		s, err = l.renew(ctx, want)
	case err == nil:
		if have := s.CachedInfo().Config; have.MaxMsgsPerSubject != want.MaxMsgsPerSubject || have.Replicas != want.Replicas || have.AllowDirect || have.AllowRollup {
			if s, err = l.ctlJS.UpdateStream(ctx, want); err != nil {
				break
			}
		}
		err = l.putRecordsBack(ctx, want.Name) // of a renewal that broke off
	}
	var kv jetstream.KeyValue
	if err == nil {
		kv, err = l.ctlJS.KeyValue(ctx, bucket)
	}
	e := &erasingBucket{KeyValue: kv, l: l, stream: s, prefix: "$KV." + bucket + "."}
	if err == nil {
		err = e.sweep(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", bucket, l.lost(err))
	}
	return e, nil
}

// savedRecord is a record of a bucket whose stream is being recreated.
type savedRecord struct {
	Subject string      `json:"subject"`
	Header  nats.Header `json:"header,omitempty"`
	Data    []byte      `json:"data"`
}

func (l *instance) renewalFile(stream string) string {
	return filepath.Join(l.j.c.Dir, "renew-"+stream+".json")
}

// withoutDirectReads switches a stream's direct reads off. They return a message's position in
// its headers, which are ambiguous for a message that was stored with such headers: earlier
// builds recreated streams with them.
func (l *instance) withoutDirectReads(ctx context.Context, s jetstream.Stream) (jetstream.Stream, error) {
	c := s.CachedInfo().Config
	if !c.AllowDirect {
		return s, nil
	}
	c.AllowDirect = false
	return l.ctlJS.UpdateStream(ctx, c)
}

// saveRecords writes the live records of a bucket's stream to a file, from which
// they are restored even after a crash.
func (l *instance) saveRecords(ctx context.Context, s jetstream.Stream) error {
	if l.j.c.Dir == "" {
		return errors.New("the bucket must be recreated, for which the journal needs a folder")
	}
	var saved []savedRecord
	for {
		saved = nil
		last := s.CachedInfo().State.LastSeq
		newest := make(map[string]int) // of each subject, in saved
		for from := uint64(1); ; {
			m, err := s.GetMsg(ctx, from, jetstream.WithGetMsgSubject(">"))
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				break
			} else if err != nil {
				return err
			}
			from = m.Sequence + 1
			if i, ok := newest[m.Subject]; ok {
				saved[i] = savedRecord{}
			}
			newest[m.Subject] = len(saved)
			maps.DeleteFunc(m.Header, func(name string, _ []string) bool { return strings.HasPrefix(name, "Nats-") }) // of the old stream: positions and conditions
			saved = append(saved, savedRecord{m.Subject, m.Header, m.Data})
		}
		info, err := s.Info(ctx)
		if err != nil {
			return err
		}
		if info.State.LastSeq == last {
			break // no write happened meanwhile
		}
	}
	saved = slices.DeleteFunc(saved, func(r savedRecord) bool { return r.Subject == "" || r.Header.Get("KV-Operation") != "" })
	raw, err := json.Marshal(saved)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(l.j.c.Dir, 0o700); err != nil {
		return err
	}
	return atomicfile.Write(l.renewalFile(s.CachedInfo().Config.Name), raw)
}

// deleteStream deletes a stream and returns when its files are deleted.
func (l *instance) deleteStream(ctx context.Context, name string) error {
	l.j.log.Info("recreating the settings stream, to erase deleted keys from its files", "stream", name)
	if err := l.ctlJS.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if l.srv == nil {
		return nil
	}
	half := filepath.Join(streamsDir(l.j.c.Dir), "."+name) // where the server moves it, to remove it from there
	for begun := time.Now(); time.Since(begun) < time.Second; time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat(half); errors.Is(err, os.ErrNotExist) {
			return nil
		}
	}
	return os.RemoveAll(half)
}

// renew makes an erasing bucket's stream, with the records that its predecessor had.
func (l *instance) renew(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := l.ctlJS.CreateStream(ctx, want)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another process was first
		s, err = l.ctlJS.Stream(ctx, want.Name)
	}
	if err != nil {
		return nil, err
	}
	return s, l.putRecordsBack(ctx, want.Name)
}

// putRecordsBack ends a renewal: it restores the records from the file and
// deletes it.
func (l *instance) putRecordsBack(ctx context.Context, stream string) error {
	path := l.renewalFile(stream)
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var saved []savedRecord
	if err := json.Unmarshal(raw, &saved); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	for _, r := range saved {
		_, err := l.ctlJS.PublishMsg(ctx, &nats.Msg{Subject: r.Subject, Header: r.Header, Data: r.Data}, jetstream.WithExpectLastSequencePerSubject(0))
		if api := (*jetstream.APIError)(nil); errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
			continue // already restored by an earlier attempt or another process
		}
		if err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return atomicfile.SyncDir(l.j.c.Dir)
}

// erasingBucket is a bucket whose writes return after the replaced or deleted
// values are erased.
type erasingBucket struct {
	jetstream.KeyValue
	l        *instance
	stream   jetstream.Stream
	prefix   string // of a key's subject
	retrying atomic.Bool
}

func (e *erasingBucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	revision, err := e.KeyValue.Put(ctx, key, value)
	return e.written(ctx, key, revision, err)
}

func (e *erasingBucket) Create(ctx context.Context, key string, value []byte, o ...jetstream.KVCreateOpt) (uint64, error) {
	revision, err := e.KeyValue.Create(ctx, key, value, o...)
	return e.written(ctx, key, revision, err)
}

func (e *erasingBucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	revision, err := e.KeyValue.Update(ctx, key, value, revision)
	return e.written(ctx, key, revision, err)
}

// Delete erases a key's value too; a delete marker remains for a while.
func (e *erasingBucket) Delete(ctx context.Context, key string, o ...jetstream.KVDeleteOpt) error {
	if err := e.KeyValue.Delete(ctx, key, o...); err != nil {
		return err
	}
	_, err := e.written(ctx, key, 0, nil)
	return err
}

// Purge is Delete: the server's own would remove without erasing.
func (e *erasingBucket) Purge(ctx context.Context, key string, o ...jetstream.KVDeleteOpt) error {
	return e.Delete(ctx, key, o...)
}

// PurgeDeletes removes the marks of keys that were removed a while ago.
func (e *erasingBucket) PurgeDeletes(ctx context.Context, _ ...jetstream.KVPurgeOpt) error {
	w, err := e.KeyValue.WatchAll(ctx, jetstream.MetaOnly())
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }()
	var marks []uint64
	for entry := range w.Updates() {
		if entry == nil {
			break
		}
		if entry.Operation() != jetstream.KeyValuePut && time.Since(entry.Created()) > markerAge {
			marks = append(marks, entry.Revision())
		}
	}
	for _, seq := range marks {
		if err := e.eraseAt(ctx, seq); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// written erases the replaced values after a write, even if the caller's context
// has ended. A revision of 0 is the key's last one.
func (e *erasingBucket) written(ctx context.Context, key string, revision uint64, err error) (uint64, error) {
	if err != nil {
		return revision, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiTimeout)
	defer cancel()
	if err := e.erase(ctx, e.prefix+key, revision); err != nil {
		e.retry()
		return revision, event.NewError(event.CodeUnavailable, "the change is saved, but the replaced value could not be erased from disk yet",
			"hedgerow retries automatically; check its log and the free space of its data folder", e.l.lost(err))
	}
	return revision, nil
}

// erase overwrites the values of a subject that are older than a revision, 0 being
// the subject's last one.
func (e *erasingBucket) erase(ctx context.Context, subject string, keep uint64) error {
	if keep == 0 {
		m, err := e.stream.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		keep = m.Sequence
	}
	for from := uint64(1); from < keep; {
		m, err := e.stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && m.Sequence >= keep {
			return nil
		} else if err != nil {
			return err
		}
		if err := e.eraseAt(ctx, m.Sequence); err != nil {
			return err
		}
		from = m.Sequence + 1
	}
	return nil
}

func (e *erasingBucket) eraseAt(ctx context.Context, seq uint64) error {
	err := e.stream.SecureDeleteMsg(ctx, seq)
	if err == nil {
		return nil
	}
	if _, gone := e.stream.GetMsg(ctx, seq); errors.Is(gone, jetstream.ErrMsgNotFound) {
		return nil // another process was first
	}
	return fmt.Errorf("erase record %d: %w", seq, err)
}

// sweep erases what writes have left that were broken off.
func (e *erasingBucket) sweep(ctx context.Context) error {
	info, err := e.stream.Info(ctx, jetstream.WithSubjectFilter(e.prefix+">"))
	if err != nil {
		return err
	}
	for subject, n := range info.State.Subjects {
		if n < 2 {
			continue
		}
		if err := e.erase(ctx, subject, 0); err != nil {
			return err
		}
	}
	return nil
}

// retry sweeps until that works or the server ends; the next one begins with it.
func (e *erasingBucket) retry() {
	if !e.retrying.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer e.retrying.Store(false)
		for {
			select {
			case <-e.l.over.Done():
				return
			case <-time.After(eraseRetry):
			}
			ctx, cancel := context.WithTimeout(e.l.over, apiTimeout)
			err := e.sweep(ctx)
			cancel()
			if err == nil {
				return
			}
			if e.l.over.Err() == nil {
				e.l.j.log.Error("replaced or removed settings could not be erased from the disk; retrying", "err", err)
			}
		}
	}()
}

// wipe overwrites records in the files of a closed erasing bucket that the server
// has forgotten but not erased, and removes temporary block files.
func (in *inspection) wipe(name, folder string) error {
	msgs := filepath.Join(folder, "msgs")
	// The server's own files, while it writes a block again.
	if err := atomicfile.Remove(msgs, func(file string) bool { return strings.HasSuffix(file, ".tmp") || strings.HasSuffix(file, ".new") }); err != nil {
		return err
	}
	if err := atomicfile.Clean(msgs); err != nil {
		return err
	}
	files, err := blockFiles(folder)
	if err != nil {
		return err
	}
	blocks, readers := make([][]blockRecord, len(files)), make([]*blockReader, len(files))
	forgotten := make(map[uint64]bool)
	for i, f := range files {
		buf, _, err := readBlock(nil, f.path)
		if err != nil {
			return fmt.Errorf("find records to erase: %w", err)
		}
		if readers[i], err = newBlockReader(name, f.index, buf); err != nil {
			return err
		}
		readers[i].read(func(rec blockRecord) {
			if rec.tombstone {
				forgotten[rec.seq] = true
			}
			blocks[i] = append(blocks[i], rec)
		})
	}
	for i, f := range files {
		n := 0
		for _, rec := range blocks[i] {
			if !rec.gone && forgotten[rec.seq] {
				readers[i].erase(rec)
				n++
			}
		}
		if n == 0 {
			continue
		}
		if err := atomicfile.Write(f.path, readers[i].buf); err != nil {
			return err
		}
		// The index describes the old block: NATS creates another.
		if err := os.Remove(filepath.Join(msgs, "index.db")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		in.c.Logger.Info("settings were erased that an interrupted deletion had left on the disk", "stream", name, "records", n)
	}
	return nil
}

// erase makes a record one that NATS has erased: without subject and headers, and
// with nothing in it.
func (r *blockReader) erase(rec blockRecord) {
	b := r.buf[rec.from:rec.to]
	clear(b[12:])
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint64(b[4:], rec.seq|erasedBit)
	r.sum.Reset()
	r.sum.Write(b[4:20])
	r.sum.Write(b[recordHead : len(b)-recordSum])
	r.sum.Sum(b[:len(b)-recordSum])
}

// stripAll removes the copies of erasing buckets' damaged files that are of no more use.
func (c Config) stripAll(all []Damage) error {
	known := make(map[string]bool)
	for _, d := range all {
		known[filepath.Base(d.Path)] = true
		if err := c.strip(d); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(filepath.Join(c.Dir, damagedName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, e := range entries {
		of := func(bucket string) bool { return strings.HasPrefix(e.Name(), "KV_"+bucket+"-") }
		if known[e.Name()] || !slices.ContainsFunc(c.Erasing, of) {
			continue
		}
		// The process ended before it wrote the report: the damage was found again.
		if err := os.RemoveAll(filepath.Join(c.Dir, damagedName, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// strip removes the copies of an erasing bucket's damaged files once everything
// readable is restored: they contain values that are deleted later.
func (c Config) strip(d Damage) error {
	if !c.erases(d.Stream) || d.Mended.IsZero() || d.Path == "" {
		return nil
	}
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == damageFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(d.Path, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}
