// Command conformance runs the tests that docs/conformance.md names and prints each
// claim of that page with its result. It ends with status 1 where one does not hold.
//
//	go run ./server/internal/conformance           # the systems that hedgerow was asked to be
//	go run ./server/internal/conformance -all      # the protocols that it speaks, too
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
)

const page = "docs/conformance.md"

func main() {
	all := flag.Bool("all", false, "every section of "+page+", not only those of the systems")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := run(ctx, os.Stdout, *all)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, all bool) (ok bool, err error) {
	f, err := os.Open(page)
	if err != nil {
		return false, fmt.Errorf("run this in the repository's first folder: %w", err)
	}
	defer f.Close()
	sections, err := parse(f)
	if err != nil {
		return false, err
	}
	if !all {
		sections = slices.DeleteFunc(sections, func(s section) bool { return !s.system() })
	}
	names := make(map[string]map[string]bool) // the tests of each folder
	for _, s := range sections {
		for _, c := range s.claims {
			for _, t := range c.tests {
				if names[t.dir] == nil {
					names[t.dir] = make(map[string]bool)
				}
				names[t.dir][t.name] = true
			}
		}
	}
	results := make(map[test]string)
	for _, dir := range slices.Sorted(maps.Keys(names)) {
		fmt.Fprintf(os.Stderr, "%d tests of %s\n", len(names[dir]), dir)
		if err := runTests(ctx, dir, slices.Sorted(maps.Keys(names[dir])), results); err != nil {
			return false, err
		}
	}
	return report(w, sections, results), nil
}

// runTests runs tests of a folder and adds how each ended: pass, fail or skip.
func runTests(ctx context.Context, dir string, names []string, results map[test]string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout=40m", "-json", "-run", "^("+strings.Join(names, "|")+")$", dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		switch {
		case e.Action == "build-output" || e.Action == "output" && e.Test == "" && strings.HasPrefix(e.Output, "panic"):
			fmt.Fprint(os.Stderr, e.Output)
		case e.Test == "" || strings.Contains(e.Test, "/"):
		case e.Action == "pass" || e.Action == "fail" || e.Action == "skip":
			results[test{dir, e.Test}] = e.Action
		}
	}
	var failed *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &failed) {
		return err
	}
	return ctx.Err()
}

// report prints each claim with its result; ok is whether all hold.
func report(w io.Writer, sections []section, results map[test]string) (ok bool) {
	claims, held := 0, 0
	for _, s := range sections {
		fmt.Fprintf(w, "\n%s\n", s.title)
		for _, c := range s.claims {
			state := "holds"
			var missed []string
			for _, t := range c.tests {
				if r := results[t]; r != "pass" {
					if r == "" {
						r = "did not run"
					}
					missed = append(missed, t.name+": "+r)
				}
			}
			switch {
			case len(c.tests) == 0:
				state = "no test"
			case len(missed) > 0:
				state = "FAILS"
			default:
				held++
			}
			claims++
			fmt.Fprintf(w, "  %-8s %s\n", state, c.text)
			for _, m := range missed {
				fmt.Fprintf(w, "           %s\n", m)
			}
		}
	}
	fmt.Fprintf(w, "\n%d of %d claims hold\n", held, claims)
	return held == claims
}
