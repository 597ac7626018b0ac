package store_test

import (
	"reflect"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/hedgerow/hedgerow/server/internal/store"
)

func FuzzDecodeContent(f *testing.F) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, raw := range []string{"", "\x00\x00\x00\x00\x00", "\x03{}\x00\x01\x00\x00", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x00\x00\x00\x00\x00x"} {
		f.Add(enc.EncodeAll([]byte(raw), nil), []byte(raw))
	}
	f.Add([]byte("not zstd"), []byte{})
	f.Add([]byte("\x00\x03{}\x00\x01\x00\x00"), []byte{})
	f.Fuzz(func(t *testing.T, body, raw []byte) {
		if c, err := store.DecodeContent(body); err != nil && !c.IsZero() {
			t.Error("an error came with content")
		}
		c, err := store.DecodeContent(enc.EncodeAll(raw, nil))
		if err != nil && !c.IsZero() {
			t.Error("an error came with content")
		}
		if err == nil && c.Size() > len(raw) {
			t.Errorf("%d bytes of content from %d", c.Size(), len(raw))
		}
		plain, plainErr := store.DecodeContent(append([]byte{0}, raw...))
		if (plainErr == nil) != (err == nil) || !reflect.DeepEqual(plain, c) {
			t.Errorf("compressed %v (%v), as it is %v (%v)", c, err, plain, plainErr)
		}
	})
}
