package price

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

// What a newer list may at most change at a time. Prices of models do fall, by a
// factor of five at most so far.
const (
	keepsOf    = 20 // of so many models at most one may be gone
	maxChanged = 20 // the factor by which a price may change
)

// CheckRefresh returns an error where a newer copy of the feed must not replace the
// prices that the table has from it: where it is older, where many models or all of a
// great vendor are lost, a price has become 0, or one is more than twenty times what it
// was: that is a mistake of the source, or not the source. A model that has lost its
// price of input or output counts as lost.
func (t *Table) CheckRefresh(o Overlay) error {
	refuse := func(why string) error {
		return event.Invalid("the new prices are refused: "+why, "costs are computed with the prices that were there; if the new ones are right, give them with hedgerow prices sync or as own prices")
	}
	if builtin, _ := t.Dates(); o.Date.Before(builtin) {
		return refuse(fmt.Sprintf("they are of %s, and older than the built-in ones", o.Date.Format(time.DateOnly)))
	}
	next := sheetOf(o)
	had := t.layers.base
	if t.layers.refreshed != nil {
		had = t.layers.refreshed
	}
	known, lost := 0, 0
	for _, provider := range had.providers() {
		s := section{names: make(map[string]int)}
		for _, r := range next.of(provider) {
			s.add(r)
		}
		gone, all := 0, 0
		for _, old := range had.of(provider) {
			all++
			i := s.find(old.Model)
			if i < 0 || old.Input.Known && !s.rows[i].Input.Known || old.Output.Known && !s.rows[i].Output.Known {
				gone++
				continue
			}
			if what := absurd(old, s.rows[i]); what != "" {
				return refuse(fmt.Sprintf("%.80s of %.40s: %s", old.Model, provider, what))
			}
		}
		known, lost = known+all, lost+gone
		if gone == all && slices.Contains(unnamed, provider) {
			return refuse(fmt.Sprintf("they have none of the %d models of %.40s", all, provider))
		}
	}
	if lost*keepsOf > known {
		return refuse(fmt.Sprintf("%d of %d models are missing", lost, known))
	}
	return nil
}

// absurd says what cannot be true of a new price; "" where nothing is.
func absurd(old, next Row) string {
	for i := range rates {
		was, is := *rates[i].at(&old.Rates), *rates[i].at(&next.Rates)
		if !was.Known || !is.Known || was.Value.IsZero() {
			continue
		}
		most := was.Value.Mul(decimal.NewFromInt(maxChanged))
		if is.Value.IsZero() || is.Value.GreaterThan(most) || is.Value.Mul(decimal.NewFromInt(maxChanged)).LessThan(was.Value) {
			return strings.TrimSpace(fmt.Sprintf("%s was %s and would be %s", rates[i].name, dollars(was, rates[i].shift), dollars(is, rates[i].shift)))
		}
	}
	return ""
}
