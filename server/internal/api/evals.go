package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// evalRoutes are the routes of judgments, checks and feedback.
func (a *API) evalRoutes() []route {
	return []route{
		{"GET /api/v1/evals", read, false, a.evalResults},
		{"POST /api/v1/evals", ingest, false, a.recordEvals},
		{"POST /api/v1/feedback", ingest, false, a.recordFeedback},
		{"GET /api/v1/evals/checks", read, false, a.listChecks},
		{"POST /api/v1/evals/checks", admin, false, a.createCheck},
		{"GET /api/v1/evals/checks/{check}", read, false, a.getCheck},
		{"PATCH /api/v1/evals/checks/{check}", admin, false, a.updateCheck},
		{"DELETE /api/v1/evals/checks/{check}", admin, false, a.deleteCheck},
		{"POST /api/v1/evals/try", spend, false, a.tryCheck},
	}
}

// About names the generation that a judgment or a feedback is about.
type About struct {
	GenerationID string `json:"generation_id"` // uuid of the generation's event
	TraceID      string `json:"trace_id"`
	SpanID       string `json:"span_id"` // within trace_id
	DistinctID   string `json:"distinct_id"`
	UUID         string `json:"uuid"`
	Timestamp    string `json:"timestamp"`

	Properties map[string]json.RawMessage `json:"properties"`
}

// EvalInput is a judgment from outside.
type EvalInput struct {
	About
	Name       string             `json:"eval_name"`
	Passed     event.Opt[bool]    `json:"eval_passed"`
	Score      event.Opt[float64] `json:"eval_score"`
	ReasonCode string             `json:"eval_reason_code"`
}

// FeedbackInput is a user's feedback on an answer.
type FeedbackInput struct {
	About
	Rating   string          `json:"rating"`
	Text     string          `json:"text"`
	Accepted event.Opt[bool] `json:"accepted_output"`
	Edited   event.Opt[bool] `json:"edited_output"`
}

func (a *API) recordEvals(r *http.Request, p Principal) (any, error) {
	const example = `{"generation_id":"…","eval_name":"correctness","eval_passed":true,"eval_score":0.9}`
	return record(a, r, p, example, func(in *EvalInput) (*About, func(of *event.Event, at time.Time) []*event.Event, error) {
		res := eval.Result{Name: in.Name, Passed: in.Passed, Score: in.Score, ReasonCode: in.ReasonCode}
		err := res.Validate()
		return &in.About, func(of *event.Event, at time.Time) []*event.Event { return []*event.Event{res.Event(of, at)} }, err
	})
}

func (a *API) recordFeedback(r *http.Request, p Principal) (any, error) {
	const example = `{"generation_id":"…","rating":"negative","text":"It is wrong."}`
	return record(a, r, p, example, func(in *FeedbackInput) (*About, func(of *event.Event, at time.Time) []*event.Event, error) {
		f := eval.Feedback{Rating: in.Rating, Text: in.Text, Accepted: in.Accepted, Edited: in.Edited}
		err := f.Validate()
		return &in.About, f.Events, err
	})
}

// record reads verdicts on generations, finds each generation, and stores the
// events. make validates one and says how it becomes events.
func record[T any](a *API, r *http.Request, p Principal, example string, make func(*T) (*About, func(*event.Event, time.Time) []*event.Event, error)) (any, error) {
	if a.c.Append == nil {
		return nil, errNoServer()
	}
	inputs, err := readList[T](r, example)
	if err != nil {
		return nil, err
	}
	var events []*event.Event
	until := time.Now().Add(storedWithin)
	for i := range inputs {
		about, events1, err := make(&inputs[i])
		var of *event.Event
		at := a.now().UTC()
		if err == nil {
			of, err = a.generation(r.Context(), p.ProjectID, about, until)
		}
		if err == nil {
			at, err = about.when(at)
		}
		if err != nil {
			return nil, atIndex(err, i, len(inputs))
		}
		for n, e := range events1(of, at) {
			for name, v := range about.Properties {
				if _, own := e.Properties[name]; !own && !strings.HasPrefix(name, "$") {
					e.Properties[name] = v
				}
			}
			if n == 0 && about.UUID != "" {
				e.UUID = about.UUID
			} else if about.UUID != "" {
				e.UUID = event.DerivedID(about.UUID+"/"+e.Name, at)
			}
			events = append(events, e)
		}
	}
	return a.store(r.Context(), events)
}

func (x *About) when(now time.Time) (time.Time, error) {
	if id, err := uuid.Parse(x.UUID); x.UUID != "" && (err != nil || id == uuid.Nil) {
		return now, event.Invalid("the uuid is not a UUID", `leave "uuid" out, or send one of version 7`)
	}
	if x.Timestamp == "" {
		return now, nil
	}
	t, err := event.ParseTime(x.Timestamp)
	if err != nil {
		return now, event.Invalid("the timestamp is not an ISO 8601 time", "send it as 2026-01-31T12:00:00.000Z, or leave it out for now")
	}
	return t, nil
}

// storedWithin is how long generations that were just captured may take until they
// can be found.
const storedWithin = 2 * time.Second

// generation finds what is spoken about. By its uuid it is looked up, so that
// the judgment has its prompt, model and labels; a trace need not be there yet.
func (a *API) generation(ctx context.Context, projectID string, x *About, until time.Time) (*event.Event, error) {
	bare := &event.Event{ProjectID: projectID, TraceID: event.CleanID(x.TraceID), SpanID: event.CleanID(x.SpanID), DistinctID: event.FirstChars(x.DistinctID, event.MaxDistinctIDLen)}
	if x.GenerationID == "" {
		if x.TraceID == "" {
			return nil, event.Invalid("neither a generation nor a trace was given", `set "generation_id" (the uuid of the generation's event), or "trace_id" and, for one call of several, "span_id"`)
		}
		return bare, nil
	}
	id, err := uuid.Parse(x.GenerationID)
	if err != nil {
		return nil, event.Invalid("the generation's id is not a UUID", `use the "uuid" of its event, or name it by "trace_id" and "span_id"`)
	}
	x.GenerationID = id.String()
	if x.TraceID != "" {
		until = time.Time{} // it may come whenever it does
	}
	e, err := a.stored(ctx, projectID, x.GenerationID, until)
	switch {
	case err == nil:
		of := eval.FromStored(e)
		if bare.DistinctID != "" {
			of.DistinctID = bare.DistinctID
		}
		return of, nil
	case event.AsError(err).Code != event.CodeNotFound:
		return nil, err
	case x.TraceID != "":
		bare.UUID = x.GenerationID
		if bare.SpanID == "" {
			bare.SpanID = x.GenerationID
		}
		return bare, nil
	}
	return nil, event.NewError(event.CodeNotFound, "generation not found in this project", `if it is still on its way, name its "trace_id" as well`, nil)
}

// stored finds a generation, and waits until a time for one that is on its way to
// the store.
func (a *API) stored(ctx context.Context, projectID, id string, until time.Time) (*query.Event, error) {
	for {
		e, err := a.c.Query.Event(ctx, projectID, id, false)
		if err == nil || event.AsError(err).Code != event.CodeNotFound || time.Now().After(until) {
			return e, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// EvalResults summarizes the judgments of one name.
type EvalResults struct {
	Name     string       `json:"eval_name"`
	Results  query.Number `json:"results"`   // judgments
	PassRate query.Number `json:"pass_rate"` // of those that say passed or not
	Score    query.Number `json:"score"`     // mean of those that have one

	Judged int                `json:"judged"` // results that say passed or not
	Users  int                `json:"users"`  // whose answers they judge
	Lower  event.Opt[float64] `json:"pass_rate_lower"`
	Upper  event.Opt[float64] `json:"pass_rate_upper"`
	Level  float64            `json:"level"` // of the pass rate's interval
}

func (a *API) evalResults(r *http.Request, p Principal) (any, error) {
	f, err := filter(r.Form, a.now())
	if err != nil {
		return nil, err
	}
	if f.To.IsZero() {
		f.To = a.now().UTC()
	}
	if f.From.IsZero() {
		f.From = f.To.AddDate(0, 0, -7)
	}
	s, err := a.c.Query.Series(r.Context(), query.SeriesQuery{Project: p.ProjectID, Filter: f, By: query.ByEval, Measures: []query.Measure{query.Evals, query.EvalPassRate, query.EvalScore}, Limit: query.MaxGroups})
	if err != nil {
		return nil, err
	}
	users, err := a.c.Query.JudgedByUser(r.Context(), p.ProjectID, f)
	if err != nil {
		return nil, err
	}
	out := []EvalResults{}
	for _, g := range s.Groups {
		if g.Key != "" {
			r := eval.RateByUser(users[g.Key])
			out = append(out, EvalResults{
				Name: g.Key, Results: g.Total.Get(query.Evals), PassRate: g.Total.Get(query.EvalPassRate), Score: g.Total.Get(query.EvalScore),
				Judged: r.Judged, Users: r.Users, Lower: r.Lower, Upper: r.Upper, Level: r.Level,
			})
		}
	}
	return map[string]any{"from": f.From.UTC(), "to": f.To.UTC(), "evals": out}, nil
}

// CheckView is a check, with how it has been going since the server started.
type CheckView struct {
	eval.Check
	State *eval.State `json:"state,omitempty"`
}

func (a *API) checkView(c eval.Check) CheckView {
	v := CheckView{Check: c}
	if a.c.CheckState != nil {
		s := a.c.CheckState(c.ID)
		v.State = &s
	}
	return v
}

func (a *API) listChecks(_ *http.Request, p Principal) (any, error) {
	out := []CheckView{}
	for _, c := range a.c.Checks.Checks(p.ProjectID) {
		out = append(out, a.checkView(c))
	}
	return map[string]any{"checks": out}, nil
}

func (a *API) getCheck(r *http.Request, p Principal) (any, error) {
	c, err := a.c.Checks.Check(p.ProjectID, r.PathValue("check"))
	if err != nil {
		return nil, err
	}
	return map[string]any{"check": a.checkView(c)}, nil
}

// CheckInput creates or changes a check; absent fields keep their value.
type CheckInput struct {
	Name      *string         `json:"name"`
	Kind      *eval.Kind      `json:"kind"`
	Enabled   *bool           `json:"enabled"`
	Filter    *eval.Filter    `json:"filter"`
	Sample    *float64        `json:"sample_rate"`
	Schema    json.RawMessage `json:"schema"`
	Patterns  *[]string       `json:"patterns"`
	MinChars  *int            `json:"min_chars"`
	MaxChars  *int            `json:"max_chars"`
	Languages *[]string       `json:"languages"`
	Judge     *eval.Judge     `json:"judge"`
}

// Apply applies the input to a check.
func (in *CheckInput) Apply(c *eval.Check) {
	lay(&c.Name, in.Name)
	lay(&c.Kind, in.Kind)
	lay(&c.Enabled, in.Enabled)
	lay(&c.Filter, in.Filter)
	lay(&c.Sample, in.Sample)
	lay(&c.Patterns, in.Patterns)
	lay(&c.MinChars, in.MinChars)
	lay(&c.MaxChars, in.MaxChars)
	lay(&c.Languages, in.Languages)
	if in.Schema != nil {
		c.Schema = in.Schema
	}
	if in.Judge != nil {
		c.Judge = in.Judge
	}
}

func lay[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func (a *API) createCheck(r *http.Request, p Principal) (any, error) {
	var in CheckInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	c := eval.Check{ProjectID: p.ProjectID, Enabled: true}
	in.Apply(&c)
	c, err := a.c.Checks.Create(r.Context(), c)
	if err != nil {
		return nil, err
	}
	return map[string]any{"check": a.checkView(c)}, nil
}

func (a *API) updateCheck(r *http.Request, p Principal) (any, error) {
	var in CheckInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	have, err := a.c.Checks.Check(p.ProjectID, r.PathValue("check"))
	if err != nil {
		return nil, err
	}
	c, err := a.c.Checks.Update(r.Context(), p.ProjectID, have.ID, func(c *eval.Check) error { in.Apply(c); return nil })
	if err != nil {
		return nil, err
	}
	return map[string]any{"check": a.checkView(c)}, nil
}

func (a *API) deleteCheck(r *http.Request, p Principal) (any, error) {
	c, err := a.c.Checks.Check(p.ProjectID, r.PathValue("check"))
	if err != nil {
		return nil, err
	}
	if err := a.c.Checks.Delete(r.Context(), p.ProjectID, c.ID); err != nil {
		return nil, err
	}
	return map[string]any{"deleted": c.ID}, nil
}

// TryInput runs a check on one generation without keeping the result.
type TryInput struct {
	Check        string      `json:"check"`         // id or name of a check, or
	Definition   *CheckInput `json:"definition"`    // one that is not kept
	GenerationID string      `json:"generation_id"` // uuid of the generation's event
}

func (a *API) tryCheck(r *http.Request, p Principal) (any, error) {
	var in TryInput
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	c := eval.Check{ProjectID: p.ProjectID, Name: "try"}
	switch {
	case in.Check != "" && in.Definition != nil, in.Check == "" && in.Definition == nil:
		return nil, event.Invalid("it is not said which check to try", `set "check" to a name or an id, or "definition" to a check as POST /api/v1/evals/checks takes it`)
	case in.Check != "":
		var err error
		if c, err = a.c.Checks.Check(p.ProjectID, in.Check); err != nil {
			return nil, err
		}
	default:
		in.Definition.Apply(&c)
		if c.Kind == eval.KindJudge && !p.Scopes.Has(project.ScopeAdmin) {
			return nil, event.NewError(event.CodeForbidden, "only an administrator may try a judge that is not kept", "it spends money: use a key with the scope admin", nil)
		}
	}
	if err := a.opens(r, p, "events"); err != nil {
		return nil, err
	}
	e, err := a.c.Query.Event(r.Context(), p.ProjectID, in.GenerationID, true)
	if err != nil {
		return nil, err
	}
	out, err := a.c.Runner.Try(r.Context(), &c, eval.FromStored(e))
	if err != nil {
		var known *event.Error
		if errors.As(err, &known) {
			return nil, known
		}
		return nil, event.NewError(event.CodeUnavailable, eval.Problem(err), "try again, or look at the judge's trace", err)
	}
	return map[string]any{"outcome": out}, nil
}
