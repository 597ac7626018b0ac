package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// section is one of the page's, with a table whose last column names tests.
type section struct {
	title  string
	claims []claim
}

// system reports whether a section is about a system, not about a protocol.
func (s section) system() bool { return strings.HasPrefix(s.title, "System ") }

// claim is a row: what is to hold, and the tests that hold it.
type claim struct {
	text  string
	how   string
	tests []test
}

// test is a test function of a folder, which is written as go test takes it.
type test struct{ dir, name string }

var (
	named = regexp.MustCompile("`(\\w+)\\.((?:Test|Fuzz)\\w+)`")
	// where the packages are that are not in server/internal/
	folders = map[string]string{"e2e": "./server/e2e", "hedgerow": ".", "cmd": "./server/cmd/hedgerow", "event": "./event", "otelexport": "./otelexport", "sdktest": "./sdktest",
		"enrich": "./internal/enrich", "flag": "./internal/flag", "price": "./internal/price", "privacy": "./internal/privacy", "provider": "./internal/provider",
		"template": "./internal/template", "vocabulary": "./internal/vocabulary", "simposthog": "./internal/simulate/posthog", "simprovider": "./internal/simulate/provider"}
)

// parse reads the tables of a page.
func parse(r io.Reader) ([]section, error) {
	var out []section
	rows := -1 // of the table; -1 is outside of one
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if title, ok := strings.CutPrefix(line, "## "); ok {
			out, rows = append(out, section{title: title}), -1
			continue
		}
		if !strings.HasPrefix(line, "|") {
			rows = -1
			continue
		}
		if rows++; rows < 2 { // its head and the line below
			continue
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("%s:%d: a table before the first section", page, n)
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		c := claim{text: strings.TrimSpace(cells[0])}
		if len(cells) > 2 {
			c.how = strings.TrimSpace(cells[1])
		}
		for _, m := range named.FindAllStringSubmatch(cells[len(cells)-1], -1) {
			dir, ok := folders[m[1]]
			if !ok {
				dir = "./server/internal/" + m[1]
			}
			c.tests = append(c.tests, test{dir, m[2]})
		}
		s := &out[len(out)-1]
		s.claims = append(s.claims, c)
	}
	return out, lines.Err()
}
