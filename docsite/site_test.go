package main

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const source = "https://github.com/hedgerow/hedgerow/blob/main/"

// built is the site of this repository.
func built(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "site")
	n, err := build(os.DirFS(".."), out, source)
	if err != nil {
		t.Fatal(err)
	}
	if n < 40 {
		t.Fatalf("%d pages", n)
	}
	return out
}

var (
	attribute = regexp.MustCompile(`<(\w+)[^>]*? (?:href|src|action)="([^"]*)"`)
	identity  = regexp.MustCompile(` id="([^"]*)"`)
)

// Every link of every written file leads to a written file and an id in it, and only links
// of people lead out of the site: it loads nothing from elsewhere.
func TestSite(t *testing.T) {
	out := built(t)
	pages := map[string]string{}
	ids := map[string][]string{}
	err := filepath.WalkDir(out, func(at string, d os.DirEntry, err error) error {
		if err != nil || path.Ext(at) != ".html" {
			return err
		}
		b, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		pages[at] = string(b)
		for _, m := range identity.FindAllStringSubmatch(string(b), -1) {
			if slices.Contains(ids[at], m[1]) {
				t.Errorf("%s has id %s twice", at, m[1])
			}
			ids[at] = append(ids[at], m[1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for at, text := range pages {
		for _, m := range attribute.FindAllStringSubmatch(text, -1) {
			element, to := m[1], m[2]
			if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				if element != "a" {
					t.Errorf("%s: <%s> loads %s", at, element, to)
				}
				continue
			}
			if to == "data:," {
				continue
			}
			links++
			name, anchor, _ := strings.Cut(to, "#")
			target := at
			if name != "" {
				target = filepath.Join(filepath.Dir(at), filepath.FromSlash(name))
			}
			if _, err := os.Stat(target); err != nil || strings.HasPrefix(name, "/") {
				t.Errorf("%s: %s leads nowhere", at, to)
			} else if anchor != "" && !slices.Contains(ids[target], anchor) {
				t.Errorf("%s: %s: no such id", at, to)
			}
		}
		if !strings.Contains(text, "<h1") {
			t.Errorf("%s has no title", at)
		}
		if !strings.HasSuffix(at, "search.html") && strings.Count(text, ` aria-current="page"`) != 1 {
			t.Errorf("%s is not marked in the navigation", at)
		}
	}
	if links < 1000 {
		t.Errorf("only %d links", links)
	}

	// A second build replaces the first; a folder of something else is left alone.
	if err := os.WriteFile(filepath.Join(out, "old.html"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := build(os.DirFS(".."), out, source); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(out, "old.html")); err == nil {
		t.Error("a page of the build before is still there")
	}
	if _, err := build(os.DirFS(".."), ".", source); err == nil {
		t.Error("a folder with other files was replaced")
	}
}

func TestUnlisted(t *testing.T) {
	if err := unlisted(fstest.MapFS{"docs/clients/curl.md": {}, "docs/images/a.png": {}}); err != nil {
		t.Error(err)
	}
	if err := unlisted(fstest.MapFS{"docs/clients/new.md": {}}); err == nil || !strings.Contains(err.Error(), "docs/clients/new.md") {
		t.Errorf("error %v", err)
	}
}

func TestResolve(t *testing.T) {
	root := fstest.MapFS{"docs/images/a.png": {Data: []byte("png")}, "LICENSE": {}, "internal/list.txt": {}}
	md := newMarkdown()
	pages := []*page{
		parse(md, "README.md", []byte("# One")),
		parse(md, "docs/api.md", []byte("# API\n\n## Some `code` & more\n\n## Twice\n\n## Twice\n\n## $ai_generation")),
		parse(md, "docs/clients/curl.md", []byte("# curl")),
	}
	for _, tt := range []struct{ from, to, want, err string }{
		{from: "README.md", to: "docs/api.md", want: "api.html"},
		{from: "docs/clients/curl.md", to: "../api.md#some-code--more", want: "../api.html#some-code--more"},
		{from: "docs/clients/curl.md", to: "../../README.md", want: "../index.html"},
		{from: "docs/api.md", to: "#twice-1", want: "#twice-1"},
		{from: "docs/api.md", to: "#ai_generation", want: "#ai_generation"},
		{from: "README.md", to: "docs/images/a.png", want: "images/a.png"},
		{from: "docs/api.md", to: "../internal/list.txt", want: source + "internal/list.txt"},
		{from: "README.md", to: "LICENSE", want: source + "LICENSE"},
		{from: "README.md", to: "https://posthog.com/docs", want: "https://posthog.com/docs"},
		{from: "README.md", to: "mailto:security@hedgerow.dev", want: "mailto:security@hedgerow.dev"},
		{from: "README.md", to: "docs/gone.md", err: "leads nowhere"},
		{from: "README.md", to: "docs/api.md#gone", err: "no heading #gone"},
		{from: "docs/api.md", to: "#gone", err: "no heading #gone"},
		{from: "README.md", to: "http:/one-slash.com", err: "not the URL"},
		{from: "README.md", to: "javascript:alert(1)", err: "not the URL"},
	} {
		i := slices.IndexFunc(pages, func(p *page) bool { return p.file == tt.from })
		files := map[string][]byte{}
		got, err := resolve(root, pages, pages[i], tt.to, source, files)
		switch {
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s in %s: error %v, want %q", tt.to, tt.from, err, tt.err)
			}
		case err != nil || got != tt.want:
			t.Errorf("%s in %s: %q, %v, want %q", tt.to, tt.from, got, err, tt.want)
		case strings.HasSuffix(tt.to, ".png") && string(files["images/a.png"]) != "png":
			t.Errorf("the image is not in the site: %v", files)
		}
	}
}

func TestHTML(t *testing.T) {
	md := newMarkdown()
	p := parse(md, "docs/a.md", []byte("# A\n\n## B <b>\n\n```diff\n-old\n+new <x>\n```\n\n```sh\nmake run   # builds <it>\ncurl http://a/#b\n```\n\n| a | |\n|---|---|\n| 1 | `2` |\n"))
	got, err := p.html(md)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`<h2 id="b-b">`, `href="#b-b"`,
		`<span class="removed">-old</span>`, `<span class="added">+new &lt;x&gt;</span>`,
		`make run   <span class="comment"># builds`, "curl http://a/#b\n", // a fragment is no comment
		`role="group" aria-label="Table"><table>`, "<th>a</th>\n<td></td>",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
	if s := p.sections[1]; s.title != "B" || !strings.Contains(s.text, "+new <x>") || !strings.HasSuffix(s.text, "a 1 2") {
		t.Errorf("section %+v", s)
	}
}

// TestSearch asks the site's own script what people ask, and holds the page that answers
// to be among the first three.
func TestSearch(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("NOT RUN: the search runs in Node.js here, which is not installed")
	}
	out := built(t)
	questions := []struct{ ask, want string }{
		{"backup restore", "operations.html#"},
		{"docker compose", "install.html#docker-compose"},
		{"roll back to an older version", "upgrade.html#"},
		{"privacy mode", "clients.html#privacy-mode-of-an-sdk"},
		{"X-PostHog-Distinct-Id", "gateway.html#"},
		{"journal_max_bytes", "configuration.html"},
		{"own prices", "prices.html"},
		{"feature flags", "clients.html#feature-flags"},
		{"LLM judge", "evals.html"},
		{"vercel", "clients/vercel-ai-sdk.html"},
		{"sign-in link lost", "install.html#the-key"},
		{"add a provider", "contributing.html#add-a-provider"},
	}
	var asks []string
	for _, q := range questions {
		asks = append(asks, q.ask)
	}
	input, err := json.Marshal(append(asks, "zzzyx", "", "$"))
	if err != nil {
		t.Fatal(err)
	}
	script := `const fs = require("fs"), vm = require("vm");
for (const f of ["index.js", "search.js"]) vm.runInThisContext(fs.readFileSync(f, "utf8"));
const sections = prepare(docsIndex);
console.log(JSON.stringify(JSON.parse(process.argv[1]).map((q) => rank(sections, q).map((s) => s.address + "|" + excerpt(s.text, q).map(([p]) => p).join("")))))`
	cmd := exec.CommandContext(t.Context(), node, "-e", script, string(input))
	cmd.Dir = out
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	var answers [][]string
	if err := json.Unmarshal(b, &answers); err != nil {
		t.Fatalf("%v\n%.500s", err, b)
	}
	for i, q := range questions {
		first := answers[i][:min(3, len(answers[i]))]
		if !slices.ContainsFunc(first, func(a string) bool { return strings.HasPrefix(a, q.want) }) {
			t.Errorf("%q: %d sections, first %.120q, want %s", q.ask, len(answers[i]), first, q.want)
		}
	}
	for i := len(questions); i < len(answers); i++ {
		if len(answers[i]) > 0 && i != len(answers)-1 {
			t.Errorf("a question without an answer finds %d sections", len(answers[i]))
		}
	}
}

// Text has the contrast that WCAG AA asks for, 4.5 to 1, in both colour schemes.
func TestContrast(t *testing.T) {
	css, err := static.ReadFile("static/style.css")
	if err != nil {
		t.Fatal(err)
	}
	light, dark, ok := strings.Cut(string(css), "prefers-color-scheme: dark")
	if !ok {
		t.Fatal("there is no dark scheme")
	}
	for name, part := range map[string]string{"light": light, "dark": dark} {
		for _, pair := range [][2]string{
			{"ink", "bg"}, {"ink", "card"}, {"ink", "leaf-soft"}, {"soft", "bg"}, {"soft", "card"}, {"soft", "leaf-soft"},
			{"leaf", "bg"}, {"leaf", "card"}, {"leaf", "leaf-soft"}, {"bad", "bad-soft"},
		} {
			a, b := luminance(t, part, pair[0]), luminance(t, part, pair[1])
			if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < 4.5 {
				t.Errorf("%s: %s on %s has a contrast of %.2f", name, pair[0], pair[1], ratio)
			}
		}
	}
}

// luminance is the relative luminance of a colour of the style: WCAG 2.2's definition.
func luminance(t *testing.T, css, name string) float64 {
	t.Helper()
	m := regexp.MustCompile(`--` + name + `: #([0-9a-f]+);`).FindStringSubmatch(css)
	if m == nil {
		t.Fatalf("there is no colour %s", name)
	}
	hex := m[1]
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	var sum float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
