package price

import (
	"fmt"
	"strings"
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

// Provenance says in words where a price is from, and where those of its parts that
// are from elsewhere.
func (r Row) Provenance() string {
	what := provenance(r.Origin, r.Source, r.Date)
	for _, k := range r.Kept {
		what += "; " + strings.Join(k.Parts, ", ") + ": " + provenance(k.Origin, k.Source, k.Date)
	}
	return what
}

func provenance(origin, source string, of time.Time) string {
	what := "the built-in table"
	switch origin {
	case event.CostManual:
		what = "the configuration file"
	case event.CostSynced:
		what = "hedgerow prices sync"
	}
	for _, more := range []string{source, date(of)} {
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

// Lines lists a row's prices for people, each with its name: standard prices, then those
// of long prompts, of periods and of variants.
func (r Row) Lines() (lines [][2]string) {
	add := func(suffix string, rs Rates) {
		for _, kind := range rates {
			v := *kind.at(&rs)
			switch name := strings.ReplaceAll(kind.name, "_", " ") + suffix; {
			case !v.Known:
			case kind.shift == 0:
				lines = append(lines, [2]string{name, "$" + v.Value.String() + " each"})
			case kind.piece:
				lines = append(lines, [2]string{name, "$" + PerMillion(v) + " per million"})
			default:
				lines = append(lines, [2]string{name, "$" + PerMillion(v) + " per million tokens"})
			}
		}
	}
	all := func(suffix string, rs Rates, tiers []Tier) {
		add(suffix, rs)
		for _, t := range tiers {
			add(fmt.Sprintf("%s above %d input tokens", suffix, t.Above), t.Rates)
		}
	}
	all("", r.Rates, r.Tiers)
	for _, p := range r.Periods {
		all(" "+p.name(), p.Rates, p.Tiers)
	}
	for _, v := range r.Variants {
		if v.Factor.Known {
			lines = append(lines, [2]string{"tokens " + v.When, "× " + v.Factor.Value.String()})
		}
		all(" "+v.name(), v.Rates, v.Tiers)
	}
	return lines
}
