package gateway

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/internal/provider"
)

// Grant is the project of a call, and its settings.
type Grant struct {
	ProjectID string

	// ProviderKey returns the stored key of a provider, for callers that send a
	// hedgerow key instead. nil: none is stored.
	ProviderKey func(provider string) (key string, ok bool)

	// LeaveUsage disables requesting usage for streams that do not report it.
	SkipUsage bool

	// AttributionFields are request members that are recorded as custom
	// properties and removed before the call is forwarded; see
	// [provider.AttributionFields].
	AttributionFields []string

	// Surface is set on calls that have none. It comes from the caller's key;
	// "" leaves it to the pipeline.
	Surface string

	// RecordStart records an [event.RequestStarted] before each generating call, in
	// addition to the event of the call.
	RecordStart bool
}

const (
	headerKey   = "X-Hedgerow-Key"
	headerDebug = "X-Hedgerow-Debug"
	keyPrefix   = "hr_"
	keyRandom   = 40 // letters and digits after keyPrefix
	tokenPrefix = "phc_hedgerow_"

	headerSubprotocol = "Sec-Websocket-Protocol"
	subprotocolKey    = "openai-insecure-api-key." // how browsers send a key to OpenAI's Realtime API
)

// credentialHeaders are the headers that may hold a provider's key.
var credentialHeaders = [...]string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key"}

// credentialParams are the query parameters that may hold one.
var credentialParams = [...]string{"key", "api_key", "api-key", "apikey", "apiKey", "access_token", "token"}

// credentials are the keys of a call.
type credentials struct {
	key      string // a hedgerow key, or ""
	inPlace  bool   // it was sent instead of the provider's key
	provider bool   // the caller also sent a provider key
	token    bool   // a project token was sent instead of the provider's key
}

func findCredentials(r *http.Request) credentials {
	var c credentials
	if v := r.Header[headerKey]; len(v) > 0 {
		c.key = strings.TrimSpace(v[0])
	}
	for _, name := range credentialHeaders {
		for _, v := range r.Header[name] {
			c.look(v)
		}
	}
	if r.URL.RawQuery != "" {
		for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
			name, v, _ := strings.Cut(part, "=")
			if slices.Contains(credentialParams[:], unescape(name)) {
				c.look(unescape(v))
			}
		}
	}
	for _, v := range r.Header[headerSubprotocol] {
		for part := range strings.SplitSeq(v, ",") {
			if key, ok := strings.CutPrefix(strings.TrimSpace(part), subprotocolKey); ok {
				c.look(key)
			}
		}
	}
	return c
}

// look examines a value that may hold a provider's key: the key itself, a
// scheme and the key, or the user or password of Basic.
func (c *credentials) look(v string) {
	v = strings.TrimSpace(v)
	if v == "" {
		return
	}
	key := v
	if i := strings.LastIndexByte(v, ' '); i >= 0 {
		key = v[i+1:]
		if strings.EqualFold(strings.TrimSpace(v[:i]), "basic") {
			key = basicKey(key)
		}
	}
	if _, scope, ok := strings.Cut(v, "Credential="); ok && signed(v) {
		key, _, _ = strings.Cut(scope, "/")
	}
	if !strings.HasPrefix(key, keyPrefix) && !strings.HasPrefix(key, tokenPrefix) {
		if own := findOwn(v); own != "" {
			key = own
		}
	}
	switch {
	case strings.HasPrefix(key, keyPrefix):
		c.inPlace = true
		if c.key == "" {
			c.key = key
		}
	case strings.HasPrefix(key, tokenPrefix):
		c.token = true
	default:
		c.provider = true
	}
}

// basicKey returns the part of Basic credentials that is a hedgerow key: the
// user, the password, or the part after another colon; otherwise the
// credentials unchanged.
func basicKey(s string) string {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		if b, err = base64.RawStdEncoding.DecodeString(s); err != nil {
			return s
		}
	}
	for part := range strings.SplitSeq(string(b), ":") {
		if strings.HasPrefix(part, keyPrefix) || strings.HasPrefix(part, tokenPrefix) {
			return part
		}
	}
	return s
}

// findOwn returns the first hedgerow key or project token in s, or "". It
// matches the exact form, because hr_ alone occurs in ordinary words and in the
// random part of other keys.
func findOwn(s string) string {
	if i := strings.Index(s, tokenPrefix); i >= 0 {
		return s[i : i+len(tokenPrefix)+lettersAndDigits(s[i+len(tokenPrefix):])]
	}
	for at := 0; ; {
		i := strings.Index(s[at:], keyPrefix)
		if i < 0 {
			return ""
		}
		i += at
		at = i + len(keyPrefix)
		if n := lettersAndDigits(s[at:]); n == keyRandom && (i == 0 || lettersAndDigits(s[i-1:i]) == 0) {
			return s[i : at+n]
		}
	}
}

// escapedTimes is how many levels of percent-encoding are searched for keys.
const escapedTimes = 3

// containsOwn reports whether a value that would be sent to a provider contains
// a hedgerow key or project token: plain, percent-encoded, in base64, or in
// Basic credentials.
func containsOwn(v string) bool {
	plain := v
	for range 1 + escapedTimes {
		if findOwn(plain) != "" || inBase64(plain) {
			return true
		}
		if strings.IndexByte(plain, '%') < 0 {
			break
		}
		plain = unescape(plain)
	}
	if scheme, rest, ok := strings.Cut(v, " "); ok && strings.EqualFold(scheme, "basic") {
		key := basicKey(strings.TrimSpace(rest))
		return strings.HasPrefix(key, keyPrefix) || strings.HasPrefix(key, tokenPrefix)
	}
	return false
}

// inBase64 reports whether a run of base64 in s, of either alphabet, contains a
// hedgerow key or project token.
func inBase64(s string) bool {
	const shortest = 4 * len(tokenPrefix) / 3
	isBreak := func(r rune) bool {
		return (r|0x20 < 'a' || r|0x20 > 'z') && (r < '0' || r > '9') && r != '+' && r != '/' && r != '-' && r != '_'
	}
	for run := range strings.FieldsFuncSeq(s, isBreak) {
		if len(run) < shortest {
			continue
		}
		alphabet := base64.RawStdEncoding
		if strings.ContainsAny(run, "-_") {
			alphabet = base64.RawURLEncoding
		}
		if len(run)%4 == 1 { // not a whole number of bytes
			run = run[:len(run)-1]
		}
		if b, err := alphabet.DecodeString(run); err == nil && findOwn(string(b)) != "" {
			return true
		}
	}
	return false
}

func lettersAndDigits(s string) int {
	for i := range len(s) {
		if c := s[i]; (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}

func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// withoutOwn removes hedgerow keys and project tokens from the headers sent to
// a provider. Values may be shared with the caller's request and must not be
// modified.
func withoutOwn(out http.Header) {
	for _, name := range credentialHeaders {
		for _, v := range out[name] {
			var c credentials
			if c.look(v); c.inPlace || c.token {
				delete(out, name)
				break
			}
		}
	}
	for name, lines := range out {
		found := false
		for _, v := range lines {
			if found = containsOwn(v) || name == headerSubprotocol && strings.Contains(v, subprotocolKey+keyPrefix); found {
				break
			}
		}
		switch {
		case !found:
		case name == headerSubprotocol:
			replace(out, name, keepParts(lines, ",", ", ", func(part string) bool {
				key, ok := strings.CutPrefix(part, subprotocolKey)
				return !containsOwn(part) && (!ok || !strings.HasPrefix(key, keyPrefix))
			}))
		case name == "Cookie":
			replace(out, name, keepParts(lines, ";", "; ", func(part string) bool { return !containsOwn(part) }))
		default:
			delete(out, name)
		}
	}
}

func replace(h http.Header, name string, lines []string) {
	if len(lines) == 0 {
		delete(h, name)
		return
	}
	h[name] = lines
}

// keepParts returns the lines of a header without the parts to be removed.
func keepParts(lines []string, separator, join string, keep func(part string) bool) (out []string) {
	for _, line := range lines {
		var parts []string
		for part := range strings.SplitSeq(line, separator) {
			if part = strings.TrimSpace(part); keep(part) {
				parts = append(parts, part)
			}
		}
		if len(parts) > 0 {
			out = append(out, strings.Join(parts, join))
		}
	}
	return out
}

// withProviderKey sets the stored provider key.
func (u *upstream) withProviderKey(out http.Header, providerKey string) {
	switch {
	case u.name == "bedrock": // replaces a signature
		withoutSignature(out)
		out["Authorization"] = []string{"Bearer " + providerKey}
	case u.name == "azure":
		out["Api-Key"] = []string{providerKey}
	case u.dialect == provider.Anthropic:
		out["X-Api-Key"] = []string{providerKey}
	case u.dialect == provider.Gemini:
		out["X-Goog-Api-Key"] = []string{providerKey}
	default:
		out["Authorization"] = []string{"Bearer " + providerKey}
	}
}

// queryWithoutOwn removes hedgerow keys and project tokens from a query.
func queryWithoutOwn(query string) string {
	if query == "" {
		return query
	}
	var keep []string
	for part := range strings.SplitSeq(query, "&") {
		name, v, _ := strings.Cut(part, "=")
		var c credentials
		if slices.Contains(credentialParams[:], unescape(name)) {
			c.look(unescape(v))
		}
		if !c.inPlace && !c.token && !containsOwn(part) {
			keep = append(keep, part)
		}
	}
	return strings.Join(keep, "&")
}

// trailerWithoutOwn removes hedgerow's own values from the trailers of a
// request, once they have arrived.
func trailerWithoutOwn(t http.Header) {
	for k := range t {
		if ownHeader(k) || hopByHop(k) {
			delete(t, k)
		}
	}
	withoutOwn(t)
}
