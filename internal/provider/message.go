package provider

import (
	"encoding/json"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Limits of a response's memory in the parser, because indices come from the
// provider.
const (
	maxChoices = 128
	maxParts   = 4096
)

// message is one response message being converted to PostHog's format {role,
// content}. Text is kept as inside JSON strings, with escapes; see escaped.
type message struct {
	role  string
	parts []part
}

type partKind uint8

const (
	partText partKind = iota
	partRefusal
	partThinking
	partFunction
	partRaw // a provider's own format, already JSON
)

// part is one item of a message's content.
type part struct {
	kind     partKind
	key      int64  // distinguishes its fragments, within its kind
	text     []byte // escaped: text, or a function's arguments as text
	id, name string
	json     []byte // partRaw: the item; partFunction: arguments as JSON, where text is empty; partText: citations
}

// at returns the part of a kind and key, and creates it if there is none.
func (m *message) at(kind partKind, key int64) *part {
	for i := len(m.parts) - 1; i >= 0; i-- {
		if m.parts[i].kind == kind && m.parts[i].key == key {
			return &m.parts[i]
		}
	}
	if len(m.parts) >= maxParts {
		return new(part) // dropped
	}
	m.parts = append(m.parts, part{kind: kind, key: key})
	return &m.parts[len(m.parts)-1]
}

// add appends complete text.
func (m *message) add(kind partKind, text string) {
	if text != "" && len(m.parts) < maxParts {
		m.parts = append(m.parts, part{kind: kind, key: -1 - int64(len(m.parts)), text: []byte(text)})
	}
}

// cited appends text with its citations.
func (m *message) cited(text string, citations gjson.Result) {
	n := len(m.parts)
	if m.add(partText, text); len(m.parts) > n && citations.Get("0").Exists() {
		m.parts[n].json = raw(citations)
	}
}

func (m *message) addRaw(v gjson.Result) { m.addJSON(raw(v)) }

func (m *message) addJSON(item []byte) {
	if len(m.parts) < maxParts {
		m.parts = append(m.parts, part{kind: partRaw, key: -1 - int64(len(m.parts)), json: item})
	}
}

// function appends a complete tool call. Arguments are a JSON string
// (OpenAI) or an object (Anthropic), and are not changed.
func (m *message) function(id, name string, arguments gjson.Result) {
	if len(m.parts) >= maxParts {
		return
	}
	pt := part{kind: partFunction, key: -1 - int64(len(m.parts)), id: id, name: name}
	if arguments.Type == gjson.String {
		pt.text = []byte(escaped(arguments))
	} else if arguments.Exists() {
		pt.json = raw(arguments)
	}
	m.parts = append(m.parts, pt)
}

// append writes the message. Content is a string if the message has one text or
// nothing, otherwise a list of items.
func (m *message) append(dst []byte) []byte {
	role := m.role
	if role == "" {
		role = "assistant"
	}
	dst = append(dst, `{"role":`...)
	dst = rawjson.AppendQuote(dst, role)
	dst = append(dst, `,"content":`...)
	switch {
	case len(m.parts) == 0:
		dst = append(dst, `""`...)
	case len(m.parts) == 1 && m.parts[0].kind == partText && m.parts[0].json == nil:
		dst = appendEscaped(dst, m.parts[0].text)
	default:
		dst = append(dst, '[')
		for i := range m.parts {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = m.parts[i].append(dst)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

func (pt *part) append(dst []byte) []byte {
	switch pt.kind {
	case partText:
		dst = appendEscaped(append(dst, `{"type":"text","text":`...), pt.text)
		if pt.json != nil {
			dst = append(append(dst, `,"citations":`...), pt.json...)
		}
	case partRefusal:
		dst = appendEscaped(append(dst, `{"type":"refusal","refusal":`...), pt.text)
	case partThinking:
		dst = appendEscaped(append(dst, `{"type":"thinking","thinking":`...), pt.text)
	case partRaw:
		return append(dst, pt.json...)
	case partFunction:
		dst = append(dst, `{"type":"function"`...)
		if pt.id != "" {
			dst = rawjson.AppendQuote(append(dst, `,"id":`...), pt.id)
		}
		dst = rawjson.AppendQuote(append(dst, `,"function":{"name":`...), pt.name)
		dst = append(dst, `,"arguments":`...)
		if pt.json != nil {
			dst = append(dst, pt.json...)
		} else {
			dst = appendEscaped(dst, pt.text)
		}
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// appendEscaped writes text that is already escaped.
func appendEscaped(dst, text []byte) []byte {
	return append(append(append(dst, '"'), text...), '"')
}

// render encodes messages as content. It redacts files received in fragments;
// complete ones were redacted before.
func render(messages []*message) json.RawMessage {
	if len(messages) == 0 {
		return nil
	}
	out := []byte{'['}
	for i, m := range messages {
		if i > 0 {
			out = append(out, ',')
		}
		out = m.append(out)
	}
	out = clean(append(out, ']'))
	return RedactBase64(out)
}

// userMessage is a list of one message by the user.
func userMessage(content string) json.RawMessage {
	return clean([]byte(`[{"role":"user","content":` + content + `}]`))
}
