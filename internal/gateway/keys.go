package gateway

import (
	"net/http"
	"strings"

	"github.com/hedgerow/hedgerow/internal/provider"
)

// Grant is what a caller is allowed: the project that its calls belong to.
type Grant struct {
	ProjectID string

	// ProviderKey returns the key kept for a provider, for callers that send a
	// hedgerow key in its place. nil keeps none.
	ProviderKey func(provider string) (key string, ok bool)

	// LeaveUsage turns off, for this project, asking for token counts on streams
	// that lack them.
	LeaveUsage bool

	// TellStart has an [event.RequestStarted] recorded before each call that
	// generates something, beside the event of the call.
	TellStart bool
}

const (
	headerKey   = "X-Hedgerow-Key"
	headerDebug = "X-Hedgerow-Debug"
	keyPrefix   = "hr_"

	headerSubprotocol = "Sec-Websocket-Protocol"
	subprotocolKey    = "openai-insecure-api-key." // how browsers send a key to OpenAI's realtime API
)

// credentialHeaders are those that bear a provider's key.
var credentialHeaders = [...]string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key"}

// credentials is what a call brought to be let in.
type credentials struct {
	key      string // hedgerow's; "" where there is none
	inPlace  bool   // it stood where the provider's key belongs
	provider bool   // there is a key of the caller's own as well
	inQuery  bool
}

func findCredentials(r *http.Request) credentials {
	var c credentials
	if v := r.Header[headerKey]; len(v) > 0 {
		c.key = strings.TrimSpace(v[0])
	}
	found := func(key string) {
		c.inPlace = true
		if c.key == "" {
			c.key = key
		}
	}
	for _, name := range credentialHeaders {
		for _, v := range r.Header[name] {
			if key := bearer(v); strings.HasPrefix(key, keyPrefix) {
				found(key)
			} else if key != "" {
				c.provider = true
			}
		}
	}
	if strings.Contains(r.URL.RawQuery, "key=") {
		for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
			if key, ok := strings.CutPrefix(part, "key="); ok && strings.HasPrefix(key, keyPrefix) {
				found(key)
				c.inQuery = true
			} else if ok {
				c.provider = true
			}
		}
	}
	for _, v := range r.Header[headerSubprotocol] {
		for part := range strings.SplitSeq(v, ",") {
			if key, ok := strings.CutPrefix(strings.TrimSpace(part), subprotocolKey); ok && strings.HasPrefix(key, keyPrefix) {
				found(key)
			}
		}
	}
	return c
}

func bearer(v string) string {
	if len(v) > 7 && strings.EqualFold(v[:7], "bearer ") {
		v = v[7:]
	}
	return strings.TrimSpace(v)
}

// withoutKeys takes every hedgerow key out of headers that are about to be sent,
// and puts the provider's in, if there is one to put.
func (u *upstream) withoutKeys(out http.Header, providerKey string) {
	for _, name := range credentialHeaders {
		for _, v := range out[name] {
			if strings.HasPrefix(bearer(v), keyPrefix) {
				delete(out, name)
				break
			}
		}
	}
	if lines := out[headerSubprotocol]; len(lines) > 0 {
		var keep []string
		for part := range strings.SplitSeq(strings.Join(lines, ","), ",") {
			if part = strings.TrimSpace(part); !strings.HasPrefix(part, subprotocolKey+keyPrefix) {
				keep = append(keep, part)
			}
		}
		out[headerSubprotocol] = []string{strings.Join(keep, ", ")}
		if len(keep) == 0 {
			delete(out, headerSubprotocol)
		}
	}
	if providerKey == "" {
		return
	}
	switch {
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

// queryWithoutKeys takes hedgerow keys out of a query.
func queryWithoutKeys(query string) string {
	var keep []string
	for part := range strings.SplitSeq(query, "&") {
		if !strings.HasPrefix(part, "key="+keyPrefix) {
			keep = append(keep, part)
		}
	}
	return strings.Join(keep, "&")
}
