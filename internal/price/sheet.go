package price

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// sheet is a list of rows by provider. Of a file that [Save] has written the rows of
// a provider are read when they are first asked for: the built-in files have
// thousands, and a program calls few providers.
type sheet struct {
	source string
	date   time.Time

	mu    sync.Mutex
	lines map[string][][]byte // not yet read
	rows  map[string][]Row
}

// newSheet takes a built-in file, in the form of [Save]. It panics where the file is
// damaged; a test reads the same bytes.
func newSheet(file []byte) *sheet {
	s := &sheet{lines: make(map[string][][]byte), rows: make(map[string][]Row)}
	head, rest, ok := bytes.Cut(file, []byte("\n"))
	var f overlayFile
	if err := json.Unmarshal(append(bytes.Clone(head), "]}"...), &f); err != nil || !ok {
		panic(fmt.Sprintf("read the built-in prices: %v", err))
	}
	s.source = f.Source
	s.date, _ = time.Parse(time.DateOnly, f.Date)
	const prefix = `{"provider":"`
	for line := range bytes.Lines(rest) {
		line = bytes.TrimRight(line, ",\n")
		if name, ok := bytes.CutPrefix(line, []byte(prefix)); ok {
			name = name[:bytes.IndexByte(name, '"')]
			s.lines[string(name)] = append(s.lines[string(name)], line)
		}
	}
	return s
}

// sheetOf has an overlay's rows.
func sheetOf(o Overlay) *sheet {
	s := &sheet{source: o.Source, date: o.Date, rows: make(map[string][]Row)}
	for _, r := range o.Rows {
		s.rows[r.Provider] = append(s.rows[r.Provider], s.dated(r))
	}
	return s
}

func (s *sheet) dated(r Row) Row {
	if r.Origin = event.CostTable; r.Source == "" {
		r.Source = s.source
	}
	if r.Date.IsZero() {
		r.Date = s.date
	}
	return r
}

func (s *sheet) has(provider string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lines[provider]) > 0 || len(s.rows[provider]) > 0
}

func (s *sheet) providers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.AppendSeq(slices.Collect(maps.Keys(s.lines)), maps.Keys(s.rows)) // a provider is in one of them
	slices.Sort(names)
	return names
}

// of returns a provider's rows, in the file's order.
func (s *sheet) of(provider string) []Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines, ok := s.lines[provider]
	if !ok {
		return s.rows[provider]
	}
	rows := make([]Row, 0, len(lines))
	for _, line := range lines {
		var r Row
		if err := r.UnmarshalJSON(line); err != nil {
			panic(fmt.Sprintf("read the built-in prices: %v", err))
		}
		rows = append(rows, s.dated(r))
	}
	s.rows[provider] = rows
	delete(s.lines, provider)
	return rows
}

// Lacking returns those rows of more that say something which base does not: of
// models that base lacks, and of those to whose prices they add some. "make prices"
// uses it.
func Lacking(base, more []Row) []Row {
	empty := &sheet{}
	t := &Table{layers: layers{base: sheetOf(Overlay{Rows: base}), fill: empty, corrections: empty}}
	t.build()
	var list []Row
	for _, r := range more {
		r.Provider = canonicalProvider(r.Provider)
		e := t.findPublic(r.Provider, lower(r.Model))
		switch {
		case e == nil:
		case e.guessed:
		case e.Provider == r.Provider && t.of(r.Provider)[nameKey(r.Model)] == nil:
			continue // a dated name of a model that base has
		default:
			merged := e.Row.merge(r)
			if samePrices(e.Row, merged) && (e.Provider == r.Provider || equal(e.Input, r.Input) && equal(e.Output, r.Output)) {
				continue
			}
		}
		list = append(list, r)
	}
	return list
}
