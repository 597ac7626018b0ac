package otlp

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"unicode/utf8"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/hedgerow/hedgerow/server/internal/httpbody"
)

// Memory of decoded parts, in addition to their bytes.
const (
	perMessage = 144 // a KeyValue with its AnyValue, or a part of a span
	perJSON    = 96  // one bracket or comma of JSON
)

// look is what is known of a body before it is decoded.
type look struct {
	things int  // messages, or brackets and commas of JSON
	deep   bool // deeper than allowed
	broken bool // text with invalid UTF-8 or unpaired surrogates
}

// kind is a kind of request: its message shape, and its name in OTLP.
type kind struct {
	shape *shape
	name  string
}

var (
	spansKind = kind{&requestShape, "ExportTraceServiceRequest"}
	logsKind  = kind{&logsShape, "ExportLogsServiceRequest"}
)

// decode decodes a request of spans.
func (x exchange) decode(f form, b []byte, l Limits) (*collector.ExportTraceServiceRequest, *httpbody.Refusal) {
	req := &collector.ExportTraceServiceRequest{}
	if bad := x.decodeInto(req, spansKind, f, b, l); bad != nil {
		return nil, bad
	}
	if f == asJSON {
		hexIDs(req)
	}
	n := 0
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			n += len(ss.GetSpans())
		}
	}
	if n > l.Spans {
		return nil, httpbody.Refuse(http.StatusRequestEntityTooLarge, httpbody.ReasonTooLarge, "%d spans in one request, at most %d are accepted: send smaller batches", n, l.Spans)
	}
	return req, nil
}

// decodeInto decodes a request of any kind into req. Bodies with false sizes,
// unlimited nesting or millions of empty parts are rejected before they cost
// memory. Invalid text is repaired: SDKs truncate attributes in the middle of a
// character, and one of those must not cost the batch.
func (x exchange) decodeInto(req proto.Message, k kind, f form, b []byte, l Limits) *httpbody.Refusal {
	if len(b) == 0 && f == asProto {
		return nil
	}
	var s look
	var cost int64
	if f == asJSON {
		s = lookJSON(b, jsonDepth(l.Depth))
		cost = int64(s.things)*perJSON + int64(len(b))
	} else {
		if err := s.proto(b, k.shape, protoDepth(l.Depth)); err != nil {
			return httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "failed to parse the request: it is not an %s in protobuf", k.name)
		}
		cost = int64(s.things)*perMessage + int64(len(b))
	}
	if s.deep {
		return httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "failed to parse the request: attribute values are nested more than %d deep", l.Depth)
	}
	if s.broken {
		cost += int64(len(b)) + int64(len(b))/2
	}
	if bad := x.Take(cost); bad != nil {
		return bad
	}
	if f == asJSON {
		if s.broken {
			b = repairJSON(b)
		}
		o := protojson.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: jsonDepth(l.Depth)}
		if err := o.Unmarshal(b, req); err != nil {
			// The library's error quotes the body.
			return httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "failed to parse the request: it is not an %s in JSON", k.name)
		}
		return nil
	}
	if s.broken {
		b = repairProto(nil, b, k.shape)
	}
	o := proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: protoDepth(l.Depth)}
	if err := o.Unmarshal(b, req); err != nil {
		return httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "failed to parse the request: it is not an %s in protobuf", k.name)
	}
	return nil
}

// Each level of nesting takes an AnyValue, a list and, in a map, a KeyValue;
// the outermost is inside request, resource, scope, span and event.
func protoDepth(depth int) int { return 3*depth + 8 }

// In JSON each of these may be an object and an array.
func jsonDepth(depth int) int { return 6*depth + 16 }

// shape is an OTLP message: which of its fields are messages and which are
// text.
type shape struct {
	sub  [20]*shape
	text uint32 // bit per field number
}

// requestShape and logsShape are the requests of the signals that are read.
var requestShape, logsShape = func() (spans, logs shape) {
	const t = 1 // makes text(1, 2) read as field numbers
	text := func(fields ...int) (m uint32) {
		for _, f := range fields {
			m |= t << f
		}
		return m
	}
	anyValue, kv := &shape{text: text(1)}, &shape{text: text(1)}
	kv.sub[2] = anyValue
	anyValue.sub[5] = &shape{sub: [20]*shape{1: anyValue}}
	anyValue.sub[6] = &shape{sub: [20]*shape{1: kv}}
	span := &shape{text: text(3, 5), sub: [20]*shape{
		9:  kv,
		11: {text: text(2), sub: [20]*shape{3: kv}}, // event
		13: {text: text(3), sub: [20]*shape{4: kv}}, // link
		15: {text: text(2)},                         // status
	}}
	record := &shape{text: text(3, 12), sub: [20]*shape{5: anyValue, 6: kv}}
	scope := &shape{text: text(1, 2), sub: [20]*shape{3: kv}}
	resource := &shape{sub: [20]*shape{1: kv, 3: {text: text(1, 2, 3, 4)}}}
	around := func(item *shape) shape {
		return shape{sub: [20]*shape{1: {text: text(3), sub: [20]*shape{1: resource, 2: {text: text(3), sub: [20]*shape{1: scope, 2: item}}}}}}
	}
	return around(span), around(record)
}()

var errWire = errors.New("not protobuf")

// proto walks a message without decoding it.
func (s *look) proto(b []byte, m *shape, depth int) error {
	s.things++
	if depth == 0 {
		s.deep = true
		return nil
	}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errWire
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return errWire
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return errWire
		}
		b = b[n:]
		if int(num) >= len(m.sub) {
			continue
		}
		if sub := m.sub[num]; sub != nil {
			if err := s.proto(v, sub, depth-1); err != nil {
				return err
			}
		} else if m.text&(1<<num) != 0 && !utf8.Valid(v) {
			s.broken = true
		}
	}
	return nil
}

// repairProto copies a message that is known to be well-formed, with valid
// text.
func repairProto(dst, b []byte, m *shape) []byte {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		size := protowire.ConsumeFieldValue(num, typ, b[n:])
		field := b[:n+size]
		b = b[n+size:]
		if typ != protowire.BytesType || int(num) >= len(m.sub) || m.sub[num] == nil && m.text&(1<<num) == 0 {
			dst = append(dst, field...)
			continue
		}
		v, _ := protowire.ConsumeBytes(field[n:])
		if sub := m.sub[num]; sub != nil {
			v = repairProto(nil, v, sub)
		} else if !utf8.Valid(v) {
			v = bytes.ToValidUTF8(v, []byte("\uFFFD"))
		}
		dst = protowire.AppendBytes(protowire.AppendTag(dst, num, typ), v)
	}
	return dst
}

// lookJSON scans JSON without checking its grammar.
func lookJSON(b []byte, depth int) look {
	s := look{broken: !utf8.Valid(b)}
	nested := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] != '\\' {
					continue
				}
				if n, ok := surrogate(b[i:]); ok {
					s.broken = s.broken || n < 12
					i += n - 2
				}
				i++
			}
		case '{', '[':
			s.things++
			if nested++; nested > depth {
				s.deep = true
				return s
			}
		case '}', ']':
			nested--
		case ',':
			s.things++
		}
	}
	return s
}

// surrogate reports whether b begins with an escaped surrogate, and its length:
// 12 bytes for a pair, 6 for an unpaired one.
func surrogate(b []byte) (int, bool) {
	hi, ok := unit(b)
	if !ok || hi < 0xd800 || hi > 0xdfff {
		return 0, false
	}
	if hi < 0xdc00 {
		if lo, ok := unit(b[6:]); ok && lo >= 0xdc00 && lo <= 0xdfff {
			return 12, true
		}
	}
	return 6, true
}

// unit parses \uXXXX.
func unit(b []byte) (n rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		n = n<<4 | rune(c)
	}
	return n, true
}

// repairJSON replaces unpaired surrogates and invalid UTF-8 by U+FFFD.
func repairJSON(b []byte) []byte {
	b = bytes.ToValidUTF8(b, []byte("\uFFFD"))
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' || i+1 == len(b) {
			out = append(out, b[i])
			continue
		}
		switch n, ok := surrogate(b[i:]); {
		case ok && n == 6:
			out = append(out, `\ufffd`...)
			i += 5
		case ok:
			out = append(out, b[i:i+n]...)
			i += n - 1
		default:
			out = append(out, b[i], b[i+1])
			i++
		}
	}
	return out
}

// hexIDs corrects ids, which protojson decodes as base64 while OTLP encodes
// them in hexadecimal. The two are distinguished by length, so that senders of
// base64 work too.
func hexIDs(req *collector.ExportTraceServiceRequest) {
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				if s == nil {
					continue
				}
				s.TraceId = hexID(s.TraceId, 16)
				s.SpanId = hexID(s.SpanId, 8)
				s.ParentSpanId = hexID(s.ParentSpanId, 8)
			}
		}
	}
}

func hexID(b []byte, size int) []byte {
	if len(b) != size*2*3/4 {
		return b
	}
	id, err := hex.DecodeString(base64.StdEncoding.EncodeToString(b))
	if err != nil {
		return b
	}
	return id
}
