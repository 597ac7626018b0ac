package settings

import (
	"net/http"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/server/internal/reprice"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// pricesPage is how old the prices are, and the latest run.
type pricesPage struct {
	Age       string // "" if it is not known
	From, To  string // of the form
	Run       reprice.Run
	Some      bool          // there is a run
	Shown     []reprice.Row // of it: those with a change, an unknown cost or one that stays
	Connected bool          // to a PostHog
}

// shownRows is how many rows of a run the page has at most.
const shownRows = 200

func (s *Pages) prices(_ *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Prices"
	today := s.Now().UTC()
	p := pricesPage{From: today.AddDate(0, 0, -29).Format(time.DateOnly), To: today.Format(time.DateOnly), Connected: len(s.Registry.Snapshot().Connections(f.Session.ProjectID)) > 0}
	if s.PriceAge != nil {
		p.Age = s.PriceAge()
	}
	if p.Run, p.Some = s.Repricer.Current(f.Session.ProjectID); p.Some {
		p.From, p.To, p.Shown = p.Run.From, p.Run.To, shown(p.Run.Rows)
	}
	return prices(*f, p), nil
}

func (s *Pages) reprice(r *http.Request, f *page.Frame) (templ.Component, error) {
	v := func(name string) string { return strings.TrimSpace(f.Form.Get(name)) }
	q := reprice.Request{From: v("from"), To: v("to"), Model: v("model"), Reported: v("reported") != "", Apply: v("apply") != "", PostHog: v("posthog") != ""}
	if _, err := s.Repricer.Start(r.Context(), f.Session.ProjectID, q); err != nil {
		return nil, err
	}
	if q.Apply {
		return f.Done(f.Path("/prices"), "The costs are being changed.")
	}
	return f.Done(f.Path("/prices"), "The dry run has started. It changes nothing.")
}

func (s *Pages) cancelReprice(r *http.Request, f *page.Frame) (templ.Component, error) {
	if _, err := s.Repricer.Cancel(r.Context(), f.Session.ProjectID); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/prices"), "Canceled. Changes already made are kept.")
}

// shown are the rows of interest: with a change first, then with an unknown cost or one
// that stays.
func shown(rows []reprice.Row) (out []reprice.Row) {
	for _, changed := range []bool{true, false} {
		for _, r := range rows {
			if (r.Changed > 0) == changed && r.Changed+r.Unknown+r.Kept > 0 {
				out = append(out, r)
			}
		}
	}
	return out[:min(len(out), shownRows)]
}

// part is how much of a run is done, of 1000.
func (p pricesPage) part() float64 {
	if p.Run.Total == 0 {
		return 0
	}
	return 1000 * float64(p.Run.Done) / float64(p.Run.Total)
}

// reasonWords are the reasons of a row in one line.
func reasonWords(r reprice.Row) string {
	var list []string
	for _, why := range r.Reasons {
		list = append(list, page.Plural(why.Calls, "call")+": "+why.Reason)
	}
	return strings.Join(list, "; ")
}
