package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/highwayhash"
)

// JetStream's file format (nats-server, filestore.go). A block file is a sequence
// of records with little-endian integers:
//
//	uint32 length of the record, its highest bit set where there are headers
//	uint64 sequence, its highest bits set for what is no message any more
//	int64  time in nanoseconds
//	uint16 length of the subject, subject
//	uint32 length of the headers, headers; only where there are some
//	message
//	8 bytes of checksum, by a key made of the stream's name and the block's number
//
// NATS truncates a block at the first unreadable record and so loses all later
// ones. This reader skips it.
const (
	recordHead   = 22
	recordSum    = 8
	recordMax    = 32 << 20
	headersBit   = 1 << 31
	erasedBit    = 1 << 63
	tombstoneBit = 1 << 62
)

// blockRecord is one readable record. Its bytes lie in the block.
type blockRecord struct {
	from, to  int // within the block
	seq       uint64
	gone      bool // it was deleted, or is a tombstone of another
	tombstone bool // it marks another record as deleted
	hole      bool // the bytes before it are unreadable
	at        time.Time
	subject   []byte
	headers   []byte
	body      []byte
}

// blockReader reads the records of one block.
type blockReader struct {
	buf  []byte
	sum  hash.Hash64
	last uint64 // sequence of the last message
}

func newBlockReader(stream string, index int, buf []byte) (*blockReader, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, index))
	sum, err := highwayhash.New64(key[:])
	if err != nil {
		return nil, err
	}
	return &blockReader{buf: buf, sum: sum}, nil
}

// at reads the record at a position, and reports whether there is a whole one.
func (r *blockReader) at(from int) (blockRecord, bool) {
	b := r.buf[from:]
	if len(b) < recordHead+recordSum {
		return blockRecord{}, false
	}
	n, subject := binary.LittleEndian.Uint32(b), int(binary.LittleEndian.Uint16(b[20:]))
	headed := n&headersBit != 0
	n &^= headersBit
	if n < recordHead+recordSum || n > recordMax || int(n) > len(b) {
		return blockRecord{}, false
	}
	data := b[recordHead : n-recordSum]
	begin := subject
	if headed {
		begin += 4
	}
	if begin > len(data) {
		return blockRecord{}, false
	}
	r.sum.Reset()
	r.sum.Write(b[4:20])
	r.sum.Write(data[:subject])
	r.sum.Write(data[begin:])
	var got [recordSum]byte
	if !bytes.Equal(r.sum.Sum(got[:0]), b[n-recordSum:n]) {
		return blockRecord{}, false
	}
	rec := blockRecord{from: from, to: from + int(n), subject: data[:subject], body: data[begin:]}
	if headed {
		size := int(binary.LittleEndian.Uint32(data[subject:]))
		if size > len(rec.body) {
			return blockRecord{}, false
		}
		rec.headers, rec.body = rec.body[:size], rec.body[size:]
	}
	seq := binary.LittleEndian.Uint64(b[4:])
	rec.gone = seq == 0 || seq&(erasedBit|tombstoneBit) != 0
	rec.tombstone = seq&tombstoneBit != 0
	rec.seq = seq &^ (erasedBit | tombstoneBit)
	rec.at = time.Unix(0, int64(binary.LittleEndian.Uint64(b[12:]))).UTC()
	return rec, true
}

// likely reports whether a record may begin at a position, without its
// checksum, which would take long at every position of a hole.
func (r *blockReader) likely(from int) bool {
	b := r.buf[from:]
	if len(b) < recordHead+recordSum {
		return false
	}
	n := binary.LittleEndian.Uint32(b) &^ headersBit
	if n < recordHead+recordSum || n > recordMax || int(n) > len(b) || int(binary.LittleEndian.Uint16(b[20:])) > int(n)-recordHead-recordSum {
		return false
	}
	seq := binary.LittleEndian.Uint64(b[4:]) &^ (erasedBit | tombstoneBit)
	if r.last == 0 {
		return seq < 1<<48
	}
	return seq < r.last+1<<32
}

// read calls f for each record that can be read, in order. It returns how many
// bytes cannot be, and how many of these are at the end.
func (r *blockReader) read(f func(blockRecord)) (bad, end int) {
	for from := 0; from < len(r.buf); {
		rec, ok := r.at(from)
		begin := from
		for ; !ok && from < len(r.buf); from++ {
			if r.likely(from) {
				if rec, ok = r.at(from); ok {
					rec.hole = true
					break
				}
			}
		}
		bad += from - begin
		if !ok {
			return bad, from - begin
		}
		if !rec.gone {
			r.last = max(r.last, rec.seq)
		}
		f(rec)
		from = rec.to
	}
	return bad, 0
}

// blockFile is a block on disk.
type blockFile struct {
	path  string
	index int
}

// blockFiles lists the blocks of a stream's folder in their order.
func blockFiles(streamDir string) ([]blockFile, error) {
	entries, err := os.ReadDir(filepath.Join(streamDir, "msgs"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var out []blockFile
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".blk")
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(name); err == nil {
			out = append(out, blockFile{filepath.Join(streamDir, "msgs", e.Name()), n})
		}
	}
	slices.SortFunc(out, func(a, b blockFile) int { return a.index - b.index })
	return out, nil
}

// indexed returns the first and the last position in a stream's index, or 0
// without a readable index. JetStream writes it when it stops and occasionally
// while running.
func indexed(stream, streamDir string) (first, last uint64) {
	b, err := os.ReadFile(filepath.Join(streamDir, "msgs", "index.db"))
	if err != nil || len(b) < 10 {
		return 0, 0
	}
	key := sha256.Sum256([]byte(stream))
	sum, err := highwayhash.New64(key[:])
	if err != nil {
		return 0, 0
	}
	body, want := b[:len(b)-recordSum], b[len(b)-recordSum:]
	sum.Write(body)
	if !bytes.Equal(sum.Sum(nil), want) || body[0] != 11 {
		return 0, 0
	}
	body = body[2:] // magic and version
	var v [5]uint64
	for i := range v { // messages, bytes, first position, its time, last position
		var n int
		if v[i], n = binary.Uvarint(body); n <= 0 {
			return 0, 0
		}
		body = body[n:]
	}
	return v[2], v[4]
}
