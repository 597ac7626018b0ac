package event

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A frame is the journal's form of an event:
//
//	"HRE1"  uvarint(len) metadata  then for each of input, output, tools,
//	input state, output state:  uvarint(len+1) bytes, or uvarint(0) for none
//
// Metadata is the JSON of Event without its content. Content follows as raw
// bytes, so that a writer never re-encodes a prompt and a reader that wants only
// metadata never parses one.
const frameMagic = "HRE1"

// ErrFrame is wrapped by every error of [DecodeFrame].
var ErrFrame = errors.New("not an event frame")

// AppendFrame appends the event's frame to dst.
func (e *Event) AppendFrame(dst []byte) ([]byte, error) {
	// The length precedes the metadata, but is known only after encoding it.
	const room = len(frameMagic) + binary.MaxVarintLen64
	start := len(dst)
	out, err := appendMeta(append(dst, make([]byte, room)...), e)
	if err != nil {
		return dst, fmt.Errorf("encode event: %w", err)
	}
	head := binary.AppendUvarint(append(out[start:start], frameMagic...), uint64(len(out)-start-room))
	dst = out[:start+len(head)+copy(out[start+len(head):], out[start+room:])]
	for _, p := range e.Content.Parts() {
		part := *p
		if part == nil {
			dst = append(dst, 0)
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(len(part))+1)
		dst = append(dst, part...)
	}
	return dst, nil
}

// DecodeFrame decodes a frame of [Event.AppendFrame]. The event's content and
// texts alias b, which must not be changed afterwards. DecodeFrame does not
// validate the JSON: b must be a frame from AppendFrame.
func DecodeFrame(b []byte) (*Event, error) {
	if len(b) < len(frameMagic) || string(b[:len(frameMagic)]) != frameMagic {
		return nil, fmt.Errorf("%w: bad magic", ErrFrame)
	}
	b = b[len(frameMagic):]
	meta, b, err := takeBlock(b, 0)
	if err != nil {
		return nil, err
	}
	e := new(Event)
	if err := decodeMeta(meta, e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	for _, part := range e.Content.Parts() {
		var v []byte
		if v, b, err = takeBlock(b, 1); err != nil {
			return nil, err
		}
		*part = v
	}
	e.rawValid = true // they were valid when the frame was written
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes left over", ErrFrame, len(b))
	}
	return e, nil
}

// takeBlock reads one length-prefixed block. With bias 1 a prefix of 0 is nil.
func takeBlock(b []byte, bias uint64) (block, rest []byte, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 {
		return nil, nil, fmt.Errorf("%w: truncated length", ErrFrame)
	}
	b = b[w:]
	if n < bias {
		return nil, b, nil
	}
	n -= bias
	if n > uint64(len(b)) {
		return nil, nil, fmt.Errorf("%w: block of %d bytes in %d", ErrFrame, n, len(b))
	}
	return b[:n:n], b[n:], nil
}
