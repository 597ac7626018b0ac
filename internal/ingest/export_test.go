package ingest

// What tests reach directly.
var (
	LZDecompress = lzDecompress
	Check        = check
	MaxDepth     = maxDepth
)
