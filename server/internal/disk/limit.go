package disk

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Usage is the space of a file system in bytes. Free is what this user may take.
type Usage struct{ Free, Total int64 }

// Bounds of the default limit.
const (
	DefaultPercent = 2
	DefaultLeast   = 512 << 20
	DefaultMost    = 10 << 30
)

// Limit is how much space has to stay free. The zero value is the default: 2 % of
// the disk, within 512 MB and 10 GB.
type Limit struct {
	given   bool
	bytes   int64
	percent float64
}

// Size is a limit of so many bytes; 0 switches the guard off.
func Size(bytes int64) Limit { return Limit{given: true, bytes: bytes} }

// Percent is a limit of a part of the disk, 0 to 100.
func Percent(p float64) Limit { return Limit{given: true, percent: p} }

// ErrPercent says that a percentage is not one.
var ErrPercent = errors.New("a percentage is between 0 and 100")

// ParseLimit reads "auto" or "" (the default), a percentage ("5%"), or what size
// reads as a number of bytes.
func ParseLimit(s string, size func(string) (int64, error)) (Limit, error) {
	s = strings.TrimSpace(s)
	if s == "" || s == "auto" {
		return Limit{}, nil
	}
	if p, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.ParseFloat(strings.TrimSpace(p), 64)
		if err != nil {
			return Limit{}, fmt.Errorf("%w: %w", ErrPercent, err)
		}
		if math.IsNaN(n) || n < 0 || n > 100 {
			return Limit{}, ErrPercent
		}
		return Percent(n), nil
	}
	n, err := size(s)
	if err != nil {
		return Limit{}, err
	}
	return Size(n), nil
}

// Of is the limit in bytes on a disk of that size: never more than a quarter of it.
func (l Limit) Of(total int64) int64 {
	n := l.bytes
	switch {
	case !l.given:
		n = min(max(total/100*DefaultPercent, DefaultLeast), DefaultMost)
	case l.percent > 0:
		n = int64(float64(total) / 100 * l.percent)
	}
	return min(n, total/4)
}
