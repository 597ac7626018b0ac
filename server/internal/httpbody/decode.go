package httpbody

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// Encodings of a body, as Content-Encoding names them.
const (
	Gzip    = "gzip"
	Deflate = "deflate" // zlib, as RFC 9110 means it
	Bare    = "bare deflate"
	Brotli  = "br"
	Zstd    = "zstd"
)

// Sniff detects an encoding by its first bytes, "" for none. Deflate and brotli
// have no signature.
func Sniff(b []byte) string {
	switch {
	case len(b) > 2 && b[0] == 0x1f && b[1] == 0x8b:
		return Gzip
	case len(b) > 3 && b[0] == 0x28 && b[1] == 0xb5 && b[2] == 0x2f && b[3] == 0xfd:
		return Zstd
	}
	return ""
}

// Encoding is what a body is encoded with, "" for nothing. Its first bytes know
// better than the header, which SDKs get wrong and proxies leave behind when they
// decode. No JSON and no protobuf of OTLP opens as those encodings do.
//
// bare takes a deflate stream without zlib's frame too, as some OTLP clients send
// it: whatever is neither that frame nor a JSON object nor, by its first byte, a
// protobuf list.
func Encoding(header string, b []byte, bare bool) (string, *Refusal) {
	if e := Sniff(b); e != "" {
		return e, nil
	}
	switch e := strings.ToLower(strings.TrimSpace(header)); e {
	case "", "identity", "none", Gzip, "x-gzip", "gzip-js", Zstd:
		return "", nil
	case Deflate:
		switch {
		case len(b) == 0:
			return "", nil
		case b[0] == 0x78: // opens every zlib stream that is in use, and no JSON
			return Deflate, nil
		case bare && len(b) > 1 && b[0]&0x0f == 8 && (int(b[0])<<8|int(b[1]))%31 == 0: // zlib's frame with a smaller window
			return Deflate, nil
		case bare && b[0] != '\n' && b[0] != '{':
			return Bare, nil
		}
		return "", nil
	case Brotli:
		return e, nil
	}
	return "", Refuse(http.StatusUnsupportedMediaType, ReasonUnsupported, "unsupported content encoding: use gzip, deflate, br or zstd")
}

// Decode undoes an encoding; limit bounds what comes of it.
func (x *Exchange) Decode(enc string, b []byte, limit int64) ([]byte, *Refusal) {
	if enc == "" {
		return b, nil
	}
	out, err := x.decode(enc, b, limit)
	var already *Refusal
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, ErrTooBig), errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return nil, TooLarge("the decompressed body", limit)
	case errors.As(err, &already):
		return nil, already
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return nil, Refuse(http.StatusBadRequest, ReasonMalformed, "failed to decode %s data: unexpected end", enc)
	}
	return nil, Refuse(http.StatusBadRequest, ReasonMalformed, "failed to decode %s data", enc)
}

var gzipReaders sync.Pool

func (x *Exchange) decode(enc string, b []byte, limit int64) ([]byte, error) {
	in := bytes.NewReader(b)
	guess := 6 * int64(len(b)) // what JSON usually comes to
	switch enc {
	case Gzip:
		z, _ := gzipReaders.Get().(*gzip.Reader)
		var err error
		if z == nil {
			z, err = gzip.NewReader(in)
		} else {
			err = z.Reset(in)
		}
		if err != nil {
			return nil, err
		}
		defer gzipReaders.Put(z)
		return x.Read(z, limit, guess)
	case Deflate:
		z, err := zlib.NewReader(in)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return x.Read(z, limit, guess)
	case Bare:
		z := flate.NewReader(in)
		defer z.Close()
		return x.Read(z, limit, guess)
	case Brotli:
		return x.Read(brotli.NewReader(in), limit, guess)
	}
	const window = 8 << 20 // what a decoder for HTTP must have at least; RFC 9659
	if bad := x.Take(window); bad != nil {
		return nil, bad
	}
	z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window), zstd.WithDecoderMaxMemory(uint64(max(limit, window))+1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return x.Read(z, limit, guess)
}
