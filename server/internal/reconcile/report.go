package reconcile

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// Question asks for a comparison.
type Question struct {
	Project  string
	Provider string    // one of Providers
	Account  string    // "" is all accounts of the provider together
	From, To time.Time // UTC days: from the start of From's day to the start of To's
}

// MaxReportDays bounds the days of a comparison.
const MaxReportDays = 92

// Calls are what this package asks package query.
type Calls interface {
	Billed(ctx context.Context, project string, providers []string, from, to time.Time) ([]query.BilledCalls, error)
}

// Report compares a provider's bill with what hedgerow recorded. Sums are over the days
// with a bill: of the others the provider's figure is unknown.
type Report struct {
	Provider string   `json:"provider"`
	From     string   `json:"from"` // the first UTC day
	To       string   `json:"to"`   // the day after the last
	Account  string   `json:"account"`
	Accounts []string `json:"accounts"`           // with a bill in the period
	NoBill   []string `json:"days_without_bill"`  // no costs are imported
	NoUsage  []string `json:"days_without_usage"` // costs, and no quantities by which to compare tokens
	Total    Row      `json:"total"`
	Days     []Row    `json:"days"`
	Models   []Row    `json:"models"`
	Cells    []Row    `json:"cells"` // by day and model

	ModelCount int `json:"model_count"` // of all pages, as Cells
	CellCount  int `json:"cell_count"`
}

// Page limits Models and Cells to a page of size rows each; the first is 1. Days and
// sums stay those of the whole comparison.
func (r *Report) Page(page, size int) {
	r.Models, r.Cells = rowsOf(r.Models, page, size), rowsOf(r.Cells, page, size)
}

func rowsOf(rows []Row, page, size int) []Row {
	if page < 1 || page-1 > len(rows)/size {
		return []Row{}
	}
	return rows[min((page-1)*size, len(rows)):min(page*size, len(rows))]
}

// Row is a day, a model, both, or all.
type Row struct {
	Day   string `json:"day,omitempty"`
	Model string `json:"model,omitempty"` // "" of days and of what names no model

	ProviderUSD USD     `json:"provider_usd"` // null: no bill is imported
	HedgerowUSD USD     `json:"hedgerow_usd"` // of calls with a known cost
	Difference  USD     `json:"difference_usd"`
	AtLeast     bool    `json:"hedgerow_at_least"` // there are others: all cost at least HedgerowUSD
	Causes      []Cause `json:"causes"`            // they add up to the difference

	ProviderCalls  event.Int `json:"provider_calls"`
	Calls          int64     `json:"calls"`
	UncostedCalls  int64     `json:"uncosted_calls"`
	ProviderTokens event.Int `json:"provider_tokens"`
	Tokens         int64     `json:"tokens"`

	Names    []string `json:"provider_models,omitempty"` // as the bill writes the model
	Recorded []string `json:"hedgerow_models,omitempty"` // as events have it
}

// Report compares the imported bills of a provider with the recorded calls.
func (r *Registry) Report(ctx context.Context, q Question, calls Calls, prices Prices) (*Report, error) {
	if !slices.Contains(Providers, q.Provider) {
		return nil, event.Invalid("no bills of this provider can be imported", "use "+strings.Join(Providers, ", "))
	}
	q.From, q.To = startOfDay(q.From), startOfDay(q.To)
	days := int(q.To.Sub(q.From).Hours() / 24)
	switch {
	case q.From.Year() < 2020:
		return nil, event.Invalid("the comparison needs a first day", `send "from" as 2026-11-01`)
	case days < 1:
		return nil, event.Invalid("the period is empty", `"from" must be a day before "to"`)
	case days > MaxReportDays:
		return nil, event.Invalid("the period is too long", "use at most 92 days")
	}
	records, err := r.between(ctx, q.Project, q.Provider, q.From, q.To)
	if err != nil {
		return nil, err
	}
	billed, err := calls.Billed(ctx, q.Project, []string{q.Provider}, q.From, q.To)
	if err != nil {
		return nil, err
	}
	return build(q, records, billed, prices), nil
}

func startOfDay(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// build compares lines and calls.
func build(q Question, records []dayRecord, calls []query.BilledCalls, prices Prices) *Report {
	out := &Report{Provider: q.Provider, From: dayOf(q.From), To: dayOf(q.To), Account: q.Account, Accounts: []string{}, NoBill: []string{}, NoUsage: []string{}, Days: []Row{}, Models: []Row{}, Cells: []Row{}}
	accounts := make(map[string]bool)
	byDay := make(map[string][]dayRecord)
	for _, rec := range records {
		accounts[rec.Account] = true
		if q.Account == "" || q.Account == rec.Account {
			byDay[rec.Day] = append(byDay[rec.Day], rec)
		}
	}
	out.Accounts = append(out.Accounts, slices.Sorted(maps.Keys(accounts))...)
	callsByDay := make(map[string][]query.BilledCalls)
	for _, b := range calls {
		callsByDay[dayOf(b.Day)] = append(callsByDay[dayOf(b.Day)], b)
	}
	total, models := newSum(), make(map[string]*sum)
	var order []string
	for at := q.From; at.Before(q.To); at = at.AddDate(0, 0, 1) {
		day := dayOf(at)
		cells := cellsOf(day, q.Provider, byDay[day], callsByDay[day], prices)
		bill, usage := false, false
		for _, rec := range byDay[day] {
			bill = bill || rec.Feed.Costs()
			usage = usage || countsUsage(rec)
		}
		switch {
		case !bill:
			out.NoBill = append(out.NoBill, day)
		case !usage:
			out.NoUsage = append(out.NoUsage, day)
		}
		ofDay := newSum()
		for _, c := range cells {
			x := c.explain(prices, q.Provider)
			row := c.row(x)
			out.Cells = append(out.Cells, row)
			ofDay.add(row, x)
			if !bill {
				continue
			}
			total.add(row, x)
			if models[c.key] == nil {
				models[c.key] = newSum()
				models[c.key].names = true
				order = append(order, c.key)
			}
			models[c.key].add(row, x)
		}
		if len(cells) == 0 && bill {
			ofDay.provider = event.Some(decimal.Zero)
		}
		row := ofDay.row()
		row.Day, row.Model = day, ""
		out.Days = append(out.Days, row)
	}
	for _, key := range order {
		out.Models = append(out.Models, models[key].row())
	}
	slices.SortStableFunc(out.Models, func(a, b Row) int {
		return cmp.Or(b.size().Cmp(a.size()), strings.Compare(a.Model, b.Model))
	})
	if len(out.NoBill) < len(out.Days) && !total.provider.Known {
		total.provider = event.Some(decimal.Zero)
	}
	out.Total = total.row()
	out.Total.Model = ""
	out.ModelCount, out.CellCount = len(out.Models), len(out.Cells)
	return out
}

func (r *Row) size() decimal.Decimal {
	return decimal.Max(r.ProviderUSD.Value, r.HedgerowUSD.Value)
}

// countsUsage reports whether a day has quantities by model.
func countsUsage(rec dayRecord) bool {
	if !rec.Feed.Costs() {
		return true
	}
	return slices.ContainsFunc(rec.Lines, func(l Line) bool { return l.Model != "" && l.Quantity.Known })
}

// cellsOf are the cells of a day. Where a bill has amounts of all models together, the
// day is one cell.
func cellsOf(day, provider string, records []dayRecord, calls []query.BilledCalls, prices Prices) []*cell {
	whole, bill, usage := false, false, false
	counts := make(map[string]bool) // models of which a usage report has quantities
	for _, rec := range records {
		bill = bill || rec.Feed.Costs()
		usage = usage || !rec.Feed.Costs()
		for _, l := range rec.Lines {
			whole = whole || l.Kind == Total && l.Model == "" && l.USD.Known
			if !rec.Feed.Costs() && l.Quantity.Known && l.Kind.usage() {
				counts[modelKey(prices, provider, l.Model)] = true
			}
		}
	}
	cells := make(map[string]*cell)
	get := func(model string) *cell {
		key := model
		if whole {
			key = ""
		}
		c := cells[key]
		if c == nil {
			c = &cell{day: day, key: key, counted: make(map[comp]decimal.Decimal), names: make(map[string]string), billedNames: make(map[string]bool), costs: bill, usage: usage}
			cells[key] = c
		}
		return c
	}
	for _, rec := range records {
		for _, l := range rec.Lines {
			model := modelKey(prices, provider, l.Model)
			if !l.USD.Known && (l.Model == "" || !l.Kind.usage()) {
				continue // tools, whose amounts are compared; usage of all models together
			}
			c := get(model)
			if l.Model != "" {
				c.billedNames[l.Model] = true
				if c.names[model] == "" {
					c.names[model] = l.Model
				}
			}
			if l.USD.Known {
				c.billed = append(c.billed, l)
				c.step = decimal.Max(c.step, rec.Step)
			}
			if l.Requests.Known {
				c.requests = event.Some(c.requests.Or(0) + l.Requests.Value)
			}
			if l.Quantity.Known && l.Kind.usage() && (!rec.Feed.Costs() || !counts[model]) {
				addTo(c.counted, comp{model, l.Tier, l.Kind}, l.Quantity.Value)
			}
		}
	}
	for _, b := range calls {
		model := modelKey(prices, provider, b.Model)
		c := get(model)
		c.calls = append(c.calls, b)
		c.names[model] = b.Model // a name that has a price, if one has
	}
	out := make([]*cell, 0, len(cells))
	for _, k := range slices.Sorted(maps.Keys(cells)) {
		out = append(out, cells[k])
	}
	return out
}

// row is the result of a cell.
func (c *cell) row(x *explained) Row {
	r := Row{Day: c.day, ProviderUSD: USD(x.provider), HedgerowUSD: USD(x.hedgerow), ProviderCalls: c.requests, Names: slices.Sorted(maps.Keys(c.billedNames))}
	r.Difference, r.Causes = x.difference(), x.causes()
	recorded := make(map[string]int64)
	for _, b := range c.calls {
		recorded[b.Model] += b.Calls
		r.Calls += b.Calls
		r.Tokens += b.Input + b.Output
		if !b.Costed {
			r.UncostedCalls += b.Calls
			r.AtLeast = r.AtLeast || b.Calls > b.Failed // a failed call without counts costs nothing
		}
	}
	r.Recorded = slices.Sorted(maps.Keys(recorded))
	tokens := decimal.Zero
	for k, n := range c.counted {
		if k.kind.tokens() {
			tokens = tokens.Add(n)
			r.ProviderTokens.Known = true
		}
	}
	r.ProviderTokens.Value = tokens.Round(0).IntPart()
	if c.key != "" {
		r.Model = c.names[c.key]
	}
	return r
}

// difference is unknown without a bill.
func (x *explained) difference() USD {
	if !x.provider.Known {
		return USD{}
	}
	return USD(event.Some(x.provider.Value.Sub(x.hedgerow.Or(decimal.Zero))))
}

// causes lists what applies, the remainder always.
func (x *explained) causes() []Cause {
	out := []Cause{}
	if !x.provider.Known {
		return out
	}
	for _, reason := range reasons {
		r := reason.Reason
		usd := x.amounts[r]
		if usd.IsZero() && !x.lacking[r] && r != ReasonOpen && (r != ReasonTools || len(x.items) == 0) {
			continue
		}
		c := Cause{Reason: r, Label: reason.Label, USD: USD(event.Some(usd)), Detail: strings.Join(x.details[r], "; ")}
		if x.lacking[r] && usd.IsZero() {
			c.USD = USD{}
		}
		if r == ReasonTools {
			for _, name := range slices.Sorted(maps.Keys(x.items)) {
				c.Items = append(c.Items, Item{name, USD(event.Some(x.items[name]))})
			}
		}
		out = append(out, c)
	}
	return out
}

// sum adds up rows.
type sum struct {
	explained
	out   Row
	n     map[Reason]int // rows to which a reason applies
	names bool           // of models are wanted: of one model's rows
}

func newSum() *sum {
	return &sum{explained: explained{amounts: make(map[Reason]decimal.Decimal), details: make(map[Reason][]string), lacking: make(map[Reason]bool), items: make(map[string]decimal.Decimal)}, n: make(map[Reason]int)}
}

func (s *sum) add(r Row, x *explained) {
	s.provider, s.hedgerow = plus(s.provider, x.provider), plus(s.hedgerow, x.hedgerow)
	for reason, usd := range x.amounts {
		s.amounts[reason] = s.amounts[reason].Add(usd)
		if !usd.IsZero() {
			s.n[reason]++
		}
	}
	for reason := range x.lacking {
		s.lacking[reason] = true
		s.n[reason]++
	}
	for name, usd := range x.items {
		s.items[name] = s.items[name].Add(usd)
	}
	o := &s.out
	if o.Model == "" {
		o.Model = r.Model
	}
	o.AtLeast = o.AtLeast || r.AtLeast
	o.Calls, o.UncostedCalls, o.Tokens = o.Calls+r.Calls, o.UncostedCalls+r.UncostedCalls, o.Tokens+r.Tokens
	o.ProviderCalls, o.ProviderTokens = plusInt(o.ProviderCalls, r.ProviderCalls), plusInt(o.ProviderTokens, r.ProviderTokens)
	if s.names {
		o.Names, o.Recorded = union(o.Names, r.Names), union(o.Recorded, r.Recorded)
	}
}

func (s *sum) row() Row {
	r := s.out
	if s.provider.Known && !s.hedgerow.Known {
		s.hedgerow = event.Some(decimal.Zero)
	}
	r.ProviderUSD, r.HedgerowUSD = USD(s.provider), USD(s.hedgerow)
	for reason, n := range s.n {
		s.details[reason] = []string{countWords(int64(n), "day and model")}
	}
	r.Difference, r.Causes = s.difference(), s.causes()
	return r
}

func plusInt(a, b event.Int) event.Int {
	if !a.Known {
		return b
	}
	if !b.Known {
		return a
	}
	return event.Some(a.Value + b.Value)
}

func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	slices.Sort(a)
	return a
}
