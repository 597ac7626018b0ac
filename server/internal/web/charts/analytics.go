package charts

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// Delivery is the delivery to PostHog.
type Delivery interface {
	// Delivery returns the state of the delivery to a connection.
	Delivery(c project.Connection) posthog.Delivery
	// Days returns the days from since on, as the connection's PostHog counts them.
	Days(ctx context.Context, c project.Connection, since time.Time) ([]posthog.Day, error)
}

// Merges counts calls that two receivers captured.
type Merges interface {
	// LateMerges counts a project's calls since a time whose second capture came when
	// the first may have been sent.
	LateMerges(ctx context.Context, project string, since time.Time) (int64, error)
}

// analyticsPage is the event stream that goes to PostHog, in three states: not
// connected; sending, with what hedgerow saw; and with a personal key also what
// PostHog counted.
type analyticsPage struct {
	View        *page.View // in UTC
	Connections []project.Connection
	Today       *query.Period
	Week        *query.Period
	Late        int64 // late merges of the week
	Latest      []*query.Event
	Live        bool
	Pulls       []pull
}

// pull is one connection's figures next to hedgerow's own.
type pull struct {
	Connection project.Connection
	Days       []comparedDay
	Why        []string     // what explains a difference
	Problem    *event.Error // why there are none

	theirs []posthog.Day
}

// comparedDay is one day as both count it.
type comparedDay struct {
	Day        string
	Ours       query.Totals
	Theirs     posthog.Day
	Difference int64
}

func (s *Pages) analytics(r *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "PostHog sync"
	p := analyticsPage{Connections: s.Registry.Snapshot().Connections(f.Session.ProjectID), Live: s.Live != nil}
	if len(p.Connections) == 0 {
		return analytics(*f, p), nil
	}
	var err error
	if p.View, err = s.View(r, "/analytics", ""); err != nil {
		return nil, err
	}
	p.View = p.View.Unfiltered()
	p.View.Zone = time.UTC
	if p.Today, err = s.Query.Today(r.Context(), f.Session.ProjectID, ""); err != nil {
		return nil, err
	}
	if p.Week, err = s.Query.SevenDays(r.Context(), f.Session.ProjectID, ""); err != nil {
		return nil, err
	}
	if p.Late, err = s.Merges.LateMerges(r.Context(), f.Session.ProjectID, p.Week.From); err != nil {
		return nil, err
	}
	latest, err := s.Query.Events(r.Context(), query.EventsQuery{Project: f.Session.ProjectID, Limit: 10})
	if err != nil {
		return nil, err
	}
	p.Latest = latest.Events
	if r.URL.Query().Get("part") == "now" { // a refresh of the log and today's figures
		return analyticsNow(*f, p), nil
	}
	// PostHog is queried first: what reaches both in between is then missing
	// there, which is what "on its way" means, and not here.
	for _, c := range p.Connections {
		if c.PersonalKeyLastFour == "" {
			continue
		}
		x := pull{Connection: c}
		if x.theirs, err = s.Delivery.Days(r.Context(), c, p.Week.From); err != nil {
			x.Problem = event.AsError(err)
		}
		p.Pulls = append(p.Pulls, x)
	}
	if len(p.Pulls) == 0 {
		return analytics(*f, p), nil
	}
	ours, err := s.Query.Stats(r.Context(), query.StatsQuery{
		Project: f.Session.ProjectID, Filter: query.Filter{From: p.Week.From, To: s.Now()}, GroupBy: query.ByDay})
	if err != nil {
		return nil, err
	}
	for i := range p.Pulls {
		if x := &p.Pulls[i]; x.Problem == nil {
			x.compare(ours.Groups, s.Delivery.Delivery(x.Connection), p.Week.From)
		}
	}
	return analytics(*f, p), nil
}

// compare pairs PostHog's days with hedgerow's.
func (x *pull) compare(ours []query.Group, h posthog.Delivery, since time.Time) {
	theirs := make(map[string]posthog.Day, len(x.theirs))
	for _, d := range x.theirs {
		theirs[d.Day] = d
	}
	var more, less bool
	for _, g := range ours {
		d := theirs[g.Key]
		diff := d.Calls - g.Totals.Calls
		x.Days = append(x.Days, comparedDay{Day: g.Key, Ours: g.Totals, Theirs: d, Difference: diff})
		more, less = more || diff > 0, less || diff < 0
	}
	x.Why = why(x.Connection, h, since, more, less)
}

// why explains a difference by what is known of the connection. Each reason is
// one that can be seen to hold; where none does, it says so.
func why(c project.Connection, h posthog.Delivery, since time.Time, more, less bool) []string {
	var out []string
	if less {
		if c.CreatedAt.After(since) {
			out = append(out, "the connection was created on "+c.CreatedAt.UTC().Format(time.DateOnly)+"; earlier events were not sent")
		}
		if !c.Enabled {
			out = append(out, "the connection is paused")
		}
		if h.Waiting > 0 {
			out = append(out, page.Plural(h.Waiting, "event")+" still queued")
		}
		if c.SampleRate < 1 {
			out = append(out, fmt.Sprintf("sampling sends %s %% of traces", page.PlainFloat(c.SampleRate*100)))
		}
		if f := c.Filter; len(f.Events)+len(f.Surfaces)+len(f.Tags) > 0 {
			out = append(out, "a filter excludes some events")
		}
		if h.Dead > 0 {
			out = append(out, page.Plural(h.Dead, "dead letter"))
		}
		if h.Quota > 0 {
			out = append(out, "PostHog dropped "+page.Count(h.Quota)+" events over its quota")
		}
		if len(out) == 0 {
			out = append(out, "PostHog shows new events after a few minutes, or its own rules dropped some")
		}
	}
	if more {
		out = append(out, "PostHog also receives LLM events from other sources, or retention here is shorter")
	}
	return out
}

// liveFor is how long one stream lasts: the browser comes back by itself, and a
// session that has ended is then found out.
const liveFor = 10 * time.Minute

// live notifies the browser of new events, by server-sent events without
// content: it then requests the new part of the page.
func (s *Pages) live(w http.ResponseWriter, r *http.Request, f *page.Frame) {
	changed, stop := s.Live(f.Session.ProjectID)
	defer stop()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // for proxies that would gather it
	rc := http.NewResponseController(w)
	say := func(text string) bool {
		_, err := w.Write([]byte(text))
		return err == nil && rc.Flush() == nil
	}
	if !say("retry: 3000\n\n: live\n\n") {
		return
	}
	end := time.NewTimer(liveFor)
	defer end.Stop()
	beat := time.NewTicker(20 * time.Second)
	defer beat.Stop()
	for {
		select {
		case _, ok := <-changed:
			if !ok || !say("event: changed\ndata: 1\n\n") {
				return
			}
		case <-beat.C:
			if !say(": beat\n\n") {
				return
			}
		case <-end.C:
			return
		case <-r.Context().Done():
			return
		}
	}
}
