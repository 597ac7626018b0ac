package reprice

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// Request selects the calls of a run, and what is done with them.
type Request struct {
	From     string `json:"from" jsonschema:"first day (2026-11-01, UTC) or time (RFC 3339)"`
	To       string `json:"to" jsonschema:"last day (inclusive), or time (RFC 3339, exclusive)"`
	Model    string `json:"model,omitempty" jsonschema:"only calls with this requested or response model; default: all"`
	Reported bool   `json:"include_reported,omitempty" jsonschema:"also recalculate costs that the provider reported or that were sent with the call; default: they are kept"`
	Apply    bool   `json:"apply,omitempty" jsonschema:"apply the changes; default: a dry run"`
	PostHog  bool   `json:"posthog,omitempty" jsonschema:"with apply: send the differences to PostHog as events hedgerow_cost_repriced, one for each day, provider and model; default: nothing is sent"`
}

// maxRange is the longest range of one run.
const maxRange = 5 * 366 * 24 * time.Hour

// maxModel bounds a model's name, which the audit log keeps: more bytes than any has.
const maxModel = 1000

// Calls returns which calls a request selects.
func (q *Request) Calls() (query.PricedCalls, error) {
	from, fromDay, err := parseTime(q.From)
	if err != nil {
		return query.PricedCalls{}, err
	}
	to, toDay, err := parseTime(q.To)
	if err != nil {
		return query.PricedCalls{}, err
	}
	if toDay {
		to = to.AddDate(0, 0, 1)
	}
	switch {
	case !from.Before(to) && fromDay && toDay:
		return query.PricedCalls{}, event.Invalid("the last day is before the first", "from is the first day, to the last one")
	case !from.Before(to):
		return query.PricedCalls{}, event.Invalid("the range ends before it begins", "from is the first time, to the end")
	case to.Sub(from) > maxRange:
		return query.PricedCalls{}, event.Invalid("the range is longer than five years", "reprice it in parts")
	case len(q.Model) > maxModel:
		return query.PricedCalls{}, event.Invalid("the model's name is too long", "use the name shown in the event list")
	case q.PostHog && !q.Apply:
		return query.PricedCalls{}, event.Invalid("a dry run sends nothing to PostHog", "leave posthog out, or apply the run")
	}
	return query.PricedCalls{From: from, To: to, Model: strings.TrimSpace(q.Model)}, nil
}

func parseTime(s string) (t time.Time, day bool, err error) {
	s = strings.TrimSpace(s)
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, true, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC(), false, nil
	}
	return t, false, event.Invalid("from and to must be days or times", "write 2026-11-01, a day in UTC, or 2026-11-01T08:00:00Z")
}

// Row sums up the calls of a day, provider and model.
type Row struct {
	Day           string    `json:"day,omitempty"` // UTC; empty in the sum of all
	Provider      string    `json:"provider,omitempty"`
	Model         string    `json:"model,omitempty"`
	Calls         int64     `json:"calls"`
	Changed       int64     `json:"changed"`             // calls whose cost, or a part of it, is another
	Before        query.USD `json:"before_usd,omitzero"` // sum of the known costs
	After         query.USD `json:"after_usd,omitzero"`  // the same after the run
	UnknownBefore int64     `json:"unknown_before"`      // calls without a known cost
	Unknown       int64     `json:"unknown"`             // the same after the run
	Kept          int64     `json:"kept"`                // calls whose cost stays without having been computed
	Reasons       []Reason  `json:"reasons"`             // of Unknown and Kept, the most frequent first
}

// Reason says why costs are unknown or stay.
type Reason struct {
	Reason string `json:"reason"`
	Calls  int64  `json:"calls"`
}

const (
	maxRows    = 2000 // of one run; further ones are summed up by day
	maxReasons = 8    // of one row; further ones are summed up in one

	others       = "(others)"
	failedReason = "pricing failed, see the log"
)

// Correction is the name of the event that reports to PostHog by how much a run
// has changed the cost of the calls of a day, provider and model.
const Correction = "hedgerow_cost_repriced"

// correction is what one such event says. Calls without a known cost before are apart:
// PostHog may have priced these itself.
type correction struct {
	Day      string          `json:"day"`
	Provider string          `json:"provider"`
	Model    string          `json:"model"`
	Calls    int64           `json:"calls"` // with a cost before
	Before   decimal.Decimal `json:"before"`
	After    decimal.Decimal `json:"after"`
	NewCalls int64           `json:"new_calls"` // without
	New      decimal.Decimal `json:"new"`
}

// event is the event of a correction. Its uuid and time are the same each time, so that
// PostHog merges what is sent again.
func (c *correction) event(project, run string) *event.Event {
	at, _ := time.Parse(time.DateOnly, c.Day) // written by row
	e := &event.Event{
		UUID: event.DerivedID(strings.Join([]string{"correction", run, c.Day, c.Provider, c.Model}, "\x00"), at), ProjectID: project,
		Name: Correction, Source: event.SourceReprice, Timestamp: at, Properties: make(map[string]json.RawMessage),
	}
	set := func(name string, v any) { _ = e.SetProperty(name, v) } // all of them marshal
	amount := func(d decimal.Decimal) json.RawMessage { return json.RawMessage(d.String()) }
	set("hedgerow_repricing", run)
	set("provider", c.Provider)
	set("model", c.Model)
	set("repriced_calls", c.Calls)
	set("cost_before_usd", amount(c.Before))
	set("cost_after_usd", amount(c.After))
	set("cost_difference_usd", amount(c.After.Sub(c.Before)))
	set("newly_priced_calls", c.NewCalls)
	set("newly_priced_cost_usd", amount(c.New))
	return e
}

// ledger adds up a run.
type ledger struct {
	rows map[[3]string]*entry
	sum  entry
}

type entry struct {
	Row
	reasons map[string]int64
	diff    correction
}

func newLedger() *ledger { return &ledger{rows: make(map[[3]string]*entry)} }

// row returns the row of a call.
func (l *ledger) row(e *event.Event) *entry {
	key := [3]string{e.Timestamp.UTC().Format(time.DateOnly), e.Provider, e.ModelName()}
	r := l.rows[key]
	if r == nil && len(l.rows) >= maxRows {
		key = [3]string{key[0], "", others}
		r = l.rows[key]
	}
	if r == nil {
		r = &entry{Row: Row{Day: key[0], Provider: key[1], Model: key[2]}, diff: correction{Day: key[0], Provider: key[1], Model: key[2]}}
		l.rows[key] = r
	}
	return r
}

// add counts a call with its cost before, as it is now, and what pricing it said.
func (l *ledger) add(e *event.Event, before price.USD, a price.Repricing) {
	row := l.row(e)
	for _, r := range []*entry{row, &l.sum} {
		r.Calls++
		addTo(&r.Before, before)
		addTo(&r.After, e.Cost.Total)
		if !before.Known {
			r.UnknownBefore++
		}
		if a.Changed {
			r.Changed++
		}
		if a.Unknown != "" {
			r.Unknown++
			r.why(a.Unknown)
		}
		if a.Kept != "" {
			r.Kept++
			r.why(a.Kept)
		}
	}
	if c := &row.diff; a.Changed && e.Cost.Total.Known {
		if before.Known {
			c.Calls++
			c.Before, c.After = c.Before.Add(before.Value), c.After.Add(e.Cost.Total.Value)
		} else {
			c.NewCalls++
			c.New = c.New.Add(e.Cost.Total.Value)
		}
	}
}

func (r *entry) why(reason string) {
	if r.reasons == nil {
		r.reasons = make(map[string]int64)
	}
	if _, ok := r.reasons[reason]; !ok && len(r.reasons) >= maxReasons {
		reason = others
	}
	r.reasons[reason]++
}

func addTo(sum *query.USD, v price.USD) {
	if v.Known {
		*sum = query.USD(event.Some(sum.Value.Add(v.Value)))
	}
}

// result is the row as it is shown.
func (r *entry) result() Row {
	out := r.Row
	out.Reasons = []Reason{}
	for reason, n := range r.reasons {
		out.Reasons = append(out.Reasons, Reason{reason, n})
	}
	slices.SortFunc(out.Reasons, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.Reason, b.Reason))
	})
	return out
}

// results are the rows by day, provider and model.
func (l *ledger) results() []Row {
	out := make([]Row, 0, len(l.rows))
	for _, r := range l.rows {
		out = append(out, r.result())
	}
	slices.SortFunc(out, func(a, b Row) int {
		return cmp.Or(strings.Compare(a.Day, b.Day), strings.Compare(a.Provider, b.Provider), strings.Compare(a.Model, b.Model))
	})
	return out
}

// corrections are the differences for PostHog.
func (l *ledger) corrections() (out []correction) {
	for _, r := range l.rows {
		if r.diff.Calls+r.diff.NewCalls > 0 {
			out = append(out, r.diff)
		}
	}
	return out
}

// record is the event with a call's new cost for the store.
func record(e *event.Event, run string) *event.Event {
	r := &event.Event{
		UUID: event.DerivedID("repricing "+run+" "+e.UUID, e.Timestamp), ProjectID: e.ProjectID, Name: event.Repricing, Source: event.SourceReprice,
		Timestamp: e.Timestamp, ParentID: e.UUID, Cost: e.Cost,
	}
	if w := e.Properties[price.WarningProperty]; w != nil {
		r.Properties = map[string]json.RawMessage{price.WarningProperty: w}
	}
	return r
}
