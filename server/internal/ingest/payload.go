package ingest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/httpbody"
)

// payload is the JSON of a v0 request.
type payload struct {
	json   []byte
	sentAt time.Time // the query's "_"; zero if missing
}

// maxLayers limits nested encodings: SDKs send at most base64 of gzip.
const maxLayers = 3

// readPayload finds the JSON in a v0 request in the order of contract section
// 1.2: the query's data, or else the body; a form's field data; then base64,
// compression and lz-string, by the hints where they are right and by the data
// itself where they are not.
func (x exchange) readPayload(r *http.Request, query url.Values, raw []byte, limit int64) (payload, *httpbody.Refusal) {
	p := payload{json: raw, sentAt: querySentAt(query)}
	hint := query.Get("compression")
	var unknown *httpbody.Refusal // the header has an unknown encoding
	ct, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch data := query.Get("data"); {
	case data != "":
		p.json = restorePlus([]byte(data))
	default:
		header := r.Header.Get("Content-Encoding")
		enc, bad := httpbody.Encoding(header, raw, false)
		if bad != nil {
			// Some SDKs use the query's values in the header, such as lz64. As for the
			// query, the data itself takes precedence.
			if unknown = bad; hint == "" {
				hint = header
			}
		}
		if p.json, bad = x.Decode(enc, raw, limit); bad != nil {
			return p, bad
		}
		if b := bytes.TrimSpace(p.json); ct == "application/x-www-form-urlencoded" && len(b) > 0 && (enc == "" || b[0] != '{' && b[0] != '[') {
			var formHint string
			if p.json, formHint, bad = x.form(p.json); bad != nil {
				return p, bad
			}
			if formHint != "" {
				hint = formHint
			}
		}
	}
	hint = strings.ToLower(strings.TrimSpace(hint))
	for range maxLayers {
		p.json = bytes.TrimSpace(p.json)
		if len(p.json) == 0 {
			return p, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "no event submitted: the body is empty")
		}
		if p.json[0] == '{' || p.json[0] == '[' {
			return p, nil
		}
		if enc := httpbody.Sniff(p.json); enc != "" {
			b, bad := x.Decode(enc, p.json, limit)
			if bad != nil {
				return p, bad
			}
			p.json = b
			continue
		}
		if hint == "lz64" || hint == "lz-string" {
			// lz-string uses base64's characters, so check for it first.
			b, bad := x.lz(p.json, limit)
			if bad != nil {
				return p, bad
			}
			p.json, hint = b, ""
			continue
		}
		b, bad := x.base64(p.json)
		if bad != nil {
			return p, bad
		}
		if b == nil {
			return p, unknown // if nil, the parser reports the error
		}
		p.json = b
	}
	return p, nil
}

// querySentAt parses "_", milliseconds since 1970. Seconds would give a year before
// 2020 and are ignored.
func querySentAt(q url.Values) time.Time {
	ms, err := strconv.ParseInt(q.Get("_"), 10, 64)
	if err != nil {
		return time.Time{}
	}
	if t := time.UnixMilli(ms).UTC(); t.Year() > 2020 && t.Year() < 10000 {
		return t
	}
	return time.Time{}
}

// form returns the fields data and compression of a urlencoded form.
func (x exchange) form(b []byte) (data []byte, compression string, bad *httpbody.Refusal) {
	if bad := x.Take(2 * int64(len(b))); bad != nil {
		return nil, "", bad
	}
	found := false
	for field := range strings.SplitSeq(string(b), "&") {
		key, value, _ := strings.Cut(field, "=")
		if key != "data" && key != "compression" {
			continue
		}
		v, err := url.QueryUnescape(value)
		if err != nil {
			return nil, "", httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "failed to decode form data: a broken escape")
		}
		if key == "data" {
			data, found = restorePlus([]byte(v)), true
		} else {
			compression = v
		}
	}
	if !found {
		return nil, "", httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "failed to decode form data: there is no field \"data\"")
	}
	return data, compression, nil
}

// restorePlus restores plus signs in base64 that form decoding replaced by spaces.
func restorePlus(b []byte) []byte {
	if bytes.IndexByte(b, ' ') < 0 {
		return b
	}
	plus := bytes.ReplaceAll(bytes.TrimSpace(b), []byte{' '}, []byte{'+'})
	if !base64Like(plus) {
		return b
	}
	return plus
}

// base64Like reports whether b consists of base64 characters only, of either
// alphabet.
func base64Like(b []byte) bool {
	end := len(b)
	for end > 0 && b[end-1] == '=' && len(b)-end < 3 { // lz-string pads with up to three
		end--
	}
	for _, c := range b[:end] {
		if base64Value[c] < 0 && c != '-' && c != '_' {
			return false
		}
	}
	return end >= 2
}

// base64 decodes b if all of it is base64, with or without padding, in the
// standard or the URL alphabet; otherwise it returns nil.
func (x exchange) base64(b []byte) ([]byte, *httpbody.Refusal) {
	if !base64Like(b) {
		return nil, nil
	}
	if bad := x.Take(int64(len(b))); bad != nil {
		return nil, bad
	}
	enc := base64.RawStdEncoding
	if bytes.ContainsAny(b, "-_") {
		enc = base64.RawURLEncoding
	}
	b = bytes.TrimRight(b, "=")
	out := make([]byte, enc.DecodedLen(len(b)))
	n, err := enc.Decode(out, b)
	if err != nil {
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "failed to decode base64 data")
	}
	return out[:n], nil
}

func (x exchange) lz(b []byte, limit int64) ([]byte, *httpbody.Refusal) {
	b = bytes.TrimRight(restorePlus(b), "=")
	var held int64
	out, err := lzDecompress(b, func(n int) error {
		if held += int64(n); held > 8*limit {
			return httpbody.ErrTooBig
		}
		if bad := x.Take(int64(n)); bad != nil {
			return bad
		}
		return nil
	})
	switch {
	case errors.Is(err, httpbody.ErrTooBig):
		return nil, httpbody.TooLarge("the decompressed body", limit)
	case errors.Is(err, errLZ):
		return nil, httpbody.Refuse(http.StatusBadRequest, httpbody.ReasonMalformed, "failed to decode lz64 data")
	case err != nil:
		return nil, httpbody.AsRefusal(err)
	case int64(len(out)) > limit:
		return nil, httpbody.TooLarge("the decompressed body", limit)
	}
	return out, nil
}
