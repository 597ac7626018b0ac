package event

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// Bounds of the numbers of one event. Real values are far below them, and sums
// over all events of a store do not overflow.
const (
	MaxTokens    = 10_000_000_000      // of one kind
	MaxAllTokens = 4 * MaxTokens       // of all kinds together
	MaxCount     = 10_000_000_000      // characters, searches, images
	MaxDuration  = 30 * 24 * time.Hour // of a call
	MaxBytes     = 1 << 40             // of a request or a response
	MaxCostUSD   = 1_000_000           // of a call, and of each part of its cost
	MaxPriceUSD  = 1_000               // of one token, for events with their own prices
	MaxNumber    = 1e15                // a score, or any measured number among the properties; also its negative
)

// Warnings is the custom property that lists the numbers which [Event.Bound]
// made unknown: ["input_tokens out of range"].
const Warnings = "hedgerow_warnings"

// maxWarnings limits the length of that list: there are no more bounded fields.
const maxWarnings = 64

// Bound is the range of a number of an event. Values outside it, NaN and
// infinity are treated as unknown.
type Bound struct {
	Field string  // its name in the API, the warnings and the documentation
	Wire  string  // its property at PostHog; "" if there is none
	Unit  string  // tokens, seconds, bytes, USD …
	Min   float64 // in Unit
	Max   float64 // in Unit

	// settle makes the number unknown if it is out of range, and reports that.
	// nil: the number is among the properties.
	settle func(*Event) bool
}

// Bounds lists the bounded numbers in the order of the warnings: those of
// [Fields], then some properties. Package enrich bounds the timestamp, relative
// to the clock.
var Bounds = func() []Bound {
	// Counts are first, then times, sizes and statuses, and money last.
	var byType [5][]Bound
	for i := range Fields {
		f := &Fields[i]
		settle, order := settler(f)
		if settle != nil {
			byType[order] = append(byType[order], Bound{f.Name, f.PostHog, f.Kind.Unit, f.Kind.Min, f.Kind.Max, settle})
		}
	}
	list := slices.Concat(byType[:]...)
	for _, name := range []string{"eval_score", "$ai_score", "$ai_metric_value"} {
		list = append(list, Bound{Field: name, Wire: name, Min: -MaxNumber, Max: MaxNumber})
	}
	for _, name := range []string{"retry_count", "$ai_request_count"} {
		list = append(list, Bound{Field: name, Wire: name, Max: MaxCount})
	}
	for _, name := range []string{"$ai_input_token_price", "$ai_output_token_price", "$ai_cache_read_token_price", "$ai_cache_write_token_price", "$ai_cache_write_1h_token_price"} {
		list = append(list, Bound{Field: name, Wire: name, Unit: "USD", Max: MaxPriceUSD})
	}
	for _, name := range []string{"$ai_request_price", "$ai_web_search_price"} {
		list = append(list, Bound{Field: name, Wire: name, Unit: "USD", Max: MaxCostUSD})
	}
	return list
}()

// settler returns a function that makes a number unknown if it is out of range,
// or nil for fields that are not numbers. The second result is the type's
// position in the order of warnings.
func settler(f *Field) (settle func(*Event) bool, order int) {
	least, most := int64(f.Kind.Min), int64(f.Kind.Max)
	switch at := f.At.(type) {
	case func(*Event) *Int:
		return func(e *Event) bool {
			n := at(e)
			if !n.Known || n.Value >= least && n.Value <= most {
				return false
			}
			*n = Int{}
			return true
		}, 0
	case func(*Event) *Opt[time.Duration]:
		return func(e *Event) bool {
			d := at(e)
			if !d.Known || d.Value >= 0 && d.Value <= MaxDuration {
				return false
			}
			*d = Opt[time.Duration]{}
			return true
		}, 1
	case func(*Event) *int64: // 0 is unknown
		return func(e *Event) bool {
			n := at(e)
			if *n >= least && *n <= most {
				return false
			}
			*n = 0
			return true
		}, 2
	case func(*Event) *int: // 0 is unknown
		return func(e *Event) bool {
			n := at(e)
			if *n == 0 || int64(*n) >= least && int64(*n) <= most {
				return false
			}
			*n = 0
			return true
		}, 3
	case func(*Event) *Opt[decimal.Decimal]:
		return func(e *Event) bool {
			d := at(e)
			if !d.Known || settleDollars(&d.Value) {
				return false
			}
			*d = Opt[decimal.Decimal]{}
			return true
		}, 4
	}
	return nil, 0
}

var maxCost = decimal.NewFromInt(MaxCostUSD)

// settleDollars reports whether an amount is within a call's bounds, and rounds
// negligible amounts to 0. It checks digits and exponent first, because comparing
// 1e999999999 would expand it.
func settleDollars(d *decimal.Decimal) bool {
	switch size := d.NumDigits() + int(d.Exponent()); {
	case d.IsZero():
		*d = decimal.Zero
	case d.IsNegative() || size > 7:
		return false
	case size < -40:
		*d = decimal.Zero
	case size == 7: // a shorter one is less than a million
		return !d.GreaterThan(maxCost)
	}
	return true
}

// Bound makes the numbers of the event that are out of range unknown, and lists
// them in the property [Warnings]. It is idempotent. The maps of the event are
// not modified: it may share them with its source.
func (e *Event) Bound() { e.bound(Bounds) }

// BoundCost does what [Event.Bound] does for the fields that are amounts of
// money. It is enough after pricing.
func (e *Event) BoundCost() { e.bound(amounts) }

var amounts = slices.DeleteFunc(slices.Clone(Bounds), func(b Bound) bool { return b.Unit != "USD" || b.settle == nil })

func (e *Event) bound(bounds []Bound) {
	var warnings, remove []string
	for i := range bounds {
		b := &bounds[i]
		switch {
		case b.settle != nil:
			if b.settle(e) {
				warnings = append(warnings, b.Field)
			}
		case len(e.Properties) > 0:
			if v, ok := e.Properties[b.Field]; ok && !b.holds(v) {
				warnings, remove = append(warnings, b.Field), append(remove, b.Field)
			}
		}
	}
	if len(remove) > 0 {
		e.Properties = maps.Clone(e.Properties)
		for _, name := range remove {
			delete(e.Properties, name)
		}
	}
	e.OutOfRange(warnings...)
}

// OutOfRange adds fields to the property [Warnings], as their numbers were out
// of range. It replaces the map of properties.
func (e *Event) OutOfRange(fields ...string) {
	if len(fields) == 0 {
		return
	}
	said := e.Warned()
	for _, field := range fields {
		if w := field + " out of range"; !slices.Contains(said, w) && len(said) < maxWarnings {
			said = append(said, w)
		}
	}
	if e.Properties = maps.Clone(e.Properties); e.Properties == nil {
		e.Properties = make(map[string]json.RawMessage, 1)
	}
	e.Properties[Warnings] = mustJSON(said)
}

// Warned returns the value of the property [Warnings], or nothing if a caller
// uses that name for something else.
func (e *Event) Warned() (said []string) {
	v := e.Properties[Warnings]
	if len(v) > maxWarnings*100 || json.Unmarshal(v, &said) != nil {
		return nil
	}
	return said
}

// holds reports whether a property's value is within range or not a number.
func (b *Bound) holds(v json.RawMessage) bool {
	f, ok := numberIn(v)
	return !ok || f >= b.Min && f <= b.Max // false for NaN
}

// numberIn parses a JSON number, or a string with one. A number outside of
// float64 is infinite.
func numberIn(v json.RawMessage) (f float64, ok bool) {
	s := strings.TrimSpace(strings.Trim(string(v), `"`))
	if s == "" || len(s) > maxDigits && v[0] == '"' || !strings.ContainsRune("+-.0123456789iInN", rune(s[0])) {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// maxDigits limits the text of a number: longer ones are rejected.
const maxDigits = 400

// beyond represents an integer that is out of range, until [Event.Bound] makes
// it unknown. Several of them can be added without overflow.
const beyond = 1 << 53

// Count converts a number to a count: a whole number out of range becomes one
// that [Event.Bound] reports as out of range, and that can be added to others
// until then. It returns false for fractions.
func Count(f float64) (n int64, ok bool) {
	switch {
	case f >= beyond:
		return beyond, true
	case f <= -beyond, math.IsNaN(f):
		return -beyond, true
	case f != math.Trunc(f):
		return 0, false
	}
	return int64(f), true
}

// Seconds converts a number of seconds to a duration, to the microsecond. One
// that is out of range becomes one that [Event.Bound] reports as out of range.
func Seconds(s float64) time.Duration {
	switch {
	case s > 2*MaxDuration.Seconds():
		return 2 * MaxDuration
	case s < 0, math.IsNaN(s):
		return -1
	}
	return time.Duration(s*1e6+0.5) * time.Microsecond
}

// Dollars parses an amount of money exactly. One that is out of range becomes
// one that [Event.Bound] reports as out of range, and that can be added to
// others until then.
func Dollars(s string) (d decimal.Decimal, ok bool) {
	f, ok := numberIn(json.RawMessage(s))
	if !ok {
		return d, false
	}
	if !(f >= 0 && f <= MaxCostUSD) || len(s) > 64 {
		// Not parsed exactly: an exponent of a million digits would be
		// expanded.
		return tooDear, true
	}
	d, err := decimal.NewFromString(strings.TrimSpace(s))
	if err == nil && d.Exponent() < -100 {
		return decimal.Zero, true
	}
	return d, err == nil
}

var tooDear = decimal.New(1, 13)
