package flag

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Split returns a flag for a percentage of all users, divided among the variants
// by their own percentages. hedgerow uses it without PostHog; a flag in PostHog
// with the same key and percentages keeps every user's variant.
func Split(key string, percent float64, variants []Variant) Definition {
	return Definition{Key: key, Active: true, Filters: Filters{
		Groups:       []Condition{{Properties: []Property{}, Rollout: &percent}},
		Multivariate: &Multivariate{Variants: slices.Clone(variants)},
	}}
}

// Check returns an error for an invalid definition: no key, shares outside 0
// to 100, variants without a key or with the same key, or shares of variants
// that do not add up to 100.
func (d *Definition) Check() error {
	if d.Key == "" {
		return errors.New("the flag has no key")
	}
	share := func(p float64) bool { return p >= 0 && p <= 100 }
	for _, c := range d.Filters.Groups {
		if c.Rollout != nil && !share(*c.Rollout) {
			return errors.New("a percentage is not between 0 and 100")
		}
	}
	if d.Filters.Multivariate == nil {
		return nil
	}
	seen, sum := make(map[string]bool), 0.0
	for _, v := range d.Filters.Multivariate.Variants {
		switch {
		case v.Key == "":
			return errors.New("a variant has no key")
		case seen[v.Key]:
			return fmt.Errorf("there are two variants %q", v.Key)
		case !share(v.Rollout):
			return fmt.Errorf("the percentage of %q is not between 0 and 100", v.Key)
		}
		seen[v.Key] = true
		sum += v.Rollout
	}
	if len(seen) > 0 && math.Abs(sum-100) > 0.01 {
		return fmt.Errorf("the variants' percentages add up to %g, not to 100", sum)
	}
	return nil
}
