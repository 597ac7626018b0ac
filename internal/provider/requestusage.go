package provider

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Streams of chat completions report usage only if the request has
// stream_options.include_usage. The gateway and the SDK add it if the caller
// does not, and a [UsageStripper] removes the extra chunk from the response.

// UsageRefusalTTL is how long usage is not requested after a provider has
// rejected the option.
const UsageRefusalTTL = time.Hour

// Edit replaces b[From:To] by Insert.
type Edit struct {
	From, To int
	Insert   string
}

// usageEdit plans the edit that requests usage in a body whose member "stream"
// is true; options is its "stream_options", zero if there is none. ok is false
// if the caller requested usage itself.
func usageEdit(b []byte, stream, options rawjson.Member) (e Edit, ok bool) {
	const ask = `"include_usage":true`
	if options.End == 0 {
		return Edit{stream.End, stream.End, `,"stream_options":{` + ask + `}`}, true
	}
	value := b[options.Val:options.End]
	if string(value) == "null" {
		return Edit{options.Val, options.End, "{" + ask + "}"}, true
	}
	if value[0] != '{' || !event.ValidJSON(value) {
		return Edit{}, false
	}
	o := rawjson.NewObject(value)
	n, found := 0, rawjson.Member{}
	for {
		m, ok := o.Next()
		if !ok {
			break
		}
		n++
		if string(o.Name(m)) == "include_usage" {
			if found.End != 0 {
				return Edit{}, false
			}
			found = m
		}
	}
	at := options.Val
	switch {
	case found.End == 0 && n == 0:
		return Edit{at + 1, at + 1, ask}, true
	case found.End == 0:
		return Edit{at + 1, at + 1, ask + ","}, true
	case string(o.Value(found)) == "false" || string(o.Value(found)) == "null":
		return Edit{at + found.Val, at + found.End, "true"}, true
	}
	return Edit{}, false // true, or invalid: left to the provider
}

// Apply returns b with the edits made, in one new slice; b itself if there are
// none.
func Apply(b []byte, edits []Edit) []byte {
	if len(edits) == 0 {
		return b
	}
	n := len(b)
	for _, e := range edits {
		n += len(e.Insert) - (e.To - e.From)
	}
	out := make([]byte, 0, n)
	at := 0
	for _, e := range edits {
		out = append(out, b[at:e.From]...)
		out = append(out, e.Insert...)
		at = e.To
	}
	return append(out, b[at:]...)
}

// RefusesUsage reports whether a provider rejected the added stream_options,
// either by name or with an error that may refer to them, so that the call
// should be retried without them. It then closes the response; otherwise the
// response can still be read in full. decode decompresses a body by its
// Content-Encoding; it returns nil on failure. Mistral uses status 422.
func RefusesUsage(res *http.Response, decode func(encoding string, head []byte) []byte) bool {
	if res.StatusCode != http.StatusBadRequest && res.StatusCode != http.StatusUnprocessableEntity || res.Body == nil {
		return false
	}
	head, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	text := head
	if enc := res.Header.Get("Content-Encoding"); enc != "" && decode != nil {
		text = decode(enc, head)
	}
	if err == nil && (bytes.Contains(text, []byte("stream_options")) || bytes.Contains(text, []byte("include_usage")) || isGeneric(text)) {
		_ = res.Body.Close()
		return true
	}
	rest := io.Reader(res.Body)
	if err != nil {
		rest = failing{err}
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), res.Body}
	return false
}

// isGeneric reports whether an error names neither a parameter nor a code, and only
// states that something in the request is unknown or invalid.
func isGeneric(body []byte) bool {
	v := gjson.ParseBytes(body)
	if len(body) > 0 && !event.ValidJSON(body) {
		v = gjson.Result{}
	}
	if e := v.Get("error"); e.IsObject() {
		v = e
	}
	if code := v.Get("code"); v.Get("param").String() != "" || code.Type == gjson.String && strings.Trim(code.Str, "0123456789") != "" {
		return false
	}
	message := bytes.ToLower(body)
	if m := v.Get("message"); m.Type == gjson.String {
		message = bytes.ToLower([]byte(m.Str))
	}
	if len(bytes.TrimSpace(message)) == 0 {
		return true
	}
	for _, word := range [...]string{"bad request", "invalid request", "unknown", "unrecognized", "unrecognised", "unsupported", "not supported", "unexpected", "extra ", "not permitted", "validation", "schema", "deserialize", "unmarshal"} {
		if bytes.Contains(message, []byte(word)) {
			return true
		}
	}
	return false
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
