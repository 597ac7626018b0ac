package page

import (
	"cmp"
	"slices"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/health"
)

// Components reports the state of the parts of this server.
func (s *Site) Components() []health.Report {
	if s.Health == nil {
		return nil
	}
	return s.Health()
}

// severity orders reports, the worst first.
func severity(r health.Report) int {
	return slices.Index([]health.Status{health.Failed, health.Degraded, health.Starting, health.OK}, r.Status)
}

// BySeverity sorts the worst first and, of those as bad, by name.
func BySeverity(list []health.Report) []health.Report {
	return slices.SortedFunc(slices.Values(list), func(a, b health.Report) int {
		return cmp.Or(severity(a)-severity(b), cmp.Compare(a.Component, b.Component))
	})
}

// soon is how long a component may be starting before pages report it.
const soon = 10 * time.Second

// troubles are the components that people should know of, the worst first.
func troubles(list []health.Report, now time.Time) []health.Report {
	return slices.DeleteFunc(BySeverity(list), func(r health.Report) bool {
		return r.Status == health.OK || r.Status == health.Starting && now.Sub(r.Since) < soon
	})
}

// shownTroubles is how many of them the strip on top of every page names.
const shownTroubles = 2

// Summary is a report in one paragraph.
func Summary(r health.Report) string {
	message := cmp.Or(r.Message, r.Component+" is "+string(r.Status))
	out := Sentence(message) + "."
	if r.Hint != "" {
		out += " " + Sentence(r.Hint) + "."
	}
	return out
}
