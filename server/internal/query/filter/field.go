package filter

import (
	"slices"
	"strings"
)

// Type is the type of a field's values.
type Type string

// The types.
const (
	Enum     Type = "enum"     // one of Field.Values
	Name     Type = "name"     // text with few different values
	ID       Type = "id"       // text with many
	Text     Type = "text"     // text that is searched rather than compared
	Number   Type = "number"   // a number, also 10k and 1.5M
	Dollars  Type = "dollars"  // an amount in US dollars
	Duration Type = "duration" // 200ms, 1.5s, 2m
	Bytes    Type = "bytes"    // a number of bytes, also 10KB and 1.5MB
	Bool     Type = "boolean"  // true or false
	Property Type = "property" // text, compared as a number by >, >=, <, <= and ..
)

// Op is what a term does with its values.
type Op string

// The operators. Comparisons of text ignore case, except those of Is.
const (
	Is       Op = ""   // one of Values
	Contains Op = "~"  // text
	Starts   Op = "^"  // text
	Ends     Op = "$"  // text
	Over     Op = ">"  // numbers
	AtLeast  Op = ">=" // numbers
	Under    Op = "<"  // numbers
	AtMost   Op = "<=" // numbers
	Between  Op = ".." // numbers: two, both included
	Exists   Op = "has"
)

var (
	texts     = []Op{Is, Contains, Starts, Ends, Exists}
	numbers   = []Op{Is, Over, AtLeast, Under, AtMost, Between, Exists}
	operators = map[Type][]Op{
		Enum: {Is, Exists}, Bool: {Is, Exists}, Name: texts, ID: texts, Text: {Contains, Is, Starts, Ends, Exists},
		Number: numbers, Dollars: numbers, Duration: numbers, Bytes: numbers,
		Property: {Is, Contains, Starts, Ends, Over, AtLeast, Under, AtMost, Between, Exists},
	}
)

// Numeric reports whether values of the type are numbers.
func (t Type) Numeric() bool { return slices.Contains([]Type{Number, Dollars, Duration, Bytes}, t) }

// Field is a field that terms can name.
type Field struct {
	Name    string   // "model"; of a family: "property", whose fields are property.NAME
	Label   string   // for people
	Type    Type     //
	Family  bool     // the field is followed by a dot and the name of a property, a flag, a group
	Aliases []string // other names that are read, never printed
	Values  []string // of an Enum
	Ops     []Op     // where the field has fewer than its type; the first is the default
	Group   string   // of fields, for menus
	Help    string   // what the field is, in a sentence
}

// Operators are the field's operators, the default first.
func (f *Field) Operators() []Op {
	if f.Ops != nil {
		return f.Ops
	}
	return operators[f.Type]
}

// Fields is a table of fields.
type Fields struct {
	list  []Field
	named map[string]*Field
}

// NewFields returns the table of some fields. It panics if two have a name in
// common.
func NewFields(list []Field) *Fields {
	t := &Fields{list: list, named: make(map[string]*Field)}
	for i := range list {
		for _, name := range append([]string{list[i].Name}, list[i].Aliases...) {
			if t.named[name] != nil || name == exists {
				panic("filter: two fields are named " + name)
			}
			t.named[name] = &list[i]
		}
	}
	return t
}

// List is all fields, in order.
func (t *Fields) List() []Field { return t.list }

// Find returns the field of a name as terms have it, and its canonical name:
// "property.plan" is the field property.
func (t *Fields) Find(name string) (f *Field, canonical string, ok bool) {
	head, rest, dotted := strings.Cut(name, ".")
	f = t.named[head]
	if f == nil || f.Family != dotted || dotted && rest == "" {
		return nil, "", false
	}
	if dotted {
		return f, f.Name + "." + rest, true
	}
	return f, f.Name, true
}

// nearest is the name of the field that is most like another name; "" where none is.
func (t *Fields) nearest(name string) string {
	name = strings.ToLower(name)
	head, rest, dotted := strings.Cut(name, ".")
	best, least := "", 3
	for i := range t.list {
		for _, have := range append([]string{t.list[i].Name}, t.list[i].Aliases...) {
			if t.list[i].Family != dotted {
				continue
			}
			d := distance(head, have)
			if len(head) > 2 && strings.HasPrefix(have, head) {
				d = min(d, 2)
			}
			if d < least && d < len(have) {
				best, least = t.list[i].Name, d
			}
		}
	}
	if best != "" && dotted {
		best += "." + rest
	}
	return best
}

// distance is the number of letters to add, take away, change or swap with their
// neighbour to make one word of another (Damerau and Levenshtein, adjacent swaps).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	if len(x) > 40 || len(y) > 40 {
		return 40
	}
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			change := 1
			if x[i-1] == y[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}
