// Package sqlf composes SQL from fragments. A [Fragment] has its text, the values
// bound to its placeholders, and the columns that it reads, so that a query can
// be composed in any order without counting placeholders, and a source of rows
// selects only the columns that are read.
package sqlf

import (
	"fmt"
	"slices"
	"strings"
)

// Fragment is a part of a query. The zero Fragment is empty. Fragments are values:
// no function changes one.
type Fragment struct {
	text    string
	args    []any
	columns []string // each once
}

// New returns a fragment. Outside of quotes, text may have
//
//   - ? for the next of args: a Fragment is inserted, several ([]Fragment)
//     separated by commas, anything else is bound.
//   - {name} for a column of the rows.
//
// It panics if the number of args differs from that of the placeholders: text is
// never built from input.
func New(text string, args ...any) Fragment {
	if len(args) == 0 && !strings.ContainsAny(text, "?{") {
		return Fragment{text: text}
	}
	var b strings.Builder
	b.Grow(len(text) + 16)
	var f Fragment
	next := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\'':
			end := i + 1 + strings.IndexByte(text[i+1:], '\'')
			if end == i {
				panic("sqlf: quote without an end in " + text)
			}
			b.WriteString(text[i : end+1])
			i = end
		case c == '?':
			if next == len(args) {
				panic("sqlf: more placeholders than arguments in " + text)
			}
			switch a := args[next].(type) {
			case Fragment:
				f.take(&b, a)
			case []Fragment:
				for j, x := range a {
					if j > 0 {
						b.WriteString(", ")
					}
					f.take(&b, x)
				}
			default:
				b.WriteByte('?')
				f.args = append(f.args, a)
			}
			next++
		case c == '{':
			name, _, ok := strings.Cut(text[i+1:], "}")
			if !ok {
				panic("sqlf: column without an end in " + text)
			}
			b.WriteString(name)
			f.use(name)
			i += len(name) + 1
		default:
			b.WriteByte(c)
		}
	}
	if next < len(args) {
		panic(fmt.Sprintf("sqlf: %d arguments for %d placeholders in %s", len(args), next, text))
	}
	f.text = b.String()
	return f
}

func (f *Fragment) take(b *strings.Builder, a Fragment) {
	b.WriteString(a.text)
	f.args = append(f.args, a.args...)
	f.use(a.columns...)
}

func (f *Fragment) use(columns ...string) {
	for _, c := range columns {
		if !slices.Contains(f.columns, c) {
			f.columns = append(f.columns, c)
		}
	}
}

// Raw is text as it is, without placeholders and columns.
func Raw(text string) Fragment { return Fragment{text: text} }

// Column is a column.
func Column(name string) Fragment { return Fragment{text: name, columns: []string{name}} }

// Columns are columns, each of them a fragment.
func Columns(names ...string) []Fragment {
	out := make([]Fragment, len(names))
	for i, n := range names {
		out[i] = Column(n)
	}
	return out
}

// String is the text.
func (f Fragment) String() string { return f.text }

// Args are the values bound to the placeholders of the text, in their order.
func (f Fragment) Args() []any { return f.args }

// IsZero reports whether the fragment is empty.
func (f Fragment) IsZero() bool { return f.text == "" }

// Uses reports whether the fragment reads a column.
func (f Fragment) Uses(column string) bool { return slices.Contains(f.columns, column) }

// Reads are the columns that the fragment reads.
func (f Fragment) Reads() []string { return slices.Clone(f.columns) }

// Using returns the fragment with additional columns, for callers that add them
// to the query.
func (f Fragment) Using(columns ...string) Fragment {
	f.columns = slices.Clip(f.columns)
	f.use(columns...)
	return f
}

// Closed is the fragment as one that reads no columns of the rows around it, as a
// subquery that names its own source.
func (f Fragment) Closed() Fragment {
	f.columns = nil
	return f
}

// As names the value of an expression.
func (f Fragment) As(name string) Fragment {
	f.text += " AS " + name
	return f
}

// And is a condition that is true where f and all others are. Each of them is to
// bind at least as strongly as AND. An empty one leaves out nothing.
func (f Fragment) And(others ...Fragment) Fragment {
	return Join(" AND ", append([]Fragment{f}, others...)...)
}

// Andf is And with a condition made by [New].
func (f Fragment) Andf(text string, args ...any) Fragment { return f.And(New(text, args...)) }

// Or is a condition in brackets that is true where one of some is. Of none it is
// false.
func Or(conds ...Fragment) Fragment {
	if len(conds) == 0 {
		return Raw("false")
	}
	return New("(?)", Join(" OR ", conds...))
}

// Join puts a separator between fragments, and leaves out empty ones.
func Join(sep string, parts ...Fragment) Fragment {
	var b strings.Builder
	var f Fragment
	for _, p := range parts {
		if p.IsZero() {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(sep)
		}
		f.take(&b, p)
	}
	f.text = b.String()
	return f
}

// Texts are fragments of plain text, one each.
func Texts(texts ...string) []Fragment {
	out := make([]Fragment, len(texts))
	for i, t := range texts {
		out[i] = Raw(t)
	}
	return out
}
