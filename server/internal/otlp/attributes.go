package otlp

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"sort"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
	common "go.opentelemetry.io/proto/otlp/common/v1"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// attributes are those of a span, followed by those of its resource. Readers
// take the attributes they know, under any of their names; the rest become
// properties.
type attributes struct {
	list  []attribute
	index map[string]int
	own   int // number of the span's own attributes; those of the resource follow

	// families are the indexed attributes (llm.input_messages.0.message.role), by
	// the family's name.
	families map[string][]int
}

type attribute struct {
	key   string
	value *common.AnyValue
	json  json.RawMessage // of a resource attribute: encoded once
	used  bool
}

func (attrs *attributes) reset() {
	clear(attrs.list)
	attrs.list = attrs.list[:0]
	clear(attrs.index)
	clear(attrs.families)
	attrs.own = 0
}

// add appends an attribute, unless there is one of that name.
func (attrs *attributes) add(key string, v *common.AnyValue, raw json.RawMessage) {
	if key == "" || v == nil || v.GetValue() == nil {
		return
	}
	if _, ok := attrs.index[key]; ok {
		return
	}
	i := len(attrs.list)
	attrs.index[key] = i
	attrs.list = append(attrs.list, attribute{key: key, value: v, json: raw})
	if f := familyOf(key); f != "" {
		attrs.families[f] = append(attrs.families[f], i)
	}
}

// has reports whether an attribute is present, taken or not.
func (attrs *attributes) has(key string) bool {
	_, ok := attrs.index[key]
	return ok
}

// peek returns an attribute's text without taking it.
func (attrs *attributes) peek(key string) string {
	if i, ok := attrs.index[key]; ok {
		return text(attrs.list[i].value)
	}
	return ""
}

// look returns an attribute's value without taking it; nil if it is missing.
func (attrs *attributes) look(key string) *common.AnyValue {
	if i, ok := attrs.index[key]; ok {
		return attrs.list[i].value
	}
	return nil
}

// take marks all of the names as known and returns the first value that is
// present.
func (attrs *attributes) take(keys ...string) (v *common.AnyValue) {
	for _, k := range keys {
		if i, ok := attrs.index[k]; ok {
			attrs.list[i].used = true
			if v == nil {
				v = attrs.list[i].value
			}
		}
	}
	return v
}

// str takes the first text that is not empty.
func (attrs *attributes) str(keys ...string) (s string) {
	for _, k := range keys {
		if i, ok := attrs.index[k]; ok {
			attrs.list[i].used = true
			if s == "" {
				s = text(attrs.list[i].value)
			}
		}
	}
	return s
}

// count takes the first whole number that is not negative.
func (attrs *attributes) count(keys ...string) (n event.Int) {
	for _, k := range keys {
		if i, ok := attrs.index[k]; ok {
			attrs.list[i].used = true
			if !n.Known {
				n = count(attrs.list[i].value)
			}
		}
	}
	return n
}

// number takes the first finite number.
func (attrs *attributes) number(keys ...string) (f event.Opt[float64]) {
	for _, k := range keys {
		if i, ok := attrs.index[k]; ok {
			attrs.list[i].used = true
			if !f.Known {
				f = number(attrs.list[i].value)
			}
		}
	}
	return f
}

// flag takes the first boolean.
func (attrs *attributes) flag(keys ...string) (f event.Opt[bool]) {
	for _, k := range keys {
		i, ok := attrs.index[k]
		if !ok {
			continue
		}
		attrs.list[i].used = true
		if f.Known {
			continue
		}
		switch text(attrs.list[i].value) {
		case "true", "True":
			f = event.Some(true)
		case "false", "False":
			f = event.Some(false)
		}
	}
	return f
}

// text returns a value as a string; "" for lists and maps.
func text(v *common.AnyValue) string {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_IntValue:
		return strconv.FormatInt(v.IntValue, 10)
	case *common.AnyValue_BoolValue:
		return strconv.FormatBool(v.BoolValue)
	case *common.AnyValue_DoubleValue:
		return strconv.FormatFloat(v.DoubleValue, 'g', -1, 64)
	}
	return ""
}

// texts returns a list of strings: an OTLP array, JSON, or separated by commas.
func texts(v *common.AnyValue) (out []string) {
	if list := v.GetArrayValue(); list != nil {
		for _, item := range list.GetValues() {
			if s := text(item); s != "" {
				out = append(out, s)
			}
		}
		return out
	}
	s := strings.TrimSpace(text(v))
	if list, ok := parse(s); ok && list.IsArray() {
		for _, item := range list.Array() {
			if s := item.String(); s != "" {
				out = append(out, s)
			}
		}
		return out
	}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func count(v *common.AnyValue) event.Int {
	f := number(v)
	if !f.Known {
		return event.Int{}
	}
	n, ok := event.Count(f.Value)
	return event.Int{Value: n, Known: ok}
}

// number returns a value as a number, which may be infinite. The AI SDK uses
// NaN for unknown values.
func number(v *common.AnyValue) event.Opt[float64] {
	var f float64
	switch v := v.GetValue().(type) {
	case *common.AnyValue_IntValue:
		f = float64(v.IntValue)
	case *common.AnyValue_DoubleValue:
		f = v.DoubleValue
	case *common.AnyValue_StringValue:
		var err error
		if f, err = strconv.ParseFloat(v.StringValue, 64); err != nil && !math.IsInf(f, 0) {
			return event.Opt[float64]{}
		}
	default:
		return event.Opt[float64]{}
	}
	return event.Opt[float64]{Value: f, Known: !math.IsNaN(f)}
}

// appendJSON writes a value as JSON. Numbers that JSON cannot express become
// strings, and bytes become hexadecimal, as in PostHog.
func appendJSON(dst []byte, v *common.AnyValue) []byte {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return rawjson.AppendQuote(dst, v.StringValue)
	case *common.AnyValue_IntValue:
		return strconv.AppendInt(dst, v.IntValue, 10)
	case *common.AnyValue_BoolValue:
		return strconv.AppendBool(dst, v.BoolValue)
	case *common.AnyValue_DoubleValue:
		if math.IsNaN(v.DoubleValue) || math.IsInf(v.DoubleValue, 0) {
			return rawjson.AppendQuote(dst, strconv.FormatFloat(v.DoubleValue, 'g', -1, 64))
		}
		b, _ := json.Marshal(v.DoubleValue) // finite
		return append(dst, b...)
	case *common.AnyValue_BytesValue:
		return append(hex.AppendEncode(append(dst, '"'), v.BytesValue), '"')
	case *common.AnyValue_ArrayValue:
		dst = append(dst, '[')
		for i, item := range v.ArrayValue.GetValues() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, item)
		}
		return append(dst, ']')
	case *common.AnyValue_KvlistValue:
		dst = append(dst, '{')
		first := true
		for _, kv := range v.KvlistValue.GetValues() {
			if kv == nil {
				continue
			}
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(rawjson.AppendQuote(dst, kv.GetKey()), ':')
			dst = appendJSON(dst, kv.GetValue())
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}

// maxNesting limits JSON within attributes: deeper values stay text.
const maxNesting = 200

// parse parses text that should contain JSON: an object, a list or a quoted
// string. Anything else stays text.
func parse(s string) (gjson.Result, bool) {
	s = strings.TrimSpace(s)
	if len(s) < 2 || s[0] != '{' && s[0] != '[' && s[0] != '"' || event.NestedDeeper(s, maxNesting) || !gjson.Valid(s) {
		return gjson.Result{}, false
	}
	return gjson.Parse(s), true
}

// value returns an attribute as JSON. Text that contains JSON is parsed.
func value(v *common.AnyValue) gjson.Result {
	if v == nil {
		return gjson.Result{}
	}
	if s, ok := v.GetValue().(*common.AnyValue_StringValue); ok {
		if r, ok := parse(s.StringValue); ok && r.Type == gjson.JSON {
			return r
		}
	}
	return gjson.ParseBytes(appendJSON(nil, v))
}

// Indexed families. OpenInference, Traceloop and others write a list as one
// attribute per leaf: llm.input_messages.0.message.role.
const (
	famPrompt        = "gen_ai.prompt"     // Traceloop
	famCompletion    = "gen_ai.completion" //
	famPromptGo      = "llm.prompts"       // Traceloop in Go; OpenInference's text prompts
	famCompletionGo  = "llm.completions"   //
	famFunctions     = "llm.request.functions"
	famInput         = "llm.input_messages" // OpenInference
	famOutput        = "llm.output_messages"
	famChoices       = "llm.choices"
	famTools         = "llm.tools"
	famDocuments     = "retrieval.documents"
	famRerankInput   = "reranker.input_documents"
	famRerankOutput  = "reranker.output_documents"
	famEmbeddings    = "embedding.embeddings"
	maxFamilyLevels  = 12
	maxFamilyMembers = 20_000
)

var familyNames = []string{famPrompt, famCompletion, famPromptGo, famCompletionGo, famFunctions, famInput, famOutput, famChoices, famTools, famDocuments, famRerankInput, famRerankOutput, famEmbeddings}

// familyOf returns the family of an indexed attribute, or "".
func familyOf(key string) string {
	switch key[0] {
	case 'g', 'l', 'r', 'e':
	default:
		return ""
	}
	for _, f := range familyNames {
		if len(key) > len(f)+1 && key[len(f)] == '.' && key[:len(f)] == f && key[len(f)+1] >= '0' && key[len(f)+1] <= '9' {
			return f
		}
	}
	return ""
}

// node is a reassembled family.
type node struct {
	leaf     *common.AnyValue
	children []child
	at       map[string]int
}

type child struct {
	name string
	n    *node
}

func (n *node) child(name string) *node {
	if i, ok := n.at[name]; ok {
		return n.children[i].n
	}
	if n.at == nil {
		n.at = make(map[string]int)
	}
	c := &node{}
	n.at[name] = len(n.children)
	n.children = append(n.children, child{name, c})
	return c
}

// wrappers are names that OpenInference puts around each member of a list.
var wrappers = map[string]bool{"message": true, "tool_call": true, "message_content": true, "tool": true, "document": true, "embedding": true, "prompt": true, "completion": true}

// family takes an indexed family and returns the list it encodes.
func (attrs *attributes) family(name string) gjson.Result {
	at := attrs.families[name]
	if len(at) == 0 {
		return gjson.Result{}
	}
	root := &node{}
	for i, j := range at {
		a := &attrs.list[j]
		a.used = true
		if i >= maxFamilyMembers {
			continue
		}
		n := root
		rest, more := a.key[len(name)+1:], true
		for level := 0; more; level++ {
			var part string
			if part, rest, more = strings.Cut(rest, "."); level == maxFamilyLevels && more {
				part, more = part+"."+rest, false
			}
			n = n.child(part)
		}
		n.leaf = a.value
	}
	return gjson.ParseBytes(root.append(nil))
}

// append writes a node as JSON: as a list if its members are numbered, ordered
// by number.
func (n *node) append(dst []byte) []byte {
	if len(n.children) == 0 {
		return appendJSON(dst, n.leaf)
	}
	if len(n.children) == 1 && wrappers[n.children[0].name] {
		return n.children[0].n.append(dst)
	}
	order, numbered := make([]int, len(n.children)), true
	for i, k := range n.children {
		var err error
		if order[i], err = strconv.Atoi(k.name); err != nil || order[i] < 0 {
			numbered = false
			break
		}
	}
	if numbered {
		sort.Sort(&byOrder{order, n.children})
		dst = append(dst, '[')
		for i, k := range n.children {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = k.n.append(dst)
		}
		return append(dst, ']')
	}
	dst = append(dst, '{')
	for i, k := range n.children {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(rawjson.AppendQuote(dst, k.name), ':')
		dst = k.n.append(dst)
	}
	return append(dst, '}')
}

type byOrder struct {
	order    []int
	children []child
}

func (s *byOrder) Len() int           { return len(s.order) }
func (s *byOrder) Less(i, j int) bool { return s.order[i] < s.order[j] }
func (s *byOrder) Swap(i, j int) {
	s.order[i], s.order[j] = s.order[j], s.order[i]
	s.children[i], s.children[j] = s.children[j], s.children[i]
}
