package privacy

import (
	"maps"
	"slices"
)

// KnownNames are the names on the allow-list.
func KnownNames() []string { return slices.Sorted(maps.Keys(knownNames)) }
