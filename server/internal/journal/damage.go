package journal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/minio/highwayhash"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hedgerow/hedgerow/server/internal/atomicfile"
)

// Damaged files are repaired before the server opens them, because NATS skips a
// stream whose description it cannot read, cuts a block at the first record that
// it cannot read, and waits forever for a missing message. Unreadable files are
// set aside, and nothing readable is lost:
//
//   - A stream's description is recreated: hedgerow knows its contents.
//   - A block with damage is copied aside and rewritten with every readable
//     record. Only records whose own bytes are damaged are lost.
//   - A stream that NATS still does not load is set aside as a whole, recreated,
//     and filled with every readable record.
//
// Each leaves a folder NAME-YYYYMMDD-HHMMSS in damagedName, with the original
// files and a [Damage] in damageFile. For a bucket with secrets only the latter
// remains after the repair; see [Config.strip].
const (
	damagedName = "damaged"
	damageFile  = "damage.json"
	checkWait   = 5 * time.Second // for checking blocks at startup; the rest is not checked
)

// Damage describes damage in a stream and its repair.
type Damage struct {
	Stream  string      `json:"stream"` // EVENTS, DEAD or KV_ and a bucket's name
	Found   time.Time   `json:"found"`
	What    string      `json:"what"`           // description for users
	Path    string      `json:"path,omitempty"` // where the files are set aside
	Whole   bool        `json:"whole,omitempty"`
	Bytes   int64       `json:"bytes"` // that cannot be read, or of all that is set aside
	Lost    []LostRange `json:"lost,omitempty"`
	Mended  time.Time   `json:"mended,omitzero"` // when all that could be read was back in the journal
	Records int         `json:"records,omitempty"`
}

// LostRange is a stretch of records that cannot be read any more. At most as many are
// lost as there are positions from First to Last; some may have been deleted before.
type LostRange struct {
	First  uint64    `json:"first"`
	Last   uint64    `json:"last"`
	After  time.Time `json:"after,omitzero"` // they were appended after this
	Before time.Time `json:"before,omitzero"`
}

func (l LostRange) count() uint64 { return l.Last - l.First + 1 }

// Count is how many records are lost at most.
func (d Damage) Count() (n uint64) {
	for _, l := range d.Lost {
		n += l.count()
	}
	return n
}

// String describes the damage in one sentence.
func (d Damage) String() string {
	s := d.What
	if n := d.Count(); n > 0 {
		first, last := d.Lost[0], d.Lost[len(d.Lost)-1]
		s += fmt.Sprintf("; up to %d records from %s to %s are lost (%d bytes)", n, moment(first.After), moment(last.Before), d.Bytes)
	}
	return s
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.UTC().Format(time.RFC3339)
}

// streamFolders lists the folders of streams by name.
func streamFolders(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(streamsDir(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	out := make(map[string]string)
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") { // half-deleted: NATS removes these
			out[e.Name()] = filepath.Join(streamsDir(dir), e.Name())
		}
	}
	return out, nil
}

// inspection checks the files of a journal's folder that no server has open.
type inspection struct {
	c       Config
	mend    bool          // else only report
	wait    time.Duration // for checking blocks; the rest is not checked
	began   time.Time
	already map[string][]Damage
}

// run returns the damage, repaired if requested.
func (in *inspection) run(ctx context.Context) ([]Damage, error) {
	folders, err := streamFolders(in.c.Dir)
	if err != nil {
		return nil, err
	}
	old, err := readDamage(in.c.Dir)
	if err != nil {
		return nil, err
	}
	in.began = time.Now()
	in.already = make(map[string][]Damage)
	for _, d := range old {
		in.already[d.Stream] = append(in.already[d.Stream], d)
	}
	// Settings first: they are small, and most is lost without them.
	names := make([]string, 0, len(folders))
	for n := range folders {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		if x, y := strings.HasPrefix(a, "KV_"), strings.HasPrefix(b, "KV_"); x != y {
			if x {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	var out []Damage
	for _, n := range names {
		d, err := in.oddFiles(n, folders[n])
		if err != nil {
			return out, err
		}
		if d != nil {
			out = append(out, *d)
			if !in.mend {
				continue // opening one might take forever
			}
		}
		d, err = in.description(n, folders[n])
		if err != nil {
			return out, err
		}
		if d != nil {
			out = append(out, *d)
		}
		if d, err = in.blocks(ctx, n, folders[n]); err != nil {
			return out, err
		}
		if d != nil {
			out = append(out, *d)
		}
		if in.mend && in.c.erases(n) {
			if err := in.wipe(n, folders[n]); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// description checks that NATS will take the stream's description, meta.inf, and
// its checksum, meta.sum.
func (in *inspection) description(name, folder string) (*Damage, error) {
	meta, sum := filepath.Join(folder, server.JetStreamMetaFile), filepath.Join(folder, server.JetStreamMetaFileSum)
	raw, err := os.ReadFile(meta)
	if err != nil && passing(err) && !errors.Is(err, syscall.EIO) {
		return nil, err
	}
	have, serr := os.ReadFile(sum)
	if serr != nil && passing(serr) && !errors.Is(serr, syscall.EIO) {
		return nil, serr
	}
	var info server.FileStreamInfo
	good := err == nil && json.Unmarshal(raw, &info) == nil && info.Name == name && info.Storage == server.FileStorage
	if good && serr == nil && string(have) == metaSum(name, raw) {
		return nil, nil
	}
	if cursors, _ := os.ReadDir(filepath.Join(folder, "obs")); len(raw) == 0 && !hasMessages(folder) && len(cursors) == 0 {
		// Killed while it was being made: nothing was ever acknowledged in it.
		if in.mend {
			return nil, os.RemoveAll(folder)
		}
		return nil, nil
	}
	d := &Damage{Stream: name, Found: in.c.Now().UTC(), What: "the description of the stream " + name + " could not be read and was recreated; all its records were kept", Bytes: int64(len(raw))}
	if !in.mend {
		return d, nil
	}
	if !good {
		if info, good = in.c.describe(name); !good {
			return nil, nil // not hedgerow's own: it is not touched
		}
		if raw, err = json.Marshal(info); err != nil {
			return nil, err
		}
	}
	aside, err := setAside(in.c, name)
	if err != nil {
		return nil, err
	}
	for _, p := range []string{meta, sum} {
		if err := copyFile(p, filepath.Join(aside, filepath.Base(p))); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.EIO) {
			return nil, err
		}
	}
	if err := errors.Join(atomicfile.Write(meta, raw), atomicfile.Write(sum, []byte(metaSum(name, raw)))); err != nil {
		return nil, err
	}
	d.Path, d.Mended = aside, d.Found
	return d, d.write()
}

func metaSum(stream string, raw []byte) string {
	key := sha256.Sum256([]byte(stream))
	sum, err := highwayhash.New64(key[:])
	if err != nil {
		return ""
	}
	sum.Write(raw)
	return hex.EncodeToString(sum.Sum(nil))
}

// describe returns the description of a stream created by hedgerow.
func (c Config) describe(name string) (server.FileStreamInfo, bool) {
	info := server.FileStreamInfo{Created: c.Now().UTC()}
	bucket, isKV := strings.CutPrefix(name, "KV_")
	var from jetstream.StreamConfig
	switch {
	case name == streamEvents:
		from = c.eventsStream()
	case name == streamDead:
		from = c.deadStream()
	case c.erases(name):
		from = c.erasingStream(bucket)
	case isKV: // as nats.go makes them; KeyValue corrects the history
		from = jetstream.StreamConfig{
			Name: name, Subjects: []string{"$KV." + bucket + ".>"}, Storage: jetstream.FileStorage, Replicas: 1,
			Discard: jetstream.DiscardNew, MaxMsgsPerSubject: 1, MaxMsgs: -1, MaxBytes: -1, Duplicates: 2 * time.Minute,
			AllowRollup: true, DenyDelete: true, AllowDirect: true,
		}
	default:
		return info, false
	}
	from.MaxConsumers, from.MaxMsgSize = -1, -1
	if from.MaxMsgsPerSubject == 0 {
		from.MaxMsgsPerSubject = -1
	}
	raw, err := json.Marshal(from) // the client's and the server's form are the same on the wire
	if err != nil || json.Unmarshal(raw, &info.StreamConfig) != nil {
		return info, false
	}
	return info, true
}

// blocks checks the records of a stream.
func (in *inspection) blocks(ctx context.Context, name, folder string) (*Damage, error) {
	files, err := blockFiles(folder)
	if err != nil {
		return nil, err
	}
	s := blockScan{stream: name, d: Damage{Stream: name, Found: in.c.Now().UTC()}}
	var last uint64
	s.first, last = indexed(name, folder)
	whole := true
	for i, f := range files {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if time.Since(in.began) > in.wait {
			in.c.Logger.Warn("not all of the journal was checked for damage, because that takes long", "stream", name, "blocks", len(files), "checked", i)
			whole = false
			break
		}
		known := uint64(math.MaxUint64) // minimum contents of the last block
		if i == len(files)-1 {
			known = last
		}
		if err := s.block(f, known); err != nil {
			return nil, err
		}
	}
	if whole && last > s.last.seq {
		// The index has records that no block has.
		s.lose(s.last.seq+1, last, blockRecord{})
	}
	s.known(in.already[name])
	if len(s.broken) == 0 && len(s.d.Lost) == 0 {
		return nil, nil
	}
	s.d.What = fmt.Sprintf("files of the stream %s were damaged: every record in them that can be read is kept", name)
	if len(s.broken) == 0 {
		s.d.What = "a part of the stream " + name + " is gone"
	}
	if !in.mend {
		return &s.d, nil
	}
	if s.d.Path, err = setAside(in.c, name); err != nil {
		return nil, err
	}
	for _, b := range s.broken {
		if err := atomicfile.Write(filepath.Join(s.d.Path, filepath.Base(b.file.path)), b.was); err != nil {
			return nil, err
		}
	}
	s.d.Mended = s.d.Found
	if err := s.d.write(); err != nil {
		return nil, err
	}
	for _, b := range s.broken {
		if err := atomicfile.Write(b.file.path, b.kept); err != nil {
			return nil, err
		}
	}
	if len(s.broken) > 0 {
		// The index describes the old blocks: NATS creates another.
		if err := os.Remove(filepath.Join(folder, "msgs", "index.db")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return &s.d, in.c.strip(s.d)
}

// blockScan collects the damage in a stream's blocks.
type blockScan struct {
	stream string
	d      Damage
	broken []brokenBlock
	first  uint64      // of the stream, from its index; 0 if unknown
	last   blockRecord // the last message so far
	hole   bool        // there was a hole since
	buf    []byte
}

type brokenBlock struct {
	file blockFile
	was  []byte
	kept []byte // its readable records
}

// block reads a block whose records extend at least to a position.
func (s *blockScan) block(f blockFile, atLeast uint64) error {
	var torn int // bytes that the disk cannot read
	var err error
	if s.buf, torn, err = readBlock(s.buf, f.path); err != nil {
		return fmt.Errorf("check the journal: %w", err)
	}
	r, err := newBlockReader(s.stream, f.index, s.buf)
	if err != nil {
		return err
	}
	r.last = s.last.seq
	var kept []blockRecord
	first := true
	bad, end := r.read(func(rec blockRecord) {
		kept = append(kept, rec)
		s.hole = s.hole || rec.hole
		if rec.gone {
			return
		}
		// Events are deleted only from the start, so there are no other gaps.
		if rec.seq > s.last.seq+1 && (s.hole || first && s.last.seq > 0 && s.stream == streamEvents) {
			s.lose(s.last.seq+1, rec.seq-1, rec)
		}
		first, s.hole = false, false
		s.last = blockRecord{seq: rec.seq, at: rec.at}
	})
	s.hole = s.hole || end > 0
	if torn == 0 && (bad == 0 || bad == end && s.last.seq >= atLeast) {
		return nil // whole, or a record was being written when the process or the machine stopped
	}
	s.d.Bytes += int64(bad)
	b := brokenBlock{file: f, was: slices.Clone(s.buf), kept: []byte{}}
	for _, rec := range kept {
		b.kept = append(b.kept, s.buf[rec.from:rec.to]...)
	}
	s.broken = append(s.broken, b)
	return nil
}

func (s *blockScan) lose(first, last uint64, before blockRecord) {
	if s.last.seq == 0 { // records before the first readable one
		if s.first == 0 && s.stream == streamEvents {
			return // the start is unknown
		}
		first = max(first, s.first)
	}
	if first <= last {
		s.d.Lost = append(s.d.Lost, LostRange{First: first, Last: last, After: s.last.at, Before: before.at})
	}
}

// known omits damage that was reported earlier: a gap remains until
// everything before it is deleted.
func (s *blockScan) known(old []Damage) {
	s.d.Lost = slices.DeleteFunc(s.d.Lost, func(l LostRange) bool {
		return slices.ContainsFunc(old, func(d Damage) bool {
			return slices.ContainsFunc(d.Lost, func(o LostRange) bool { return o.First <= l.First && l.Last <= o.Last })
		})
	})
}

// setAside creates a folder for a stream's damaged files.
func setAside(c Config, stream string) (string, error) {
	base := filepath.Join(c.Dir, damagedName, stream+"-"+c.Now().UTC().Format("20060102-150405"))
	path := base
	for n := 2; ; n++ {
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.Mkdir(path, 0o700)
		}
		if err == nil || !errors.Is(err, os.ErrExist) {
			return path, err
		}
		path = fmt.Sprintf("%s-%d", base, n)
	}
}

func (d Damage) write() error {
	raw, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(d.Path, damageFile), append(raw, '\n'))
}

// readDamage returns all recorded damage, oldest first.
func readDamage(dir string) ([]Damage, error) {
	entries, err := os.ReadDir(filepath.Join(dir, damagedName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var out []Damage
	for _, e := range entries {
		path := filepath.Join(dir, damagedName, e.Name())
		raw, err := os.ReadFile(filepath.Join(path, damageFile))
		if err != nil {
			if passing(err) {
				return nil, err
			}
			continue // the process ended before it was written: the damage is found again
		}
		var d Damage
		if json.Unmarshal(raw, &d) == nil {
			d.Path = path
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b Damage) int { return a.Found.Compare(b.Found) })
	return out, nil
}

// readBlock reads a file. Pages that the disk cannot read are zeros; torn is
// their size in bytes.
func readBlock(buf []byte, path string) (_ []byte, torn int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return buf, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return buf, 0, err
	}
	const page = 4096
	buf = slices.Grow(buf[:0], int(st.Size()))[:st.Size()]
	for n := 0; n < len(buf); {
		m, err := f.ReadAt(buf[n:], int64(n))
		n += m
		switch {
		case n == len(buf):
		case errors.Is(err, syscall.EIO):
			to := min(n-n%page+page, len(buf))
			clear(buf[n:to])
			torn += to - n
			n = to
		case err != nil:
			return buf, torn, err
		}
	}
	return buf, torn, nil
}

func copyFile(from, to string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return atomicfile.Write(to, raw)
}
