package privacy

import (
	"maps"
	"slices"
)

// KnownNames are the names on the list of what may leave.
func KnownNames() []string { return slices.Sorted(maps.Keys(knownNames)) }
