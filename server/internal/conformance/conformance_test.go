package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSystems holds the page to name a test for every claim of the five systems, and
// each test to exist.
func TestSystems(t *testing.T) {
	const top = "../../.."
	f, err := os.Open(filepath.Join(top, page))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sections, err := parse(f)
	if err != nil {
		t.Fatal(err)
	}
	code := make(map[string]string) // the test files of a folder
	systems, claims := 0, 0
	for _, s := range sections {
		if !s.system() {
			continue
		}
		systems++
		for _, c := range s.claims {
			claims++
			if c.how == "" || len(c.tests) == 0 {
				t.Errorf("%s: %q has no answer or no test", s.title, c.text)
			}
			for _, n := range c.tests {
				if _, ok := code[n.dir]; !ok {
					code[n.dir] = testCode(t, filepath.Join(top, n.dir))
				}
				if !strings.Contains(code[n.dir], "\nfunc "+n.name+"(") {
					t.Errorf("%s: there is no %s in %s", c.text, n.name, n.dir)
				}
			}
		}
	}
	if systems != 5 || claims < 70 {
		t.Errorf("%d systems with %d claims", systems, claims)
	}
}

func testCode(t *testing.T, dir string) string {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

func TestReport(t *testing.T) {
	sections, err := parse(strings.NewReader("# Page\n\n## System 1: keys\n\n| claim | hedgerow | test |\n|---|---|---|\n| kept | sealed | `project.TestA` |\n| shown | never | `e2e.TestB` `hedgerow.TestC` |\n"))
	if err != nil || len(sections) != 1 || !sections[0].system() || len(sections[0].claims) != 2 || sections[0].claims[1].tests[1] != (test{".", "TestC"}) {
		t.Fatalf("%+v, %v", sections, err)
	}
	results := map[test]string{{"./server/internal/project", "TestA"}: "pass", {"./server/e2e", "TestB"}: "pass"}
	var w strings.Builder
	if report(&w, sections, results) || !strings.Contains(w.String(), "  holds    kept\n  FAILS    shown\n           TestC: did not run\n\n1 of 2 claims hold") {
		t.Errorf("%s", w.String())
	}
	results[test{".", "TestC"}] = "pass"
	w.Reset()
	if !report(&w, sections, results) || !strings.Contains(w.String(), "2 of 2 claims hold") {
		t.Errorf("%s", w.String())
	}
}
