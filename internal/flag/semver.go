package flag

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// version is major, minor and patch. What follows them (-beta, +build) does not
// count.
type version [3]int

func (v version) compare(w version) int { return slices.Compare(v[:], w[:]) }

// next returns the first version beyond all that agree with v in the parts up to i.
func (v version) next(i int) version {
	var w version
	copy(w[:i+1], v[:i+1])
	w[i]++
	return w
}

func matchVersion(operator string, have, want any) (bool, error) {
	h, hOK := have.(string)
	w, wOK := want.(string)
	if !hOK || !wOK {
		return false, errOpen
	}
	a, ok := parseVersion(h)
	if !ok {
		return false, errOpen
	}
	if operator == "semver_wildcard" {
		low, n, ok := parseWildcard(w)
		if !ok {
			return false, errOpen
		}
		return a.compare(low) >= 0 && a.compare(low.next(n-1)) < 0, nil
	}
	b, ok := parseVersion(w)
	if !ok {
		return false, errOpen
	}
	order := a.compare(b)
	switch operator {
	case "semver_eq":
		return order == 0, nil
	case "semver_neq":
		return order != 0, nil
	case "semver_gt":
		return order > 0, nil
	case "semver_gte":
		return order >= 0, nil
	case "semver_lt":
		return order < 0, nil
	case "semver_lte":
		return order <= 0, nil
	case "semver_tilde": // the same minor version
		return order >= 0 && a.compare(b.next(1)) < 0, nil
	case "semver_caret": // the same in the first part that is not zero
		part := slices.IndexFunc(b[:2], func(n int) bool { return n > 0 })
		if part < 0 {
			part = 2
		}
		return order >= 0 && a.compare(b.next(part)) < 0, nil
	}
	return false, errOpen
}

// trimVersion removes white space and the v of "v1.2".
func trimVersion(s string) string {
	s = strings.TrimSpace(s)
	if s != "" && (s[0] == 'v' || s[0] == 'V') {
		return s[1:]
	}
	return s
}

// parseVersion reads up to three parts; those that are missing are 0, a fourth is
// ignored.
func parseVersion(s string) (version, bool) {
	s = trimVersion(s)
	if i := strings.IndexAny(s, "-+"); i >= 0 {
		s = s[:i]
	}
	return versionParts(strings.Split(s, "."))
}

// parseWildcard reads "1.*" or "1.2.*" and returns how many parts it fixes.
func parseWildcard(s string) (version, int, bool) {
	s = strings.ReplaceAll(trimVersion(s), "*", "")
	parts := slices.DeleteFunc(strings.Split(s, "."), func(p string) bool { return p == "" })
	if len(parts) == 0 {
		return version{}, 0, false
	}
	v, ok := versionParts(parts)
	return v, min(len(parts), len(v)), ok
}

func versionParts(parts []string) (v version, ok bool) {
	for i, p := range parts[:min(len(parts), len(v))] {
		n, err := strconv.ParseInt(p, 10, 64)
		// A part of several digits begins with none that is zero.
		if err != nil || len(p) > 1 && p[0] == '0' || n >= math.MaxInt32 {
			return version{}, false
		}
		v[i] = int(n)
	}
	return v, true
}
