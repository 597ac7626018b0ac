package gateway

import (
	"bytes"
	"encoding/json"
	"slices"
)

// edit replaces b[from:to] by insert.
type edit struct {
	from, to int
	insert   string
}

// wishes says what is to be done to a request's body.
type wishes struct {
	stripTrace bool // session_id and trace: OpenRouter's words, which others refuse
	stripUser  bool // user: Anthropic refuses it at the top level
	askUsage   bool // stream_options.include_usage, where a stream lacks it
}

// plan is what is known of a request's body after one walk over it.
type plan struct {
	edits   []edit // in ascending order, never overlapping
	asked   bool   // one of the edits adds include_usage
	without []edit // the edits without that one; the same slice where there is none
	trace   []byte // the value of the last "trace" member
}

// planEdits walks a body once. For a body that is no JSON object it plans
// nothing. Every byte outside of the edits stays as it is, and the edited body
// is valid JSON if and only if the body is.
func planEdits(b []byte, w wishes) plan {
	var (
		p                    plan
		o                    = newObject(b)
		stream, options      member
		streaming            bool
		streams, optionCount int
		prevEnd              = -1 // end of the last member that stays
		open                 = -1 // where a run of members to cut begins
		openKey              int
		run                  member
	)
	for {
		m, ok := o.next()
		if !ok {
			break
		}
		if open >= 0 { // a member follows: the run goes with its last comma
			p.edits = append(p.edits, edit{from: openKey, to: m.key})
			open = -1
		}
		cut := false
		switch name := o.name(m); string(name) {
		case "stream":
			streaming = string(o.value(m)) == "true"
			stream = m
			streams++
		case "stream_options":
			options = m
			optionCount++
		case "session_id":
			cut = w.stripTrace
		case "trace":
			cut = w.stripTrace
			p.trace = o.value(m)
		case "user":
			cut = w.stripUser
		}
		if cut && !json.Valid(o.value(m)) {
			return plan{} // cutting a fault out would make the body valid
		}
		if cut {
			open, openKey, run = m.key, m.key, m
			continue
		}
		prevEnd = m.end
	}
	if !o.done {
		return plan{}
	}
	if open >= 0 {
		// The members to cut are the last ones. What was planned for those
		// before them in the same run begins after prevEnd and is within.
		for len(p.edits) > 0 && p.edits[len(p.edits)-1].from >= max(prevEnd, 0) {
			openKey = p.edits[len(p.edits)-1].from
			p.edits = p.edits[:len(p.edits)-1]
		}
		from := openKey
		if prevEnd >= 0 {
			from = prevEnd
		}
		p.edits = append(p.edits, edit{from: from, to: run.end})
	}
	p.without = p.edits
	if w.askUsage && streaming && streams == 1 && optionCount <= 1 {
		if e, ok := askUsage(b, stream, options); ok {
			p.asked = true
			p.edits = append(slices.Clone(p.edits), e)
			slices.SortStableFunc(p.edits, func(a, b edit) int {
				if a.from != b.from {
					return a.from - b.from
				}
				return a.to - b.to
			})
		}
	}
	return p
}

// askUsage plans the edit that asks for usage, if the caller has not done so.
func askUsage(b []byte, stream, options member) (edit, bool) {
	const ask = `"include_usage":true`
	if options.end == 0 {
		return edit{stream.end, stream.end, `,"stream_options":{` + ask + `}`}, true
	}
	value := b[options.val:options.end]
	if string(value) == "null" {
		return edit{options.val, options.end, "{" + ask + "}"}, true
	}
	if value[0] != '{' || !json.Valid(value) {
		return edit{}, false
	}
	o := newObject(value)
	members, found := 0, member{}
	for {
		m, ok := o.next()
		if !ok {
			break
		}
		members++
		if string(o.name(m)) == "include_usage" {
			if found.end != 0 {
				return edit{}, false
			}
			found = m
		}
	}
	at := options.val
	switch {
	case found.end == 0 && members == 0:
		return edit{at + 1, at + 1, ask}, true
	case found.end == 0:
		return edit{at + 1, at + 1, ask + ","}, true
	case string(o.value(found)) == "false" || string(o.value(found)) == "null":
		return edit{at + found.val, at + found.end, "true"}, true
	}
	return edit{}, false // true, or something the provider shall judge
}

// apply returns b with the edits made, in one new slice; b itself where there
// are none.
func apply(b []byte, edits []edit) []byte {
	if len(edits) == 0 {
		return b
	}
	n := len(b)
	for _, e := range edits {
		n += len(e.insert) - (e.to - e.from)
	}
	out := make([]byte, 0, n)
	at := 0
	for _, e := range edits {
		out = append(out, b[at:e.from]...)
		out = append(out, e.insert...)
		at = e.to
	}
	return append(out, b[at:]...)
}

// namesStreamOptions reports whether a provider's refusal is about the field
// that hedgerow added.
func namesStreamOptions(body []byte) bool {
	return bytes.Contains(body, []byte("stream_options")) || bytes.Contains(body, []byte("include_usage"))
}
