package ingest

import "encoding/json"

// What tests reach directly.
var (
	LZDecompress = lzDecompress
	Check        = check
)

// Held is how many bytes the requests under way hold.
func Held(h *Handler) int64 { return h.Memory.Used() }

// WalkObject reads an object with the package's own reader.
func WalkObject(b []byte) map[string]json.RawMessage {
	if i := skipSpace(b, 0); i >= len(b) || b[i] != '{' {
		return nil
	}
	m := make(map[string]json.RawMessage)
	for key, v := range members(b) {
		m[keyText(key)] = v
	}
	return m
}

// AssetHost is where the scripts of a PostHog are.
var AssetHost = assetHost

// CacheSize is what is remembered of PostHog's answers.
func CacheSize(h *Handler) (entries, size int) {
	h.relay.mu.Lock()
	defer h.relay.mu.Unlock()
	return len(h.relay.cache), h.relay.bytes
}
