package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

func (a *API) events(r *http.Request, p Principal) (any, error) {
	q := query.EventsQuery{Project: p.ProjectID, Point: point(r.Form), Cursor: r.FormValue("cursor")}
	var err error
	if q.Filter, err = filter(r.Form, a.now(), pointParams...); err != nil {
		return nil, err
	}
	if q.Limit, err = intParam(r.Form, "limit"); err != nil {
		return nil, err
	}
	return a.c.Query.Events(r.Context(), q)
}

// opens lets the caller read prompts and answers, if its role may, and records
// that in the audit log: once an hour for a key, regardless of what it reads.
func (a *API) opens(r *http.Request, p Principal, what string) error {
	return a.c.Registry.OpenContent(r.Context(), p.ProjectID, p.Role, what+" by the API")
}

// event returns content only if it was requested.
func (a *API) event(r *http.Request, p Principal) (any, error) {
	withContent := r.FormValue("content") == "true"
	if withContent {
		if err := a.opens(r, p, "events"); err != nil {
			return nil, err
		}
	}
	e, err := a.c.Query.Event(r.Context(), p.ProjectID, r.PathValue("uuid"), withContent)
	if err != nil {
		return nil, err
	}
	return map[string]any{"event": e}, nil
}

func (a *API) trace(r *http.Request, p Principal) (any, error) {
	t, err := a.c.Query.Trace(r.Context(), p.ProjectID, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return map[string]any{"trace": t}, nil
}

func (a *API) stats(r *http.Request, p Principal) (any, error) {
	tz := r.FormValue("tz")
	if r.Form.Has("period") {
		// A period is a fixed set of answers: a filter next to it would do
		// nothing.
		for name := range r.Form {
			if name != "period" && name != "tz" && name != "project" {
				return nil, event.Invalid("the parameter "+strconv.Quote(name)+" does not go with a period", "leave period out and use from and to")
			}
		}
		switch period := r.FormValue("period"); period {
		case "today":
			return a.c.Query.Today(r.Context(), p.ProjectID, tz)
		case "7d":
			return a.c.Query.SevenDays(r.Context(), p.ProjectID, tz)
		default:
			return nil, event.Invalid("unknown period "+strconv.Quote(period), "use period=today or period=7d, or from and to")
		}
	}
	q := query.StatsQuery{Project: p.ProjectID, TimeZone: tz, GroupBy: query.GroupBy(r.FormValue("group_by")), Compare: r.FormValue("compare") == "true", LatencyOf: query.LatencyOf(r.FormValue("latency_of"))}
	var err error
	if q.Filter, err = filter(r.Form, a.now()); err != nil {
		return nil, err
	}
	if q.Limit, err = intParam(r.Form, "limit"); err != nil {
		return nil, err
	}
	return a.c.Query.Stats(r.Context(), q)
}

func (a *API) values(r *http.Request, p Principal) (any, error) {
	v, err := a.c.Query.FilterValues(r.Context(), p.ProjectID, r.PathValue("field"))
	if err != nil {
		return nil, err
	}
	return map[string]any{"values": v}, nil
}

func (a *API) facets(r *http.Request, p Principal) (any, error) {
	q := query.FacetQuery{Project: p.ProjectID, List: r.FormValue("list"), Field: r.FormValue("field"), Search: r.FormValue("search")}
	var err error
	if q.Filter, err = filter(r.Form, a.now(), "list", "field", "search"); err != nil {
		return nil, err
	}
	if q.Limit, err = intParam(r.Form, "limit"); err != nil {
		return nil, err
	}
	return a.c.Query.Facet(r.Context(), q)
}

// filter reads the filter parameters that every query accepts, and more that
// this one accepts. An unknown parameter is an error: a misspelled filter must
// not return everything.
func filter(v url.Values, now time.Time, more ...string) (query.Filter, error) {
	var f query.Filter
	text := map[string]*string{
		"event": &f.Name, "provider": &f.Provider, "model": &f.Model, "operation": &f.Operation, "surface": &f.Surface, "user": &f.User,
		"session_id": &f.SessionID, "trace_id": &f.TraceID, "prompt_name": &f.PromptName, "prompt_version": &f.PromptVersion,
		"status": &f.Status, "error_type": &f.ErrorType, "task_type": &f.TaskType, "environment": &f.Environment, "tag": &f.Tag,
		"output_category": &f.Output, "flag": &f.Flag, "flag_variant": &f.FlagVariant,
	}
	for name, values := range v {
		if len(values) > 1 && name != "not_group" {
			return f, event.Invalid("the parameter "+strconv.Quote(name)+" is given more than once", "give it once")
		}
		val := values[0]
		switch prop, isProp := strings.CutPrefix(name, "property."); {
		case text[name] != nil:
			*text[name] = val
		case isProp && prop == "":
			return f, event.Invalid("a property filter has no name", "write property.NAME=value")
		case isProp:
			if f.Properties == nil {
				f.Properties = make(map[string]string)
			}
			f.Properties[prop] = val
		case name == "from", name == "to":
			t, err := query.ParseTime(val, now)
			if err != nil {
				return f, event.Invalid(strconv.Quote(name)+" is not a time", "use 2026-01-31T12:00:00Z, 2026-01-31, or a relative time such as -24h or -7d")
			}
			if name == "from" {
				f.From = t
			} else {
				f.To = t
			}
		case name == "cursor", name == "limit", name == "tz", name == "group_by", name == "compare", name == "project", name == "period", name == "latency_of", name == "q", slices.Contains(more, name):
		default:
			return f, event.NewError(event.CodeUnknownParameter, "unknown parameter "+strconv.Quote(name), "GET /api/v1/openapi.json lists them; a custom property is property.NAME", nil)
		}
	}
	return f, f.Narrow(v.Get("q"))
}

func intParam(v url.Values, name string) (int, error) {
	s := v.Get(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, event.Invalid(strconv.Quote(name)+" is not a whole number", "leave it out for the default")
	}
	return n, nil
}
