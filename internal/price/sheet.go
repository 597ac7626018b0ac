package price

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
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

// MissingRows returns those rows of more that say something which base does not: of models
// that base lacks, and of those to whose prices they add some. "make prices" uses it.
// Rows of one place ("us-east-1/NAME", "vertex/NAME") are kept where their price is not
// the one of the name alone. Where both have a price of the same model and they differ,
// base's holds; a region of Bedrock in the name (us-gov.…) makes another model.
func MissingRows(base, more []Row) []Row {
	var plain, placed []Row
	for _, r := range more {
		r.Provider = canonicalProvider(r.Provider)
		if r.Provider == "google" && strings.HasPrefix(r.Model, vertex+"/") || r.Provider == "amazon-bedrock" && strings.ContainsRune(r.Model, '/') {
			placed = append(placed, r)
		} else {
			plain = append(plain, r)
		}
	}
	list := missingRows(base, plain)
	t := tableOf(base, list)
	for _, r := range placed {
		place, name, _ := strings.Cut(r.Model, "/")
		e := t.findPublic(r.Provider, lower(name), place)
		switch {
		case e == nil && place == vertex:
			r.Model = name // of Vertex alone
		case e == nil:
		case agree(r, e.Row):
			continue
		case e.Provider == r.Provider && place == vertex && !conflict(r, e.Row):
			r.Model = e.Model // more of the same price
		case e.Provider == r.Provider:
			r = r.Merge(e.Row)
			r.Aliases = nil
		}
		list = append(list, r)
	}
	slices.SortStableFunc(list, func(a, b Row) int {
		return cmp.Or(strings.Compare(a.Provider, b.Provider), strings.Compare(a.Model, b.Model))
	})
	return list
}

func tableOf(base, fill []Row) *Table {
	t := &Table{layers: layers{base: sheetOf(Overlay{Rows: base}), fill: sheetOf(Overlay{Rows: fill}), corrections: &sheet{}}}
	t.build()
	return t
}

func missingRows(base, more []Row) (list []Row) {
	t := tableOf(base, nil)
	seen := make(map[string]bool) // the rows of base that a longer name adds to
	for _, r := range more {
		e := t.findPublic(r.Provider, lower(r.Model), "")
		switch {
		case e == nil, e.guessed:
		case agree(r, e.Row):
			continue
		case e.Provider != r.Provider:
			// What the provider adds to all models is a correction's: see corrections.json.
			r.WebSearch = USD{}
			if agree(r, e.Row) {
				continue
			}
			r = r.Merge(e.Row)
			r.Aliases, r.WebSearch, r.FileSearch, r.CodeSession = nil, USD{}, USD{}, USD{}
		case t.of(r.Provider)[nameKey(r.Model)] == nil: // dated, or of a region
			switch id := r.Provider + " " + e.Model; {
			case regional(r) && conflict(r, e.Row):
				r = r.Merge(e.Row)
				r.Aliases = nil
			case !equal(r.Input, e.Input) || !equal(r.Output, e.Output) || seen[id]:
				continue
			default:
				seen[id] = true
				r.Model = e.Model
			}
		case nameKey(e.Model) != nameKey(r.Model) && regional(r) && conflict(r, e.Row):
			r = r.Merge(e.Row)
			r.Aliases = nil
		case samePrices(e.Row, e.Row.Merge(r)):
			continue
		}
		list = append(list, r)
	}
	return list
}

// regional reports whether the name has a region of Bedrock.
func regional(r Row) bool {
	return r.Provider == "amazon-bedrock" && cutBedrockRegion(r.Model) != r.Model
}

// agree reports whether every price that r names is other's, too.
func agree(r, other Row) bool {
	if !other.Rates.have(r.Rates) || !haveTiers(other.Tiers, r.Tiers) {
		return false
	}
	return !slices.ContainsFunc(r.Variants, func(v Variant) bool {
		return !slices.ContainsFunc(other.Variants, func(w Variant) bool {
			return w.When == v.When && equal(w.Factor, v.Factor) && w.Rates.have(v.Rates) && haveTiers(w.Tiers, v.Tiers)
		})
	})
}

// conflict reports whether the two name different prices of the same thing.
func conflict(a, b Row) bool {
	if !a.Rates.over(b.Rates).have(b.Rates) {
		return true
	}
	for _, v := range a.Variants {
		for _, w := range b.Variants {
			if v.When == w.When && !v.Rates.over(w.Rates).have(w.Rates) {
				return true
			}
		}
	}
	for _, t := range a.Tiers {
		for _, u := range b.Tiers {
			if t.Above == u.Above && !t.Rates.over(u.Rates).have(u.Rates) {
				return true
			}
		}
	}
	return false
}

func haveTiers(list, some []Tier) bool {
	return !slices.ContainsFunc(some, func(s Tier) bool {
		return !slices.ContainsFunc(list, func(t Tier) bool { return t.Above == s.Above && t.Rates.have(s.Rates) })
	})
}

// have reports whether r has all rates of some.
func (r Rates) have(some Rates) bool {
	for i := range rates {
		if v := rates[i].at(&some); v.Known && !equal(*v, *rates[i].at(&r)) {
			return false
		}
	}
	return true
}
