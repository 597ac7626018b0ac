package prompt_test

import (
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/prompt"
)

func TestDiffLines(t *testing.T) {
	for _, c := range []struct{ name, a, b, want string }{
		{"nothing", "", "", ""},
		{"new", "", "a\nb", "+a +b"},
		{"gone", "a\nb", "", "-a -b"},
		{"same", "a\nb", "a\nb", " a  b"},
		{"one line", "a\nb\nc", "a\nx\nc", " a -b +x  c"},
		{"moved apart", "a\nb\nc\nd", "b\nx\nd\ne", "-a  b -c +x  d +e"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, l := range prompt.DiffLines(c.a, c.b) {
				got = append(got, string(l.Op)+l.Text)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%q, want %q", strings.Join(got, " "), c.want)
			}
		})
	}
	// Too large a table: still every line of both texts.
	long := strings.Repeat("x\ny\n", 4000)
	n := 0
	for _, l := range prompt.DiffLines("a\n"+long+"b", "c\n"+strings.ToUpper(long)+"d") {
		if l.Op == prompt.Both {
			t.Fatal("a line that only one has")
		}
		n++
	}
	if n != 2*(8000+2) {
		t.Errorf("%d lines", n)
	}
}

func TestCompare(t *testing.T) {
	a := prompt.Version{Messages: []prompt.Message{{Role: "system", Content: "Be kind."}, {Role: "user", Content: "{{q}}"}}, Variables: []prompt.Variable{{Name: "q", Type: "string"}}, Model: "small"}
	b := prompt.Version{Messages: []prompt.Message{{Role: "system", Content: "Be kind.\nBe brief."}}, Model: "big", Params: map[string]any{"temperature": 0.5}}
	var got []string
	for _, c := range prompt.Compare(a, b) {
		s := c.Title
		for _, l := range c.Lines {
			s += "|" + string(l.Op) + l.Text
		}
		got = append(got, s)
	}
	want := "Message 1 · system| Be kind.|+Be brief.; Message 2 · user, removed|-{{q}}; " +
		`Variables|-q: string, required; Model and parameters|-model: small|+model: big|+temperature: 0.5`
	if strings.Join(got, "; ") != want {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "; "), want)
	}
	for _, c := range prompt.Compare(a, a) {
		if !c.Same {
			t.Errorf("%s differs from itself", c.Title)
		}
	}
}
