package template

import (
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// Pattern tells whether instructions came from a template. The zero Pattern
// matches nothing.
type Pattern struct {
	hash     string   // where there are no variables
	messages int      // of instructions
	literals []string // around the variables, folded: one more than there are of these
	weight   int
}

// NewPattern makes the pattern of a template's instructions, the texts of its
// system and developer messages. It matches nothing where there are none.
func NewPattern(messages []Message) Pattern {
	texts := Instructions(messages)
	joined := event.JoinInstructions(texts)
	if joined == "" {
		return Pattern{}
	}
	p := Pattern{messages: len(texts), literals: placeholder.Split(joined, -1)}
	if len(p.literals) == 1 {
		p.hash = event.HashInstructions(texts)
	}
	for i, l := range p.literals {
		p.literals[i] = fold(l)
		p.weight += len(p.literals[i])
	}
	return p
}

// Empty reports whether the template has no instructions, so that nothing can be
// told of a call's.
func (p Pattern) Empty() bool { return len(p.literals) == 0 }

// Hash is the hash of the only instructions that match, as
// [event.HashInstructions] has it; "" where the template has variables, or no
// instructions.
func (p Pattern) Hash() string { return p.hash }

// Weight is the number of bytes that the template itself contributes: the more,
// the less can a match be chance.
func (p Pattern) Weight() int { return p.weight }

// Text is what a call's instructions are compared with patterns by: prepared
// once, for any number of patterns.
type Text struct {
	texts  []string
	hash   string
	folded string
}

// NewText prepares the texts of a call's system and developer messages.
func NewText(texts []string) Text {
	return Text{texts: texts, hash: event.HashInstructions(texts), folded: fold(event.JoinInstructions(texts))}
}

// HashedText is a call of whose instructions only the hash is known: it matches
// templates without variables only. "" is a call without instructions.
func HashedText(hash string) Text { return Text{hash: hash} }

// Empty reports whether nothing is known of instructions.
func (t Text) Empty() bool { return t.hash == "" }

// Hash is the hash of the instructions.
func (t Text) Hash() string { return t.hash }

// Tells reports whether enough is known of the instructions, and the template
// has any, to say that they differ.
func (t Text) Tells(p Pattern) bool {
	return !p.Empty() && !t.Empty() && (p.hash != "" || t.folded != "")
}

// Match reports whether the instructions can have come from the template. A
// template without variables has to be what was sent, by hash. Of one with
// variables each piece between them has to be there, in order, from the first
// character to the last; spacing does not count, because a value may be empty or
// begin with a space of its own. A variable stands for any text.
func (p Pattern) Match(t Text) bool {
	switch {
	case p.Empty() || t.Empty():
		return false
	case p.hash != "":
		return p.hash == t.hash
	}
	last := len(p.literals) - 1
	rest, ok := strings.CutPrefix(t.folded, p.literals[0])
	// The first place of each piece is good enough: a match with a later one
	// leaves less for the pieces that follow.
	for _, l := range p.literals[1:last] {
		if !ok {
			return false
		}
		_, rest, ok = strings.Cut(rest, l)
	}
	return ok && strings.HasSuffix(rest, p.literals[last])
}

// Within is [Pattern.Match] for calls that are known to run the template: it may
// stand between instructions of others, such as a framework's, as messages of
// their own.
func (p Pattern) Within(t Text) bool {
	if p.Match(t) {
		return true
	}
	if p.messages == 0 {
		return false
	}
	for i := 0; i+p.messages <= len(t.texts) && p.messages < len(t.texts); i++ {
		if p.Match(NewText(t.texts[i : i+p.messages])) {
			return true
		}
	}
	return false
}

// fold makes each run of space one space, and cuts those at the ends.
func fold(s string) string { return strings.Join(strings.Fields(s), " ") }
