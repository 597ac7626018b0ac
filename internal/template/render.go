package template

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// Render replaces the variables in messages by values. It returns an error if a
// required variable has no value, a value does not have its variable's type, or
// a value has no variable. The error names the variable, never the value. Values
// are inserted unchanged: braces in them have no meaning.
//
// A string takes a string; a number or an integer takes Go's numbers and a
// json.Number, an integer only whole ones; a boolean takes a bool; json takes
// anything that encodes to a JSON list or object.
func Render(messages []Message, variables []Variable, values map[string]any) ([]Message, error) {
	texts := make(map[string]string, len(variables))
	for i := range variables {
		v := &variables[i]
		value, ok := values[v.Name]
		if !ok || value == nil {
			value = v.Default
		}
		if value == nil {
			if !v.Optional {
				return nil, event.Invalid(fmt.Sprintf("the variable %q has no value", v.Name), "it is a required "+v.Type)
			}
			texts[v.Name] = ""
			continue
		}
		text, err := v.text(value)
		if err != nil {
			return nil, err
		}
		texts[v.Name] = text
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if _, ok := texts[name]; !ok {
			return nil, event.Invalid(fmt.Sprintf("the prompt has no variable %q", clip(name)), "its variables are: "+names(variables))
		}
	}
	out := slices.Clone(messages)
	for i := range out {
		out[i].Content = placeholder.ReplaceAllStringFunc(out[i].Content, func(found string) string {
			text, ok := texts[found[2:len(found)-2]]
			if !ok {
				return found
			}
			return text
		})
	}
	return out, nil
}

func names(variables []Variable) string {
	if len(variables) == 0 {
		return "none"
	}
	list := make([]string, len(variables))
	for i, v := range variables {
		list[i] = v.Name
	}
	return strings.Join(list, ", ")
}

// text is a value as the variable's type has it.
func (v *Variable) text(value any) (string, error) {
	wrong := func(hint string) (string, error) {
		return "", event.Invalid(fmt.Sprintf("the value of %q is not of type %s", v.Name, v.Type), hint)
	}
	switch v.Type {
	case Boolean:
		if b, ok := value.(bool); ok {
			return strconv.FormatBool(b), nil
		}
		return wrong("send true or false, without quotation marks")
	case Number, Integer:
		text, whole, ok := number(value)
		if !ok {
			return wrong("send a number, without quotation marks")
		}
		if v.Type == Integer && !whole {
			return wrong("send a whole number")
		}
		return text, nil
	case JSON:
		b, err := json.Marshal(value)
		if err != nil || len(b) == 0 || b[0] != '{' && b[0] != '[' {
			return wrong("send a list or an object")
		}
		return string(b), nil
	}
	s, ok := value.(string)
	if !ok {
		return wrong("send text")
	}
	if len(v.Enum) > 0 && !slices.Contains(v.Enum, s) {
		return "", event.Invalid(fmt.Sprintf("the value of %q is none of those that are allowed", v.Name), "use one of: "+strings.Join(v.Enum, ", "))
	}
	return s, nil
}

// number formats a number, if possible without an exponent.
func number(value any) (text string, whole, ok bool) {
	switch n := value.(type) {
	case json.Number:
		if i, err := n.Int64(); err == nil {
			return strconv.FormatInt(i, 10), true, true
		}
		f, err := n.Float64()
		if err != nil {
			return "", false, false
		}
		return number(f)
	case float64:
		if math.IsNaN(n) || math.IsInf(n, 0) {
			return "", false, false
		}
		format := byte('f')
		if n != 0 && (math.Abs(n) < 1e-6 || math.Abs(n) >= 1e21) {
			format = 'g'
		}
		return strconv.FormatFloat(n, format, -1, 64), n == math.Trunc(n), true
	case float32:
		return number(float64(n))
	case int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return fmt.Sprint(n), true, true
	}
	return "", false, false
}
