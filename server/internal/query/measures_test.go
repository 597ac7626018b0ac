package query

import (
	"slices"
	"testing"
)

// TestMeasures: each measure is in the table once, can be computed, and has
// what pages, experiments and lists of examples need.
func TestMeasures(t *testing.T) {
	terms := (&Reader{sql: duckDB}).terms("", EventMatch{Name: "resolved", Property: "yes"})
	seen := make(map[Measure]bool)
	for _, row := range measures {
		m, info := row.sql(terms), row.Info
		if seen[row.Measure] {
			t.Errorf("%s stands there twice", row.Measure)
		}
		seen[row.Measure] = true
		if info.Label == "" || info.Noun == "" {
			t.Errorf("%s has no label or no noun", row.Measure)
		}
		for _, p := range m.parts {
			if !slices.Contains(Measures(), p) {
				t.Errorf("%s is made of %s, which is none", row.Measure, p)
			}
		}
		if sums, other := len(m.sums) > 0, !m.expr.IsZero(); len(m.parts) == 0 && sums == other {
			t.Errorf("%s is computed of both sums and another aggregate, or of neither", row.Measure)
		}
		if y := !m.y.IsZero() && !m.n.IsZero(); info.Phrase != "" && !y && len(m.parts) == 0 {
			t.Errorf("%s is a figure of experiments, but says not what an event adds", row.Measure)
		}
		if (m.what != "") != (info.Quantile != 0) || m.what != "" && shares[m.pick] != info.Quantile {
			t.Errorf("%s is not the quantile that its row says", row.Measure)
		}
	}
}
