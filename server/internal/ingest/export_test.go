package ingest

import (
	"encoding/json"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Exported for tests.
var (
	LZDecompress = lzDecompress
	Check        = check
)

// Held returns the bytes held by requests in progress.
func Held(h *Handler) int64 { return h.Memory.Used() }

// WalkObject reads an object with the package's own reader.
func WalkObject(b []byte) map[string]json.RawMessage {
	if i := rawjson.SkipSpace(b, 0); i >= len(b) || b[i] != '{' {
		return nil
	}
	m := make(map[string]json.RawMessage)
	for key, v := range rawjson.Members(b) {
		m[keyText(key)] = v
	}
	return m
}

// AssetHost is the host of a PostHog's scripts.
var AssetHost = assetHost

// CacheSize is the size of the cache of PostHog's responses.
func CacheSize(h *Handler) (entries, size int) {
	h.relay.mu.Lock()
	defer h.relay.mu.Unlock()
	return len(h.relay.cache), h.relay.bytes
}
