package template

import (
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// Pattern reports whether instructions came from a template. The zero Pattern
// matches nothing.
type Pattern struct {
	hash     string   // where there are no variables
	messages int      // of instructions
	literals []string // around the variables, folded: one more than there are of these
	weight   int

	said []saying // the messages of the user and the assistant
	own  int      // bytes of text in said
}

// saying is the pattern of one message of the user or the assistant.
type saying struct {
	role     string
	literals []string // as [Pattern]'s
}

// NewPattern makes the pattern of a template's instructions, the texts of its
// system and developer messages, and of what it lets the user and the assistant
// say.
func NewPattern(messages []Message) Pattern {
	var p Pattern
	for _, m := range messages {
		if m.Role != "system" && m.Role != "developer" {
			literals, weight := pieces(m.Content)
			p.said, p.own = append(p.said, saying{m.Role, literals}), p.own+weight
		}
	}
	texts := Instructions(messages)
	joined := event.JoinInstructions(texts)
	if joined == "" {
		return p
	}
	p.messages = len(texts)
	p.literals, p.weight = pieces(joined)
	if len(p.literals) == 1 {
		p.hash = event.HashInstructions(texts)
	}
	return p
}

// pieces are the texts between the variables, folded, and their bytes.
func pieces(text string) (literals []string, weight int) {
	literals = placeholder.Split(text, -1)
	for i, l := range literals {
		literals[i] = fold(l)
		weight += len(literals[i])
	}
	return literals, weight
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
// character to the last; spacing does not count, because a value may be empty
// or begin with its own space. A variable stands for any text.
func (p Pattern) Match(t Text) bool {
	switch {
	case p.Empty() || t.Empty():
		return false
	case p.hash != "":
		return p.hash == t.hash
	}
	return inOrder(p.literals, t.folded)
}

// inOrder reports whether a folded text is made of the pieces, with anything
// between them.
func inOrder(literals []string, text string) bool {
	last := len(literals) - 1
	if last == 0 {
		return text == literals[0]
	}
	rest, ok := strings.CutPrefix(text, literals[0])
	// The first place of each piece is good enough: a match with a later one
	// leaves less for the pieces that follow.
	for _, l := range literals[1:last] {
		if !ok {
			return false
		}
		_, rest, ok = strings.Cut(rest, l)
	}
	return ok && strings.HasSuffix(rest, literals[last])
}

// Own is the number of bytes that the template itself contributes to what the user
// and the assistant say; 0 where it leaves all of that to its variables.
func (p Pattern) Own() int { return p.own }

// Talk is a call's conversation, prepared for any number of patterns.
type Talk struct {
	said  []event.Said // folded
	whole bool
}

// NewTalk prepares a conversation; whole is false where it continues.
func NewTalk(said []event.Said, whole bool) Talk {
	for i := range said {
		said[i].Text = fold(said[i].Text)
	}
	return Talk{said, whole}
}

// Tells reports whether enough is known of a conversation, and the template has
// its own words in it, to say that they are missing there.
func (t Talk) Tells(p Pattern) bool { return p.own > 0 && len(t.said) > 0 && t.whole }

// Spoken reports whether what the template lets the user and the assistant say
// is in the conversation: its messages in a row, wherever they begin, because
// others may have been said before and after.
func (p Pattern) Spoken(t Talk) bool {
	if p.own == 0 {
		return false
	}
	for i := 0; i+len(p.said) <= len(t.said); i++ {
		if p.spokenAt(t.said[i:]) {
			return true
		}
	}
	return false
}

func (p Pattern) spokenAt(said []event.Said) bool {
	for i, s := range p.said {
		if said[i].Role != s.role || !inOrder(s.literals, said[i].Text) {
			return false
		}
	}
	return true
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
