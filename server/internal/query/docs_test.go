package query_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/query/filter"
)

var update = flag.Bool("update", false, "rewrite the table of docs/filters.md")

// TestDocsHaveEveryField holds the table of docs/filters.md against the fields.
func TestDocsHaveEveryField(t *testing.T) {
	const name = "../../../docs/filters.md"
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const head = "| field | type | is |\n|---|---|---|\n"
	before, have, ok := strings.Cut(string(b), head)
	if !ok {
		t.Fatal("docs/filters.md has no table of fields")
	}
	have, after, _ := strings.Cut(have+"\n", "\n\n")
	var want strings.Builder
	for _, f := range query.FilterFields() {
		field := "`" + f.Name + "`"
		if f.Family {
			field = "`" + f.Name + ".NAME`"
		}
		if len(f.Aliases) > 0 {
			field += " (`" + strings.Join(f.Aliases, "`, `") + "`)"
		}
		kind, help := string(f.Type), f.Help
		if f.Type == filter.Enum {
			help += " One of " + strings.Join(f.Values, ", ") + "."
		}
		if f.Ops != nil {
			var ops []string
			for _, o := range f.Ops {
				ops = append(ops, map[filter.Op]string{filter.Is: "a value or a list", filter.Exists: "`has`"}[o])
			}
			help += " Takes " + strings.Join(ops, " and ") + "."
		}
		fmt.Fprintf(&want, "| %s | %s | %s |\n", field, kind, help)
	}
	if *update {
		if err := os.WriteFile(name, []byte(strings.TrimRight(before+head+want.String()+"\n"+after, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have = strings.TrimRight(have, "\n") + "\n"; have != want.String() {
		t.Errorf("the table of docs/filters.md is not that of the fields: run with -update; want\n%s", want.String())
	}
}
