package filter

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
)

// Expr is a filter: all its terms hold. The zero Expr is met by everything.
type Expr struct {
	Terms []Term
}

// Term is one condition: a field with an operator, a text to search for (Field is
// ""), or a group of alternatives (Any).
type Term struct {
	Not    bool     // the condition does not hold: also where the field is unknown
	Field  string   // canonical name: "model", "property.plan"
	Op     Op       //
	Values []string // canonical: numbers without suffixes, durations as [time.Duration] prints them
	Any    []Expr   // at least one of these holds
}

// exists is the word for Exists, in place of a field.
const exists = "has"

// IsZero reports whether e has no terms.
func (e Expr) IsZero() bool { return len(e.Terms) == 0 }

// String is the canonical text of a filter: [Fields.Parse] reads it as e again. Equal
// filters have equal texts, up to the order in which their terms were given.
func (e Expr) String() string {
	var b strings.Builder
	for i, t := range e.Terms {
		if i > 0 {
			b.WriteByte(' ')
		}
		t.print(&b)
	}
	return b.String()
}

// String is the canonical text of a term.
func (t Term) String() string {
	var b strings.Builder
	t.print(&b)
	return b.String()
}

func (t *Term) print(b *strings.Builder) {
	if t.Any != nil {
		b.WriteByte('(')
		for i, e := range t.Any {
			if i > 0 {
				b.WriteString(" OR ")
			}
			b.WriteString(e.String())
		}
		b.WriteByte(')')
		return
	}
	if t.Not {
		b.WriteByte('-')
	}
	switch {
	case t.Field == "":
		b.WriteString(quoteWord(t.Values[0]))
		return
	case t.Op == Exists:
		b.WriteString(exists + ":" + quoteName(t.Field))
		return
	}
	b.WriteString(quoteName(t.Field) + ":")
	switch {
	case t.Op == Between:
		b.WriteString(t.Values[0] + ".." + t.Values[1])
	case len(t.Values) > 1:
		for i, v := range t.Values {
			b.WriteString([]string{",", "("}[btoi(i == 0)] + quote(v))
		}
		b.WriteByte(')')
	default:
		b.WriteString(string(t.Op) + quote(t.Values[0]))
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// special are the characters that a text is quoted for.
const special = " ():\",\\"

// quote writes a value.
func quote(s string) string {
	if s == "" || strings.ContainsAny(s, special) || strings.ContainsAny(s[:1], "~^$<>") || strings.Contains(s, "..") || strings.ContainsFunc(s, unprintable) {
		return quoted(s)
	}
	return s
}

// quoteWord writes a word to search for.
func quoteWord(s string) string {
	if s == "OR" || strings.HasPrefix(s, "-") {
		return quoted(s)
	}
	return quote(s)
}

// quoteName writes the name of a field.
func quoteName(s string) string {
	head, rest, dotted := strings.Cut(s, ".")
	if !dotted {
		return s
	}
	if strings.ContainsAny(rest, special) || strings.ContainsFunc(rest, unprintable) {
		rest = quoted(rest)
	}
	return head + "." + rest
}

func unprintable(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// ordered brings an expression into its canonical form: terms in order and each
// once, alternatives that have one expression as its terms.
func (e Expr) ordered() Expr {
	var terms []Term
	for _, t := range e.Terms {
		if t.Any == nil {
			terms = append(terms, t.ordered())
			continue
		}
		any := make([]Expr, len(t.Any))
		for i, alt := range t.Any {
			any[i] = alt.ordered()
		}
		slices.SortFunc(any, func(a, b Expr) int { return cmp.Compare(a.String(), b.String()) })
		any = slices.CompactFunc(any, func(a, b Expr) bool { return a.String() == b.String() })
		if len(any) == 1 {
			terms = append(terms, any[0].Terms...)
			continue
		}
		terms = append(terms, Term{Any: any})
	}
	slices.SortStableFunc(terms, func(a, b Term) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.String(), b.String()))
	})
	terms = slices.CompactFunc(terms, func(a, b Term) bool { return a.String() == b.String() })
	return Expr{terms}
}

// ordered is a term with its values in order and each once.
func (t Term) ordered() Term {
	if t.Op == Is && len(t.Values) > 1 {
		t.Values = slices.Compact(slices.Sorted(slices.Values(t.Values)))
	}
	return t
}

// rank orders terms: fields, groups, words.
func (t *Term) rank() int {
	switch {
	case t.Any != nil:
		return 1
	case t.Field == "":
		return 2
	}
	return 0
}

// With is e with one more term.
func (e Expr) With(t Term) Expr { return Expr{append(slices.Clone(e.Terms), t)}.ordered() }

// Without is e without the terms of a field, those within groups aside.
func (e Expr) Without(field string) Expr {
	return Expr{slices.DeleteFunc(slices.Clone(e.Terms), func(t Term) bool { return t.Any == nil && t.Field == field && field != "" })}
}

// WithoutTerm is e without the term at a place.
func (e Expr) WithoutTerm(at int) Expr { return Expr{slices.Delete(slices.Clone(e.Terms), at, at+1)} }

// Words reports whether e searches for words.
func (e Expr) Words() bool {
	return slices.ContainsFunc(e.Terms, func(t Term) bool { return t.Any == nil && t.Field == "" || slices.ContainsFunc(t.Any, Expr.Words) })
}
