package query

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/filter"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// Narrow adds a filter in text form to f: events meet both. Its errors are of code
// [event.CodeUnknownFilter].
func (f *Filter) Narrow(text string) error {
	e, err := ParseFilter(text)
	if err != nil {
		return err
	}
	f.NarrowBy(e)
	return nil
}

// NarrowBy adds a filter to f. A term that a field of f can express becomes that field's
// value, since roll-ups have totals of those.
func (f *Filter) NarrowBy(e filter.Expr) {
	for _, t := range e.Terms {
		if !f.takes(t) {
			f.Where.Terms = append(slices.Clip(f.Where.Terms), t)
		}
	}
}

// takes makes a term a field of f, where one has the same meaning and is free.
func (f *Filter) takes(t filter.Term) bool {
	if t.Any != nil || t.Not || len(t.Values) != 1 {
		return false
	}
	into := &f.Text
	switch of, name := fieldOf(t.Field); {
	case t.Field == "":
	case t.Op != filter.Is:
		return false
	case of.exact != nil:
		if into = of.exact(f); of.Name == "prompt" && strings.Contains(t.Values[0], "@") {
			return false
		}
	case of.Name == "property" && f.Properties[name] == "" && len(f.Properties) < MaxPropertyFilters:
		if f.Properties = maps.Clone(f.Properties); f.Properties == nil {
			f.Properties = make(map[string]string, 1)
		}
		f.Properties[name] = t.Values[0]
		return true
	default:
		return false
	}
	if *into != "" {
		return *into == t.Values[0]
	}
	*into = t.Values[0]
	return true
}

// meets is the condition of an expression; empty of an empty one.
func (r *Reader) meets(project string, e filter.Expr) (w sqlf.Fragment, err error) {
	for _, t := range e.Terms {
		c, err := r.term(project, t)
		if err != nil {
			return w, err
		}
		w = w.And(c)
	}
	return w, nil
}

func (r *Reader) term(project string, t filter.Term) (sqlf.Fragment, error) {
	if t.Any != nil {
		any := make([]sqlf.Fragment, len(t.Any))
		for i, e := range t.Any {
			var err error
			if any[i], err = r.meets(project, e); err != nil {
				return any[i], err
			}
		}
		return sqlf.Or(any...), nil
	}
	for _, v := range append([]string{t.Field}, t.Values...) {
		if err := checkText("q", v); err != nil {
			return sqlf.Fragment{}, err
		}
	}
	var is sqlf.Fragment
	if t.Field == "" {
		is = sqlf.New(r.sql.search, sqlf.Columns(searched...), t.Values[0])
	} else if of, name := fieldOf(t.Field); of == nil {
		return is, event.NewError(event.CodeUnknownFilter, "unknown field in a filter", "", nil)
	} else {
		is = r.compare(of, name, project, t)
	}
	if t.Not {
		return sqlf.New("NOT coalesce(?, false)", is), nil
	}
	return is, nil
}

// compare is the condition of a term, without its negation.
func (r *Reader) compare(of *field, name, project string, t filter.Term) sqlf.Fragment {
	var expr sqlf.Fragment
	if of.expr != nil {
		expr = of.expr(r, name)
	}
	number := of.Type.Numeric()
	if of.Type == filter.Property && slices.Contains([]filter.Op{filter.Over, filter.AtLeast, filter.Under, filter.AtMost, filter.Between}, t.Op) {
		expr, number = r.sql.number(expr), true
	}
	bound := func(i int) sqlf.Fragment { return of.bound(t.Values[i]) }
	text := func() sqlf.Fragment { return sqlf.New("lower(CAST(? AS VARCHAR))", t.Values[0]) }
	lower := sqlf.New("lower(?)", expr)
	switch t.Op {
	case filter.Exists:
		return isKnown(expr)
	case filter.Contains:
		return sqlf.New("contains(?, ?)", lower, text())
	case filter.Starts:
		return sqlf.New("starts_with(?, ?)", lower, text())
	case filter.Ends:
		return sqlf.New("ends_with(?, ?)", lower, text())
	case filter.Over, filter.AtLeast, filter.Under, filter.AtMost:
		return sqlf.New("? "+string(t.Op)+" ?", expr, bound(0))
	case filter.Between:
		return sqlf.New("? BETWEEN ? AND ?", expr, bound(0), bound(1))
	}
	if of.is == nil && !number && of.Type != filter.Bool {
		if len(t.Values) > 1 {
			return r.sql.inTexts(anys(t.Values), expr)
		}
		return equals(expr, t.Values[0])
	}
	any := make([]sqlf.Fragment, len(t.Values))
	for i, v := range t.Values {
		switch {
		case of.is != nil:
			any[i] = of.is(r, project, v)
		case of.Type == filter.Bool:
			any[i] = sqlf.New("? = "+v, expr)
		default:
			any[i] = sqlf.New("? = ?", expr, bound(i))
		}
	}
	return sqlf.Or(any...)
}

// bound is a number of the filter, in the store's unit.
func (of *field) bound(value string) sqlf.Fragment {
	switch {
	case of.Type == filter.Duration:
		d, _ := time.ParseDuration(value) // as the parser printed it
		return sqlf.New("CAST(? AS BIGINT)", d.Microseconds())
	case of.Type == filter.Dollars:
		return sqlf.New("CAST(CAST(? AS VARCHAR) AS DECIMAL(38,18))", value)
	case strings.Contains(value, ".") || of.Type == filter.Property || of.Name == "speed":
		return sqlf.New("CAST(CAST(? AS VARCHAR) AS DOUBLE)", value)
	}
	return sqlf.New("CAST(CAST(? AS VARCHAR) AS BIGINT)", value)
}

// words reports whether f searches for words.
func (f *Filter) words() bool { return f.Text != "" || f.Where.Words() }

// names reports whether a term of Where names a field.
func (f *Filter) names(field string) bool { return namesField(f.Where, field) }

func namesField(e filter.Expr, name string) bool {
	return slices.ContainsFunc(e.Terms, func(t filter.Term) bool {
		return t.Any == nil && t.Field == name || slices.ContainsFunc(t.Any, func(a filter.Expr) bool { return namesField(a, name) })
	})
}

// outcomeTerms is the expression for outcomes, as [Filter.ofOutcomes].
func outcomeTerms(e filter.Expr) filter.Expr {
	out := filter.Expr{Terms: slices.Clone(e.Terms)}
	for i, t := range out.Terms {
		if t.Any != nil {
			t.Any = slices.Clone(t.Any)
			for j := range t.Any {
				t.Any[j] = outcomeTerms(t.Any[j])
			}
		} else if t.Field == outputCategory {
			t.Field = "property." + outputCategory
		}
		out.Terms[i] = t
	}
	return out
}
