package deptest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestDocs holds the README's table to name each page of the documentation once, and each
// page's links to lead somewhere.
func TestDocs(t *testing.T) {
	const top = "../.."
	pages, err := filepath.Glob(top + "/docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	readme, err := os.ReadFile(top + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if n := strings.Count(string(readme), "\n| [docs/"+filepath.Base(p)+"]"); n != 1 {
			t.Errorf("README.md names %s in its table %d times", filepath.Base(p), n)
		}
	}
	for _, p := range append(pages, top+"/README.md", top+"/CHANGELOG.md") {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			to, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			at := p
			if to != "" {
				at = filepath.Join(filepath.Dir(p), to)
			}
			target, err := os.ReadFile(at)
			if err != nil {
				t.Errorf("%s: the link %s leads nowhere", p, m[1])
			} else if anchor != "" && !headings(string(target))[anchor] {
				t.Errorf("%s: %s has no heading #%s", p, at, anchor)
			}
		}
	}
}

// headings are the anchors of a page, as GitHub makes them.
func headings(text string) map[string]bool {
	all := make(map[string]bool)
	for line := range strings.Lines(text) {
		if h := strings.TrimLeft(line, "#"); h != line && strings.HasPrefix(h, " ") {
			h = strings.ToLower(strings.TrimSpace(h))
			h = regexp.MustCompile(`[^\p{L}\p{N}\s_-]`).ReplaceAllString(h, "")
			all[strings.ReplaceAll(h, " ", "-")] = true
		}
	}
	return all
}

// TestConformance holds the page that says which test holds what: the tests that it
// names exist.
func TestConformance(t *testing.T) {
	const top = "../.."
	page, err := os.ReadFile(top + "/docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(\\w+)\\.((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) < 100 {
		t.Errorf("only %d tests are named", len(named))
	}
	tests := make(map[string]string) // the test files of a package, by its name
	for _, m := range named {
		if _, ok := tests[m[1]]; !ok {
			var all strings.Builder
			for _, dir := range []string{"/", "/internal/"} {
				files, err := filepath.Glob(top + dir + m[1] + "/*_test.go")
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range files {
					text, err := os.ReadFile(f)
					if err != nil {
						t.Fatal(err)
					}
					all.Write(text)
				}
			}
			tests[m[1]] = all.String()
		}
		if !strings.Contains(tests[m[1]], "\nfunc "+m[2]+"(") {
			t.Errorf("there is no %s in %s", m[2], m[1])
		}
	}
}
