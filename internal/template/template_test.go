package template_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/template"
)

func text(s string) []template.Message { return []template.Message{{Role: "system", Content: s}} }

func TestRender(t *testing.T) {
	vars := []template.Variable{
		{Name: "s", Type: template.String}, {Name: "n", Type: template.Number}, {Name: "i", Type: template.Integer}, {Name: "b", Type: template.Boolean},
		{Name: "j", Type: template.JSON}, {Name: "e", Type: template.String, Enum: []string{"low", "high"}, Default: "low"}, {Name: "o", Type: template.Integer, Optional: true},
	}
	messages, vars, err := template.Check(text("{{s}}|{{n}}|{{i}}|{{b}}|{{j}}|{{e}}|{{o}}|{{not a name}}|{{ s }}"), vars)
	if err != nil {
		t.Fatal(err)
	}
	values := func(over map[string]any) map[string]any {
		m := map[string]any{"s": "x", "n": 0.5, "i": 3, "b": true, "j": []string{"a"}}
		for k, v := range over {
			if v == nil {
				delete(m, k)
				continue
			}
			m[k] = v
		}
		return m
	}
	for _, c := range []struct {
		name string
		over map[string]any
		want string
	}{
		{"defaults", nil, `x|0.5|3|true|["a"]|low||{{not a name}}|{{ s }}`},
		{"braces in a value stay", map[string]any{"s": "{{n}} {{e}}"}, `{{n}} {{e}}|0.5|3|true|["a"]|low||{{not a name}}|{{ s }}`},
		{"numbers", map[string]any{"n": 1e6, "i": float64(1 << 40), "o": json.Number("7")}, `x|1000000|1099511627776|true|["a"]|low|7|{{not a name}}|{{ s }}`},
		{"object", map[string]any{"j": map[string]any{"k": 1}, "b": false, "e": "high", "s": ""}, `|0.5|3|false|{"k":1}|high||{{not a name}}|{{ s }}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := template.Render(messages, vars, values(c.over))
			if err != nil || got[0].Content != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
	for _, c := range []struct {
		name, says string
		over       map[string]any
	}{
		{"missing", `"s" has no value`, map[string]any{"s": nil}},
		{"unknown", `no variable "typo"`, map[string]any{"typo": 1}},
		{"number for text", `"s" is not of type string`, map[string]any{"s": 5}},
		{"text for number", `"n" is not of type number`, map[string]any{"n": "secret"}},
		{"part of an integer", `"i" is not of type integer`, map[string]any{"i": 1.5}},
		{"infinite", `"n" is not of type number`, map[string]any{"n": math.Inf(1)}},
		{"text for boolean", `"b" is not of type boolean`, map[string]any{"b": "true"}},
		{"text for json", `"j" is not of type json`, map[string]any{"j": "{}"}},
		{"none of those allowed", `"e" is none of those`, map[string]any{"e": "secret"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := template.Render(messages, vars, values(c.over))
			if e := event.AsError(err); e == nil || e.Code != event.CodeInvalid || !strings.Contains(e.Message, c.says) || e.Hint == "" || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want one that says %s, with a hint and without the value", err, c.says)
			}
		})
	}
}

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		template, text string
		want           bool
	}{
		{"Be kind.", "Be kind.", true},
		{"Be kind.", " Be kind.\r\n", true},
		{"Be kind.", "Be  kind.", false},
		{"Be kind.", "Be kind. Be brief.", false},
		{"You help {{who}}.", "You help Ann.", true},
		{"You help {{who}}.", "You help .", true},
		{"You help {{who}}.", "You help Ann. Really", false},
		{"You help {{who}}", "You help", true},
		{"You help {{who}} and {{whom}} now", "You help A and B and C now", true},
		{"You help {{who}} and {{whom}} now", "You help A or B now", false},
		{"{{a}}x{{b}}x{{c}}", "x", false},
		{"{{a}}x{{b}}x{{c}}", "axx", true},
		{"You help {{who}}.", "", false},
	} {
		p := template.NewPattern(text(c.template))
		if got := p.Match(template.NewText([]string{c.text})); got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.template, c.text, got, c.want)
		}
	}
	two := template.NewPattern([]template.Message{{Role: "system", Content: "Be kind to {{who}}."}, {Role: "developer", Content: "Be brief."}})
	for _, c := range []struct {
		texts []string
		want  bool
	}{
		{[]string{"Be kind to Ann.", "Be brief."}, true},
		{[]string{"You are a graph node.", "Be kind to Ann.", "Be brief.", "Tools follow."}, true},
		{[]string{"Be kind to Ann.", "You are a graph node.", "Be brief!"}, false},
		{[]string{"Be kind to Ann."}, false},
		{nil, false},
	} {
		if got := two.MatchWithin(template.NewText(c.texts)); got != c.want {
			t.Errorf("within %q: %v, want %v", c.texts, got, c.want)
		}
	}
	p := template.NewPattern([]template.Message{{Role: "user", Content: "hello"}})
	if !p.Empty() || p.Match(template.NewText([]string{"hello"})) {
		t.Error("a prompt without instructions matches")
	}
	if h := template.HashedText(event.HashInstructions([]string{"Be kind."})); !template.NewPattern(text("Be kind.")).Match(h) || h.Comparable(template.NewPattern(text("Be {{x}}"))) {
		t.Error("a text of which only the hash is known")
	}
}

// A rendered text is always recognized as its template's.
func FuzzPattern(f *testing.F) {
	f.Add("You help {{a}} with {{b}}.", "second {{a}}", "Ann", "taxes")
	f.Add("{{a}}", "\r\n", " ", "{{b}}")
	f.Add("a {{a}}\n\n{{b}} a", "x", "a a", "")
	f.Fuzz(func(t *testing.T, one, two, a, b string) {
		messages, vars, err := template.Check([]template.Message{{Content: one}, {Role: "developer", Content: two}}, nil)
		if err != nil {
			t.Skip()
		}
		values := map[string]any{}
		for i, v := range vars {
			values[v.Name] = []string{a, b}[i%2]
		}
		out, err := template.Render(messages, vars, values)
		if err != nil {
			t.Fatal(err)
		}
		// As text goes over the wire.
		j, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(j, &out); err != nil {
			t.Fatal(err)
		}
		text := template.NewText(template.Instructions(out))
		if p := template.NewPattern(messages); !text.Empty() && !p.Empty() && !p.Match(text) {
			t.Errorf("the template %q does not match its own %q", messages, out)
		}
	})
}
