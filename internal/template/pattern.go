package template

import (
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// Pattern reports whether instructions came from a template. The zero Pattern
// matches nothing.
type Pattern struct {
	hash     string   // if there are no variables
	messages int      // of instructions
	literals []string // around the variables, folded: one more than there are of these
	weight   int

	said []messagePattern // the messages of the user and the assistant
	own  int              // bytes of text in said
}

// messagePattern is the pattern of one message of the user or the assistant.
type messagePattern struct {
	role     string
	literals []string // as [Pattern]'s
}

// NewPattern returns the pattern of a template's instructions, the texts of its
// system and developer messages, and of its user and assistant messages.
func NewPattern(messages []Message) Pattern {
	var p Pattern
	for _, m := range messages {
		if m.Role != "system" && m.Role != "developer" {
			literals, weight := pieces(m.Content)
			p.said, p.own = append(p.said, messagePattern{m.Role, literals}), p.own+weight
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

// Empty reports whether the template has no instructions, so that those of a
// call cannot be compared.
func (p Pattern) Empty() bool { return len(p.literals) == 0 }

// Hash is the hash of the only instructions that match, as
// [event.HashInstructions] has it; "" where the template has variables, or no
// instructions.
func (p Pattern) Hash() string { return p.hash }

// Weight is the number of bytes that the template itself contributes: the more,
// the less can a match be chance.
func (p Pattern) Weight() int { return p.weight }

// Text is a call's instructions, prepared once for comparison with any
// number of patterns.
type Text struct {
	texts  []string
	hash   string
	folded string
}

// NewText prepares the texts of a call's system and developer messages.
func NewText(texts []string) Text {
	return Text{texts: texts, hash: event.HashInstructions(texts), folded: fold(event.JoinInstructions(texts))}
}

// HashedText returns the Text of a call with only a hash of its instructions:
// it matches only templates without variables. "" is a call without
// instructions.
func HashedText(hash string) Text { return Text{hash: hash} }

// Empty reports whether nothing is known of instructions.
func (t Text) Empty() bool { return t.hash == "" }

// Hash is the hash of the instructions.
func (t Text) Hash() string { return t.hash }

// Comparable reports whether the instructions are known, and the template has any,
// so that they can differ.
func (t Text) Comparable(p Pattern) bool {
	return !p.Empty() && !t.Empty() && (p.hash != "" || t.folded != "")
}

// Match reports whether the instructions can have been rendered from the
// template. Without variables their hash must match. With variables the texts
// between them must occur in order, from the first character to the last;
// spacing does not count, because a value may be empty or begin with a space.
// A variable matches any text.
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
	// The first match of each text is sufficient: a later one leaves less
	// for the texts that follow.
	for _, l := range literals[1:last] {
		if !ok {
			return false
		}
		_, rest, ok = strings.Cut(rest, l)
	}
	return ok && strings.HasSuffix(rest, literals[last])
}

// ChatWeight returns the number of bytes of the template's own text in user and
// assistant messages; 0 if they consist of variables.
func (p Pattern) ChatWeight() int { return p.own }

// Conversation is a call's conversation, prepared for any number of patterns.
type Conversation struct {
	said  []event.ChatMessage // folded
	whole bool
}

// NewConversation prepares a conversation; whole is false where it continues.
func NewConversation(said []event.ChatMessage, whole bool) Conversation {
	for i := range said {
		said[i].Text = fold(said[i].Text)
	}
	return Conversation{said, whole}
}

// Comparable reports whether the conversation is known, and the template has its own
// text in it, so that it can be missing.
func (t Conversation) Comparable(p Pattern) bool { return p.own > 0 && len(t.said) > 0 && t.whole }

// MatchConversation reports whether the template's user and assistant messages are in the
// conversation: consecutively, at any position, because other messages may
// precede and follow them.
func (p Pattern) MatchConversation(t Conversation) bool {
	if p.own == 0 {
		return false
	}
	for i := 0; i+len(p.said) <= len(t.said); i++ {
		if p.matchAt(t.said[i:]) {
			return true
		}
	}
	return false
}

func (p Pattern) matchAt(said []event.ChatMessage) bool {
	for i, s := range p.said {
		if said[i].Role != s.role || !inOrder(s.literals, said[i].Text) {
			return false
		}
	}
	return true
}

// MatchWithin is [Pattern.Match] for calls that are known to use the template: other
// instructions, such as a framework's, may precede or follow it as separate
// messages.
func (p Pattern) MatchWithin(t Text) bool {
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
