package filter

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

// Bounds of a filter.
const (
	MaxLength = 4000 // bytes
	MaxTerms  = 50   // groups and what is in them included
	MaxValues = 100  // of one term
	MaxDepth  = 2    // of groups in groups
)

// Error says where and why a text is no filter. It is the cause of an [event.Error]
// of code [event.CodeUnknownFilter].
type Error struct {
	Field      string // as the text has it; "" where the error is of no field
	Position   int    // of the term, in characters from 1 on
	DidYouMean string // a field; "" where none is like it
}

func (e *Error) Error() string { return "character " + strconv.Itoa(e.Position) + " of the filter" }

// Parse reads a filter. Its errors are of code [event.CodeUnknownFilter].
func (t *Fields) Parse(text string) (Expr, error) {
	p := &parser{fields: t, text: text}
	if len(text) > MaxLength {
		return Expr{}, p.fail(0, "", fmt.Sprintf("The filter is longer than %d bytes", MaxLength), "use fewer terms")
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return Expr{}, p.fail(0, "", "The filter is not text", "send it as UTF-8 without NUL")
	}
	e, err := p.expr(0)
	if err != nil {
		return Expr{}, err
	}
	return e.ordered(), nil
}

// Unknown is the error of a field that there is not.
func (t *Fields) Unknown(name string) error {
	p := &parser{fields: t, text: name}
	_, _, err := p.find(0, name)
	return err
}

type parser struct {
	fields *Fields
	text   string
	at     int
	terms  int
}

func (p *parser) fail(at int, field, message, hint string) error {
	return p.failLike(at, field, "", message, hint)
}

func (p *parser) failLike(at int, field, like, message, hint string) error {
	where := &Error{Field: field, Position: utf8.RuneCountInString(p.text[:min(at, len(p.text))]) + 1, DidYouMean: like}
	if hint != "" {
		hint += "; "
	}
	return event.NewError(event.CodeUnknownFilter, message, hint+"see "+where.Error(), where)
}

func (p *parser) more() bool { return p.at < len(p.text) }

func (p *parser) peek() byte {
	if p.more() {
		return p.text[p.at]
	}
	return 0
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func (p *parser) spaces() {
	for p.more() && isSpace(p.peek()) {
		p.at++
	}
}

// ends reports whether a term may end here.
func (p *parser) ends() bool { return !p.more() || isSpace(p.peek()) || p.peek() == ')' }

// or reports whether the next word is OR.
func (p *parser) or() bool {
	rest, ok := strings.CutPrefix(p.text[p.at:], "OR")
	return ok && (rest == "" || isSpace(rest[0]) || rest[0] == '(' || rest[0] == ')')
}

// expr reads terms up to the end of the text or, in a group, the end of an alternative.
func (p *parser) expr(depth int) (e Expr, err error) {
	for {
		p.spaces()
		switch {
		case !p.more():
			return e, nil
		case p.peek() == ')':
			if depth == 0 {
				return e, p.fail(p.at, "", "A bracket is closed that was not opened", `quote text with brackets: "f(x)"`)
			}
			return e, nil
		case p.or():
			if depth == 0 {
				return e, p.fail(p.at, "", "OR is outside of brackets", `write (a OR b); to search for the word, quote it: "OR"`)
			}
			return e, nil
		}
		if p.terms++; p.terms > MaxTerms {
			return e, p.fail(p.at, "", fmt.Sprintf("The filter has more than %d terms", MaxTerms), "use fewer")
		}
		t, err := p.term(depth)
		if err != nil {
			return e, err
		}
		e.Terms = append(e.Terms, t)
	}
}

func (p *parser) term(depth int) (t Term, err error) {
	start := p.at
	if p.peek() == '-' {
		t.Not = true
		p.at++
	}
	switch {
	case p.ends():
		return t, p.fail(start, "", "There is nothing after -", `write -model:x; to search for a dash, quote it: "-"`)
	case p.peek() == '(' && t.Not:
		return t, p.fail(start, "", "A group cannot be excluded", "exclude its terms one by one: -model:x")
	case p.peek() == '(':
		return p.group(start, depth)
	case p.peek() == '"':
		word, err := p.quoted()
		if err == nil {
			err = p.ended(start, "")
		}
		if strings.Trim(word, " \t\r\n") == "" && err == nil {
			err = p.fail(start, "", "There is nothing to search for", "type a word")
		}
		t.Op, t.Values = Contains, []string{word}
		return t, err
	}
	name, colon, err := p.name()
	switch {
	case err != nil:
		return t, err
	case !colon:
		t.Op, t.Values = Contains, []string{name}
		return t, p.ended(start, "")
	case name == exists:
		at := p.at
		if name, _, err = p.name(); err != nil {
			return t, err
		}
		f, canonical, err := p.find(at, name)
		if err != nil {
			return t, err
		}
		t.Field, t.Op = canonical, Exists
		if err = p.takes(at, f, Exists); err == nil {
			err = p.ended(at, name)
		}
		return t, err
	}
	f, canonical, err := p.find(start, name)
	if err != nil {
		return t, err
	}
	t.Field = canonical
	return t, p.value(start, name, f, &t)
}

func (p *parser) group(start, depth int) (t Term, err error) {
	if depth == MaxDepth {
		return t, p.fail(start, "", fmt.Sprintf("Groups are nested more than %d deep", MaxDepth), "use fewer brackets")
	}
	for {
		p.at++ // the bracket, or the end of OR
		at := p.at
		e, err := p.expr(depth + 1)
		if err != nil {
			return t, err
		}
		if e.IsZero() {
			return t, p.fail(at, "", "An alternative is empty", "write (a OR b)")
		}
		t.Any = append(t.Any, e)
		switch {
		case !p.more():
			return t, p.fail(start, "", "A bracket is not closed", `write (a OR b); quote text with brackets: "f(x)"`)
		case p.peek() == ')':
			p.at++
			return t, p.ended(start, "")
		}
		p.at++ // the O of OR
	}
}

// name reads a word, or the name of a field with the colon after it.
func (p *parser) name() (name string, colon bool, err error) {
	var b strings.Builder
	for p.more() {
		c := p.peek()
		switch {
		case c == ':':
			p.at++
			return b.String(), true, nil
		case c == '"' && strings.HasSuffix(b.String(), "."):
			part, err := p.quoted()
			if err != nil {
				return "", false, err
			}
			b.WriteString(part)
			continue
		case isSpace(c) || strings.IndexByte(`()",`, c) >= 0:
			return b.String(), false, nil
		}
		b.WriteByte(c)
		p.at++
	}
	return b.String(), false, nil
}

// quoted reads a text in quotes.
func (p *parser) quoted() (string, error) {
	start := p.at
	var b strings.Builder
	for p.at++; p.more(); p.at++ {
		switch c := p.peek(); {
		case c == '"':
			p.at++
			return b.String(), nil
		case c == '\\' && p.at+1 < len(p.text):
			p.at++
			b.WriteByte(p.peek())
		default:
			b.WriteByte(c)
		}
	}
	return "", p.fail(start, "", "A quote is not closed", `write \" for a quote within quotes`)
}

// ended is an error unless a term ends here.
func (p *parser) ended(start int, field string) error {
	if p.ends() {
		return nil
	}
	if p.peek() == ',' {
		return p.fail(start, field, "Several values are not in brackets", `write model:(a,b), or quote a text with commas: "a,b"`)
	}
	return p.fail(start, field, "Text with brackets or quotes is not quoted", `write "…" around it, and \" for a quote within`)
}

func (p *parser) find(at int, name string) (*Field, string, error) {
	if f, canonical, ok := p.fields.Find(name); ok {
		return f, canonical, nil
	}
	message, hint := fmt.Sprintf("No field %q", name), `to search for text with a colon, quote it: "a:b"`
	if f := p.fields.named[strings.TrimSuffix(name, ".")]; f != nil && f.Family {
		return nil, "", p.fail(at, name, fmt.Sprintf("%q needs a name", name), "write "+f.Name+".NAME")
	}
	like := p.fields.nearest(name)
	if like != "" {
		message += fmt.Sprintf(". Did you mean %q?", like)
	}
	return nil, "", p.failLike(at, name, like, message, hint)
}

// takes is an error unless a field has an operator.
func (p *parser) takes(at int, f *Field, op Op) error {
	for _, o := range f.Operators() {
		if o == op {
			return nil
		}
	}
	var have []string
	for _, o := range f.Operators() {
		have = append(have, o.example(f.Name))
	}
	return p.fail(at, f.Name, fmt.Sprintf("The field %q cannot be compared by %s", f.Name, op.word()), "use "+strings.Join(have, ", "))
}

func (o Op) example(name string) string {
	switch o {
	case Is:
		return name + ":x"
	case Between:
		return name + ":x..y"
	case Exists:
		return "has:" + name
	}
	return name + ":" + string(o) + "x"
}

func (o Op) word() string {
	if o == Is {
		return "equality"
	}
	return string(o)
}

// value reads what follows the colon of a term.
func (p *parser) value(start int, name string, f *Field, t *Term) error {
	var raw []text
	switch c := p.peek(); {
	case c == '(':
		list, err := p.list(start, name)
		if err != nil {
			return err
		}
		raw = list
	case c == '~' || c == '^' || c == '$' && f.Type != Dollars:
		t.Op = Op(c)
		p.at++
	case (c == '>' || c == '<') && strings.HasPrefix(p.text[p.at+1:], "="):
		t.Op = Op(string(c) + "=")
		p.at += 2
	case c == '>' || c == '<':
		t.Op = Op(c)
		p.at++
	}
	if raw == nil {
		one, err := p.one(start, name)
		if err != nil {
			return err
		}
		raw = []text{one}
		low, high, ok := strings.Cut(one.s, "..")
		between := ok && !one.quoted && t.Op == Is
		if between && f.Type == Property {
			_, failed := decimalOf(low)
			_, second := decimalOf(high)
			between = failed == nil && second == nil
		}
		if between && (f.Type.Numeric() || f.Type == Property) {
			t.Op, raw = Between, []text{{s: low}, {s: high}}
		}
	}
	if err := p.ended(start, name); err != nil {
		return err
	}
	if err := p.takes(start, f, t.Op); err != nil {
		return err
	}
	for _, r := range raw {
		v, message, hint := f.value(t.Op, r.s)
		if message != "" {
			return p.fail(start, name, message, hint)
		}
		t.Values = append(t.Values, v)
	}
	if t.Op == Between {
		low, high, err := f.ends(t.Values)
		if err != nil || low.GreaterThan(high) {
			return p.fail(start, name, fmt.Sprintf("The range of %q ends before it begins", name), "write the lower end first")
		}
	}
	return nil
}

// text is a value as written.
type text struct {
	s      string
	quoted bool
}

// one reads a value up to the end of the term, or of an element of a list.
func (p *parser) one(start int, name string) (t text, err error) {
	if p.peek() == '"' {
		t.quoted = true
		if t.s, err = p.quoted(); err != nil {
			return t, err
		}
	} else {
		from := p.at
		for p.more() && !isSpace(p.peek()) && strings.IndexByte(`()",`, p.peek()) < 0 {
			p.at++
		}
		t.s = p.text[from:p.at]
	}
	if t.s == "" {
		return t, p.fail(start, name, fmt.Sprintf("%q has no value", name), "write "+name+":VALUE; -has:"+name+" finds what has none")
	}
	return t, nil
}

// list reads values in brackets.
func (p *parser) list(start int, name string) (out []text, err error) {
	for {
		p.at++ // the bracket, or a comma
		p.spaces()
		t, err := p.one(start, name)
		if err != nil {
			return nil, err
		}
		if out = append(out, t); len(out) > MaxValues {
			return nil, p.fail(start, name, fmt.Sprintf("%q has more than %d values", name, MaxValues), "use fewer")
		}
		p.spaces()
		switch {
		case p.peek() == ')':
			p.at++
			return out, nil
		case p.peek() != ',':
			return nil, p.fail(start, name, fmt.Sprintf("The list of values of %q is not closed", name), `write (a,b), with quotes around a value with spaces`)
		}
	}
}

// value is a value in canonical form, or what is wrong with it.
func (f *Field) value(op Op, s string) (canonical, message, hint string) {
	bad := func(hint string) (string, string, string) {
		return "", fmt.Sprintf("%q is not a value of %q", s, f.Name), hint
	}
	switch f.Type {
	case Enum:
		for _, v := range f.Values {
			if v == s {
				return s, "", ""
			}
		}
		return bad("use " + strings.Join(f.Values, ", "))
	case Bool:
		switch strings.ToLower(s) {
		case "true", "yes":
			return "true", "", ""
		case "false", "no":
			return "false", "", ""
		}
		return bad("use true or false")
	case Duration:
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 || d > event.MaxDuration {
			return bad("write a duration with its unit: 200ms, 1.5s, 2m")
		}
		return printDuration(d), "", ""
	case Number, Dollars, Bytes:
		d, err := f.Type.number(s)
		if err != nil {
			return bad(map[Type]string{Number: "write a number: 12, 0.5, 10k", Dollars: "write US dollars: 0.01", Bytes: "write a number of bytes: 1000, 10KB, 1.5MB"}[f.Type])
		}
		return d.String(), "", ""
	case Property:
		if op == Over || op == AtLeast || op == Under || op == AtMost || op == Between {
			d, err := decimalOf(s)
			if err != nil {
				return bad("write a number: 12, 0.5")
			}
			return d.String(), "", ""
		}
	}
	if len(s) > 1000 {
		return "", fmt.Sprintf("A value of %q is too long", f.Name), "use at most 1000 bytes"
	}
	return s, "", ""
}

// number reads a number with the suffixes of its type.
func (t Type) number(s string) (decimal.Decimal, error) {
	factor := int64(1)
	var suffixes []string
	switch t {
	case Dollars:
		s = strings.TrimPrefix(s, "$")
	case Number:
		suffixes = []string{"k", "M"}
	case Bytes:
		s, suffixes = strings.TrimSuffix(s, "B"), []string{"K", "M"}
	}
	for i, x := range suffixes {
		if rest, ok := strings.CutSuffix(s, x); ok {
			s, factor = rest, []int64{1000, 1_000_000}[i]
			break
		}
	}
	d, err := decimalOf(s)
	return d.Mul(decimal.NewFromInt(factor)), err
}

// decimalOf reads a plain number: digits, with a sign and a point at most.
func decimalOf(s string) (decimal.Decimal, error) {
	if len(s) > 30 || strings.Trim(s, "-0123456789.") != "" {
		return decimal.Decimal{}, fmt.Errorf("%q is not a number", s)
	}
	d, err := decimal.NewFromString(s)
	if err == nil && (d.Abs().GreaterThanOrEqual(decimal.New(1, 15)) || d.Exponent() < -18) {
		err = fmt.Errorf("%q is out of range", s)
	}
	return d, err
}

// ends are the two ends of a range.
func (f *Field) ends(values []string) (low, high decimal.Decimal, err error) {
	read := func(s string) decimal.Decimal {
		if f.Type == Duration {
			d, failed := time.ParseDuration(s)
			if failed != nil {
				err = failed
			}
			return decimal.NewFromInt(int64(d))
		}
		d, failed := decimal.NewFromString(s)
		if failed != nil {
			err = failed
		}
		return d
	}
	return read(values[0]), read(values[1]), err
}

// printDuration writes a duration to the microsecond, as the store keeps it.
func printDuration(d time.Duration) string {
	s := strings.Replace(d.Truncate(time.Microsecond).String(), "µ", "u", 1)
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
