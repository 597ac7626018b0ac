package query

import "testing"

// TestMeasures: what is known of measures is known of exactly those that can be
// asked for.
func TestMeasures(t *testing.T) {
	computed := duckDB.measures("")
	computed[CostPerTask] = measure{} // of two others
	for _, i := range infos {
		if _, ok := computed[i.Measure]; !ok || i.Label == "" {
			t.Errorf("%s is not computed, or has no label", i.Measure)
		}
		delete(computed, i.Measure)
	}
	for m := range computed {
		t.Errorf("nothing is known of %s", m)
	}
}
