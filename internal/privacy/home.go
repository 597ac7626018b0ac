package privacy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// HomePolicy selects a project's stored content. The zero policy stores none.
type HomePolicy struct {
	KeepContent bool // keep prompts and answers in the store for the project's retention
	ScrubEmails bool // replace e-mail addresses too, everywhere but in ids
}

// AtHome prepares an event for the journal, in place and in this order:
//
//  1. [Derive] sets the fields of charts from the content, while it exists.
//  2. If the project keeps no content, or the caller requested privacy
//     (e.Private), the content is dropped with everything that may repeat it:
//     error messages, and properties that are known for content, are long, or
//     quote it; e.Private is then set.
//  3. Base64 files become placeholders ([RedactBase64]).
//  4. Secrets become placeholders ([ScrubJSON]) in every text of the event. An id
//     is kept, unless it is a key: then it is replaced by its hash, so that users
//     can still be distinguished. Query, fragment and user of URLs are removed.
//  5. The event is reduced to the journal's size limit ([Fit]).
//
// It is idempotent. Maps and raw values are replaced, not modified: an event may
// share them with its source.
func AtHome(e *event.Event, p HomePolicy) {
	Derive(e)
	if !p.KeepContent || e.Private {
		if !e.Content.IsZero() {
			e.Private = true
		}
		quotesAtHome(e)
		e.DropContent()
		reduceOutcome(e)
		e.ModelParameters, e.ProviderMetadata = reduce(e.ModelParameters, false), reduce(e.ProviderMetadata, true)
		e.Properties = withoutContent(e)
	}
	for _, part := range e.Content.Parts() {
		if *part != nil {
			*part = ScrubJSON(RedactBase64(*part), p.ScrubEmails)
		}
	}
	for _, m := range []*map[string]json.RawMessage{&e.Properties, &e.ModelParameters, &e.ProviderMetadata} {
		*m = scrubRaw(*m, p.ScrubEmails)
	}
	for _, at := range textFields {
		s := at(e)
		*s = ScrubText(*s, p.ScrubEmails)
	}
	for _, at := range idFields {
		s := at(e)
		*s = scrubID(*s)
	}
	e.BaseURL, e.RequestURL = bareURL(e.BaseURL), bareURL(e.RequestURL)
	e.Tags = scrubList(e.Tags, p.ScrubEmails)
	e.Attributes = scrubList(e.Attributes, p.ScrubEmails)
	e.Flags = scrubMap(e.Flags, p.ScrubEmails)
	e.Groups = scrubMap(e.Groups, p.ScrubEmails)
	Fit(e)
}

// idFields are the texts of an event that identify something; textFields are all
// others into which a caller or a provider can write. A new field is a text by
// default, so that it is scrubbed.
var textFields, idFields = func() (texts, ids []func(*event.Event) *string) {
	for _, f := range event.Fields {
		at, ok := f.At.(func(*event.Event) *string)
		if !ok {
			continue
		}
		switch f.Path {
		case "UUID", "ProjectID", "Source", "Method", "Status", "PromptHash", "InputLengthBucket", "Cost.ModelUsed", "Cost.Source", "Cost.Provider":
			// hedgerow's own words
		case "DistinctID", "User", "TraceID", "SpanID", "ParentID", "SessionID", "CompletionID":
			ids = append(ids, at)
		default:
			texts = append(texts, at)
		}
	}
	return texts, ids
}()

// scrubID replaces an id that is a key by a hash of it. A key has far too many
// possible values for its hash to be guessed, so no secret is needed here. A card
// number cannot be distinguished from any other number, and an e-mail address is a
// usual id: hashing ids is a setting of the connection.
func scrubID(id string) string {
	if s := ScrubText(id, false); s == id || !strings.Contains(s, "[secret:") {
		return id
	}
	return "key_" + hashOf(id)
}

// hashedID replaces an id that quotes content.
func hashedID(id string) string { return "id_" + hashOf(id) }

func hashOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:12])
}

// bareURL removes user, query and fragment: each can contain a key.
func bareURL(u string) string {
	if k := strings.IndexAny(u, "?#"); k >= 0 {
		u = u[:k]
	}
	scheme := strings.Index(u, "://")
	if scheme < 0 {
		return u
	}
	host := u[scheme+3:]
	if k := strings.IndexByte(host, '/'); k >= 0 {
		host = host[:k]
	}
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		u = u[:scheme+3] + u[scheme+3+at+1:]
	}
	return u
}

// scrubRaw scrubs a map of JSON values, keys included. It returns m itself when
// there is nothing to replace.
func scrubRaw(m map[string]json.RawMessage, emails bool) map[string]json.RawMessage {
	var out map[string]json.RawMessage
	for k, v := range m {
		key, value := ScrubText(k, emails), ScrubJSON(RedactBase64(v), emails)
		if key == k && same(value, v) {
			continue
		}
		if out == nil {
			out = make(map[string]json.RawMessage, len(m))
			for k, v := range m {
				out[k] = v
			}
		}
		delete(out, k)
		out[key] = value
	}
	if out == nil {
		return m
	}
	return out
}

// same reports whether a is b itself, unchanged.
func same(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func scrubMap(m map[string]string, emails bool) map[string]string {
	var out map[string]string
	for k, v := range m {
		key, value := ScrubText(k, emails), ScrubText(v, emails)
		if key == k && value == v {
			continue
		}
		if out == nil {
			out = make(map[string]string, len(m))
			for k, v := range m {
				out[k] = v
			}
		}
		delete(out, k)
		out[key] = value
	}
	if out == nil {
		return m
	}
	return out
}

func scrubList(list []string, emails bool) []string {
	var out []string
	for i, s := range list {
		t := ScrubText(s, emails)
		if t == s {
			continue
		}
		if out == nil {
			out = append([]string(nil), list...)
		}
		out[i] = t
	}
	if out == nil {
		return list
	}
	return out
}
