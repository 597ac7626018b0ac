package store

import (
	"bytes"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/duckdb/duckdb-go/v2"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

// Row is an event as the store keeps it.
type Row struct {
	Event *event.Event // without content unless it was requested

	// StoredAt is when the row was written: UTC, and never before that of an
	// earlier row. Retention counts from it, because the event's own timestamp
	// depends on a client's clock.
	StoredAt time.Time

	// ContentBytes is the size of the content when it was stored; 0 without
	// content. It remains when retention removes the content.
	ContentBytes int64
}

// column is one column of table events, with the conversions from and to a
// row. A nil value is NULL, which always means unknown.
type column struct {
	name string
	get  func(*Row, *batch) (driver.Value, error) // the batch lends memory for big numbers
	set  func(*Row, any) error                    // never called with nil

	// text, if set, is what get reads: rows next to each other often have the
	// same text, which then is made ready for the engine once.
	text func(*event.Event) *string
}

// USD is kept with 18 decimals, exactly. The cheapest published price of one
// token has 12 decimals at most, so nothing real is rounded.
const (
	moneyWidth = 38
	moneyScale = 18
	moneyType  = "DECIMAL(38,18)"
)

// columns are the columns of table events: one for each of [event.Fields] that
// has one, and the store's own. A new one needs a migration;
// TestColumnsAreTheSchema compares the two.
var columns = func() []column {
	list := []column{
		{name: "stored_at",
			get: func(r *Row, _ *batch) (driver.Value, error) { return r.StoredAt, nil },
			set: func(r *Row, v any) error { return scanTime(v, &r.StoredAt) }},
		{name: "content_bytes",
			get: func(r *Row, _ *batch) (driver.Value, error) { return r.ContentBytes, nil },
			set: func(r *Row, v any) error { return scanInt(v, &r.ContentBytes) }},
		// tokens is Usage.Tokens, derived here so that the rule is in one
		// place.
		{name: "tokens",
			get: func(r *Row, _ *batch) (driver.Value, error) { return optInt(r.Event.Usage.Tokens()), nil },
			set: func(*Row, any) error { return nil }},
	}
	for i := range event.Fields {
		f := &event.Fields[i]
		if f.Column == "" {
			continue
		}
		c := newColumn(f)
		if f.Required {
			c = required(c)
		}
		list = append(list, c)
	}
	return list
}()

func newColumn(f *event.Field) column {
	switch at := f.At.(type) {
	case func(*event.Event) *string:
		if f.Path == "UUID" {
			return id(f.Column, at)
		}
		return text(f.Column, at)
	case func(*event.Event) *bool:
		return mark(f.Column, at)
	case func(*event.Event) *int:
		return small(f.Column, at)
	case func(*event.Event) *int64:
		return size(f.Column, at)
	case func(*event.Event) *event.Int:
		return count(f.Column, at)
	case func(*event.Event) *event.Opt[bool]:
		return flag(f.Column, at)
	case func(*event.Event) *event.Opt[time.Duration]:
		return span(f.Column, at)
	case func(*event.Event) *event.Opt[decimal.Decimal]:
		return money(f.Column, at)
	case func(*event.Event) *time.Time:
		return instant(f.Column, at)
	case func(*event.Event) *[]string:
		return texts(f.Column, at)
	case func(*event.Event) *map[string]string:
		return textObject(f.Column, at)
	case func(*event.Event) *map[string]json.RawMessage:
		return rawObject(f.Column, at)
	}
	panic("store: " + f.Path + " has no form in a column") // found by TestColumnsAreTheSchema
}

func columnIndex(name string) int {
	return slices.IndexFunc(columns, func(c column) bool { return c.name == name })
}

// EventColumns lists the columns that [ScanRow] reads, for a SELECT over table
// events; each is prefixed, "e." for instance.
func EventColumns(prefix string) string { return columnList(prefix, columns) }

func columnList(prefix string, cols []column) string {
	var b strings.Builder
	for i, c := range cols {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(prefix)
		b.WriteString(c.name)
	}
	return b.String()
}

// ScanRow scans the current row of a SELECT whose first columns are
// [EventColumns], and scans the columns after them into extra.
func ScanRow(rows *sql.Rows, extra ...any) (*Row, error) { return scanRow(columns, rows, extra...) }

func scanRow(columns []column, rows *sql.Rows, extra ...any) (*Row, error) {
	values := make([]any, len(columns))
	dest := make([]any, 0, len(columns)+len(extra))
	for i := range values {
		dest = append(dest, &values[i])
	}
	if err := rows.Scan(append(dest, extra...)...); err != nil {
		return nil, fmt.Errorf("scan event: %w", err)
	}
	r := &Row{Event: new(event.Event)}
	for i, v := range values {
		if v == nil {
			continue
		}
		if err := columns[i].set(r, v); err != nil {
			return nil, fmt.Errorf("scan column %s: %w", columns[i].name, err)
		}
	}
	return r, nil
}

// The kinds of column.

func id(name string, at func(*event.Event) *string) column {
	return column{name: name,
		get: func(r *Row, _ *batch) (driver.Value, error) { return parseUUID(*at(r.Event)) },
		set: func(r *Row, v any) (err error) {
			*at(r.Event), err = scanUUID(v)
			return err
		}}
}

func instant(name string, at func(*event.Event) *time.Time) column {
	return column{name: name,
		get: func(r *Row, _ *batch) (driver.Value, error) { return timestamp(*at(r.Event)) },
		set: func(r *Row, v any) error { return scanTime(v, at(r.Event)) }}
}

func small(name string, at func(*event.Event) *int) column {
	return column{name: name,
		get: func(r *Row, _ *batch) (driver.Value, error) {
			n := *at(r.Event)
			switch {
			case n == 0:
				return nil, nil
			case n < 0 || n > 1<<30:
				return nil, fmt.Errorf("%s: out of range", name)
			}
			return int32(n), nil
		},
		set: func(r *Row, v any) error {
			var n int64
			err := scanInt(v, &n)
			*at(r.Event) = int(n)
			return err
		}}
}

func texts(name string, at func(*event.Event) *[]string) column {
	return column{name: name,
		get: func(r *Row, _ *batch) (driver.Value, error) { return textList(*at(r.Event)), nil },
		set: func(r *Row, v any) error { return scanTexts(v, at(r.Event)) }}
}

func text(name string, at func(*event.Event) *string) column {
	return column{name: name,
		get: func(r *Row, _ *batch) (driver.Value, error) {
			if s := *at(r.Event); s != "" {
				return validText([]byte(s)), nil
			}
			return nil, nil
		},
		set:  func(r *Row, v any) error { return scanText(v, at(r.Event)) },
		text: at}
}

func required(c column) column {
	get := c.get
	c.get = func(r *Row, b *batch) (driver.Value, error) {
		v, err := get(r, b)
		if err == nil && v == nil {
			err = fmt.Errorf("%s: missing", c.name)
		}
		return v, err
	}
	return c
}

func count(name string, at func(*event.Event) *event.Int) column {
	return column{name: name,
		get: func(r *Row, _ *batch) (driver.Value, error) { return optInt(*at(r.Event)), nil },
		set: func(r *Row, v any) error {
			at(r.Event).Known = true
			return scanInt(v, &at(r.Event).Value)
		}}
}

func size(name string, at func(*event.Event) *int64) column {
	return column{name: name,
		get: func(r *Row, _ *batch) (driver.Value, error) {
			if n := *at(r.Event); n != 0 {
				return n, nil
			}
			return nil, nil
		},
		set: func(r *Row, v any) error { return scanInt(v, at(r.Event)) }}
}

func span(name string, at func(*event.Event) *event.Opt[time.Duration]) column {
	return column{name: name,
		get: func(r *Row, _ *batch) (driver.Value, error) {
			if d := *at(r.Event); d.Known {
				return d.Value.Microseconds(), nil
			}
			return nil, nil
		},
		set: func(r *Row, v any) error {
			var us int64
			err := scanInt(v, &us)
			*at(r.Event) = event.Some(time.Duration(us) * time.Microsecond)
			return err
		}}
}

func flag(name string, at func(*event.Event) *event.Opt[bool]) column {
	return column{name: name,
		get: func(r *Row, _ *batch) (driver.Value, error) {
			if b := *at(r.Event); b.Known {
				return b.Value, nil
			}
			return nil, nil
		},
		set: func(r *Row, v any) error {
			at(r.Event).Known = true
			return scanBool(v, &at(r.Event).Value)
		}}
}

func mark(name string, at func(*event.Event) *bool) column {
	return column{name: name,
		get: func(r *Row, _ *batch) (driver.Value, error) { return *at(r.Event), nil },
		set: func(r *Row, v any) error { return scanBool(v, at(r.Event)) }}
}

func money(name string, at func(*event.Event) *event.Opt[decimal.Decimal]) column {
	return column{name: name,
		get: func(r *Row, b *batch) (driver.Value, error) {
			d := *at(r.Event)
			if !d.Known {
				return nil, nil
			}
			n := b.int()
			if err := scaled(n, d.Value); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			return duckdb.Decimal{Width: moneyWidth, Scale: moneyScale, Value: n}, nil
		},
		set: func(r *Row, v any) error {
			d, err := scanDecimal(v)
			*at(r.Event) = event.Some(d)
			return err
		}}
}

func rawObject(name string, at func(*event.Event) *map[string]json.RawMessage) column {
	return object(name, at, func(e *event.Event, m map[string]json.RawMessage) ([]byte, error) {
		return e.AppendRaw(make([]byte, 0, 256), m)
	})
}

func textObject(name string, at func(*event.Event) *map[string]string) column {
	return object(name, at, func(_ *event.Event, m map[string]string) ([]byte, error) {
		return event.AppendTexts(make([]byte, 0, 256), m), nil
	})
}

func object[V json.RawMessage | string](name string, at func(*event.Event) *map[string]V, encode func(*event.Event, map[string]V) ([]byte, error)) column {
	return column{name: name,
		get: func(r *Row, _ *batch) (driver.Value, error) {
			m := *at(r.Event)
			if len(m) == 0 {
				return nil, nil
			}
			b, err := encode(r.Event, m)
			if err != nil { // which names a property: that is for no log
				return nil, fmt.Errorf("%s: not JSON", name)
			}
			return validText(b), nil
		},
		set: func(r *Row, v any) error {
			s, ok := v.(string)
			if !ok {
				return fmt.Errorf("unexpected %T", v)
			}
			return json.Unmarshal([]byte(s), at(r.Event))
		}}
}

// From Go to the engine.

// validText replaces bytes that are not UTF-8 by U+FFFD: the engine's VARCHAR
// takes nothing else. The driver takes bytes as they are, where it copies a
// string.
func validText(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	return bytes.ToValidUTF8(b, []byte("\uFFFD"))
}

func parseUUID(s string) (duckdb.UUID, error) {
	id, err := uuid.Parse(s)
	if err != nil {
		return duckdb.UUID{}, errors.New("uuid: not a UUID")
	}
	return duckdb.UUID(id), nil
}

var (
	minTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	maxTime = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
)

// timestamp takes the years that JSON can write back.
func timestamp(t time.Time) (driver.Value, error) {
	if t.IsZero() {
		return nil, errors.New("ts: missing")
	}
	t = t.UTC().Truncate(time.Microsecond)
	if t.Before(minTime) || !t.Before(maxTime) {
		return nil, errors.New("ts: outside the years 1 to 9999")
	}
	return t, nil
}

func optInt(n event.Int) driver.Value {
	if n.Known {
		return n.Value
	}
	return nil
}

func textList(texts []string) driver.Value {
	if len(texts) == 0 {
		return nil
	}
	list := make([]any, len(texts))
	for i, t := range texts {
		list[i] = validText([]byte(t))
	}
	return list
}

// maxMoney is 10^20 USD in units of 10^-18, the limit of DECIMAL(38,18).
var maxMoney = new(big.Int).Exp(big.NewInt(10), big.NewInt(moneyWidth), nil)

// powersOfTen that fit into an int64.
var powersOfTen = func() (p [19]int64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = 10 * p[i-1]
	}
	return p
}()

// scaled sets n to d in units of 10^-18 USD, rounded half to even. Exponents are
// checked first: 1e999999999 is a short number with a very long integer.
func scaled(n *big.Int, d decimal.Decimal) error {
	digits, exp := d.NumDigits(), int(d.Exponent())
	switch zeros := moneyScale + exp; {
	case exp > moneyWidth || digits+exp > moneyWidth-moneyScale:
		return errCost
	case digits+exp < -moneyScale:
		n.SetInt64(0)
	case zeros >= 0 && digits+zeros < 19: // as nearly all are
		n.SetInt64(d.CoefficientInt64() * powersOfTen[zeros])
	default:
		n.Set(d.RoundBank(moneyScale).Shift(moneyScale).BigInt())
		if n.CmpAbs(maxMoney) >= 0 {
			return errCost
		}
	}
	return nil
}

var errCost = errors.New("cost out of range")

// From the engine to Go.

func scanUUID(v any) (string, error) {
	switch v := v.(type) {
	case []byte:
		id, err := uuid.FromBytes(v)
		return id.String(), err
	case string:
		return v, nil
	}
	return "", fmt.Errorf("unexpected %T", v)
}

func scanText(v any, into *string) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("unexpected %T", v)
	}
	*into = s
	return nil
}

func scanInt(v any, into *int64) error {
	switch v := v.(type) {
	case int64:
		*into = v
	case int32:
		*into = int64(v)
	default:
		return fmt.Errorf("unexpected %T", v)
	}
	return nil
}

func scanBool(v any, into *bool) error {
	b, ok := v.(bool)
	if !ok {
		return fmt.Errorf("unexpected %T", v)
	}
	*into = b
	return nil
}

func scanTime(v any, into *time.Time) error {
	t, ok := v.(time.Time)
	if !ok {
		return fmt.Errorf("unexpected %T", v)
	}
	*into = t.UTC()
	return nil
}

func scanDecimal(v any) (decimal.Decimal, error) {
	switch v := v.(type) {
	case duckdb.Decimal:
		return trimDecimal(decimal.NewFromBigInt(v.Value, -int32(v.Scale))), nil
	case string:
		d, err := decimal.NewFromString(v)
		return trimDecimal(d), err
	}
	return decimal.Decimal{}, fmt.Errorf("unexpected %T", v)
}

// trimDecimal takes off the zeros that a fixed scale adds.
func trimDecimal(d decimal.Decimal) decimal.Decimal {
	s := d.String()
	if t, err := decimal.NewFromString(s); err == nil {
		return t
	}
	return d
}

func scanTexts(v any, into *[]string) error {
	list, ok := v.([]any)
	if !ok {
		return fmt.Errorf("unexpected %T", v)
	}
	for _, t := range list {
		s, ok := t.(string)
		if !ok {
			return fmt.Errorf("unexpected %T in list", t)
		}
		*into = append(*into, s)
	}
	return nil
}
