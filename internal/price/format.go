package price

import (
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// PerMillion is a price of one token as one of a million, "–" if it is not
// known.
func PerMillion(p USD) string {
	if !p.Known {
		return "–"
	}
	return p.Value.Shift(6).String()
}

// Provenance says in words where a price is from.
func (r Row) Provenance() string {
	what := "the built-in table"
	switch r.Origin {
	case event.CostManual:
		what = "the configuration file"
	case event.CostSynced:
		what = "hedgerow prices sync"
	}
	for _, more := range []string{r.Source, r.Day()} {
		if more != "" {
			what += ", " + more
		}
	}
	return what
}

// Day is the date of a price, "" if it is not known.
func (r Row) Day() string {
	if r.Date.IsZero() {
		return ""
	}
	return r.Date.Format(time.DateOnly)
}
