package provider

import "strings"

const (
	leastFile = 64   // characters of base64 under a name that holds files
	leastBare = 1024 // characters of base64 anywhere else
)

// RedactBase64 replaces the files in a body by placeholders, as PostHog's SDKs
// do (contract section 3.5): data URLs anywhere in a text become [base64
// image/png redacted]. Strings of at least 64 base64 characters under a name
// that holds files, such as data, file_data, b64_json or signature, become
// [base64 audio/wav redacted] if an adjacent member names the type, else
// [base64 redacted]. The same applies to any run of at least 1,024 base64
// characters that looks random.
//
// It works on raw bytes, before anything is decoded, so that 25 MB of images
// cost no more memory than what remains. JSON stays valid; the body may also be
// a stream, or truncated anywhere. b is not modified, and returned itself if
// there is nothing to replace.
func RedactBase64(b []byte) []byte {
	if out := redact(view(b)); out != nil {
		return out
	}
	return b
}

// redactView is [RedactBase64] for a string that may be a view.
func redactView(s string) string {
	if len(s) < leastFile {
		return s
	}
	if out := redact(s); out != nil {
		return view(out)
	}
	return s
}

const base64Mark = ";base64,"

// redact returns nil if there is nothing to replace.
func redact(s string) []byte {
	var out []byte
	kept := 0 // s[:kept] is in out, or replaced
	replace := func(from, to int, media string) {
		if out == nil {
			out = make([]byte, 0, min(len(s), 4096))
		}
		out = append(out, s[kept:from]...)
		out = append(out, "[base64 "...)
		if media != "" {
			out = append(append(out, media...), ' ')
		}
		out = append(out, "redacted]"...)
		kept = to
	}
	url := -1 // index of the next base64Mark from i on; -2 if there is none
	for i := 0; i < len(s); {
		if url != -2 && url < i {
			if url = strings.Index(s[i:], base64Mark); url < 0 {
				url = -2
			} else {
				url += i
			}
		}
		from, to, ok := nextRun(s, i, url)
		if url >= 0 && (!ok || url < from) {
			payload := url + len(base64Mark)
			end := runEnd(s, payload)
			if head := strings.LastIndex(s[max(kept, url-128):url], "data:"); head >= 0 && end > payload {
				head += max(kept, url-128)
				replace(head, end, mediaType(s[head+len("data:"):url]))
			}
			i = max(end, payload)
			continue
		}
		if !ok {
			break
		}
		if media, ok := isFile(s, from, to); ok {
			replace(from, to, media)
		}
		i = to
	}
	if out == nil {
		return nil
	}
	return append(out, s[kept:]...)
}

// inRun marks the characters of a base64 run, including the backslash of JSON's
// escapes.
var inRun = func() (t [256]bool) {
	for _, c := range `ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\` {
		t[c] = true
	}
	return t
}()

// nextRun finds the next run of at least leastFile characters of base64 from i
// on that begins before a known limit (-1 or less: none). It checks one
// character in 64: if that one cannot be in a run, none of the 63 before it is
// in a run of that length.
func nextRun(s string, i, limit int) (from, to int, ok bool) {
	for p := i + leastFile - 1; p < len(s); p = i + leastFile - 1 {
		if limit >= 0 && i > limit {
			return 0, 0, false
		}
		if !inRun[s[p]] {
			i = p + 1
			continue
		}
		from = p
		for from > i && inRun[s[from-1]] {
			from--
		}
		// from is never inside an escape, because a backslash is part of a run,
		// and i is set to what follows one.
		for from < len(s)-1 && s[from] == '\\' && (s[from+1] == 'n' || s[from+1] == 'r') {
			from += 2
		}
		to = runEnd(s, from)
		if to-from >= leastFile {
			return from, to, true
		}
		i = to
		if i < len(s) {
			i += escapeLen(s, i)
		}
	}
	return 0, 0, false
}

// escapeLen is the length of the character at i, counting an escape as one
// character.
func escapeLen(s string, i int) int {
	switch {
	case s[i] != '\\':
		return 1
	case i+1 < len(s) && s[i+1] == 'u':
		return 6
	}
	return 2
}

// runEnd returns the end of the base64 run at i, including escaped slashes
// (PHP), plus and equals signs (.NET) and line breaks (MIME).
func runEnd(s string, i int) int {
	for i < len(s) && inRun[s[i]] {
		if s[i] != '\\' {
			i++
			continue
		}
		rest := s[i+1:]
		switch {
		case strings.HasPrefix(rest, "/"), strings.HasPrefix(rest, "n"), strings.HasPrefix(rest, "r"):
			i += 2
		case len(rest) >= 5 && (strings.EqualFold(rest[:5], "u002b") || strings.EqualFold(rest[:5], "u002f") || strings.EqualFold(rest[:5], "u003d")):
			i += 6
		default:
			return i
		}
	}
	return i
}

// isFile decides whether the run s[from:to] is a file, and returns its media
// type if known.
func isFile(s string, from, to int) (media string, ok bool) {
	if before, alone := strings.CutSuffix(s[max(0, from-80):from], `"`); alone && (to == len(s) || s[to] == '"' || strings.HasPrefix(s[to:], `\"`)) {
		before = strings.TrimRight(strings.TrimSuffix(before, `\`), " \t\r\n")
		before, isMember := strings.CutSuffix(before, ":")
		before = strings.TrimSuffix(strings.TrimSuffix(strings.TrimRight(before, " \t\r\n"), `"`), `\`)
		if isMember && fileNames[before[strings.LastIndexByte(before, '"')+1:]] {
			media = mediaBeside(s, from, to)
			if media != "" || hasMixedCharacters(s[from:to]) {
				return media, true
			}
		}
	}
	return "", to-from >= leastBare && hasMixedCharacters(s[from:to])
}

// fileNames are the members that hold files or encrypted data.
var fileNames = map[string]bool{
	"data": true, "file_data": true, "fileData": true, "b64_json": true, "partial_image_b64": true, "image": true,
	"audio": true, "video": true, "bytes": true, "blob": true, "embedding": true, "result": true, "delta": true,
	"signature": true, "thought_signature": true, "thoughtSignature": true, "encrypted_content": true, "encrypted_index": true,
}

// hasMixedCharacters reports whether a run mixes letters and digits as base64 does; a
// hash in hexadecimal, a gene sequence, a row of dashes and a long path mostly
// do not.
func hasMixedCharacters(run string) bool {
	var upper, lower, digit, sign int
	for i := range min(len(run), 4096) {
		switch c := run[i]; {
		case c >= 'A' && c <= 'Z':
			upper++
		case c >= 'a' && c <= 'z':
			lower++
		case c >= '0' && c <= '9':
			digit++
		default:
			sign++
		}
	}
	return upper > 0 && lower > 0 && digit > 0 && sign*4 < upper+lower+digit
}

// mediaBeside looks for the member with the type of the file s[from:to]:
// media_type, mime_type, mimeType or, for audio, format.
func mediaBeside(s string, from, to int) string {
	before := s[max(0, from-200):from]
	before = before[strings.LastIndexAny(before, "{}")+1:]
	after := s[to:min(len(s), to+200)]
	if k := strings.IndexAny(after, "{}"); k >= 0 {
		after = after[:k]
	}
	for _, near := range []string{before, after} {
		for _, name := range []string{"media_type", "mime_type", "mimeType"} {
			if m := mediaType(member(near, name)); m != "" {
				return m
			}
		}
		switch format := member(near, "format"); format {
		case "wav", "mp3", "flac", "opus", "pcm16", "aac", "ogg", "m4a":
			return "audio/" + format
		}
	}
	return ""
}

// member returns the string that follows a name in a piece of JSON.
func member(s, name string) string {
	k := strings.Index(s, name)
	if k < 0 {
		return ""
	}
	s = strings.TrimLeft(s[k+len(name):], "\\\": \t\r\n")
	if end := strings.IndexAny(s, `\"`); end >= 0 && !strings.HasPrefix(s[end:], `\/`) {
		return s[:end]
	} else if end >= 0 {
		if quote := strings.IndexByte(s, '"'); quote >= 0 {
			return s[:quote]
		}
	}
	return ""
}

// mediaType converts a media type for a placeholder: "" for none, "file" for a
// generic one.
func mediaType(s string) string {
	s, _, _ = strings.Cut(strings.ReplaceAll(s, `\`, ""), ";")
	if s == "application/octet-stream" {
		return "file"
	}
	if len(s) > 80 || !strings.Contains(s, "/") {
		return ""
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("/+.-", c) >= 0:
		default:
			return ""
		}
	}
	return s
}
