package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/server/internal/atomicfile"
)

// inspect finds and repairs damage before a start. skipped is a stream that the
// server failed to load twice, or "": it is set aside.
func (j *Journal) inspect(ctx context.Context, skipped string) error {
	if skipped != "" {
		if err := j.setStreamAside(skipped); err != nil {
			return err
		}
	}
	for _, dir := range []string{j.c.Dir, filepath.Join(j.c.Dir, damagedName)} {
		if err := atomicfile.Clean(dir); err != nil {
			return err
		}
	}
	in := inspection{c: j.c, mend: true, wait: checkWait}
	found, err := in.run(ctx)
	for _, d := range found {
		j.log.Error("the journal was damaged: "+d.String(), "stream", d.Stream, "set_aside", d.Path)
		j.noteDamage(d)
	}
	if err != nil {
		return err
	}
	all, err := readDamage(j.c.Dir)
	if err != nil {
		return err
	}
	if err := j.c.stripAll(all); err != nil {
		return err
	}
	j.mu.Lock()
	j.damage = all
	j.mu.Unlock()
	for _, d := range all {
		if d.Mended.IsZero() {
			j.noteDamage(d)
		}
	}
	return nil
}

func (j *Journal) noteDamage(d Damage) {
	hint := "the damaged files are kept in " + d.Path
	if j.c.erases(d.Stream) && !d.Mended.IsZero() {
		hint = "see " + d.Path + "; the damaged files themselves are not kept, as they held sealed keys"
	}
	switch {
	case d.Count() > 0 && !strings.HasPrefix(d.Stream, "KV_"):
		hint += ", and the lost events can only be sent again by their source; check the disk"
	case d.Mended.IsZero():
		hint += ": hedgerow is recovering what can be read"
	default:
		hint += "; check the disk"
	}
	j.standing.note(note{key: d.Path, message: d.String(), hint: hint})
}

// setStreamAside moves the whole folder of a stream.
func (j *Journal) setStreamAside(name string) error {
	from := filepath.Join(streamsDir(j.c.Dir), name)
	if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	aside, err := setAside(j.c, name)
	if err != nil {
		return err
	}
	d := Damage{
		Stream: name, Found: j.c.Now().UTC(), Path: aside, Whole: true,
		What: "the stream " + name + " could not be opened and was recreated; its readable records are being recovered",
	}
	files, err := blockFiles(from)
	if err != nil && passing(err) {
		return err
	}
	for _, f := range files {
		if st, err := os.Stat(f.path); err == nil {
			d.Bytes += st.Size()
		}
	}
	if err := d.write(); err != nil {
		return err
	}
	if err := os.Rename(from, filepath.Join(aside, name)); err != nil {
		return err
	}
	j.log.Error("the journal was damaged: "+d.String(), "stream", name, "set_aside", aside, "bytes", d.Bytes)
	return nil
}

// salvage recovers the readable records of streams that are set aside as a
// whole.
func (l *instance) salvage() {
	j := l.j
	j.mu.Lock()
	all := j.damage
	j.mu.Unlock()
	for _, d := range all {
		if !d.Mended.IsZero() || !d.Whole {
			continue
		}
		n, err := l.salvageStream(l.over, d)
		if err != nil {
			if l.over.Err() == nil {
				j.log.Error("records of a damaged stream are not all back; it is tried again at the next start", "stream", d.Stream, "set_aside", d.Path, "records", n, "err", err)
			}
			continue
		}
		d.Mended, d.Records = j.c.Now().UTC(), n
		if err := d.write(); err != nil {
			j.log.Warn("the report on a damaged stream could not be written", "path", d.Path, "err", err)
		} else if err := j.c.strip(d); err != nil {
			j.log.Warn("the copy of the damaged settings could not be removed; it is tried again at the next start", "path", d.Path, "err", err)
		}
		j.log.Info("the readable records of a damaged stream are back", "stream", d.Stream, "records", n, "set_aside", d.Path)
		d.What = fmt.Sprintf("the stream %s could not be opened and was recreated; %d of its records were recovered", d.Stream, n)
		j.noteDamage(d)
	}
}

// salvageStream copies every readable record of a stream that was set aside into
// the new one. An event that already exists is stored twice, with the same uuid.
func (l *instance) salvageStream(ctx context.Context, d Damage) (int, error) {
	files, err := blockFiles(filepath.Join(d.Path, d.Stream))
	if err != nil {
		return 0, err
	}
	n := 0
	newest := make(map[string]blockRecord) // of a bucket: only the newest of each key counts
	isKV := strings.HasPrefix(d.Stream, "KV_")
	var buf []byte
	for _, f := range files {
		if buf, _, err = readBlock(buf, f.path); err != nil {
			return n, err
		}
		if isKV {
			buf = append([]byte(nil), buf...) // newest refers to it
		}
		r, err := newBlockReader(d.Stream, f.index, buf)
		if err != nil {
			return n, err
		}
		r.read(func(rec blockRecord) {
			switch {
			case err != nil || rec.gone:
			case isKV:
				newest[string(rec.subject)] = rec
			default:
				if err = l.putBack(ctx, rec, false); err == nil {
					n++
				}
			}
		})
		if err != nil {
			return n, err
		}
	}
	for _, rec := range newest {
		if err := l.putBack(ctx, rec, true); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// putBack publishes a record as it was. onlyNew leaves alone a subject that has
// one.
func (l *instance) putBack(ctx context.Context, rec blockRecord, onlyNew bool) error {
	msg := &nats.Msg{Subject: string(rec.subject), Data: rec.body, Header: readHeaders(rec.headers)}
	var opts []jetstream.PublishOpt
	if onlyNew {
		opts = append(opts, jetstream.WithExpectLastSequencePerSubject(0))
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		_, err := l.ctlJS.PublishMsg(ctx, msg, opts...)
		var api *jetstream.APIError
		switch {
		case onlyNew && errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence:
			return nil
		case !isFull(err):
			return err
		}
		select { // the sinks free space
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// readHeaders reads the headers of a stored message, leaving out those by which
// JetStream decided on it.
func readHeaders(raw []byte) nats.Header {
	h := nats.Header{}
	for i, line := range strings.Split(string(raw), "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && i > 0 && !strings.HasPrefix(name, "Nats-Expected-") && name != jetstream.MsgIDHeader {
			h.Add(name, strings.TrimSpace(value))
		}
	}
	if len(h) == 0 {
		return nil
	}
	return h
}

// lostRevision reports whether a record of a stream is one that damage has
// cost.
func (j *Journal) lostRevision(stream string, seq uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, d := range j.damage {
		if d.Stream != stream {
			continue
		}
		for _, l := range d.Lost {
			if l.First <= seq && seq <= l.Last {
				return true
			}
		}
	}
	return false
}

// damaged reports whether a stream ever lost records to damage.
func (j *Journal) damaged(stream string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, d := range j.damage {
		if d.Stream == stream && (d.Whole || len(d.Lost) > 0 || d.Bytes > 0) {
			return true
		}
	}
	return false
}

// LostRevision reports whether the bucket had a record of that revision and has
// lost it to damage of its files.
func (k *keyValue) LostRevision(revision uint64) bool {
	return k.j.lostRevision("KV_"+k.bucket, revision)
}

// Damaged reports whether the bucket's files were damaged at some time, so that
// a removal may be lost as well.
func (k *keyValue) Damaged() bool { return k.j.damaged("KV_" + k.bucket) }

// Problem describes a fault in a journal's files.
type Problem struct {
	Where      string // a path
	What       string
	Repairable bool
	Repair     string // what Repair does, or the reason that it does nothing
}

// Check checks the files of an embedded journal, whether a process has it open
// or not, and changes nothing. It reads all of it.
func Check(ctx context.Context, dir string) ([]Problem, error) {
	c, err := Config{Dir: dir}.withDefaults()
	if err != nil {
		return nil, err
	}
	in := inspection{c: c, wait: time.Hour}
	found, err := in.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("check the journal: %w", err)
	}
	var out []Problem
	for _, d := range found {
		out = append(out, Problem{
			Where: filepath.Join(streamsDir(dir), d.Stream), What: d.String(), Repairable: true,
			Repair: "copies the damaged files aside and keeps every record that can be read",
		})
	}
	for q := range unreadableQueues(dir) {
		out = append(out, Problem{
			Where: filepath.Join(queuesDir(dir), q), What: "the place of the queue " + q + " in the journal cannot be read",
			Repair: "no action needed: the queue starts over, with events that it may already have had; they are deduplicated by uuid",
		})
	}
	old, err := readDamage(dir)
	if err != nil {
		return out, fmt.Errorf("check the journal: %w", err)
	}
	for _, d := range old {
		p := Problem{Where: d.Path, What: d.Found.Format(time.RFC3339) + ": " + d.String(), Repair: "no action needed: everything readable is back in the journal, and the folder keeps the damaged files"}
		if d.Mended.IsZero() {
			p.Repairable, p.Repair = true, "puts every record in it that can be read into the journal again"
		}
		out = append(out, p)
	}
	return out, nil
}

// unreadableQueues returns the queues whose descriptions NATS cannot load.
func unreadableQueues(dir string) map[string]bool {
	entries, _ := os.ReadDir(queuesDir(dir)) // not there before the first queue
	out := make(map[string]bool)
	for _, e := range entries {
		if !e.IsDir() || !validToken(e.Name()) {
			continue
		}
		if !readableQueue(filepath.Join(queuesDir(dir), e.Name())) {
			out[e.Name()] = true
		}
	}
	return out
}

// Repair repairs everything that [Check] reports as repairable in a folder
// that no process has open, and returns its changes. It loses nothing: it
// keeps the originals of changed files.
func Repair(ctx context.Context, c Config) ([]Damage, error) {
	before, err := readDamage(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("repair the journal: %w", err)
	}
	j, err := Open(ctx, c)
	if err != nil {
		return nil, err
	}
	defer j.Close(context.WithoutCancel(ctx))
	l, err := j.waitReady(ctx)
	if err != nil {
		return nil, fmt.Errorf("repair the journal: %w", errors.Join(err, j.down()))
	}
	select {
	case <-l.salvaged:
	case <-l.over.Done():
		return nil, fmt.Errorf("repair the journal: %w", j.down())
	case <-ctx.Done():
		return nil, fmt.Errorf("repair the journal: %w", ctx.Err())
	}
	after, err := readDamage(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("repair the journal: %w", err)
	}
	mended := make(map[string]bool)
	for _, d := range before {
		mended[d.Path] = !d.Mended.IsZero()
	}
	var out []Damage
	for _, d := range after {
		if !mended[d.Path] && !d.Mended.IsZero() {
			out = append(out, d)
		}
	}
	return out, nil
}
