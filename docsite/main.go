// Command docsite builds the documentation as a static site from the Markdown files of the
// repository:
//
//	go run ./docsite [-root .] [-out dist/docs] [-source https://github.com/hedgerow/hedgerow/blob/main/]
//
// All links in the site are relative and it loads nothing from elsewhere, so it works in any
// folder of a web server and from a disk. A broken link, or a page that is in no group of the
// navigation, fails the build. The files, by what they do:
//
//	nav.go       which pages there are, in which groups and order
//	site.go      reads, checks and writes the site
//	markdown.go  Markdown to HTML, the sections of a page, its links
//	static/      the page's template, its style and the search
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	root := flag.String("root", ".", "top folder of the repository")
	out := flag.String("out", "dist/docs", "folder to write the site to; it is replaced")
	source := flag.String("source", "https://github.com/hedgerow/hedgerow/blob/main/", "URL of the repository's files, for links to files that are not pages")
	flag.Parse()
	n, err := build(os.DirFS(*root), *out, *source)
	if err != nil {
		fmt.Fprintln(os.Stderr, "docsite:", err)
		os.Exit(1)
	}
	fmt.Printf("%d pages in %s; open %s/index.html\n", n, *out, *out)
}
