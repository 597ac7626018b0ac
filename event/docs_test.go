package event_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
)

var update = flag.Bool("update", false, "rewrite the table of fields in docs/events.md")

// TestFieldsAreDocumented compares the table of fields in docs/events.md with
// event.Fields and the comments in event.go. -update writes the table.
func TestFieldsAreDocumented(t *testing.T) {
	const path, start, end = "../docs/events.md", "<!-- fields -->\n", "<!-- end of fields -->\n"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), start)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no table of fields", path)
	}
	want := before + start + fieldTable(t) + end + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(page) {
		t.Errorf("%s differs from event.Fields: run go test ./event -run TestFieldsAreDocumented -update", path)
	}
}

func fieldTable(t *testing.T) string {
	means := meanings(t)
	var b strings.Builder
	b.WriteString("| field | in the API | at PostHog | reported as | bounds | meaning |\n|---|---|---|---|---|---|\n")
	for _, f := range event.Fields {
		if f.Column == "" && f.API == "" {
			continue // about delivery only
		}
		api := f.API
		switch object, _, in := strings.Cut(f.Path, "."); {
		case in && api != "":
			api = strings.ToLower(object) + "." + api
		}
		if means[f.Path] == "" {
			t.Errorf("%s has no comment in event.go", f.Path)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", f.Name, quoted(api), quoted(f.PostHog), quoted(f.LLM...), bounds(f.Kind), means[f.Path])
	}
	return b.String()
}

func quoted(names ...string) string {
	var out []string
	for _, n := range names {
		if n != "" {
			out = append(out, "`"+n+"`")
		}
	}
	return strings.Join(out, ", ")
}

// bounds describes the bounds of a kind.
func bounds(k event.Kind) string {
	unit := k.Unit
	switch {
	case k.Max == 0:
		return ""
	case k.Name == "duration":
		return fmt.Sprintf("0 to %g days", k.Max/86400)
	case k.Name == "bytes":
		return fmt.Sprintf("0 to %g TiB", k.Max/(1<<40))
	case k.Name == "usd":
		unit = "US dollars"
	case k.Name == "status":
		return fmt.Sprintf("%g to %g", k.Min, k.Max)
	case unit == "":
		return fmt.Sprintf("%g characters", k.Max)
	}
	for _, scale := range []struct {
		n    float64
		word string
	}{{1e9, " billion "}, {1e6, " million "}} {
		if k.Max >= scale.n {
			return fmt.Sprintf("0 to %g%s%s", k.Max/scale.n, scale.word, unit)
		}
	}
	return fmt.Sprintf("0 to %g %s", k.Max, unit)
}

var docLink = regexp.MustCompile(`\[(\w+(?:\.\w+)?)\]`)

// meanings are the comments of the fields in event.go, by path.
func meanings(t *testing.T) map[string]string {
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	means := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		s, ok := spec.Type.(*ast.StructType)
		if !ok {
			return false
		}
		in := spec.Name.Name + "."
		if in == "Event." {
			in = ""
		}
		for _, f := range s.Fields.List {
			if len(f.Names) > 0 {
				text := strings.Join(strings.Fields(f.Doc.Text()), " ")
				means[in+f.Names[0].Name] = strings.TrimSuffix(docLink.ReplaceAllString(text, "`$1`"), ".")
			}
		}
		return false
	})
	return means
}
