package page

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// View is what a page shows: a time range, a time zone and filters, all of
// which are in its address.
type View struct {
	query.Filter
	Range     string          // a key of ranges, or "" for From and To as they are
	Zone      *time.Location  // the viewer's
	Point     *query.Point    // of lists: only what this point of a chart counts
	LatencyOf query.LatencyOf // whose times the page shows
	Live      bool            // the page shows new events
	Feed      bool            // it can
	Label     string          // of the range, in words
	Page      string          // below the project: "/traffic"
	Params
}

// Params are the filters of an address, without the range.
type Params url.Values

// timeRange is one that the picker offers.
type timeRange struct {
	Key, Label string
	hours      int // whole hours up to now, or
	days       int // whole days of the viewer's zone, today among them
}

var ranges = []timeRange{
	{"1h", "Last hour", 1, 0}, {"24h", "Last 24 hours", 24, 0}, {"7d", "Last 7 days", 0, 7}, {"14d", "Last 14 days", 0, 14}, {"30d", "Last 30 days", 0, 30}, {"90d", "Last 90 days", 0, 90},
}

// viewFilters are the filters of an address. List ones have a list of values.
var viewFilters = []struct {
	name, label string
	SplitList   bool
	at          func(*query.Filter) *string
}{
	{"environment", "Environment", true, func(f *query.Filter) *string { return &f.Environment }},
	{"provider", "Provider", true, func(f *query.Filter) *string { return &f.Provider }},
	{"model_asked", "Requested model", true, func(f *query.Filter) *string { return &f.ModelAsked }},
	{"model", "Response model", true, func(f *query.Filter) *string { return &f.Model }},
	{"prompt_name", "Prompt", true, func(f *query.Filter) *string { return &f.PromptName }},
	{"prompt_version", "Prompt version", true, func(f *query.Filter) *string { return &f.PromptVersion }},
	{"surface", "Surface", true, func(f *query.Filter) *string { return &f.Surface }},
	{"task_type", "Task type", true, func(f *query.Filter) *string { return &f.TaskType }},
	{"status", "Status", true, func(f *query.Filter) *string { return &f.Status }},
	{"error_type", "Error type", true, func(f *query.Filter) *string { return &f.ErrorType }},
	{"tag", "Tag", true, func(f *query.Filter) *string { return &f.Tag }},
	{"flag", "Feature flag", false, func(f *query.Filter) *string { return &f.Flag }},
	{"flag_variant", "Variant", false, func(f *query.Filter) *string { return &f.FlagVariant }},
	{"user", "User", false, func(f *query.Filter) *string { return &f.User }},
	{"session_id", "Session", false, func(f *query.Filter) *string { return &f.SessionID }},
	{"trace_id", "Trace", false, func(f *query.Filter) *string { return &f.TraceID }},
	{"event", "Event", true, func(f *query.Filter) *string { return &f.Name }},
	{"kind", "Kind", false, func(f *query.Filter) *string { return &f.Kind }},
	{"operation", "Operation", false, func(f *query.Filter) *string { return &f.Operation }},
	{"step", "Step or tool", false, func(f *query.Filter) *string { return &f.Step }},
	{"input_length", "Input length", false, func(f *query.Filter) *string { return &f.InputLength }},
	{"output_category", "Output category", false, func(f *query.Filter) *string { return &f.Output }},
	{"error_group", "Error", false, func(f *query.Filter) *string { return &f.ErrorGroup }},
	{"q", "Contains", false, func(f *query.Filter) *string { return &f.Text }},
}

// paramLatencyOf says whose latency and time to first token a page shows.
const paramLatencyOf = "latency_of"

// latencies are its choices.
var latencies = [][2]string{{"", "completed calls"}, {string(query.OfFailed), "failed calls"}, {string(query.OfAll), "all calls"}}

// PropPrefix precedes the name of a custom property in an address.
const PropPrefix = "prop."

// LocalTime is the form of times in addresses that people pick: minutes of the
// view's zone, as <input type=datetime-local> sends them.
const LocalTime = "2006-01-02T15:04"

// zoneCookie is where the scripts keep the browser's time zone.
const zoneCookie = "hedgerow_zone"

// zoneOf is the time zone of the reader: the one that the address names, else
// the browser's. Where there is none, or it makes no sense, it is UTC.
func zoneOf(r *http.Request) *time.Location {
	name := r.URL.Query().Get("tz")
	if c, err := r.Cookie(zoneCookie); name == "" && err == nil {
		name, _ = url.QueryUnescape(c.Value)
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return time.UTC
	}
	return zone
}

// View reads an address. def is the range where it names none; "" is all time.
func (s *Site) View(r *http.Request, page, def string) (*View, error) {
	return s.ViewOf(r, r.URL.Query(), page, def)
}

// ViewOf is view of other parameters than those of the request's address.
func (s *Site) ViewOf(r *http.Request, q url.Values, page, def string) (*View, error) {
	v := &View{Page: page, Feed: s.Feed, Live: q.Get("live") == "1" && s.Feed, Params: Params{}}
	v.Zone = zoneOf(r)
	if name := q.Get("tz"); name != "" {
		v.Params["tz"] = []string{name}
		if v.Zone.String() != name {
			return nil, event.Invalid("unknown time zone", `use an IANA name such as "Europe/Paris"`)
		}
	}
	var err error
	now := s.Now().In(v.Zone)
	if from, to := q.Get("from"), q.Get("to"); from != "" || to != "" {
		if v.From, err = v.time("from", from); err != nil {
			return nil, err
		}
		if v.To, err = v.time("to", to); err != nil {
			return nil, err
		}
		if v.To.IsZero() {
			v.To = now.UTC()
		}
		if v.From.IsZero() && def != "" {
			return nil, event.Invalid("the time range has no start", "choose a start time")
		}
		if !v.From.Before(v.To) {
			return nil, event.Invalid("the time range is empty", "choose a start before the end")
		}
		v.Label = v.Clock(v.From) + " to " + v.Clock(v.To)
	} else {
		v.Range = q.Get("range")
		if v.Range == "" {
			v.Range = def
		}
		i := slices.IndexFunc(ranges, func(t timeRange) bool { return t.Key == v.Range })
		switch {
		case i >= 0 && ranges[i].hours > 0:
			v.From = now.Add(-time.Duration(ranges[i].hours) * time.Hour).UTC()
		case i >= 0:
			v.From = time.Date(now.Year(), now.Month(), now.Day()-ranges[i].days+1, 0, 0, 0, 0, v.Zone).UTC()
		case v.Range != "" && v.Range != "all":
			return nil, event.Invalid("unknown time range", "choose one from the list")
		}
		if i >= 0 {
			v.To, v.Label = now.UTC(), ranges[i].Label
		} else {
			v.Label = "All time"
		}
	}
	if of := q.Get(paramLatencyOf); of != "" && of != string(query.OfCompleted) {
		if v.LatencyOf = query.LatencyOf(of); v.LatencyOf.Check() != nil {
			return nil, v.LatencyOf.Check()
		}
		v.Params[paramLatencyOf] = []string{of}
	}
	if page == "/events" || page == "/examples" {
		if err := v.readPoint(q); err != nil {
			return nil, err
		}
	}
	for _, f := range viewFilters {
		if value := strings.TrimSpace(q.Get(f.name)); value != "" {
			*f.at(&v.Filter) = value
			v.Params[f.name] = []string{value}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(q)) {
		if name, ok := strings.CutPrefix(key, PropPrefix); ok && name != "" && q.Get(key) != "" {
			if v.Properties == nil {
				v.Properties = make(map[string]string)
			}
			v.Properties[name] = q.Get(key)
			v.Params[key] = []string{q.Get(key)}
		}
	}
	// The form has one pair of fields for a property.
	if name, value := strings.TrimSpace(q.Get("prop_name")), q.Get("prop_value"); name != "" && value != "" {
		if v.Properties == nil {
			v.Properties = make(map[string]string)
		}
		v.Properties[name] = value
		v.Params[PropPrefix+name] = []string{value}
	}
	return v, nil
}

func (v *View) time(name, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t.UTC(), nil
	}
	for _, layout := range []string{LocalTime, "2006-01-02T15:04:05", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, v.Zone); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, event.Invalid(`"`+name+`" is not a time`, `use 2026-01-31T12:00, or RFC 3339`)
}

// Clock writes a time in the viewer's zone.
func (v *View) Clock(t time.Time) string { return Clock(v.Zone, t) }

func (v *View) local(t time.Time) string {
	if v.Range != "" || t.IsZero() {
		return ""
	}
	return t.In(v.Zone).Format(LocalTime)
}

// Every is the step of charts: hours for a few days, else days.
func (v *View) Every() query.GroupBy {
	if v.To.Sub(v.From) <= 3*24*time.Hour {
		return query.ByHour
	}
	return query.ByDay
}

// listed reports whether the page has times of single events.
func (v *View) listed() bool {
	return slices.Contains([]string{"/events", "/traces", "/sessions", "/people", "/errors"}, v.Page)
}

// Values are the address's parameters: range and filters.
func (v *View) Values() url.Values {
	out := url.Values(maps.Clone(url.Values(v.Params)))
	if v.Range != "" {
		out.Set("range", v.Range)
	} else if !v.From.IsZero() {
		out.Set("from", v.From.Format(time.RFC3339Nano))
		out.Set("to", v.To.Format(time.RFC3339Nano))
	}
	return out
}

// Link is the address of a page with the same range and filters, changed by pairs
// of name and value; an empty value takes one away.
func (v *View) Link(f Frame, page string, pairs ...string) templ.SafeURL {
	q := v.Values()
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] == "from" {
			q.Del("range")
		}
		if q.Del(pairs[i]); pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return f.URL(page)
	}
	return f.URL(page + "?" + q.Encode())
}

// Unfiltered is the view without its range and filters, for pages that have neither.
func (v *View) Unfiltered() *View {
	out := &View{Zone: v.Zone, Page: v.Page, Label: v.Label, Live: v.Live, Feed: v.Feed, Params: Params{}}
	if tz, ok := v.Params["tz"]; ok {
		out.Params["tz"] = tz
	}
	return out
}

// LinkNow is to with the time range as it is now, between two times.
func (v *View) LinkNow(f Frame, page string, pairs ...string) templ.SafeURL {
	return v.Link(f, page, append([]string{"from", v.From.Format(time.RFC3339Nano), "to", v.To.Format(time.RFC3339Nano)}, pairs...)...)
}

// chip is an active filter, with the address without it.
type chip struct {
	Label, Value string
	Without      templ.SafeURL
}

func (v *View) chips(f Frame) []chip {
	var out []chip
	if v.Point != nil {
		out = append(out, chip{"Chart point", PointLabel(v.Point), v.withoutPoint(f)})
	}
	for _, l := range latencies[1:] {
		if l[0] == string(v.LatencyOf) {
			out = append(out, chip{"Latency of", l[1], v.Link(f, v.Page, paramLatencyOf, "")})
		}
	}
	for _, vf := range viewFilters {
		if value := *vf.at(&v.Filter); value != "" && !(vf.name == "user" && strings.HasPrefix(v.Page, "/people/")) {
			out = append(out, chip{vf.label, value, v.Link(f, v.Page, vf.name, "")})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.Properties)) {
		out = append(out, chip{name, v.Properties[name], v.Link(f, v.Page, PropPrefix+name, "")})
	}
	return out
}

// kept are the parameters that the form does not show as fields of its own.
func (v *View) kept() [][2]string {
	var out [][2]string
	for _, key := range slices.Sorted(maps.Keys(v.Params)) {
		if strings.HasPrefix(key, PropPrefix) || key == "tz" || !isField(key) && !(key == paramLatencyOf && !v.listed()) {
			for _, x := range v.Params[key] {
				out = append(out, [2]string{key, x})
			}
		}
	}
	return out
}

func isField(name string) bool {
	return slices.ContainsFunc(fields(), func(f filterField) bool { return f.Name == name })
}

// fields are the filters that the form shows.
func fields() []filterField {
	var out []filterField
	for _, f := range viewFilters {
		if f.SplitList || f.name == "user" || f.name == "session_id" {
			out = append(out, filterField{Name: f.name, Label: f.label, List: f.SplitList})
		}
	}
	return out
}

func (v *View) value(name string) string {
	if x := v.Params[name]; len(x) > 0 {
		return x[0]
	}
	return ""
}

type filterField struct {
	Name, Label string
	List        bool // values can be offered
}

// Compared says which period the page's range is compared with; "" for none.
func (v *View) Compared() string {
	before, ok := v.PreviousPeriod(v.Zone)
	if !ok {
		return ""
	}
	return "compared with " + Period(v.Zone, before.From, before.To)
}

// Period writes a time range in a zone: Mon 16 – Sun 22 Nov. Of days that are not whole
// it says the times, too.
func Period(zone *time.Location, from, to time.Time) string {
	const day, clock = "Mon 2 Jan", "15:04"
	from, to = from.In(zone), to.In(zone)
	last := to.Add(-time.Nanosecond)
	year := ""
	if from.Year() != last.Year() {
		year = " 2006"
	}
	same := from.Format(time.DateOnly) == last.Format(time.DateOnly)
	begins, ends := midnight(from), midnight(to)
	switch {
	case same && begins && ends:
		return from.Format(day)
	case same && begins:
		return from.Format(day) + ", until " + to.Format(clock)
	case same:
		return from.Format(day+", "+clock) + " – " + to.Format(clock)
	case !begins:
		return from.Format(day+year+" "+clock) + " – " + to.Format(day+year+" "+clock)
	}
	start := from.Format(day + year)
	if from.Month() == last.Month() && year == "" {
		start = from.Format("Mon 2")
	}
	if start += " – " + last.Format(day+year); !ends {
		start += ", until " + to.Format(clock)
	}
	return start
}

// midnight reports whether a day begins at a time.
func midnight(t time.Time) bool {
	return t.Add(-time.Nanosecond).Day() != t.Day()
}

// In writes a time of the viewer's zone in a layout.
func (v *View) In(t time.Time, layout string) string { return t.In(v.Zone).Format(layout) }
