package prompt

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/internal/template"
)

// Change is one part of two versions that can differ.
type Change struct {
	Title string // "Message 1 · system", "Variables", "Model and parameters"
	Lines []DiffLine
	Same  bool // nothing in it differs
}

// DiffLine is one line of a comparison.
type DiffLine struct {
	Op   DiffOp
	Text string
}

// DiffOp is the side of a line in a comparison.
type DiffOp byte

// The ops.
const (
	Both    DiffOp = ' '
	Removed DiffOp = '-'
	Added   DiffOp = '+'
)

// Compare compares two versions, message by message and then the rest.
func Compare(a, b Version) []Change {
	var out []Change
	add := func(title, x, y string) {
		if x == "" && y == "" {
			return
		}
		out = append(out, Change{Title: title, Lines: DiffLines(x, y), Same: x == y})
	}
	at := func(list []Message, i int) Message {
		if i < len(list) {
			return list[i]
		}
		return Message{}
	}
	for i := range max(len(a.Messages), len(b.Messages)) {
		x, y := at(a.Messages, i), at(b.Messages, i)
		title := fmt.Sprintf("Message %d · %s", i+1, y.Role)
		switch {
		case y.Role == "":
			title = fmt.Sprintf("Message %d · %s, removed", i+1, x.Role)
		case x.Role == "":
			title += ", new"
		case x.Role != y.Role:
			title = fmt.Sprintf("Message %d · %s, was %s", i+1, y.Role, x.Role)
		}
		add(title, x.Content, y.Content)
		if x.Role != y.Role {
			out[len(out)-1].Same = false
		}
	}
	add("Variables", describe(a.Variables), describe(b.Variables))
	add("Model and parameters", a.config(), b.config())
	return out
}

func describe(list []Variable) string {
	lines := make([]string, len(list))
	for i, v := range list {
		lines[i] = v.Name + ": " + v.Says()
		if v.Description != "" {
			lines[i] += " · " + v.Description
		}
	}
	return strings.Join(lines, "\n")
}

func (v Version) config() string {
	var lines []string
	for _, x := range [][2]string{{"provider", v.Provider}, {"model", v.Model}} {
		if x[1] != "" {
			lines = append(lines, x[0]+": "+x[1])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.Params)) {
		lines = append(lines, name+": "+template.Format(v.Params[name]))
	}
	return strings.Join(lines, "\n")
}

// maxCells limits the table of a comparison. Larger texts are shown as
// removed and added as a whole, except for equal lines at both ends.
const maxCells = 4 << 20

// DiffLines compares two texts line by line, by their longest common
// subsequence.
func DiffLines(a, b string) []DiffLine {
	x, y := splitLines(a), splitLines(b)
	var out []DiffLine
	for len(x) > 0 && len(y) > 0 && x[0] == y[0] {
		out = append(out, DiffLine{Both, x[0]})
		x, y = x[1:], y[1:]
	}
	var tail []DiffLine
	for len(x) > 0 && len(y) > 0 && x[len(x)-1] == y[len(y)-1] {
		tail = append(tail, DiffLine{Both, x[len(x)-1]})
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	slices.Reverse(tail)
	if (len(x)+1)*(len(y)+1) <= maxCells {
		out = append(out, common(x, y)...)
	} else {
		out = append(out, whole(x, y)...)
	}
	return append(out, tail...)
}

func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

func whole(x, y []string) []DiffLine {
	var out []DiffLine
	for _, l := range x {
		out = append(out, DiffLine{Removed, l})
	}
	for _, l := range y {
		out = append(out, DiffLine{Added, l})
	}
	return out
}

func common(x, y []string) []DiffLine {
	wide := len(y) + 1
	length := make([]int32, (len(x)+1)*wide) // of what x[i:] and y[j:] have in common
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				length[i*wide+j] = length[(i+1)*wide+j+1] + 1
			} else {
				length[i*wide+j] = max(length[(i+1)*wide+j], length[i*wide+j+1])
			}
		}
	}
	var out []DiffLine
	i, j := 0, 0
	for i < len(x) && j < len(y) {
		switch {
		case x[i] == y[j]:
			out = append(out, DiffLine{Both, x[i]})
			i, j = i+1, j+1
		case length[(i+1)*wide+j] >= length[i*wide+j+1]:
			out = append(out, DiffLine{Removed, x[i]})
			i++
		default:
			out = append(out, DiffLine{Added, y[j]})
			j++
		}
	}
	return append(out, whole(x[i:], y[j:])...)
}
