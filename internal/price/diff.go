package price

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"
)

// ChangeKind says what happened to a price.
type ChangeKind string

// The three kinds of change.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed"
)

// Change is one difference between two tables.
type Change struct {
	Kind ChangeKind
	Old  Row // zero if added
	New  Row // zero if removed
}

// Diff lists what models cost in next and did not in old, sorted by provider and
// model. A model is the same under any of its names. Prices count; where a price is
// from, its date and its aliases do not.
func Diff(old, next *Table) []Change {
	var changes []Change
	compare := func(old, next index) {
		for provider, byName := range next {
			for key, e := range byName {
				if nameKey(e.Model) != key {
					continue // an alias: its row comes under its own name
				}
				switch was := old[provider][key]; {
				case was == nil:
					changes = append(changes, Change{Kind: Added, New: e.Row})
				case !samePrices(was.Row, e.Row):
					changes = append(changes, Change{Kind: Changed, Old: was.Row, New: e.Row})
				}
			}
		}
		for provider, byName := range old {
			for key, e := range byName {
				if nameKey(e.Model) == key && next[provider][key] == nil {
					changes = append(changes, Change{Kind: Removed, Old: e.Row})
				}
			}
		}
	}
	compare(old.ownIndex, next.ownIndex)
	compare(old.all(), next.all())
	slices.SortStableFunc(changes, func(a, b Change) int {
		x, y := a.row(), b.row()
		return cmp.Or(strings.Compare(x.Provider, y.Provider), strings.Compare(x.Model, y.Model), strings.Compare(string(a.Kind), string(b.Kind)))
	})
	return changes
}

func (c Change) row() Row {
	if c.Kind == Removed {
		return c.Old
	}
	return c.New
}

// String is the change in a line that people read, prices in USD per million
// tokens:
//
//   - xai grok-9: input $2, output $8
//   - xai grok-1: input $5, output $15
//     ~ openai gpt-4.1: input $2 → $1.50, cache_read $0.50 → unknown
func (c Change) String() string {
	r := c.row()
	provider := r.Provider
	if provider == "" {
		provider = "any"
	}
	sign, parts := "~", []string(nil)
	switch c.Kind {
	case Added:
		sign, parts = "+", describe(Row{}, c.New, false)
	case Removed:
		sign, parts = "-", describe(Row{}, c.Old, false)
	default:
		parts = describe(c.Old, c.New, true)
	}
	return fmt.Sprintf("%s %s %s: %s", sign, provider, r.Model, strings.Join(parts, ", "))
}

// describe lists the prices that differ between two rows; with change, what they
// were too.
func describe(old, next Row, change bool) []string {
	var parts []string
	add := func(name string, was, is USD, shift int32, unit string) {
		switch {
		case equal(was, is):
		case change:
			parts = append(parts, fmt.Sprintf("%s %s → %s%s", name, dollars(was, shift), dollars(is, shift), unit))
		default:
			parts = append(parts, fmt.Sprintf("%s %s%s", name, dollars(is, shift), unit))
		}
	}
	addRates := func(suffix string, was, is Rates, piece bool) {
		for _, kind := range rates {
			if kind.piece != piece {
				continue
			}
			unit := ""
			if kind.shift == 0 {
				unit = " each"
			}
			add(kind.name+suffix, *kind.at(&was), *kind.at(&is), kind.shift, unit)
		}
	}
	addRates("", old.Rates, next.Rates, false)
	var bounds []int64
	for _, t := range slices.Concat(old.Tiers, next.Tiers) {
		bounds = append(bounds, t.Above)
	}
	slices.Sort(bounds)
	for _, above := range slices.Compact(bounds) {
		addRates(fmt.Sprintf(" above %d tokens", above), tierAt(old.Tiers, above), tierAt(next.Tiers, above), false)
	}
	addRates("", old.Rates, next.Rates, true)
	for _, w := range partNames(old, next) {
		was, is := partRates(old, w), partRates(next, w)
		if was == is { // a factor
			switch a, b := hasPart(old, w), hasPart(next, w); {
			case b && !a:
				parts = append(parts, "new: "+w)
			case a && !b:
				parts = append(parts, "gone: "+w)
			}
		}
		addRates(" "+w, was, is, false)
		addRates(" "+w, was, is, true)
	}
	return parts
}

// partNames lists the periods and variants that either row has.
func partNames(old, next Row) (names []string) {
	for _, r := range []Row{old, next} {
		for _, p := range r.Periods {
			names = append(names, p.name())
		}
		for _, v := range r.Variants {
			names = append(names, v.name())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (p *Period) name() string {
	s := ""
	if !p.From.IsZero() {
		s = "from " + date(p.From)
	}
	if !p.To.IsZero() {
		s = strings.TrimSpace(s + " before " + date(p.To))
	}
	if p.Start != p.End {
		s = strings.TrimSpace(s + " " + clockForm(p.Start) + " to " + clockForm(p.End))
	}
	return s
}

func (v *Variant) name() string {
	s := v.When
	if v.Factor.Known {
		s += " ×" + v.Factor.Value.String()
	}
	if !v.From.IsZero() {
		s += " from " + date(v.From)
	}
	return s
}

func hasPart(r Row, name string) bool { return slices.Contains(partNames(r, Row{}), name) }

func partRates(r Row, name string) Rates {
	for _, p := range r.Periods {
		if p.name() == name {
			return p.Rates
		}
	}
	for _, v := range r.Variants {
		if v.name() == name {
			return v.Rates
		}
	}
	return Rates{}
}

func tierAt(tiers []Tier, above int64) Rates {
	for _, t := range tiers {
		if t.Above == above {
			return t.Rates
		}
	}
	return Rates{}
}

func samePrices(a, b Row) bool { return len(describe(a, b, true)) == 0 }

// dollars writes an amount with at least the cents, and all the digits it has.
func dollars(v USD, shift int32) string {
	if !v.Known {
		return "unknown"
	}
	d := v.Value.Shift(shift)
	if d.Equal(d.Truncate(0)) {
		return "$" + d.Truncate(0).String()
	}
	if d.Equal(d.Truncate(2)) {
		return "$" + d.StringFixed(2)
	}
	return "$" + trimZeros(d)
}

// trimZeros is d without the zeros at its end that a source may have written.
func trimZeros(d decimal.Decimal) string {
	return strings.TrimRight(d.String(), "0")
}
