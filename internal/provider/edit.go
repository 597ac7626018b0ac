package provider

import (
	"encoding/json"
	"slices"

	"github.com/hedgerow/hedgerow/internal/rawjson"
)

// Plan is the edits of a request body, planned in one pass.
type Plan struct {
	Edits        []Edit // in ascending order, never overlapping
	AddsUsage    bool   // one of the edits adds include_usage
	WithoutUsage []Edit // the edits without that one; the same slice if there is none
	Trace        []byte // the value of the last member "trace"
}

// PlanEdits scans a request body once. It plans to remove each member for which
// cut returns true and, with askUsage, to request usage if a stream does not. A
// nil cut removes nothing. For a body that is not a JSON object it plans
// nothing. Bytes outside the edits do not change, and the edited body is valid
// JSON if and only if the body is.
func PlanEdits(b []byte, cut func(name []byte) bool, askUsage bool) Plan {
	var (
		p                    Plan
		o                    = rawjson.NewObject(b)
		stream, options      rawjson.Member
		streaming            bool
		streams, optionCount int
		prevEnd              = -1 // end of the last member that is kept
		open                 = -1 // start of a run of members to remove
		openKey              int
		run                  rawjson.Member
	)
	for {
		m, ok := o.Next()
		if !ok {
			break
		}
		if open >= 0 { // another member follows: the run is removed with its last comma
			p.Edits = append(p.Edits, Edit{From: openKey, To: m.Key})
			open = -1
		}
		name := o.Name(m)
		switch string(name) {
		case "stream":
			streaming = string(o.Value(m)) == "true"
			stream = m
			streams++
		case "stream_options":
			options = m
			optionCount++
		case "trace":
			p.Trace = o.Value(m)
		}
		if cut == nil || !cut(name) {
			prevEnd = m.End
			continue
		}
		if !json.Valid(o.Value(m)) || !json.Valid(o.Key(m)) {
			return Plan{} // removing the invalid part would make the body valid
		}
		open, openKey, run = m.Key, m.Key, m
	}
	if !o.Done() {
		return Plan{}
	}
	if open >= 0 {
		// The members to remove are the last ones. The edits for those before
		// them in the same run begin after prevEnd, so they are covered.
		for len(p.Edits) > 0 && p.Edits[len(p.Edits)-1].From >= max(prevEnd, 0) {
			openKey = p.Edits[len(p.Edits)-1].From
			p.Edits = p.Edits[:len(p.Edits)-1]
		}
		from := openKey
		if prevEnd >= 0 {
			from = prevEnd
		}
		p.Edits = append(p.Edits, Edit{From: from, To: run.End})
	}
	p.WithoutUsage = p.Edits
	if askUsage && streaming && streams == 1 && optionCount <= 1 {
		if e, ok := usageEdit(b, stream, options); ok {
			p.AddsUsage = true
			p.Edits = append(slices.Clone(p.Edits), e)
			slices.SortStableFunc(p.Edits, func(a, b Edit) int {
				if a.From != b.From {
					return a.From - b.From
				}
				return a.To - b.To
			})
		}
	}
	return p
}
