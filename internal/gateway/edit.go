package gateway

import (
	"encoding/json"
	"slices"

	"github.com/hedgerow/hedgerow/internal/provider"
)

// wishes says what is to be done to a request's body.
type wishes struct {
	stripTrace bool // session_id and trace: OpenRouter's words, which others refuse
	stripUser  bool // user: Anthropic refuses it at the top level
	askUsage   bool // stream_options.include_usage, where a stream lacks it
}

// plan is what is known of a request's body after one walk over it.
type plan struct {
	edits   []provider.Edit // in ascending order, never overlapping
	asked   bool            // one of the edits adds include_usage
	without []provider.Edit // the edits without that one; the same slice where there is none
	trace   []byte          // the value of the last "trace" member
}

// planEdits walks a body once. For a body that is no JSON object it plans
// nothing. Every byte outside of the edits stays as it is, and the edited body
// is valid JSON if and only if the body is.
func planEdits(b []byte, w wishes) plan {
	var (
		p                    plan
		o                    = provider.NewObject(b)
		stream, options      provider.Member
		streaming            bool
		streams, optionCount int
		prevEnd              = -1 // end of the last member that stays
		open                 = -1 // where a run of members to cut begins
		openKey              int
		run                  provider.Member
	)
	for {
		m, ok := o.Next()
		if !ok {
			break
		}
		if open >= 0 { // a member follows: the run goes with its last comma
			p.edits = append(p.edits, provider.Edit{From: openKey, To: m.Key})
			open = -1
		}
		cut := false
		switch name := o.Name(m); string(name) {
		case "stream":
			streaming = string(o.Value(m)) == "true"
			stream = m
			streams++
		case "stream_options":
			options = m
			optionCount++
		case "session_id":
			cut = w.stripTrace
		case "trace":
			cut = w.stripTrace
			p.trace = o.Value(m)
		case "user":
			cut = w.stripUser
		}
		if cut && !json.Valid(o.Value(m)) {
			return plan{} // cutting a fault out would make the body valid
		}
		if cut {
			open, openKey, run = m.Key, m.Key, m
			continue
		}
		prevEnd = m.End
	}
	if !o.Done() {
		return plan{}
	}
	if open >= 0 {
		// The members to cut are the last ones. What was planned for those
		// before them in the same run begins after prevEnd and is within.
		for len(p.edits) > 0 && p.edits[len(p.edits)-1].From >= max(prevEnd, 0) {
			openKey = p.edits[len(p.edits)-1].From
			p.edits = p.edits[:len(p.edits)-1]
		}
		from := openKey
		if prevEnd >= 0 {
			from = prevEnd
		}
		p.edits = append(p.edits, provider.Edit{From: from, To: run.End})
	}
	p.without = p.edits
	if w.askUsage && streaming && streams == 1 && optionCount <= 1 {
		if e, ok := provider.AskUsageOf(b, stream, options); ok {
			p.asked = true
			p.edits = append(slices.Clone(p.edits), e)
			slices.SortStableFunc(p.edits, func(a, b provider.Edit) int {
				if a.From != b.From {
					return a.From - b.From
				}
				return a.To - b.To
			})
		}
	}
	return p
}
