package provider

import (
	"encoding/base64"
	big "encoding/binary"
	"hash/crc32"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// typeAmazonEvents is the content type of AWS's binary event streams.
const typeAmazonEvents = "application/vnd.amazon.eventstream"

const (
	preludeLen   = 12       // total length, length of the headers, and the checksum of both
	checksumLen  = 4        // of the whole message, at its end
	longestEvent = 25 << 20 // botocore allows 24 MiB of payload
)

// amazonEvents reads an AWS event stream (smithy.io, "Amazon Event Stream
// Specification"). If one of a message's checksums is wrong, the rest of the
// stream cannot be read.
type amazonEvents struct {
	body string
	pos  int
}

// next returns the next message's payload under its event type. For a chunk
// that is the decoded "bytes" member. An exception has the form of Anthropic's
// error events.
func (r *amazonEvents) next() (frame, bool) {
	rest := r.body[r.pos:]
	total, headers, ok := prelude(rest)
	if !ok || total > len(rest) || checksum(rest[:total-checksumLen]) != number(rest[total-checksumLen:]) {
		return frame{}, false
	}
	r.pos += total
	f := frame{data: rest[preludeLen+headers : total-checksumLen], end: r.pos, ended: true}
	kind := ""
	eachHeader(rest[preludeLen:preludeLen+headers], func(name, value string) {
		switch name {
		case ":message-type":
			kind = value
		case ":event-type", ":exception-type", ":error-code":
			f.name = value
		case ":error-message":
			f.data = string(rawjson.AppendQuote([]byte(`{"message":`), value)) + "}"
		}
	})
	if kind == "exception" || kind == "error" {
		message := gjson.Get(f.data, "message").Raw
		if message == "" {
			message = `""`
		}
		f.data = `{"type":"error","error":{"type":` + string(rawjson.Quote(f.name)) + `,"message":` + message + `}}`
		f.name = "error"
	} else if f.name == "chunk" {
		if b, err := base64.StdEncoding.DecodeString(gjson.Get(f.data, "bytes").Str); err == nil {
			f.data = view(b)
		}
	}
	return f, true
}

func number(s string) uint32 { return big.BigEndian.Uint32([]byte(s[:4])) }

func checksum(s string) uint32 { return crc32.ChecksumIEEE([]byte(s)) }

// prelude reads the lengths of a message and its headers.
func prelude(s string) (total, headers int, ok bool) {
	if len(s) < preludeLen || checksum(s[:8]) != number(s[8:]) {
		return 0, 0, false
	}
	total, headers = int(number(s)), int(number(s[4:]))
	return total, headers, total <= longestEvent && headers <= total-preludeLen-checksumLen && headers >= 0
}

// eachHeader calls f with each header that is a string; others are skipped.
func eachHeader(s string, f func(name, value string)) {
	sizes := [...]int{0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
	for len(s) > 1 {
		n := int(s[0])
		if len(s) < 1+n+1 {
			return
		}
		name, kind := s[1:1+n], s[1+n]
		s = s[1+n+1:]
		size := 0
		switch {
		case kind == 6 || kind == 7:
			if len(s) < 2 {
				return
			}
			size = int(big.BigEndian.Uint16([]byte(s[:2])))
			s = s[2:]
		case int(kind) < len(sizes):
			size = sizes[kind]
		default:
			return
		}
		if len(s) < size {
			return
		}
		if kind == 7 {
			f(name, s[:size])
		}
		s = s[size:]
	}
}

// resyncAmazon returns s from its first complete message on; s begins anywhere
// in a stream.
func resyncAmazon(s string) (string, bool) {
	for i := 0; i+preludeLen <= len(s); i++ {
		if s[i] == 0 || s[i] == 1 { // a message is shorter than 32 MiB
			if _, _, ok := prelude(s[i:]); ok {
				return s[i:], true
			}
		}
	}
	return "", false
}

// isAmazonEvents reports whether a response is such a stream.
func isAmazonEvents(contentType string) bool { return strings.HasPrefix(contentType, typeAmazonEvents) }

// amazonEnded reports whether the end of a stream has its last event, or an error.
func amazonEnded(last string) bool {
	rest, _ := resyncAmazon(last)
	for r := (&amazonEvents{body: rest}); ; {
		f, ok := r.next()
		if !ok {
			return false
		}
		if f.name == "metadata" || f.name == "error" || gjson.Get(f.data, "type").Str == "message_stop" || gjson.Get(f.data, invocationMetrics).Exists() {
			return true
		}
	}
}
