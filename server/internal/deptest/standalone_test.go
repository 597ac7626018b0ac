package deptest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAlonePackages: the packages that make race tests without the race detector start no
// goroutine, and neither do their tests.
func TestAlonePackages(t *testing.T) {
	const top = "../../.."
	makefile, err := os.ReadFile(filepath.Join(top, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(makefile), "\nALONE := ")
	if !ok {
		t.Fatal("the Makefile has no list ALONE")
	}
	list, _, _ = strings.Cut(list, "\n")
	for _, folder := range strings.Fields(list) {
		files, err := filepath.Glob(filepath.Join(top, folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no files: %v", folder, err)
		}
		for _, path := range files {
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range f.Imports {
				switch i.Path.Value {
				case `"sync"`, `"sync/atomic"`, `"net/http/httptest"`:
					t.Errorf("%s imports %s: take %s from ALONE in the Makefile", path, i.Path.Value, folder)
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, isCall := n.(*ast.CallExpr)
				_, isGo := n.(*ast.GoStmt)
				if isCall {
					if s, ok := call.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Parallel" {
						isGo = true
					}
				}
				if isGo {
					t.Errorf("%s starts a goroutine: take %s from ALONE in the Makefile", path, folder)
				}
				return true
			})
		}
	}
}
