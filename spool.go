package hedgerow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// spool keeps events on disk from shortly after their capture until they are
// delivered, so that the next client on the same folder delivers the events of a
// killed process. It sits between enqueue and the lanes: its goroutine encodes
// the events, writes them, and passes them on.
//
// A spool is a folder of segments (00000001.spool …), which are appended to, and
// deleted once all their events are done. A segment is a sequence of frames:
//
//	length  uint32  of what follows the checksum, little endian
//	crc     uint32  Castagnoli, of what follows
//	kind    byte    1 an event, 2 events that are done with
//	lane    byte
//	number  uint64  of the event, 0 in frames of kind 2
//	body            the event as it is sent, or the numbers that are done with
//
// A frame cut short by a crash fails its checksum and ends the segment. Nothing
// is synced: a killed process loses nothing, a power failure may lose events.
type spool struct {
	c    *Client
	dir  string
	lock *os.File

	wake  chan struct{}
	ended chan struct{}

	mu      sync.Mutex
	in      []spooled
	pushed  uint64
	handled uint64        // number of pushed events that lanes have
	changed chan struct{} // closed when handled grows; nil without waiters
	closed  bool

	number uint64 // of the last event; only run uses it and buf
	buf    []byte

	disk struct {
		sync.Mutex
		active   *segment
		segments map[uint32]*segment // those with live events, and the active one
		where    map[uint64]*segment // of every event that is not done
		bytes    int64
		warned   time.Time
	}
}

type spooled struct {
	lane int
	it   item
}

type segment struct {
	id   uint32
	f    *os.File // nil if it is only read
	size int64
	live int
}

const (
	spoolSuffix  = ".spool"
	segmentBytes = 4 << 20
	frameHead    = 8 + 10

	frameEvent = 1
	frameDone  = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// recovered is an event that an earlier process left.
type recovered struct {
	number uint64
	lane   int
	body   []byte
	from   *segment
}

// openSpool locks the folder and returns the events in it. The error is an
// [*event.Error] if another client uses the folder.
func openSpool(c *Client, dir string) (*spool, []recovered, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("create spool folder: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if errors.Is(err, errLocked) {
		return nil, nil, event.Invalid("the spool folder "+dir+" is in use by another client", "use a separate folder for each process, such as Config.SpoolDir: filepath.Join(dir, name of the process)")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("lock spool folder: %w", err)
	}
	s := &spool{c: c, dir: dir, lock: lock, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	s.disk.segments, s.disk.where = make(map[uint32]*segment), make(map[uint64]*segment)
	left, err := s.read()
	if err != nil {
		_ = lock.Close()
		return nil, nil, fmt.Errorf("read spool: %w", err)
	}
	return s, left, nil
}

func (s *spool) path(id uint32) string {
	return filepath.Join(s.dir, fmt.Sprintf("%08d%s", id, spoolSuffix))
}

// read returns the events that are not done, and deletes segments that have none.
func (s *spool) read() ([]recovered, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	d := &s.disk
	var all []recovered
	done := make(map[uint64]bool)
	var last uint32
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), spoolSuffix)
		id, err := strconv.ParseUint(name, 10, 32)
		if !ok || err != nil || entry.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(s.dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		seg := &segment{id: uint32(id), size: int64(len(b))}
		d.segments[seg.id] = seg
		d.bytes += seg.size
		last = max(last, seg.id)
		for len(b) > 0 {
			f, rest, ok := readFrame(b)
			if !ok {
				break
			}
			b = rest
			switch {
			case f.kind == frameEvent:
				s.number = max(s.number, f.number)
				all = append(all, recovered{f.number, f.lane, f.body, seg})
			case f.kind == frameDone:
				for ; len(f.body) >= 8; f.body = f.body[8:] {
					done[binary.LittleEndian.Uint64(f.body)] = true
				}
			}
		}
	}
	left := all[:0]
	for _, r := range all {
		if done[r.number] || d.where[r.number] != nil {
			continue
		}
		d.where[r.number] = r.from
		r.from.live++
		left = append(left, r)
	}
	slices.SortStableFunc(left, func(a, b recovered) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	for _, seg := range d.segments {
		if seg.live == 0 {
			s.remove(seg)
		}
	}
	d.active = &segment{id: last}
	return left, nil
}

type frameOnDisk struct {
	kind   byte
	lane   int
	number uint64
	body   []byte
}

// readFrame reads the first frame of b. ok is false if it is incomplete.
func readFrame(b []byte) (f frameOnDisk, rest []byte, ok bool) {
	if len(b) < frameHead {
		return f, nil, false
	}
	n := binary.LittleEndian.Uint32(b)
	if n < frameHead-8 || uint64(n) > uint64(len(b)-8) {
		return f, nil, false
	}
	data := b[8 : 8+n]
	if crc32.Checksum(data, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return f, nil, false
	}
	f = frameOnDisk{kind: data[0], lane: int(data[1]), number: binary.LittleEndian.Uint64(data[2:]), body: data[10:]}
	if f.lane != laneEvents && f.lane != laneAI {
		f.kind = 0
	}
	return f, b[8+n:], true
}

func appendFrame(dst []byte, kind byte, lane int, number uint64, body []byte) []byte {
	start := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)+10))
	dst = append(dst, 0, 0, 0, 0, kind, byte(lane))
	dst = binary.LittleEndian.AppendUint64(dst, number)
	dst = append(dst, body...)
	binary.LittleEndian.PutUint32(dst[start+4:], crc32.Checksum(dst[start+8:], castagnoli))
	return dst
}

// push adds an item from a caller. It never waits for the disk.
func (s *spool) push(lane int, it item) {
	s.mu.Lock()
	s.in = append(s.in, spooled{lane, it})
	s.pushed++
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// drain returns once the lanes have everything that was pushed.
func (s *spool) drain(done <-chan struct{}) bool {
	s.mu.Lock()
	target := s.pushed
	for s.handled < target {
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-done:
			return false
		}
		s.mu.Lock()
	}
	s.mu.Unlock()
	return true
}

// spoolRound is the number of events written together; more would use too much
// memory.
const spoolRound = 256

func (s *spool) run() {
	defer close(s.ended)
	for {
		s.mu.Lock()
		n := min(len(s.in), spoolRound)
		round := s.in[:n:n]
		s.in = s.in[n:]
		if len(s.in) == 0 {
			s.in = nil
		}
		closed := s.closed
		s.mu.Unlock()
		if n == 0 {
			if closed {
				return
			}
			<-s.wake
			continue
		}
		s.work(round)
		s.mu.Lock()
		s.handled += uint64(n)
		if s.changed != nil {
			close(s.changed)
			s.changed = nil
		}
		s.mu.Unlock()
	}
}

// work encodes items, writes their events and passes them on.
func (s *spool) work(round []spooled) {
	d := &s.disk
	s.buf = s.buf[:0]
	written := make([]*outgoing, 0, len(round))
	ends := make([]int, 0, len(round))
	for i := range round {
		it := &round[i].it
		out := s.c.encodeItem(it)
		if len(out) == 0 { // dropped, or the schema has no event for it
			s.c.release(it.size)
			round[i].lane = -1
			continue
		}
		for _, o := range out {
			s.number++
			o.number = s.number
			o.e = nil // the bytes are enough
			s.buf = appendFrame(s.buf, frameEvent, round[i].lane, o.number, o.body)
			written, ends = append(written, o), append(ends, len(s.buf))
		}
		it.e, it.build, it.props, it.out = nil, nil, nil, out
	}
	d.Lock()
	n := len(ends)
	for n > 0 && d.bytes+int64(ends[n-1]) > s.c.c.SpoolBytes {
		n--
	}
	if n < len(ends) {
		s.warn("the spool is full: events are in memory only", nil)
		written = written[:n]
		if s.buf = s.buf[:0]; n > 0 {
			s.buf = s.buf[:ends[n-1]]
		}
	}
	if seg := s.write(s.buf); seg != nil {
		for _, o := range written {
			d.where[o.number] = seg
		}
		seg.live += len(written)
	}
	d.Unlock()
	if cap(s.buf) > 1<<20 {
		s.buf = nil
	}
	for _, sp := range round {
		if sp.lane >= 0 {
			s.c.lanes[sp.lane].push(sp.it)
		}
	}
	clear(round)
}

// write appends frames. It returns nil if the disk fails: the events stay in memory
// only. It must be called with disk locked.
func (s *spool) write(frames []byte) *segment {
	d := &s.disk
	n := int64(len(frames))
	if n == 0 {
		return nil
	}
	if d.active.f == nil || d.active.size+n > segmentBytes && d.active.size > 0 {
		if err := s.rotate(); err != nil {
			s.warn("the spool cannot be written: events are in memory only", err)
			return nil
		}
	}
	seg := d.active
	if _, err := seg.f.Write(frames); err != nil {
		// A reader stops at an incomplete frame, so continue in a new segment.
		s.warn("the spool cannot be written: events are in memory only", withoutPath(err))
		_ = s.rotate()
		return nil
	}
	seg.size += n
	d.bytes += n
	return seg
}

// rotate starts a new segment. It must be called with disk locked.
func (s *spool) rotate() error {
	d := &s.disk
	old := d.active
	if old.f != nil {
		_ = old.f.Close()
		old.f = nil
	}
	f, err := os.OpenFile(s.path(old.id+1), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return withoutPath(err)
	}
	d.active = &segment{id: old.id + 1, f: f}
	d.segments[d.active.id] = d.active
	if old.live == 0 {
		s.remove(old)
	}
	return nil
}

// remove deletes a segment. It must be called with disk locked, or while opening.
func (s *spool) remove(seg *segment) {
	if s.disk.segments[seg.id] != seg {
		return
	}
	delete(s.disk.segments, seg.id)
	s.disk.bytes -= seg.size
	if seg.f != nil {
		_ = seg.f.Close()
		seg.f = nil
	}
	_ = os.Remove(s.path(seg.id)) // a leftover is read again and found done
}

// holds reports whether an event is on disk.
func (s *spool) holds(o *outgoing) bool {
	s.disk.Lock()
	defer s.disk.Unlock()
	return s.disk.where[o.number] != nil
}

// waiting returns the number of events on disk.
func (s *spool) waiting() int64 {
	s.disk.Lock()
	defer s.disk.Unlock()
	return int64(len(s.disk.where))
}

// done removes events that have arrived or been dropped.
func (s *spool) done(batch []item) {
	d := &s.disk
	d.Lock()
	defer d.Unlock()
	var numbers []byte
	for _, it := range batch {
		for _, o := range it.out {
			if o.kept || d.where[o.number] == nil {
				continue
			}
			seg := d.where[o.number]
			delete(d.where, o.number)
			numbers = binary.LittleEndian.AppendUint64(numbers, o.number)
			if seg.live--; seg.live == 0 && seg != d.active {
				s.remove(seg)
			}
		}
	}
	switch {
	case len(numbers) == 0:
	case len(d.where) == 0 && d.active.f != nil && d.active.size >= segmentBytes/4:
		_ = s.rotate() // nothing waits: delete all segments
	default:
		s.write(appendFrame(nil, frameDone, 0, 0, numbers))
	}
}

// close ends the goroutine and unlocks the folder. The lanes have ended.
func (s *spool) close() {
	d := &s.disk
	d.Lock()
	defer d.Unlock()
	for _, seg := range d.segments {
		if seg.live == 0 {
			s.remove(seg)
		} else if seg.f != nil {
			_ = seg.f.Close()
			seg.f = nil
		}
	}
	_ = s.lock.Close()
}

// stop ends the goroutine once it has nothing left to do.
func (s *spool) stop() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// warn logs disk errors, at most in intervals.
func (s *spool) warn(what string, err error) {
	if now := time.Now(); now.Sub(s.disk.warned) >= dropLogEvery {
		s.disk.warned = now
		s.c.log.Warn(what, "err", err, "bytes", s.disk.bytes)
	}
}

func withoutPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("%s: %w", p.Op, p.Err)
	}
	return err
}

var errLocked = errors.New("file is locked")
