package query

import (
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

// USD is an amount in dollars, exact, or unknown. In JSON it is a number with
// all its digits, or null.
type USD event.Opt[decimal.Decimal]

// MarshalJSON writes the digits as a number.
func (u USD) MarshalJSON() ([]byte, error) {
	if !u.Known {
		return []byte("null"), nil
	}
	return []byte(u.Value.String()), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (u *USD) UnmarshalJSON(b []byte) error { return (*event.Opt[decimal.Decimal])(u).UnmarshalJSON(b) }

// Millis is a duration in milliseconds with microseconds as decimals, or
// unknown (null).
type Millis = event.Opt[float64]

// States of an event's content.
const (
	ContentKept    = "kept"    // stored, for users who may see it
	ContentExpired = "expired" // it was there; retention removed it
	ContentNone    = "none"    // captured without content, or dropped by privacy
)

// IsCall reports whether the event is a call of a model that has ended.
func (e *Event) IsCall() bool {
	o := event.Event{Name: e.Name}
	return o.IsCosted() || o.IsReportedCall() && e.Status != ""
}

// Incomplete reports whether the event is an incompletely priced call: incompleteExpr says
// the same in SQL.
func (e *Event) Incomplete() bool {
	known, whole := e.Cost.Known()
	return e.IsCall() && !whole && (!e.IsError || known.Known || e.Usage.Total.Known)
}

func known(n int64) event.Int { return event.Int{Value: n, Known: n != 0} }

func millis(d event.Opt[time.Duration]) Millis {
	if !d.Known {
		return Millis{}
	}
	return event.Some(float64(d.Value.Microseconds()) / 1000)
}

// Known is what is known of a cost, and whether that is all of it: the total or, where
// that is unknown, the sum of the known parts.
func (c *Cost) Known() (usd USD, whole bool) {
	if c.Total.Known {
		return c.Total, true
	}
	e := event.Cost{Input: event.Opt[decimal.Decimal](c.Input), Output: event.Opt[decimal.Decimal](c.Output), Request: event.Opt[decimal.Decimal](c.Request),
		WebSearch: event.Opt[decimal.Decimal](c.WebSearch), Tools: event.Opt[decimal.Decimal](c.Tools)}
	return USD(e.Sum()), false
}
