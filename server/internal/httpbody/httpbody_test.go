package httpbody_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/hedgerow/hedgerow/server/internal/httpbody"
)

// encoders write each encoding.
var encoders = map[string]func(io.Writer) io.WriteCloser{
	httpbody.Gzip:    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
	httpbody.Deflate: func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
	httpbody.Bare:    func(w io.Writer) io.WriteCloser { z, _ := flate.NewWriter(w, 6); return z },
	httpbody.Brotli:  func(w io.Writer) io.WriteCloser { return brotli.NewWriter(w) },
	httpbody.Zstd:    func(w io.Writer) io.WriteCloser { z, _ := zstd.NewWriter(w); return z },
}

func encode(t testing.TB, enc string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := encoders[enc](&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestEncodings(t *testing.T) {
	plain := []byte(`{"api_key":"k","batch":[` + strings.Repeat(`{"event":"e"},`, 10_000) + `{}]}`)
	m := httpbody.NewMemory(64 << 20)
	for enc := range encoders {
		t.Run(enc, func(t *testing.T) {
			x := m.Open(t.Context())
			defer x.End()
			packed := encode(t, enc, plain)
			header := enc
			if enc == httpbody.Bare {
				header = httpbody.Deflate
			}
			found, bad := httpbody.Encoding(header, packed, true)
			if bad != nil || found != enc {
				t.Fatalf("taken for %q, %v", found, bad)
			}
			got, bad := x.Decode(enc, packed, 1<<20)
			if bad != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%d bytes of %d came back, %v", len(got), len(plain), bad)
			}
			if _, bad = x.Decode(enc, packed, 1000); bad == nil || bad.Status != 413 || !strings.Contains(bad.Message, "more than 1000 bytes") {
				t.Errorf("a bomb: %+v", bad)
			}
			_, bad = x.Decode(enc, packed[:len(packed)/2], 1<<20)
			if bad == nil || bad.Status != 400 || bad.Reason != httpbody.ReasonMalformed {
				t.Errorf("cut off: %+v", bad)
			}
		})
	}
	if used := m.Used(); used != 0 {
		t.Errorf("%d bytes are still held", used)
	}
}

// The first bytes know better than the header.
func TestEncoding(t *testing.T) {
	json, gz := []byte(`{"a":1}`), encode(t, httpbody.Gzip, []byte("x"))
	zl, bare := encode(t, httpbody.Deflate, []byte("x")), encode(t, httpbody.Bare, []byte("x"))
	for _, tt := range []struct {
		name, header string
		b            []byte
		bare         bool
		want         string
	}{
		{"nothing", "", json, false, ""},
		{"gzip without a header", "", gz, false, httpbody.Gzip},
		{"gzip under another name", "br", gz, false, httpbody.Gzip},
		{"decoded by a proxy", "gzip", json, false, ""},
		{"zlib", " Deflate ", zl, false, httpbody.Deflate},
		{"zlib where bare streams are taken", "deflate", zl, true, httpbody.Deflate},
		{"a bare stream", "deflate", bare, true, httpbody.Bare},
		{"a bare stream where none is taken", "deflate", bare, false, ""},
		{"zlib's frame with a small window", "deflate", []byte{0x58, 0x09}, true, httpbody.Deflate},
		{"JSON said to be deflated", "deflate", json, true, ""},
		{"protobuf said to be deflated", "deflate", []byte{0x0a, 0}, true, ""},
		{"empty", "deflate", nil, true, ""},
	} {
		if got, bad := httpbody.Encoding(tt.header, tt.b, tt.bare); got != tt.want || bad != nil {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, bad, tt.want)
		}
	}
	if _, bad := httpbody.Encoding("compress", json, true); bad == nil || bad.Status != 415 {
		t.Errorf("an unknown encoding: %+v", bad)
	}
}

// A request that finds the memory in use waits for it, and after a timeout gets
// an error to retry; one that could never have it is rejected immediately.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := httpbody.NewMemory(100)
		first, second := m.Open(t.Context()), m.Open(t.Context())
		if bad := first.Take(80); bad != nil {
			t.Fatal(bad)
		}
		if bad := second.Take(101); bad == nil || bad.Status != 413 {
			t.Errorf("more than there is: %+v", bad)
		}
		start := time.Now()
		go func() {
			time.Sleep(100 * time.Millisecond)
			first.End()
		}()
		if bad := second.Take(60); bad != nil {
			t.Errorf("not given though it became free: %v", bad)
		}
		if d := time.Since(start); d != 100*time.Millisecond {
			t.Errorf("given after %v", d)
		}
		third := m.Open(t.Context())
		start = time.Now()
		bad := third.Take(60)
		if bad == nil || bad.Status != http.StatusServiceUnavailable || bad.Reason != httpbody.ReasonMemory || bad.RetryAfter() != "1" {
			t.Errorf("memory that is not there: %+v", bad)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("refused after %v", d)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if bad := m.Open(gone).Take(60); bad == nil {
			t.Error("given to a client that is gone")
		}
		second.End()
		third.End()
		if m.Used() != 0 {
			t.Errorf("%d bytes are still held", m.Used())
		}
	})
}

func TestRead(t *testing.T) {
	m := httpbody.NewMemory(1 << 20)
	x := m.Open(t.Context())
	defer x.End()
	want := strings.Repeat("0123456789", 20_000)
	for _, expected := range []int64{0, 1, 200_000, 1 << 40} {
		b, err := x.Read(iotest.HalfReader(strings.NewReader(want)), 200_000, expected)
		if err != nil || string(b) != want {
			t.Errorf("expecting %d: %d bytes, %v", expected, len(b), err)
		}
		if _, err := x.Read(strings.NewReader(want), 199_999, expected); !errors.Is(err, httpbody.ErrTooBig) {
			t.Errorf("expecting %d, one byte too many: %v", expected, err)
		}
		x.End()
	}
	var bad *httpbody.Refusal
	if _, err := x.Read(strings.NewReader(strings.Repeat(want, 10)), 10<<20, 0); !errors.As(err, &bad) || bad.Status != 413 {
		t.Errorf("more than the memory: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for enc := range encoders {
		f.Add(enc, encode(f, enc, []byte(`{"a":"`+strings.Repeat("b", 5000)+`"}`)))
	}
	m := httpbody.NewMemory(16 << 20)
	f.Fuzz(func(t *testing.T, header string, b []byte) {
		x := m.Open(t.Context())
		enc, bad := httpbody.Encoding(header, b, true)
		if bad == nil {
			var out []byte
			if out, bad = x.Decode(enc, b, 4096); bad == nil && enc != "" && len(out) > 4096 {
				t.Errorf("%d bytes came of it", len(out))
			}
		}
		if bad != nil && (bad.Status < 400 || bad.Message == "" || bad.Reason == "") {
			t.Errorf("refused with %+v", bad)
		}
		x.End()
		if m.Used() != 0 {
			t.Errorf("%d bytes are still held", m.Used())
		}
	})
}
