package main

import (
	"bytes"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	rendererhtml "github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// page is one Markdown file.
type page struct {
	file     string // in the repository
	title    string // its first heading
	source   []byte
	doc      ast.Node
	sections []section
}

// section is a heading with the text up to the next one.
type section struct {
	level  int
	anchor string
	title  string
	text   string // without markup, for the search
}

func newMarkdown() goldmark.Markdown {
	return goldmark.New(
		goldmark.WithExtensions(extension.GFM),
		goldmark.WithParserOptions(parser.WithAutoHeadingID()),
		// The Markdown is the repository's own; it uses tags such as <sup>.
		goldmark.WithRendererOptions(rendererhtml.WithUnsafe(), renderer.WithNodeRenderers(util.Prioritized(blocks{}, 100))),
	)
}

// parse reads a page and its sections.
func parse(md goldmark.Markdown, file string, source []byte) *page {
	p := &page{file: file, source: source}
	p.doc = md.Parser().Parse(text.NewReader(source), parser.WithContext(parser.NewContext(parser.WithIDs(&anchors{used: map[string]int{}}))))
	for n := p.doc.FirstChild(); n != nil; n = n.NextSibling() {
		h, ok := n.(*ast.Heading)
		if !ok {
			if len(p.sections) > 0 {
				s := &p.sections[len(p.sections)-1]
				s.text = strings.Join(append(strings.Fields(s.text), strings.Fields(plain(n, source))...), " ")
			}
			continue
		}
		anchor, _ := h.AttributeString("id")
		id, _ := anchor.([]byte)
		p.sections = append(p.sections, section{level: h.Level, anchor: string(id), title: strings.Join(strings.Fields(plain(h, source)), " ")})
	}
	if len(p.sections) > 0 {
		p.title = p.sections[0].title
	}
	return p
}

// plain is the text of a node without markup.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			if n.Type() == ast.TypeBlock || n.Kind() == extast.KindTableCell {
				b.WriteByte(' ')
			}
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Text:
			b.Write(n.Segment.Value(source))
			if n.SoftLineBreak() || n.HardLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(n.Value)
		case *ast.AutoLink:
			b.Write(n.Label(source))
		case *ast.FencedCodeBlock:
			b.Write(n.Lines().Value(source))
		}
		return ast.WalkContinue, nil // the walk itself cannot fail
	})
	return b.String()
}

// relink gives each link and image of the page the destination that change returns, and
// returns all errors of change.
func (p *page) relink(change func(to string) (string, error)) (errs []error) {
	_ = ast.Walk(p.doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		var to *[]byte
		switch n := n.(type) {
		case *ast.Link:
			to = &n.Destination
		case *ast.Image:
			to = &n.Destination
		default:
			return ast.WalkContinue, nil
		}
		changed, err := change(string(*to))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: link %s: %w", p.file, *to, err))
		}
		*to = []byte(changed)
		return ast.WalkContinue, nil
	})
	return errs
}

// external says whether a link leads out of the repository, and what is wrong with it.
func external(to string) (bool, error) {
	u, err := url.Parse(to)
	switch {
	case err != nil:
		return true, err
	case u.Scheme == "":
		return false, nil
	case u.Scheme == "mailto" && strings.Contains(u.Opaque, "@"):
		return true, nil
	case u.Scheme != "https" && u.Scheme != "http" || !strings.Contains(u.Host, "."):
		return true, fmt.Errorf("not the URL of a public page")
	}
	return true, nil
}

// html is the page's content.
func (p *page) html(md goldmark.Markdown) (string, error) {
	var b bytes.Buffer
	if err := md.Renderer().Render(&b, p.source, p.doc); err != nil {
		return "", fmt.Errorf("%s: %w", p.file, err)
	}
	// A table that is wider than the window scrolls on its own, by the keyboard too; an empty
	// cell heads nothing.
	return strings.NewReplacer("<table>", `<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>`, "</table>", "</table></div>", "<th></th>", "<td></td>").Replace(b.String()), nil
}

// anchors makes the ids of headings as GitHub does, so that links work in both.
type anchors struct{ used map[string]int }

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N}\s_-]`)

func (a *anchors) Generate(value []byte, _ ast.NodeKind) []byte {
	id := strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(string(value))), ""), " ", "-")
	n := a.used[id]
	a.used[id]++
	if n > 0 {
		id = fmt.Sprintf("%s-%d", id, n)
	}
	return []byte(id)
}

func (a *anchors) Put(value []byte) { a.used[string(value)]++ }

// blocks renders headings with a link to themselves, and code with its comments and the
// lines of a diff marked.
type blocks struct{}

func (blocks) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindHeading, renderHeading)
	r.Register(ast.KindFencedCodeBlock, renderCode)
}

func renderHeading(w util.BufWriter, source []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	h := node.(*ast.Heading)
	anchor, _ := h.AttributeString("id")
	id, _ := anchor.([]byte)
	if entering {
		_, err := fmt.Fprintf(w, `<h%d id="%s">`, h.Level, id)
		return ast.WalkContinue, err
	}
	if h.Level > 1 {
		if _, err := fmt.Fprintf(w, ` <a class="anchor" href="#%s" aria-label="Link to: %s">#</a>`, id, html.EscapeString(plain(h, source))); err != nil {
			return ast.WalkStop, err
		}
	}
	_, err := fmt.Fprintf(w, "</h%d>\n", h.Level)
	return ast.WalkContinue, err
}

// comment is the end of a line of code that is a comment: in the languages of the docs it
// begins with # or // after a space, or at the line's start.
var comment = regexp.MustCompile(`(^|\s)((?:#|//) .*)$`)

func renderCode(w util.BufWriter, source []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	code := node.(*ast.FencedCodeBlock)
	language := string(code.Language(source))
	var b strings.Builder
	fmt.Fprintf(&b, `<pre tabindex="0"><code class="language-%s">`, html.EscapeString(language))
	for line := range strings.Lines(string(code.Lines().Value(source))) {
		line = strings.TrimSuffix(line, "\n")
		escaped := html.EscapeString(line)
		switch {
		case language == "diff" && strings.HasPrefix(line, "+"):
			escaped = `<span class="added">` + escaped + `</span>`
		case language == "diff" && strings.HasPrefix(line, "-"):
			escaped = `<span class="removed">` + escaped + `</span>`
		case language != "":
			if at := comment.FindStringSubmatchIndex(line); at != nil {
				escaped = html.EscapeString(line[:at[4]]) + `<span class="comment">` + html.EscapeString(line[at[4]:]) + `</span>`
			}
		}
		b.WriteString(escaped + "\n")
	}
	b.WriteString("</code></pre>\n")
	_, err := w.WriteString(b.String())
	return ast.WalkSkipChildren, err
}
