package flag

import (
	"crypto/sha1" // PostHog's choice; nothing here is secret
	"encoding/binary"
)

// Hash places id on the line from 0 to 1, always at the same point for the same
// key and salt, and evenly over many ids: the first 60 bits of
// SHA-1(key + "." + id + salt), divided by 2^60 − 1.
//
// Two flags place the same id independently of each other.
func Hash(key, id, salt string) float64 {
	b := make([]byte, 0, 128)
	b = append(b, key...)
	b = append(b, '.')
	b = append(b, id...)
	b = append(b, salt...)
	sum := sha1.Sum(b)
	return float64(binary.BigEndian.Uint64(sum[:8])>>4) / (1<<60 - 1)
}

// saltVariant keeps the choice of a variant apart from the choice of who has the
// flag at all.
const saltVariant = "variant"

func inShare(key, id string, percent float64) bool { return Hash(key, id, "") <= percent/100 }

// variant returns the flag's variant for id, by its position in the variants'
// cumulative shares. If they do not add up to 100, some ids get none.
func (d *Definition) variant(id string) Value {
	if d.Filters.Multivariate == nil || len(d.Filters.Multivariate.Variants) == 0 {
		return Value{Enabled: true}
	}
	at, from := Hash(d.Key, id, saltVariant), 0.0
	for _, v := range d.Filters.Multivariate.Variants {
		to := from + v.Rollout/100
		if at >= from && at < to {
			return Value{Enabled: true, Variant: v.Key}
		}
		from = to
	}
	return Value{Enabled: true}
}

func (d *Definition) hasVariant(key string) bool {
	if d.Filters.Multivariate == nil {
		return false
	}
	for _, v := range d.Filters.Multivariate.Variants {
		if v.Key == key {
			return true
		}
	}
	return false
}
