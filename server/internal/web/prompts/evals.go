package prompts

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/dataset"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/charts"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// evalRoutes are the pages of checks and datasets.
func (s *Pages) evalRoutes() []page.Route {
	const viewer, member, admin = project.RoleViewer, project.RoleMember, project.RoleAdmin
	return []page.Route{
		{Pattern: "GET /p/{project}/datasets", Need: viewer, Handle: s.datasets, Entry: "Datasets", Label: "Datasets"},
		{Pattern: "POST /p/{project}/datasets", Need: member, Handle: s.createDataset, Again: s.datasets},
		{Pattern: "GET /p/{project}/datasets/{dataset}", Need: viewer, Handle: s.dataset},
		{Pattern: "POST /p/{project}/datasets/{dataset}/runs", Need: member, Handle: s.startRun, Again: s.dataset},
		{Pattern: "POST /p/{project}/datasets/{dataset}/import", Need: member, Handle: s.importExamples, Again: s.dataset, Form: maxImport},
		{Pattern: "GET /p/{project}/datasets/{dataset}/export", Need: viewer, Raw: s.exportExamples},
		{Pattern: "POST /p/{project}/datasets/{dataset}/delete", Need: member, Handle: s.deleteDataset, Again: s.dataset},
		{Pattern: "POST /p/{project}/datasets/{dataset}/examples/{example}/delete", Need: member, Handle: s.removeExample, Again: s.dataset},
		{Pattern: "GET /p/{project}/datasets/{dataset}/compare", Need: viewer, Handle: s.compareRuns},
		{Pattern: "GET /p/{project}/datasets/{dataset}/runs/{run}", Need: viewer, Handle: s.run},
		{Pattern: "POST /p/{project}/datasets/{dataset}/runs/{run}/cancel", Need: member, Handle: s.cancelRun, Again: s.run},
		{Pattern: "POST /p/{project}/datasets/{dataset}/runs/{run}/resume", Need: member, Handle: s.resumeRun, Again: s.run},
		{Pattern: "POST /p/{project}/datasets/{dataset}/runs/{run}/delete", Need: member, Handle: s.deleteRun, Again: s.run},
		{Pattern: "POST /p/{project}/events/{uuid}/example", Need: member, Handle: s.saveExample, Again: s.Event},

		{Pattern: "GET /p/{project}/evals", Need: viewer, Handle: s.evals, Entry: "Evaluations", Label: "Evaluations"},
		{Pattern: "POST /p/{project}/evals", Need: admin, Handle: s.createCheck, Again: s.newCheck},
		{Pattern: "GET /p/{project}/evals/new", Need: admin, Handle: s.newCheck},
		{Pattern: "GET /p/{project}/evals/{check}", Need: viewer, Handle: s.check},
		{Pattern: "POST /p/{project}/evals/{check}", Need: admin, Handle: s.saveCheck, Again: s.check},
		{Pattern: "POST /p/{project}/evals/{check}/toggle", Need: admin, Handle: s.toggleCheck, Again: s.check},
		{Pattern: "POST /p/{project}/evals/{check}/delete", Need: admin, Handle: s.deleteCheck, Again: s.check},
		{Pattern: "POST /p/{project}/evals/{check}/try", Need: member, Handle: s.tryCheck, Again: s.check},
	}
}

// evalsPage lists the checks of a project with their results.
type evalsPage struct {
	Checks []checkRow
	Others []checkRow // judgments that no check of this project makes
	Board  *charts.Board
	Latest []*query.Event // that did not pass
}

// checkRow is a check with what it found in the page's time range.
type checkRow struct {
	eval.Check
	State          eval.State
	Results, Score query.Number
	Passed         eval.PassRate
}

// kindLabels are the kinds of checks in words.
var kindLabels = map[eval.Kind]string{
	eval.KindSchema: "Valid JSON", eval.KindRequired: "Required patterns", eval.KindForbidden: "Forbidden patterns", eval.KindLength: "Length",
	eval.KindLanguage: "Language", eval.KindRefusal: "No refusal", eval.KindJudge: "LLM judge",
	dataset.KindExpected: "Expected answer",
}

// kindHelp explains each kind.
var kindHelp = map[eval.Kind]string{
	eval.KindSchema: "The response is JSON that matches a schema.", eval.KindRequired: "The response matches all of the regular expressions.", eval.KindForbidden: "The response matches none of the regular expressions.",
	eval.KindLength: "The response length is within limits.", eval.KindLanguage: "The response is in one of the allowed languages.", eval.KindRefusal: "The model did not refuse.",
	eval.KindJudge: "Another model scores the response. Its calls cost money, up to a daily budget.",
}

func (s *Pages) evals(r *http.Request, f *page.Frame) (templ.Component, error) {
	v, err := s.View(r, "/evals", "7d")
	if err != nil {
		return nil, err
	}
	f.Title = "Evaluations"
	at, err := s.Query.Snapshot(r.Context(), f.Session.ProjectID)
	if err != nil {
		return nil, err
	}
	p := evalsPage{}
	one := func(m query.Measure) []query.Measure { return []query.Measure{m} }
	if p.Board, err = charts.Load(r.Context(), at, f, v, []charts.Spec{
		{ID: "passed", Title: "Pass rate by check", Measures: one(query.EvalPassRate), By: query.ByEval, OverTime: true, Draw: "line", Limit: 8},
		{ID: "scores", Title: "Average score by check", Measures: one(query.EvalScore), By: query.ByEval, OverTime: true, Draw: "line", Limit: 8},
	}, []query.Measure{query.Evals, query.EvalPassRate, query.EvalScore, query.Rated, query.NegativeRate}); err != nil {
		return nil, err
	}
	found, err := at.Series(r.Context(), query.SeriesQuery{Project: f.Session.ProjectID, Filter: v.Filter, By: query.ByEval, Measures: []query.Measure{query.Evals, query.EvalPassRate, query.EvalScore}, TimeZone: v.Zone.String(), Limit: query.MaxGroups})
	if err != nil {
		return nil, err
	}
	users, err := at.JudgedByUser(r.Context(), f.Session.ProjectID, v.Filter)
	if err != nil {
		return nil, err
	}
	p.uncertain(users)
	rows := make(map[string]query.Values)
	for _, g := range found.Groups {
		rows[g.Key] = g.Total
	}
	row := func(c eval.Check) checkRow {
		total := rows[c.Name]
		delete(rows, c.Name)
		return checkRow{c, s.checkState(c.ID), total.Get(query.Evals), total.Get(query.EvalScore), eval.RateByUser(users[c.Name])}
	}
	for _, c := range s.Checks.Checks(f.Session.ProjectID) {
		p.Checks = append(p.Checks, row(c))
	}
	delete(rows, "")
	if _, ok := rows[dataset.MatchesExpected]; ok {
		p.Checks = append(p.Checks, row(eval.Check{Name: dataset.MatchesExpected, Kind: dataset.KindExpected, Sample: 1, Enabled: true}))
	}
	for _, g := range found.Groups {
		if _, left := rows[g.Key]; left {
			p.Others = append(p.Others, row(eval.Check{Name: g.Key}))
		}
	}
	failed := v.Filter
	failed.Name, failed.Properties = eval.EventName, map[string]string{eval.PropPassed: "false"}
	page, err := at.Events(r.Context(), query.EventsQuery{Project: f.Session.ProjectID, Filter: failed, Limit: 20})
	if err != nil {
		return nil, err
	}
	p.Latest = page.Events
	return evals(*f, p), nil
}

// Places in the page's board.
const (
	passedCard = 0
	passedTile = 1
)

// uncertain says beside the pass rate what its interval is, and below the chart how far apart
// its points are by chance.
func (p *evalsPage) uncertain(users map[string]query.Moments) {
	all := eval.RateByUser(users[""])
	if all.Rate.Known && len(p.Board.Tiles) > passedTile {
		t := &p.Board.Tiles[passedTile]
		t.Note = level(all.Level) + " interval " + between(all) + "; " + t.Note
	}
	if len(p.Board.Cards) <= passedCard {
		return
	}
	card := &p.Board.Cards[passedCard]
	points := len(card.Rows)
	if points == 0 {
		return
	}
	name, most, fewest := "", event.Opt[float64]{}, eval.PassRate{}
	for n, m := range users {
		r := eval.RateByUser(m)
		if d := r.AtRandom(r.Effective / float64(points)); n != "" && d.Known && (!most.Known || d.Value > most.Value || d.Value == most.Value && n < name) {
			name, most, fewest = n, d, r
		}
	}
	if most.Known {
		card.Note = fmt.Sprintf("Points can differ by chance: those of %s, of about %s each, by up to %s points.",
			name, page.Plural(int64(math.Ceil(float64(fewest.Judged)/float64(points))), "result"), strconv.FormatFloat(math.Round(100*most.Value), 'f', -1, 64))
	}
}

func (s *Pages) checkState(id string) eval.State {
	if s.CheckState == nil {
		return eval.State{}
	}
	return s.CheckState(id)
}

// checkPage is one check, or one that is about to be made.
type checkPage struct {
	Check     eval.Check
	State     eval.State
	Languages []string
	Providers []string // whose key the project keeps
	Recent    []*query.Event
	Failed    []*query.Event
	Outcome   *eval.Outcome // of a try
	Tried     string        // uuid of the generation
	Of        string        // its answer
}

// Fresh reports whether the check is about to be made.
func (p checkPage) Fresh() bool { return p.Check.ID == "" }

func (s *Pages) checkPage(r *http.Request, f *page.Frame, c eval.Check) (checkPage, error) {
	p := checkPage{Check: c, State: s.checkState(c.ID), Languages: eval.Languages()}
	for _, k := range s.Registry.Snapshot().ProviderKeys(f.Session.ProjectID) {
		p.Providers = append(p.Providers, k.Provider)
	}
	if p.Fresh() {
		return p, nil
	}
	page, err := s.Query.Events(r.Context(), query.EventsQuery{Project: f.Session.ProjectID, Filter: query.Filter{Name: event.Generation, Status: string(event.StatusSuccess)}, Limit: 15})
	if err != nil {
		return p, err
	}
	p.Recent = page.Events
	page, err = s.Query.Events(r.Context(), query.EventsQuery{Project: f.Session.ProjectID, Filter: query.Filter{Name: eval.EventName, Properties: map[string]string{eval.PropCheck: c.ID, eval.PropPassed: "false"}}, Limit: 15})
	p.Failed = page2(page)
	return p, err
}

func page2(p *query.EventsPage) []*query.Event {
	if p == nil {
		return nil
	}
	return p.Events
}

func (s *Pages) newCheck(r *http.Request, f *page.Frame) (templ.Component, error) {
	kind := eval.Kind(cmp.Or(f.Value("kind", ""), r.URL.Query().Get("kind")))
	if !slices.Contains(eval.Kinds, kind) {
		return nil, event.Invalid("unknown check kind", "choose one on the Evaluations page")
	}
	f.Title = "New check"
	c := eval.Check{Kind: kind, Enabled: true, Sample: 1}
	if kind == eval.KindJudge {
		c.Sample, c.Judge = 0.1, &eval.Judge{PassScore: 0.5, MaxTokens: 400, DailyUSD: 1}
	}
	p, err := s.checkPage(r, f, c)
	if err != nil {
		return nil, err
	}
	return checkForm(*f, p), nil
}

func (s *Pages) check(r *http.Request, f *page.Frame) (templ.Component, error) {
	c, err := s.Checks.Check(f.Session.ProjectID, r.PathValue("check"))
	if err != nil {
		return nil, err
	}
	f.Title = c.Name
	p, err := s.checkPage(r, f, c)
	if err != nil {
		return nil, err
	}
	return checkForm(*f, p), nil
}

// readCheck applies a form to a check.
func readCheck(v url.Values, c *eval.Check) error {
	var problem error
	number := func(name string, to *float64, scale float64) {
		s := strings.TrimSpace(v.Get(name))
		if s == "" {
			*to = 0
			return
		}
		n, err := strconv.ParseFloat(strings.ReplaceAll(s, ",", "."), 64)
		if err != nil {
			problem = event.Invalid(strconv.Quote(name)+" is not a number", "enter a number such as 0.5")
			return
		}
		*to = n / scale
	}
	whole := func(name string, to *int) {
		n := 0.0
		if number(name, &n, 1); n != float64(int(n)) {
			problem = event.Invalid(strconv.Quote(name)+" is not a whole number", "enter a number such as 400")
		}
		*to = int(n)
	}
	split := func(name string) []string {
		return strings.FieldsFunc(v.Get(name), func(r rune) bool { return r == ',' || r == '\n' || r == '\r' })
	}
	c.Name, c.Enabled = v.Get("name"), v.Get("enabled") != ""
	c.Filter = eval.Filter{Prompts: split("prompts"), Surfaces: split("surfaces"), Models: split("models")}
	number("sample", &c.Sample, 100)
	switch c.Kind {
	case eval.KindSchema:
		if c.Schema = json.RawMessage(strings.TrimSpace(v.Get("schema"))); len(c.Schema) > 0 && !json.Valid(c.Schema) {
			return event.Invalid("the schema is not JSON", "paste one JSON Schema document")
		}
	case eval.KindRequired, eval.KindForbidden:
		c.Patterns = strings.Split(strings.ReplaceAll(v.Get("patterns"), "\r", ""), "\n")
	case eval.KindLength:
		whole("min_chars", &c.MinChars)
		whole("max_chars", &c.MaxChars)
	case eval.KindLanguage:
		c.Languages = strings.FieldsFunc(v.Get("languages"), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' })
	case eval.KindJudge:
		j := eval.Judge{Provider: v.Get("provider"), Model: v.Get("model"), Instruction: v.Get("instruction"), ReadContext: v.Get("read_context") != ""}
		number("pass_score", &j.PassScore, 1)
		number("daily_usd", &j.DailyUSD, 1)
		whole("max_tokens", &j.MaxTokens)
		c.Judge = &j
	}
	return problem
}

func (s *Pages) createCheck(r *http.Request, f *page.Frame) (templ.Component, error) {
	c := eval.Check{ProjectID: f.Session.ProjectID, Kind: eval.Kind(f.Form.Get("kind"))}
	if err := readCheck(f.Form, &c); err != nil {
		return nil, err
	}
	c, err := s.Checks.Create(r.Context(), c)
	if err != nil {
		return nil, err
	}
	return f.Done(f.Path("/evals/"+c.ID), "Check saved. Try it on a response below.")
}

func (s *Pages) saveCheck(r *http.Request, f *page.Frame) (templ.Component, error) {
	c, err := s.Checks.Update(r.Context(), f.Session.ProjectID, r.PathValue("check"), func(c *eval.Check) error { return readCheck(f.Form, c) })
	if err != nil {
		return nil, err
	}
	return f.Done(f.Path("/evals/"+c.ID), "Saved. Applies to new responses.")
}

func (s *Pages) toggleCheck(r *http.Request, f *page.Frame) (templ.Component, error) {
	c, err := s.Checks.Update(r.Context(), f.Session.ProjectID, r.PathValue("check"), func(c *eval.Check) error { c.Enabled = !c.Enabled; return nil })
	if err != nil {
		return nil, err
	}
	if c.Enabled {
		return f.Done(f.Path("/evals/"+c.ID), "Check enabled for new responses.")
	}
	return f.Done(f.Path("/evals/"+c.ID), "Check disabled. Its results are kept.")
}

func (s *Pages) deleteCheck(r *http.Request, f *page.Frame) (templ.Component, error) {
	if err := s.Checks.Delete(r.Context(), f.Session.ProjectID, r.PathValue("check")); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/evals"), "Check deleted. Its results are kept.")
}

// tryCheck runs a check on one generation and shows the result, without keeping
// it.
func (s *Pages) tryCheck(r *http.Request, f *page.Frame) (templ.Component, error) {
	c, err := s.Checks.Check(f.Session.ProjectID, r.PathValue("check"))
	if err != nil {
		return nil, err
	}
	e, err := s.Query.Event(r.Context(), f.Session.ProjectID, strings.TrimSpace(f.Form.Get("generation")), true)
	if err != nil {
		return nil, err
	}
	if e.Content != nil {
		if err := s.AuditContent(r, f, "event "+e.UUID); err != nil {
			return nil, err
		}
	}
	of := eval.FromStored(e)
	out, err := s.Runner.Try(r.Context(), &c, of)
	if err != nil {
		var known *event.Error
		if errors.As(err, &known) {
			return nil, known
		}
		return nil, event.NewError(event.CodeUnavailable, eval.Problem(err), "try again, or check the calls with the surface Judge", err)
	}
	p, err := s.checkPage(r, f, c)
	if err != nil {
		return nil, err
	}
	f.Title = c.Name
	p.Outcome, p.Tried, p.Of = &out, e.UUID, event.FirstChars(eval.AnswerOf(of), 2000)
	return checkForm(*f, p), nil
}

// scored writes a share or a score of a row.
func (c checkRow) score() string { return charts.FormatNumber(query.EvalScore, c.Score) }
func (c checkRow) results() string {
	if !c.Results.Known {
		return "0"
	}
	return charts.FormatNumber(query.Evals, c.Results)
}

// failing is the address of the results of a check that did not pass.
func (p evalsPage) failing(f page.Frame, name string) templ.SafeURL {
	return p.Board.View.Link(f, "/events", "event", eval.EventName, page.PropPrefix+eval.PropName, name, page.PropPrefix+eval.PropPassed, "false")
}

// at is a check's own page; that of runs has none, and leads to its results.
func (p evalsPage) at(f page.Frame, c checkRow) templ.SafeURL {
	if c.ID == "" {
		return p.all(f, c.Name)
	}
	return f.URL("/evals/" + c.ID)
}

func (p evalsPage) all(f page.Frame, name string) templ.SafeURL {
	return p.Board.View.Link(f, "/events", "kind", query.KindOutcomes, page.PropPrefix+eval.PropName, name)
}

// standing is the state of a check, in a word.
func (c checkRow) standing() (word, class string) {
	switch {
	case c.Kind == dataset.KindExpected:
		return "in dataset runs", "pill good"
	case !c.Enabled:
		return "off", "pill"
	case c.State.Problem != "":
		return "error", "pill bad"
	case c.State.Resting:
		return "budget spent", "pill warn"
	}
	return "on", "pill good"
}

// settings of a check in a few words.
func settingsOf(c eval.Check) string {
	var out []string
	switch c.Kind {
	case dataset.KindExpected:
		out = append(out, "created by dataset runs")
	case eval.KindRequired, eval.KindForbidden:
		out = append(out, page.Plural(int64(len(c.Patterns)), "pattern"))
	case eval.KindLength:
		if c.MinChars > 0 {
			out = append(out, "at least "+page.Count(int64(c.MinChars))+" characters")
		}
		if c.MaxChars > 0 {
			out = append(out, "at most "+page.Count(int64(c.MaxChars))+" characters")
		}
	case eval.KindLanguage:
		out = append(out, strings.Join(c.Languages, ", "))
	case eval.KindJudge:
		out = append(out, c.Judge.Model+", $"+page.PlainFloat(c.Judge.DailyUSD)+" per day")
	}
	if c.Sample < 1 {
		out = append(out, page.PlainFloat(c.Sample*100)+" % of calls")
	}
	for _, l := range [][]string{c.Filter.Prompts, c.Filter.Surfaces, c.Filter.Models} {
		if len(l) > 0 {
			out = append(out, strings.Join(l, ", "))
		}
	}
	return strings.Join(out, " · ")
}
