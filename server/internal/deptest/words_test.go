package deptest

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// plainer has words that comments, texts and docs do not use, and what to write
// instead.
var plainer = map[string]string{
	"all the same":     "still",
	"ample":            "large enough",
	"anew":             "again, from scratch",
	"at hand":          "current",
	"at home":          "in hedgerow",
	"bag":              "attributes",
	"bears":            "has",
	"borne":            "carried",
	"break off":        "end early",
	"breaks off":       "ends early",
	"by turns":         "alternately",
	"carries out":      "executes",
	"dearest":          "most expensive",
	"desk":             "cache",
	"door":             "endpoint",
	"doors":            "endpoints",
	"for want of":      "without",
	"goes its way":     "continues",
	"goes home":        "is stored in hedgerow",
	"goes nowhere":     "is not forwarded",
	"goes on":          "continues",
	"hang up":          "disconnect",
	"heeds":            "respects",
	"hence":            "so",
	"held back":        "withheld",
	"hitherto":         "so far",
	"holds back":       "withholds",
	"hold back":        "withhold",
	"hung up":          "disconnected",
	"in its stead":     "instead",
	"is there twice":   "appears twice",
	"lest":             "so that … not",
	"likewise":         "also",
	"mend":             "repair",
	"mended":           "repaired",
	"mends":            "repairs",
	"nobody":           "no one",
	"of late":          "recently",
	"once more":        "again",
	"ought":            "should",
	"puts together":    "assembles",
	"shelf":            "collection",
	"shelves":          "collections",
	"speak of":         "be about",
	"speaks of":        "is about",
	"spelt":            "spelled",
	"stand in":         "simulate",
	"stands for":       "represents",
	"stands in":        "simulates",
	"stays home":       "is not forwarded",
	"such a one":       "one",
	"tells how":        "reports how",
	"tells whether":    "reports whether",
	"the user's words": "user messages",
	"thence":           "from there",
	"thereby":          "so",
	"therein":          "in it",
	"thrown away":      "discarded",
	"told":             "reported, distinguished",
	"unasked":          "unrequested",
	"under way":        "in progress",
	"went on":          "continued",
	"what is none":     "anything else",
	"whence":           "from which",
	"whereupon":        "then",
	"wherefore":        "why",
	"whosoever":        "whoever",
}

// TestWords holds comments, pages and docs to the terms of CONTRIBUTING.md.
func TestWords(t *testing.T) {
	const top = "../../.."
	words := make([]string, 0, len(plainer))
	for w := range plainer {
		words = append(words, strings.ReplaceAll(w, " ", `\s+`))
	}
	banned := regexp.MustCompile(`(?i)\b(` + strings.Join(words, "|") + `)\b`)
	check := func(path, text string) {
		for _, w := range banned.FindAllString(text, -1) {
			t.Errorf("%s: %q: write %q", path, w, plainer[strings.ToLower(strings.Join(strings.Fields(w), " "))])
		}
	}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && (name == "node_modules" || name == "venv" || name == "testdata" || name == "dist" || path != top && strings.HasPrefix(name, ".")) {
			return filepath.SkipDir
		}
		isGo := strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_templ.go") && filepath.Base(path) != "words_test.go"
		if !isGo && !strings.HasSuffix(path, ".md") && !strings.HasSuffix(path, ".templ") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !isGo {
			check(path, string(src))
			return nil
		}
		var s scanner.Scanner
		files := token.NewFileSet()
		s.Init(files.AddFile(path, -1, len(src)), src, nil, scanner.ScanComments)
		var comments strings.Builder
		for {
			_, tok, text := s.Scan()
			if tok == token.EOF {
				break
			}
			if tok == token.COMMENT {
				comments.WriteString(" " + strings.Trim(text, "/* \t"))
			}
		}
		check(path, comments.String())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
