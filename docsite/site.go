package main

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed static
var static embed.FS

// view is what static/page.html shows.
type view struct {
	Root     string // from the page to the site's top: "", "../"
	Title    string
	Content  template.HTML
	Groups   []navGroup
	Contents []entry
	Previous *entry
	Next     *entry
	Source   string // the Markdown file
	Search   bool   // the page of results
}

type navGroup struct {
	Name  string
	Open  bool // has the current page
	Pages []entry
}

// entry is a link to a page, or to a section of the current one.
type entry struct {
	Href, Title string
	Level       int
	Current     bool
}

// build writes the site of the repository root to the folder out and returns the number of
// pages. It writes nothing if a link is broken.
func build(root fs.FS, out, source string) (int, error) {
	if err := unlisted(root); err != nil {
		return 0, err
	}
	md := newMarkdown()
	var pages []*page
	for _, g := range groups {
		for _, file := range g.pages {
			b, err := fs.ReadFile(root, file)
			if err != nil {
				return 0, fmt.Errorf("read page: %w", err)
			}
			p := parse(md, file, b)
			if p.title == "" {
				return 0, fmt.Errorf("%s has no heading", file)
			}
			pages = append(pages, p)
		}
	}

	files := map[string][]byte{} // the site
	var errs []error
	for _, p := range pages {
		errs = append(errs, p.relink(func(to string) (string, error) { return resolve(root, pages, p, to, source, files) })...)
	}
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}

	tmpl, err := template.ParseFS(static, "static/page.html")
	if err != nil {
		return 0, fmt.Errorf("parse template: %w", err)
	}
	render := func(name string, v view) error {
		var b strings.Builder
		if err := tmpl.Execute(&b, v); err != nil {
			return fmt.Errorf("render %s: %w", name, err)
		}
		files[name] = []byte(b.String())
		return nil
	}
	for i, p := range pages {
		content, err := p.html(md)
		if err != nil {
			return 0, err
		}
		v := newView(pages, p)
		v.Content = template.HTML(content) // rendered from the repository's own Markdown
		v.Source = source + p.file
		if i > 0 {
			v.Previous = link(p, pages[i-1])
		}
		if i < len(pages)-1 {
			v.Next = link(p, pages[i+1])
		}
		if err := render(address(p.file), v); err != nil {
			return 0, err
		}
	}
	results := newView(pages, nil)
	results.Title, results.Search = "Search", true
	if err := render("search.html", results); err != nil {
		return 0, err
	}
	if files["index.js"], err = searchIndex(pages); err != nil {
		return 0, err
	}
	for _, name := range []string{"style.css", "search.js"} {
		if files[name], err = static.ReadFile("static/" + name); err != nil {
			return 0, err
		}
	}
	return len(pages), write(out, files)
}

// resolve returns what a link of page p is in the site. A file that is no page is an image,
// which it adds to files, or a link to the repository.
func resolve(root fs.FS, pages []*page, p *page, to, source string, files map[string][]byte) (string, error) {
	if out, err := external(to); out || err != nil {
		return to, err
	}
	name, anchor, _ := strings.Cut(to, "#")
	target := p.file
	if name != "" {
		target = path.Join(path.Dir(p.file), name)
	}
	if i := slices.IndexFunc(pages, func(q *page) bool { return q.file == target }); i >= 0 {
		if anchor == "" {
			return relative(p.file, target), nil
		}
		if !slices.ContainsFunc(pages[i].sections, func(s section) bool { return s.anchor == anchor }) {
			return to, fmt.Errorf("%s has no heading #%s", target, anchor)
		}
		if target == p.file {
			return "#" + anchor, nil
		}
		return relative(p.file, target) + "#" + anchor, nil
	}
	info, err := fs.Stat(root, target)
	if err != nil {
		return to, fmt.Errorf("leads nowhere: %w", err)
	}
	if image := slices.Contains([]string{".png", ".svg"}, path.Ext(target)); !image || info.IsDir() {
		return source + target, nil
	}
	if files[address(target)], err = fs.ReadFile(root, target); err != nil {
		return to, fmt.Errorf("read image: %w", err)
	}
	return relative(p.file, target), nil
}

// toTop leads from a page's folder in the site to the site's top.
func toTop(file string) string { return strings.Repeat("../", strings.Count(address(file), "/")) }

// relative is the link from one file's place in the site to another's.
func relative(from, to string) string { return toTop(from) + address(to) }

func link(from, to *page) *entry {
	return &entry{Href: relative(from.file, to.file), Title: label(to)}
}

// label is a page's name in the navigation.
func label(p *page) string {
	switch p.file {
	case "README.md":
		return "Overview"
	case "SECURITY.md":
		return "Security policy"
	}
	return p.title
}

// newView has what all pages share. current is nil for a page without a file.
func newView(pages []*page, current *page) view {
	var v view
	at := "README.md"
	if current != nil {
		at = current.file
		v.Title = label(current)
		for _, s := range current.sections {
			if s.level == 2 || s.level == 3 {
				v.Contents = append(v.Contents, entry{Href: "#" + s.anchor, Title: s.title, Level: s.level})
			}
		}
	}
	v.Root = toTop(at)
	i := 0
	for _, g := range groups {
		n := navGroup{Name: g.name}
		for range g.pages {
			e := entry{Href: relative(at, pages[i].file), Title: label(pages[i]), Current: pages[i] == current}
			n.Open = n.Open || e.Current
			n.Pages = append(n.Pages, e)
			i++
		}
		v.Groups = append(v.Groups, n)
	}
	return v
}

// searchIndex is a script that holds every section: address, page, heading, text. A script,
// since a page that is opened from a disk may not fetch JSON.
func searchIndex(pages []*page) ([]byte, error) {
	var all [][4]string
	for _, p := range pages {
		for i, s := range p.sections {
			at := address(p.file)
			if i > 0 {
				at += "#" + s.anchor
			}
			all = append(all, [4]string{at, label(p), s.title, s.text})
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("write search index: %w", err)
	}
	return fmt.Appendf(nil, "globalThis.docsIndex = %s;\n", b), nil
}

// write replaces the folder out. It refuses one that holds something other than a site.
func write(out string, files map[string][]byte) error {
	if entries, err := os.ReadDir(out); err == nil && len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(out, "index.js")); err != nil {
			return fmt.Errorf("%s is not empty and holds no site", out)
		}
	}
	if err := os.RemoveAll(out); err != nil {
		return fmt.Errorf("clear folder: %w", err)
	}
	for name, b := range files {
		at := filepath.Join(out, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
		if err := os.WriteFile(at, b, 0o644); err != nil {
			return fmt.Errorf("write site: %w", err)
		}
	}
	return nil
}
