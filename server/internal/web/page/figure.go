package page

import (
	"cmp"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/server/internal/query"
)

// Figure is a measure as a page shows it.
type Figure struct {
	Measure  query.Measure
	Label    string // where it is not the measure's own
	Text     string
	Change   string        // against the period before; "" where there is none to compare
	Compared string        // which period that is, in words
	Note     string        // what else there is to know
	URL      templ.SafeURL // the list of exactly what it counts
}

func (x Figure) label() string { return cmp.Or(x.Label, x.Measure.Info().Label) }

// Short is the label of a measure where there is little room.
func Short(m query.Measure) string {
	return strings.Replace(m.Info().Label, "Time to first token", "TTFT", 1)
}

// note is the note below the change.
func (x Figure) note() string {
	if x.Change != "" && x.Note != "" {
		return " · " + x.Note
	}
	return x.Note
}

// ChangeClass is the style of a change: whether it is good depends on the measure.
func ChangeClass(m query.Measure, change string) string {
	better := m.Info().Better
	switch up := strings.HasPrefix(change, "+") || change == "new"; {
	case better == query.Neither || !up && !strings.HasPrefix(change, "−"):
		return "delta"
	case up == (better == query.Higher):
		return "delta good"
	}
	return "delta bad"
}

// aboutID is the id of the definition of a measure.
func aboutID(m query.Measure) string { return "about-" + string(m) }
