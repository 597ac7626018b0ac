package app

import "math"

// RaiseFiles does nothing: Windows does not have this limit.
func RaiseFiles() (uint64, error) { return math.MaxUint64, nil }
