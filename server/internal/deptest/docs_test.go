package deptest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestDocs holds the README's table to name each page of the documentation once,
// docs/clients.md's each page of a client, and each page's links to lead somewhere.
func TestDocs(t *testing.T) {
	const top = "../../.."
	pages := []string{top + "/README.md", top + "/CHANGELOG.md"}
	for _, list := range []struct{ table, folder, row string }{
		{"README.md", "docs", "\n| [docs/"},
		{"docs/clients.md", "docs/clients", " | ["},
	} {
		table, err := os.ReadFile(filepath.Join(top, list.table))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range markdown(t, filepath.Join(top, list.folder)) {
			if n := strings.Count(string(table), list.row+filepath.Base(p)+"]"); n != 1 {
				t.Errorf("%s names %s in its table %d times", list.table, filepath.Base(p), n)
			}
			pages = append(pages, p)
		}
	}
	for _, p := range pages {
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

// markdown lists the pages of a folder.
func markdown(t *testing.T, folder string) []string {
	t.Helper()
	pages, err := filepath.Glob(folder + "/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(folder, pages, err)
	}
	return pages
}

// TestConformance checks that the tests named on the conformance page and the pages
// of the clients exist.
func TestConformance(t *testing.T) {
	const top = "../../.."
	tests := make(map[string]string) // the test files of a package, by its name
	named := 0
	for _, p := range append(markdown(t, top+"/docs/clients"), top+"/docs/conformance.md") {
		page, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`(\\w+)\\.((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(string(page), -1) {
			named++
			if _, ok := tests[m[1]]; !ok {
				var all strings.Builder
				for _, dir := range []string{m[1], "internal/" + m[1], "server/" + m[1], "server/internal/" + m[1]} {
					if m[1] == "hedgerow" {
						dir = "." // the SDK is the module's root
					}
					files, err := filepath.Glob(filepath.Join(top, dir, "*_test.go"))
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
				t.Errorf("%s: there is no %s in %s", filepath.Base(p), m[2], m[1])
			}
		}
	}
	if named < 100 {
		t.Errorf("only %d tests are named", named)
	}
}

// TestClientVersions holds the pages of the clients to name the versions that the
// end-to-end tests drive: `name@1` is any of 1.x, as server/e2e/package.json or a go.mod has it.
func TestClientVersions(t *testing.T) {
	const top = "../../.."
	b, err := os.ReadFile(top + "/server/e2e/package.json")
	if err != nil {
		t.Fatal(err)
	}
	var npm struct{ Dependencies map[string]string }
	if err := json.Unmarshal(b, &npm); err != nil {
		t.Fatal(err)
	}
	driven := npm.Dependencies
	for _, module := range []string{"otelexport", "sdktest", "server/e2e"} {
		mod, err := os.ReadFile(filepath.Join(top, module, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^\t(\S+) (v\S+)`).FindAllStringSubmatch(string(mod), -1) {
			driven[m[1]] = m[2]
		}
	}
	named := 0
	for _, p := range markdown(t, top+"/docs/clients") {
		page, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`(\\S+)@(v?[0-9.]+)`").FindAllStringSubmatch(string(page), -1) {
			named++
			if have := strings.TrimLeft(driven[m[1]], "^~"); !strings.HasPrefix(have+".", m[2]+".") {
				t.Errorf("%s says that %s is tested in version %s; it is %q", filepath.Base(p), m[1], m[2], have)
			}
		}
	}
	if named < 10 {
		t.Errorf("only %d versions are named", named)
	}
}
