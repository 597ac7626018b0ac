package event

import (
	"bytes"
	"encoding/json"
	"math"
)

// Opt is a value that may be unknown. The zero Opt is unknown, which is not the
// same as a known zero: a provider that reports no token count has not reported
// "0 tokens".
type Opt[T any] struct {
	Value T    // meaningful only where Known
	Known bool // false is unknown, which is not the zero of T
}

// Int is a count that may be unknown.
type Int = Opt[int64]

// Some returns a known value.
func Some[T any](v T) Opt[T] { return Opt[T]{Value: v, Known: true} }

// Or returns the value, or def if it is unknown.
func (o Opt[T]) Or(def T) T {
	if o.Known {
		return o.Value
	}
	return def
}

// IsZero reports whether the value is unknown, for encoding/json's omitzero.
func (o Opt[T]) IsZero() bool { return !o.Known }

// MarshalJSON writes the value, or null if it is unknown. Infinity and NaN,
// which JSON cannot express, are written as null too.
func (o Opt[T]) MarshalJSON() ([]byte, error) {
	if f, ok := any(o.Value).(float64); !o.Known || ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
		return []byte("null"), nil
	}
	return json.Marshal(o.Value)
}

// UnmarshalJSON reads a value; null is unknown.
func (o *Opt[T]) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		*o = Opt[T]{}
		return nil
	}
	if err := json.Unmarshal(b, &o.Value); err != nil {
		return err
	}
	o.Known = true
	return nil
}
