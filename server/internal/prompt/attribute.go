package prompt

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/template"
)

// Properties that [Registry.Attribute] sets.
const (
	// PropertyDrift is true on a call with a prompt whose instructions are not
	// those of its version, or of any version if it has none.
	PropertyDrift = "prompt_drift"
	// PropertyRecognised is true on a call without a prompt whose version was
	// found by its text.
	PropertyRecognised = "prompt_recognised"
	// PropertyLabel is the label by which the caller named the version.
	PropertyLabel = "prompt_label"
)

// minWeight is the minimum size in bytes of a template's own text for
// recognizing calls without a prompt. A shorter one would match unrelated
// calls.
const minWeight = 24

// Attribute completes the prompt of an event: its name, the version's number and
// id, and whether the text is still that of the version. instructions returns the
// call's system and developer messages, conversation its user and assistant
// messages and whether they are complete; each is called only if needed. It does
// no I/O and is safe for concurrent use.
//
//   - A version id or number on the event is kept.
//   - A label, or a name alone, is resolved to the version whose text was sent,
//     because a caller may have read the label earlier. If no text matches, a
//     label is resolved to its current version.
//   - A call that names no prompt is recognised by its prompt hash or, for
//     templates with variables, by the text between these. What the template has of
//     its own in messages of the user and the assistant distinguishes versions of
//     the same instructions; a template without instructions is recognised by it.
//     Where it matches several templates, the one with the most text of its own
//     wins; where two prompts tie, none is named. Versions of one text are
//     distinguished by their model; then production precedes newer, newer precedes
//     older.
//   - Whatever names a version but has other instructions gets [PropertyDrift].
//     System messages of others before and after the prompt's do not count. So
//     does one in which the version's own words in messages of the user and the
//     assistant are missing. Missing content has no effect; the values of
//     variables, the user's text, are never compared.
func (r *Registry) Attribute(e *event.Event, instructions func() []string, conversation func() (said []event.ChatMessage, whole bool)) {
	s := r.b.View().projects[e.ProjectID]
	if s == nil {
		return
	}
	call := e.Name == event.Generation || e.Name == event.RequestStarted || e.IsReportedCall()
	a := attribution{projectPrompts: s, e: e, conversation: conversation}
	if call {
		a.read(instructions)
	} else {
		a.talk = new(template.Conversation) // other events have no conversation
	}
	switch {
	case e.PromptVersionID != "" && s.byID[e.PromptVersionID] != nil:
		a.setExplicit(s.byID[e.PromptVersionID])
	case e.PromptName != "":
		if h := s.byName[e.PromptName]; h != nil {
			a.named(h)
		}
	case call && e.PromptVersionID == "":
		a.recognise()
	}
}

type attribution struct {
	*projectPrompts
	e    *event.Event
	text template.Text

	conversation func() ([]event.ChatMessage, bool)
	talk         *template.Conversation // nil: not read yet
}

// said returns the conversation, read once, and only for templates with
// their own text in it.
func (a *attribution) said() template.Conversation {
	if a.talk == nil {
		t := template.NewConversation(a.conversation())
		a.talk = &t
	}
	return *a.talk
}

// spoken reports whether the version's own words are in the conversation.
func (a *attribution) spoken(v *Version) bool {
	return v.pattern.ChatWeight() > 0 && v.pattern.MatchConversation(a.said())
}

// missing reports whether words of the version's own are not in the conversation.
func (a *attribution) missing(v *Version) bool {
	return v.pattern.ChatWeight() > 0 && a.said().Comparable(v.pattern) && !a.spoken(v)
}

func (a *attribution) read(instructions func() []string) {
	if a.text = template.NewText(instructions()); a.text.Empty() {
		// The text stayed with the caller, who may have sent its hash.
		a.text = template.HashedText(a.e.PromptHash)
	}
}

// setExplicit sets a version that the caller named explicitly.
func (a *attribution) setExplicit(v *Version) {
	a.set(v)
	if a.text.Comparable(v.pattern) && !v.pattern.MatchWithin(a.text) || a.missing(v) {
		a.property(PropertyDrift, true)
	} else if a.text.Empty() && a.e.PromptHash == "" {
		a.e.PromptHash = v.PromptHash
	}
}

// named is for a prompt that the caller named, with or without a version.
func (a *attribution) named(h *held) {
	ref := a.e.PromptVersion
	label, isLabel := h.Labels[ref]
	v, known := h.version(ref)
	if known && ref != "" && ref != Latest && !isLabel {
		a.setExplicit(v)
		return
	}
	if isLabel || ref == Latest {
		a.property(PropertyLabel, ref)
	}
	var candidates []*Version
	tells := false
	for _, c := range h.versions {
		read, missing := a.text.Comparable(c.pattern), a.missing(c)
		tells = tells || read || missing
		if !missing && (c.pattern.MatchWithin(a.text) || !read && a.spoken(c)) {
			candidates = append(candidates, c)
		}
	}
	pointed := 0
	if isLabel {
		pointed = label.Version
	}
	if best := a.best(candidates, pointed); best != nil {
		a.set(best)
		return
	}
	if tells {
		a.property(PropertyDrift, true)
	}
	if known && ref != "" {
		a.set(v)
	}
}

// recognise finds the version of a call without a prompt.
func (a *attribution) recognise() {
	candidates := a.byInstructions()
	if rest := slices.DeleteFunc(slices.Clone(candidates), a.missing); len(rest) > 0 {
		candidates = rest
	}
	if len(candidates) == 0 {
		candidates = a.byTalk()
	}
	for _, v := range candidates {
		if v.Prompt != candidates[0].Prompt {
			return // a guess between two prompts would be worse than none
		}
	}
	if v := a.best(candidates, 0); v != nil {
		a.set(v)
		a.property(PropertyRecognised, true)
	}
}

func (a *attribution) byInstructions() []*Version {
	if a.text.Empty() {
		return nil
	}
	candidates := a.match.exact[a.text.Hash()]
	if len(candidates) == 0 {
		for _, v := range a.match.patterns { // heaviest first
			if len(candidates) > 0 && v.pattern.Weight() < candidates[0].pattern.Weight() {
				break
			}
			if v.pattern.Match(a.text) {
				candidates = append(candidates, v)
			}
		}
	}
	return candidates
}

// byTalk returns the versions without instructions whose text is in
// the conversation, those with the most text.
func (a *attribution) byTalk() (candidates []*Version) {
	for _, v := range a.match.talks { // the most words first
		if len(candidates) > 0 && v.pattern.ChatWeight() < candidates[0].pattern.ChatWeight() {
			break
		}
		if a.spoken(v) {
			candidates = append(candidates, v)
		}
	}
	return candidates
}

// best selects among matching versions of one prompt: the most own text, then
// the label's version, the call's model, production, and the newest.
func (a *attribution) best(candidates []*Version, pointed int) *Version {
	if len(candidates) == 0 {
		return nil
	}
	production := 0
	if h := a.byName[candidates[0].Prompt]; h != nil {
		production = h.Labels[Production].Version
	}
	rank := func(v *Version) int {
		n := 0
		if v.Number == pointed {
			n += 4
		}
		if v.Model != "" && (v.Model == a.e.ModelAsked || v.Model == a.e.Model) {
			n += 2
		}
		if v.Number == production {
			n++
		}
		return n
	}
	return slices.MaxFunc(candidates, func(x, y *Version) int {
		return cmp.Or(cmp.Compare(x.pattern.Weight(), y.pattern.Weight()), cmp.Compare(a.words(x), a.words(y)), cmp.Compare(rank(x), rank(y)), cmp.Compare(x.Number, y.Number))
	})
}

// words returns the size of a version's own text in the conversation.
func (a *attribution) words(v *Version) int {
	if a.spoken(v) {
		return v.pattern.ChatWeight()
	}
	return 0
}

func (a *attribution) set(v *Version) {
	a.e.PromptName, a.e.PromptVersion, a.e.PromptVersionID = v.Prompt, strconv.Itoa(v.Number), v.ID
}

// property sets a property in a map of the event's own: it may share its present
// one with its source.
func (a *attribution) property(name string, value any) {
	a.e.Properties = maps.Clone(a.e.Properties)
	if err := a.e.SetProperty(name, value); err != nil {
		return // a bool or a string always marshals
	}
}

// matcher finds versions by text.
type matcher struct {
	exact    map[string][]*Version // by prompt hash
	patterns []*Version            // with variables and enough text, heaviest first
	talks    []*Version            // without instructions, with enough own text, the longest first
}

func newMatcher(list []*held) matcher {
	m := matcher{exact: map[string][]*Version{}}
	for _, h := range list {
		for _, v := range h.versions {
			switch hash := v.pattern.Hash(); {
			case hash != "":
				m.exact[hash] = append(m.exact[hash], v)
			case v.pattern.Weight() >= minWeight:
				m.patterns = append(m.patterns, v)
			case v.pattern.Empty() && v.pattern.ChatWeight() >= minWeight:
				m.talks = append(m.talks, v)
			}
		}
	}
	slices.SortStableFunc(m.patterns, func(a, b *Version) int { return cmp.Compare(b.pattern.Weight(), a.pattern.Weight()) })
	slices.SortStableFunc(m.talks, func(a, b *Version) int { return cmp.Compare(b.pattern.ChatWeight(), a.pattern.ChatWeight()) })
	return m
}
