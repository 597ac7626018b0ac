package web

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/internal/query"
)

// eventsPage is a filtered list of events, a page at a time.
type eventsPage struct {
	Page   *query.EventsPage
	Query  url.Values
	Fields []filterField
}

type filterField struct{ Name, Label, Value string }

// eventFilters are the filters that the page offers, by their name in the URL.
var eventFilters = []struct {
	name, label string
	at          func(*query.Filter) *string
}{
	{"model", "Model", func(f *query.Filter) *string { return &f.Model }},
	{"surface", "Surface", func(f *query.Filter) *string { return &f.Surface }},
	{"status", "Outcome", func(f *query.Filter) *string { return &f.Status }},
	{"user", "User", func(f *query.Filter) *string { return &f.User }},
	{"prompt_name", "Prompt", func(f *query.Filter) *string { return &f.PromptName }},
	{"session_id", "Session", func(f *query.Filter) *string { return &f.SessionID }},
}

func (s *Web) events(r *http.Request, f *frame) (templ.Component, error) {
	f.Title = "Events"
	v := r.URL.Query()
	q := query.EventsQuery{Project: f.Session.ProjectID, Cursor: v.Get("cursor"), Limit: 50}
	p := eventsPage{Query: v}
	for _, e := range eventFilters {
		*e.at(&q.Filter) = v.Get(e.name)
		p.Fields = append(p.Fields, filterField{e.name, e.label, v.Get(e.name)})
	}
	var err error
	if p.Page, err = s.c.Query.Events(r.Context(), q); err != nil {
		return nil, err
	}
	return events(*f, p), nil
}

func (p eventsPage) filtered() bool {
	for _, f := range p.Fields {
		if f.Value != "" {
			return true
		}
	}
	return p.Query.Get("cursor") != ""
}

func (p eventsPage) nextURL(f frame) templ.SafeURL {
	v := url.Values{}
	for _, f := range p.Fields {
		if f.Value != "" {
			v.Set(f.Name, f.Value)
		}
	}
	v.Set("cursor", p.Page.Next)
	return f.url("/events?" + v.Encode())
}

func (s *Web) event(r *http.Request, f *frame) (templ.Component, error) {
	e, err := s.c.Query.Event(r.Context(), f.Session.ProjectID, r.PathValue("uuid"), true)
	if err != nil {
		return nil, err
	}
	f.Title = or(e.Model, or(e.SpanName, e.Name))
	return eventDetail(*f, e), nil
}

func (s *Web) trace(r *http.Request, f *frame) (templ.Component, error) {
	t, err := s.c.Query.Trace(r.Context(), f.Session.ProjectID, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	f.Title = "Trace " + t.ID
	return traceDetail(*f, t), nil
}

func outcome(e *query.Event) string {
	s := or(string(e.Status), "recorded")
	if e.IsError && e.ErrorType != "" {
		s += ": " + e.ErrorType
	}
	if e.HTTPStatus.Known && e.HTTPStatus.Value >= 400 {
		s += " (" + strconv.FormatInt(e.HTTPStatus.Value, 10) + ")"
	}
	return s
}

func uncosted(t query.Totals) string {
	if t.Calls == 0 {
		return "no calls yet"
	}
	if n := t.UncostedCalls - t.UncostedErrors; n > 0 {
		return count(n) + " calls of unknown cost"
	}
	return "every call priced"
}

func unmetered(t query.Totals) string {
	in, out := tokens(t.InputTokens), tokens(t.OutputTokens)
	return in + " in, " + out + " out"
}

// facts are an event's metadata as rows; a row without a value is left out.
func facts(e *query.Event) [][2]string {
	prompt := e.PromptName
	if e.PromptVersion != "" {
		prompt += "@" + e.PromptVersion
	}
	cost := usd(e.Cost.Total)
	if e.Cost.Total.Known {
		cost = "$" + e.Cost.Total.Value.String()
		if e.Cost.Input.Known && e.Cost.Output.Known {
			cost += " (input $" + e.Cost.Input.Value.String() + ", output $" + e.Cost.Output.Value.String() + ")"
		}
		if e.Cost.Source != "" {
			cost += ", price: " + e.Cost.Source
			if e.Cost.Model != "" {
				cost += " " + e.Cost.Model
			}
		}
	} else {
		cost = "unknown"
	}
	all := [][2]string{
		{"Time", clock(e.Timestamp) + " UTC"}, {"Provider", e.Provider}, {"Model", e.Model}, {"Model asked for", e.ModelAsked},
		{"Cost", cost}, {"Input", tokens(e.Usage.Input)}, {"Output", tokens(e.Usage.Output)}, {"Cache read", tokens(e.Usage.CacheRead)},
		{"Cache write", tokens(e.Usage.CacheWrite)}, {"Reasoning", tokens(e.Usage.Reasoning)}, {"Latency", ms(e.LatencyMS)}, {"First token", ms(e.TTFTMS)},
		{"Stop reason", e.StopReason}, {"Error", e.ErrorMessage}, {"Could not be parsed", e.ParseError}, {"Prompt", prompt}, {"Prompt hash", e.PromptHash},
		{"Surface", e.Surface}, {"User", e.DistinctID}, {"Session", e.SessionID}, {"Environment", e.Environment}, {"Task type", e.TaskType},
		{"Completion id", e.CompletionID}, {"Request", size(e.RequestBytes)}, {"Response", size(e.ResponseBytes)}, {"URL", e.RequestURL}, {"UUID", e.UUID},
	}
	var out [][2]string
	for _, f := range all {
		if f[1] != "" && f[1] != unknown {
			out = append(out, f)
		}
	}
	return out
}
