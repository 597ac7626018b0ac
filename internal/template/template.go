package template

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// Message is one message of a prompt.
type Message struct {
	Role    string `json:"role" yaml:"role"`       // one of [Roles]
	Content string `json:"content" yaml:"content"` // text with {{name}} variables
}

// Roles are the roles that a message can have. The texts of system and developer
// messages are a prompt's instructions.
var roles = []string{"system", "developer", "user", "assistant"}

// Roles returns the roles that a message can have.
func Roles() []string { return slices.Clone(roles) }

// The types of a variable.
const (
	String  = "string"
	Number  = "number"
	Integer = "integer"
	Boolean = "boolean"
	JSON    = "json" // a list or an object, put into the text as compact JSON
)

var types = []string{String, Number, Integer, Boolean, JSON}

// Types returns the types that a variable can have.
func Types() []string { return slices.Clone(types) }

// Variable is one variable of a prompt.
type Variable struct {
	Name        string   `json:"name" yaml:"name"`                     // letters, digits, _, - and .
	Type        string   `json:"type" yaml:"type"`                     // one of [Types]. Defaults to string
	Optional    bool     `json:"optional,omitempty" yaml:",omitempty"` // without a value the default, or nothing, is put in
	Default     any      `json:"default,omitempty" yaml:",omitempty"`  // makes the variable optional
	Enum        []string `json:"enum,omitempty" yaml:",omitempty"`     // the only values of a string that are allowed
	Description string   `json:"description,omitempty" yaml:",omitempty"`
}

// Limits of one prompt version.
const (
	MaxMessages  = 100
	MaxVariables = 100
	MaxText      = 512 << 10 // bytes of all messages together
	maxName      = 100
)

// placeholder is a variable in a text. It is what PostHog's prompt clients
// replace, so that a template means the same to them.
var placeholder = regexp.MustCompile(`\{\{([\w.-]+)\}\}`)

// Names lists the variables that the messages use, in the order of their first use.
func Names(messages []Message) []string {
	var names []string
	for _, m := range messages {
		for _, found := range placeholder.FindAllStringSubmatch(m.Content, -1) {
			if !slices.Contains(names, found[1]) {
				names = append(names, found[1])
			}
		}
	}
	return names
}

// Check returns the normalized messages and variables: line ends are \n, types
// have their default, variables that are used but not declared are required
// strings, in the order of declaration and then of use. The error is an
// [*event.Error] that names the problem, never the text.
func Check(messages []Message, variables []Variable) ([]Message, []Variable, error) {
	if len(messages) == 0 {
		return nil, nil, event.Invalid("a prompt needs a message", "give messages, each with a role and its text, or one template")
	}
	if len(messages) > MaxMessages || len(variables) > MaxVariables {
		return nil, nil, event.Invalid(fmt.Sprintf("a prompt has at most %d messages and %d variables", MaxMessages, MaxVariables), "make it two prompts")
	}
	messages, size := slices.Clone(messages), 0
	for i := range messages {
		m := &messages[i]
		if m.Role == "" {
			m.Role = "system"
		}
		if !slices.Contains(roles, m.Role) {
			return nil, nil, event.Invalid(fmt.Sprintf("message %d has the role %q", i+1, clip(m.Role)), "use "+strings.Join(roles, ", "))
		}
		m.Content = strings.ToValidUTF8(strings.ReplaceAll(m.Content, "\r\n", "\n"), "\uFFFD")
		if strings.TrimSpace(m.Content) == "" {
			return nil, nil, event.Invalid(fmt.Sprintf("message %d is empty", i+1), "give it a text, or leave it out")
		}
		size += len(m.Content)
	}
	if size > MaxText {
		return nil, nil, event.NewError(event.CodeTooLarge, fmt.Sprintf("the messages have more than %d KiB", MaxText>>10), "put long material into a variable", nil)
	}
	used := Names(messages)
	variables = slices.Clone(variables)
	seen := map[string]bool{}
	for i := range variables {
		v := &variables[i]
		if err := v.check(); err != nil {
			return nil, nil, err
		}
		if seen[v.Name] {
			return nil, nil, event.Invalid(fmt.Sprintf("the variable %q is declared twice", v.Name), "declare it once")
		}
		seen[v.Name] = true
		if !slices.Contains(used, v.Name) {
			return nil, nil, event.Invalid(fmt.Sprintf("the variable %q is declared, but no message uses it", v.Name), "write {{"+v.Name+"}} where its value belongs, or leave the variable out")
		}
	}
	for _, name := range used {
		if len(name) > maxName {
			return nil, nil, event.Invalid(fmt.Sprintf("a variable's name is longer than %d characters", maxName), "shorten it")
		}
		if !seen[name] {
			variables = append(variables, Variable{Name: name, Type: String})
		}
	}
	if len(variables) > MaxVariables {
		return nil, nil, event.Invalid(fmt.Sprintf("a prompt has at most %d variables", MaxVariables), "make it two prompts")
	}
	return messages, variables, nil
}

func (v *Variable) check() error {
	if v.Type == "" {
		v.Type = String
	}
	switch {
	case len(v.Name) > maxName || !placeholder.MatchString("{{"+v.Name+"}}"):
		return event.Invalid(fmt.Sprintf("%q is no name for a variable", clip(v.Name)), fmt.Sprintf("use up to %d letters, digits, _, - and .", maxName))
	case !slices.Contains(types, v.Type):
		return event.Invalid(fmt.Sprintf("the variable %q has the type %q", v.Name, clip(v.Type)), "use "+strings.Join(types, ", "))
	case len(v.Enum) > 0 && v.Type != String:
		return event.Invalid(fmt.Sprintf("the variable %q has a list of allowed values, but is no string", v.Name), "make it a string, or leave the list out")
	}
	if v.Default == nil {
		return nil
	}
	if _, err := v.text(v.Default); err != nil {
		e := event.AsError(err)
		return event.Invalid("as a default, "+e.Message, e.Hint)
	}
	return nil
}

// Says describes the values that a variable accepts: "integer, 3 by default".
func (v Variable) Says() string {
	s := v.Type
	switch {
	case v.Default != nil:
		s += ", " + Format(v.Default) + " by default"
	case v.Optional:
		s += ", may be left out"
	default:
		s += ", required"
	}
	if len(v.Enum) > 0 {
		s += ", one of " + strings.Join(v.Enum, ", ")
	}
	return s
}

// Format formats a value for display: text unchanged, anything else as JSON.
func Format(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	b, err := json.Marshal(value)
	if err != nil {
		return "" // stored values were parsed from JSON
	}
	return string(b)
}

// Instructions are the texts of the system and developer messages, in order.
func Instructions(messages []Message) []string {
	var texts []string
	for _, m := range messages {
		if m.Role == "system" || m.Role == "developer" {
			texts = append(texts, m.Content)
		}
	}
	return texts
}

// clip shortens a user's text before an error quotes it.
func clip(s string) string { return event.FirstChars(s, 40) }
