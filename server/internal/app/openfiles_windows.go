package app

import "math"

// RaiseFiles does nothing: Windows has no such limit.
func RaiseFiles() (uint64, error) { return math.MaxUint64, nil }
