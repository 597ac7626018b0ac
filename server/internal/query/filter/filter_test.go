package filter_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/filter"
)

// table has a field of each type.
func table() *filter.Fields {
	return filter.NewFields([]filter.Field{
		{Name: "status", Type: filter.Enum, Values: []string{"success", "error"}},
		{Name: "model", Type: filter.Name},
		{Name: "asked", Type: filter.Name, Aliases: []string{"requested"}},
		{Name: "prompt", Type: filter.Name},
		{Name: "tool", Type: filter.Name, Ops: []filter.Op{filter.Is, filter.Exists}},
		{Name: "feedback", Type: filter.Enum, Values: []string{"positive"}},
		{Name: "user", Type: filter.ID},
		{Name: "name", Type: filter.Text},
		{Name: "cost", Type: filter.Dollars},
		{Name: "tokens", Type: filter.Number},
		{Name: "latency", Type: filter.Duration},
		{Name: "size", Type: filter.Bytes},
		{Name: "stream", Type: filter.Bool},
		{Name: "property", Type: filter.Property, Family: true},
	})
}

func TestParse(t *testing.T) {
	cases, err := os.ReadFile("testdata/filters.txt")
	if err != nil {
		t.Fatal(err)
	}
	fields := table()
	for n, line := range strings.Split(string(cases), "\n") {
		in, want, ok := strings.Cut(line, " => ")
		if strings.HasPrefix(line, "#") || !ok {
			continue
		}
		e, err := fields.Parse(in)
		got := e.String()
		if err != nil {
			var at *filter.Error
			known := event.AsError(err)
			if !errors.As(err, &at) || known.Code != event.CodeUnknownFilter || known.HTTPStatus() != 400 {
				t.Fatalf("line %d: the error %v is of code %s", n+1, err, known.Code)
			}
			got = fmt.Sprintf("! %d %s %s: %s", at.Position, at.Field, at.DidYouMean, known.Message)
		}
		if got != want {
			t.Errorf("line %d: %s => %s\nwant %s", n+1, in, got, want)
		}
	}
}

func TestBounds(t *testing.T) {
	fields := table()
	for name, in := range map[string]string{
		"length": strings.Repeat("a", filter.MaxLength+1),
		"terms":  strings.Repeat("a ", filter.MaxTerms+1),
		"values": "model:(" + strings.Repeat("a,", filter.MaxValues) + "a)",
		"value":  "model:" + strings.Repeat("a", 1001),
		"NUL":    "a\x00b",
		"UTF-8":  "a\xff",
	} {
		if _, err := fields.Parse(in); event.AsError(err) == nil || event.AsError(err).Code != event.CodeUnknownFilter {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChange covers what pages make of a filter.
func TestChange(t *testing.T) {
	e, err := table().Parse("model:a status:error (model:b OR late) late")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ got, want string }{
		{e.Without("model").String(), "status:error (late OR model:b) late"},
		{e.Without("").String(), "model:a status:error (late OR model:b) late"},
		{e.WithoutTerm(2).String(), "model:a status:error late"},
		{e.With(filter.Term{Field: "cost", Op: filter.Over, Values: []string{"1"}}).String(), "cost:>1 model:a status:error (late OR model:b) late"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	if !e.Words() || e.WithoutTerm(3).WithoutTerm(2).Words() {
		t.Error("the words of a filter are not found")
	}
}

// FuzzParse checks that what a filter is printed as is read as the same filter.
func FuzzParse(f *testing.F) {
	cases, err := os.ReadFile("testdata/filters.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.SplitSeq(string(cases), "\n") {
		in, _, _ := strings.Cut(line, " => ")
		f.Add(in)
	}
	fields := table()
	f.Fuzz(func(t *testing.T, in string) {
		e, err := fields.Parse(in)
		if err != nil {
			return
		}
		text := e.String()
		again, err := fields.Parse(text)
		if err != nil {
			if len(text) > filter.MaxLength {
				return // quotes made it longer
			}
			t.Fatalf("%q is printed as %q: %v", in, text, err)
		}
		if again.String() != text {
			t.Fatalf("%q is printed as %q, and that as %q", in, text, again.String())
		}
	})
}
