package store

import (
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
//	zstd( for each of input, output, tools, input state, output state:
//	      uvarint(len+1) bytes, or uvarint(0) for none )
//
// It is compressed here and not by the engine because text is most of what is
// written: so the log, the memory until the next checkpoint and every later
// compaction carry a third of it.

// maxBody bounds what a damaged body can make of memory: two parts of
// event.MaxEventBytes and then some.
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

// appendBody appends the body of c to dst.
func appendBody(dst []byte, c *event.Content) []byte {
	buf, _ := rawBodies.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	raw := slices.Grow((*buf)[:0], c.Size()+5*binary.MaxVarintLen32)
	for _, p := range contentParts(c) {
		if *p == nil {
			raw = append(raw, 0)
			continue
		}
		raw = binary.AppendUvarint(raw, uint64(len(*p))+1)
		raw = append(raw, *p...)
	}
	dst = bodyEncoder().EncodeAll(raw, slices.Grow(dst, len(raw)/2+64))
	if *buf = raw; cap(raw) <= maxRawPooled {
		rawBodies.Put(buf)
	}
	return dst
}

// DecodeContent reads column body of table content.
func DecodeContent(body []byte) (event.Content, error) {
	var c event.Content
	raw, err := bodyDecoder().DecodeAll(body, nil)
	if err != nil {
		return c, fmt.Errorf("%w: %w", errBody, err)
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
