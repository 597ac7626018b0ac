package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/hedgerow/hedgerow/event"
)

// A body is the stored form of a content:
//
//	for each of input, output, tools, input state, output state:
//	uvarint(len+1) bytes, or uvarint(0) for none
//
// as one zstd frame, or uncompressed after a zero byte, with which no frame
// begins. It is compressed here, not by the engine, because most of the written
// data is text: this reduces the log, the memory until the next checkpoint and
// later compactions to a third. Short bodies are not compressed (minCompressed).

// minCompressed is the size in bytes from which a body is compressed. Compressing
// a shorter one would save a third of it, but take too long: building the code
// tables alone takes as long as all other work to store an event.
const minCompressed = 1 << 10

// plainBody is the first byte of a body that is not compressed.
const plainBody = 0

// maxBody limits the memory for a damaged body to a little more than
// two parts of event.MaxEventBytes.
const maxBody = 4 * event.MaxEventBytes

var errBody = errors.New("stored content is damaged")

// The coders keep no state between calls and are safe for concurrent use.
var (
	bodyEncoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // the options above are constants
		}
		return e
	})
	bodyDecoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxBody))
		if err != nil {
			panic(err)
		}
		return d
	})
)

// rawBodies are bodies before they are compressed: *[]byte.
var rawBodies sync.Pool

const maxRawPooled = 64 << 10

func contentParts(c *event.Content) [5]*json.RawMessage {
	return [5]*json.RawMessage{&c.Input, &c.Output, &c.Tools, &c.InputState, &c.OutputState}
}

// newBody is the body of c.
func newBody(c *event.Content) []byte {
	if most := 1 + c.Size() + 5*binary.MaxVarintLen32; most < minCompressed {
		return appendParts(append(make([]byte, 0, most), plainBody), c)
	}
	buf, _ := rawBodies.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	raw := appendParts(slices.Grow((*buf)[:0], c.Size()+5*binary.MaxVarintLen32), c)
	body := bodyEncoder().EncodeAll(raw, make([]byte, 0, len(raw)/2+64))
	if *buf = raw; cap(raw) <= maxRawPooled {
		rawBodies.Put(buf)
	}
	return body
}

func appendParts(dst []byte, c *event.Content) []byte {
	for _, p := range contentParts(c) {
		if *p == nil {
			dst = append(dst, 0)
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(len(*p))+1)
		dst = append(dst, *p...)
	}
	return dst
}

// DecodeContent reads column body of table content.
func DecodeContent(body []byte) (event.Content, error) {
	var c event.Content
	var raw []byte
	if len(body) > 0 && body[0] == plainBody {
		raw = bytes.Clone(body[1:])
	} else {
		var err error
		if raw, err = bodyDecoder().DecodeAll(body, nil); err != nil {
			return c, fmt.Errorf("%w: %w", errBody, err)
		}
	}
	for _, p := range contentParts(&c) {
		n, w := binary.Uvarint(raw)
		if w <= 0 {
			return event.Content{}, fmt.Errorf("%w: truncated", errBody)
		}
		raw = raw[w:]
		if n == 0 {
			continue
		}
		if n--; n > uint64(len(raw)) {
			return event.Content{}, fmt.Errorf("%w: part of %d bytes in %d", errBody, n, len(raw))
		}
		*p, raw = raw[:n:n], raw[n:]
	}
	if len(raw) != 0 {
		return event.Content{}, fmt.Errorf("%w: %d bytes left over", errBody, len(raw))
	}
	return c, nil
}
