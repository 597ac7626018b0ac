package flag

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	opRegex    = "regex"
	opNotRegex = "not_regex"
)

// match compares one property of a person or a group. It returns errOpen if the
// property or the operator is not known, and another error if the two values
// cannot be compared.
func (p *Property) match(properties map[string]any, now time.Time) (bool, error) {
	have, ok := properties[p.Key]
	if !ok || p.Operator == "is_not_set" {
		// A property that is not known here may still be set in PostHog.
		return false, errOpen
	}
	if test, ok := textTests[strings.TrimPrefix(p.Operator, "not_")]; ok {
		hit := test(strings.ToLower(text(have)), strings.ToLower(text(p.Value)))
		return hit != strings.HasPrefix(p.Operator, "not_"), nil
	}
	if order, ok := orders[p.Operator]; ok {
		a, aOK := number(have)
		b, bOK := number(p.Value)
		if !aOK || !bOK {
			return false, undecided("a value to be ordered is not a number")
		}
		return order(a, b), nil
	}
	switch p.Operator {
	case "exact":
		return among(have, p.Value), nil
	case "is_not":
		return !among(have, p.Value), nil
	case "is_set":
		return true, nil
	case opRegex:
		re := p.compiled()
		return re != nil && re.MatchString(text(have)), nil
	case opNotRegex:
		if _, ok := p.Value.(string); !ok {
			return false, undecided("a pattern is not text")
		}
		s, ok := have.(string)
		if !ok {
			// Integers can only come from Go, never from JSON.
			if n, isInt := have.(int); isInt {
				s = strconv.Itoa(n)
			} else if p.compiled() != nil {
				return false, undecided("a value to be matched is not text")
			}
		}
		re := p.compiled()
		return re != nil && !re.MatchString(s), nil
	case "is_date_before", "is_date_after":
		return matchDate(p.Operator, have, p.Value, now)
	}
	if strings.HasPrefix(p.Operator, "semver_") {
		return matchVersion(p.Operator, have, p.Value)
	}
	return false, errOpen
}

// textTests ignore case.
var textTests = map[string]func(have, want string) bool{
	"icontains":   strings.Contains,
	"starts_with": strings.HasPrefix,
	"ends_with":   strings.HasSuffix,
}

var orders = map[string]func(have, want float64) bool{
	"gt":  func(a, b float64) bool { return a > b },
	"gte": func(a, b float64) bool { return a >= b },
	"lt":  func(a, b float64) bool { return a < b },
	"lte": func(a, b float64) bool { return a <= b },
}

func (p *Property) compiled() *regexp.Regexp {
	if p.pattern != nil {
		return p.pattern
	}
	re, _ := regexp.Compile(text(p.Value))
	return re
}

// among reports whether have equals want, or an element of want if that is a
// list. Text and numbers are never equal.
func among(have, want any) bool {
	list, ok := want.([]any)
	if !ok {
		return same(have, want)
	}
	for _, w := range list {
		if same(have, w) {
			return true
		}
	}
	return false
}

func same(a, b any) bool {
	x, xOK := number(a)
	y, yOK := number(b)
	if xOK && yOK {
		return x == y
	}
	return reflect.DeepEqual(a, b)
}

// number reads a number of any Go type; JSON's are float64.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int:
		return float64(v), true
	}
	r := reflect.ValueOf(v)
	switch {
	case !r.IsValid():
		return 0, false
	case r.CanInt():
		return float64(r.Int()), true
	case r.CanUint():
		return float64(r.Uint()), true
	case r.CanFloat():
		return r.Float(), true
	}
	return 0, false
}

// text writes a value without quotes, whole numbers without a point.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case nil:
		return ""
	}
	if f, ok := number(v); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}
