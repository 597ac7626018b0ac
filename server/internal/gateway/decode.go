package gateway

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/hedgerow/hedgerow/internal/provider"
)

var errEncoding = errors.New("unknown content encoding")

// encoded reports whether a Content-Encoding names anything but identity.
func encoded(contentEncoding string) bool {
	return contentEncoding != "" && !strings.EqualFold(strings.TrimSpace(contentEncoding), "identity")
}

// decode decompresses a body by its Content-Encoding (RFC 9110 section 8.4), up
// to limit bytes, for capture only. cut reports that there was more, or that
// the body was truncated. Marks are moved to their offsets in the decoded text.
func decode(contentEncoding string, body []byte, limit int64, marks []provider.Mark) (text []byte, cut bool, err error) {
	in := &markReader{b: body, marks: marks}
	var r io.Reader = in
	names := strings.Split(contentEncoding, ",")
	slices.Reverse(names) // listed in the order in which they were applied
	for _, name := range names {
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "", "identity":
		case "gzip", "x-gzip":
			z, err := gzip.NewReader(r)
			if err != nil {
				return nil, true, fmt.Errorf("decode gzip: %w", err)
			}
			r = z
		case "deflate":
			// RFC 9110 means the zlib format; some servers send raw deflate.
			br := bufio.NewReaderSize(r, 16)
			if head, _ := br.Peek(2); len(head) == 2 && head[0]&0x0f == 8 && (uint16(head[0])<<8|uint16(head[1]))%31 == 0 {
				z, err := zlib.NewReader(br)
				if err != nil {
					return nil, true, fmt.Errorf("decode deflate: %w", err)
				}
				r = z
			} else {
				r = flate.NewReader(br)
			}
		case "br":
			r = brotli.NewReader(r)
		case "zstd":
			z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20), zstd.WithDecoderMaxWindow(8<<20))
			if err != nil {
				return nil, true, fmt.Errorf("decode zstd: %w", err)
			}
			defer z.Close()
			r = z
		default:
			return nil, true, errEncoding
		}
	}
	var out bytes.Buffer
	in.decoded = &out
	n, err := io.Copy(&out, io.LimitReader(r, limit))
	in.finish()
	if err == nil && n == limit {
		cut = true
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		cut, err = true, nil
	}
	if err != nil {
		return out.Bytes(), true, fmt.Errorf("decode %s: %w", strings.ToLower(contentEncoding), err)
	}
	return out.Bytes(), cut, nil
}

// markReader feeds a compressed body to a decoder up to the next mark. When the
// decoder requests more, everything that had arrived by then is decoded.
type markReader struct {
	b       []byte
	off     int64
	marks   []provider.Mark
	next    int
	decoded *bytes.Buffer
}

func (r *markReader) Read(p []byte) (int, error) {
	r.pass()
	if r.off >= int64(len(r.b)) {
		return 0, io.EOF
	}
	end := int64(len(r.b))
	if r.next < len(r.marks) {
		end = min(end, r.marks[r.next].Offset)
	}
	n := copy(p, r.b[r.off:end])
	r.off += int64(n)
	return n, nil
}

func (r *markReader) pass() {
	for r.next < len(r.marks) && r.marks[r.next].Offset <= r.off {
		r.set(r.next)
		r.next++
	}
}

func (r *markReader) set(i int) {
	var n int64
	if r.decoded != nil {
		n = int64(r.decoded.Len())
	}
	r.marks[i].Offset = n
}

// finish sets the marks at or beyond the end of the decoded text.
func (r *markReader) finish() {
	for ; r.next < len(r.marks); r.next++ {
		r.set(r.next)
	}
}
