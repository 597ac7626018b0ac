package traces

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

func indent(raw json.RawMessage) string {
	// Indenting what is nested deep grows with the square of its depth.
	if len(raw) > maxShown || event.NestedDeeper([]byte(raw), maxIndent) {
		return clip(string(raw))
	}
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return clip(string(raw))
	}
	return clip(b.String())
}

// How much of what events say a page shows: the API has all of it.
const (
	maxShown    = 256 << 10 // bytes of one value
	maxSaid     = 1 << 20   // bytes of one prompt or answer
	maxMessages = 400       // of one prompt or answer
	maxIndent   = 30        // levels
)

// clip cuts a text that is too long for a page, and says so.
func clip(s string) string { return ClipAt(s, maxShown) }

func ClipAt(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "\n… and " + page.Size(event.Some(int64(len(s)-most))) + " more, available through the API"
}

// Clipped are the messages that fit onto a page. The rest is one message that says
// how many there are.
func Clipped(list []Message, most int) []Message {
	left := most
	list = slices.Clone(list)
	for i := range list {
		if i == maxMessages || left <= 0 {
			return append(list[:i:i], Message{Role: "more", Parts: []part{{Text: page.Plural(int64(len(list)-i), "message") + " more, available through the API"}}})
		}
		list[i].Parts = slices.Clone(list[i].Parts)
		for k, p := range list[i].Parts {
			if left <= 0 {
				list[i].Parts = append(list[i].Parts[:k:k], part{Text: page.Plural(int64(len(list[i].Parts)-k), "part") + " more, available through the API"})
				break
			}
			list[i].Parts[k].Text = ClipAt(p.Text, min(left, maxShown))
			left -= len(p.Text) + len(p.Link) + 100 // with what the page has around it
		}
		left -= 100
	}
	return list
}

// lines writes a map a line an entry, in order of its keys.
func lines(m map[string]json.RawMessage) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if b.WriteString(k + ": " + ClipAt(string(m[k]), maxShown/4) + "\n"); b.Len() > maxShown {
			break
		}
	}
	return clip(b.String())
}

// Message is one turn of a conversation as the page shows it.
type Message struct {
	Role  string
	Parts []part
}

type part struct {
	Kind string // "" for text, kindImage, else the item's type
	Text string
	Link string // of an image at another address
}

// kindImage is the kind of a part that is an image. Inline image data is
// removed before it is stored. An image given by address is shown as a link and
// never loaded by the page, since that would reveal that someone views it.
const kindImage = "image"

// Messages reads PostHog's message form (contract section 3.4): strings, or
// lists of items. Of OpenAI's own format it also reads the tool calls, which
// are next to the content there. Unknown items are shown as JSON.
func Messages(raw json.RawMessage) []Message {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var list []struct {
		Role    string            `json:"role"`
		Content json.RawMessage   `json:"content"`
		Calls   []json.RawMessage `json:"tool_calls"`
	}
	if json.Unmarshal(raw, &list) != nil {
		return []Message{{Parts: Parts(raw)}}
	}
	out := make([]Message, len(list))
	for i, m := range list {
		out[i] = Message{Role: m.Role, Parts: Parts(m.Content)}
		for _, c := range m.Calls {
			out[i].Parts = append(out[i].Parts, item(c))
		}
	}
	return out
}

func Parts(raw json.RawMessage) []part {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return []part{{Text: text}}
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		return []part{{Kind: "json", Text: indent(raw)}}
	}
	var out []part
	for _, it := range items {
		out = append(out, item(it))
	}
	return out
}

// item shows one item of a message: words as words, a tool call as its name and
// arguments.
func item(raw json.RawMessage) part {
	if p, ok := picture(raw); ok {
		return p
	}
	var it struct {
		Type     string  `json:"type"`
		Text     *string `json:"text"`
		Refusal  *string `json:"refusal"`
		Thinking *string `json:"thinking"`
		Function *struct {
			Name      string          `json:"name"`
			Arguments json.RawMessage `json:"arguments"`
		} `json:"function"`
	}
	if json.Unmarshal(raw, &it) != nil {
		var words string
		if json.Unmarshal(raw, &words) == nil {
			return part{Text: words}
		}
		return part{Kind: "json", Text: indent(raw)}
	}
	switch {
	case it.Text != nil:
		return part{Text: *it.Text}
	case it.Refusal != nil:
		return part{Kind: "refusal", Text: *it.Refusal}
	case it.Thinking != nil:
		return part{Kind: "thinking", Text: *it.Thinking}
	case it.Function != nil:
		arguments := it.Function.Arguments
		var words string
		if json.Unmarshal(arguments, &words) == nil { // OpenAI's arguments are JSON in a string
			arguments = json.RawMessage(words)
			if !json.Valid(arguments) {
				return part{Kind: "calls " + it.Function.Name, Text: words}
			}
		}
		return part{Kind: "calls " + it.Function.Name, Text: indent(arguments)}
	}
	return part{Kind: cmp.Or(it.Type, "json"), Text: indent(raw)}
}

// picture reads an item that is an image in the forms of the providers: OpenAI's
// image_url and input_image, Anthropic's source, Gemini's inlineData and fileData,
// and PostHog's image.
func picture(raw json.RawMessage) (part, bool) {
	var it map[string]any
	if json.Unmarshal(raw, &it) != nil {
		return part{}, false
	}
	kind, _ := it["type"].(string)
	p := part{Kind: kindImage}
	media, inside := "", false
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				if s, ok := v[k].(string); ok && (k == "media_type" || k == "mimeType" || k == "mime_type") {
					media = s
				}
				if k != "cache_control" {
					walk(v[k])
				}
			}
		case string:
			switch {
			case strings.HasPrefix(v, "https://"), strings.HasPrefix(v, "http://"):
				p.Link = v
			case strings.HasPrefix(v, "[base64 "), strings.HasPrefix(v, "data:image/"):
				inside = true
				if _, of, ok := strings.Cut(v, "image/"); ok && media == "" {
					of, _, _ = strings.Cut(strings.ReplaceAll(of, ";", " "), " ")
					media = "image/" + of
				}
			}
		}
	}
	walk(it)
	switch kind {
	case "image_url", "input_image", "image", "output_image":
	default:
		if !strings.HasPrefix(media, "image/") || kind != "" {
			return part{}, false
		}
	}
	switch {
	case inside:
		p.Text = cmp.Or(media, "sent with the call") + ", not stored"
	case media != "":
		p.Text = media
	}
	return p, p.Link != "" || inside
}

// host is where a link leads.
func host(link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return "its address"
	}
	return u.Host
}
