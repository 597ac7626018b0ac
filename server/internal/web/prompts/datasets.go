package prompts

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"
	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/dataset"
	"github.com/hedgerow/hedgerow/server/internal/eval"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
	"github.com/hedgerow/hedgerow/server/internal/web/traces"
)

// maxImport bounds a file of examples, in bytes.
const maxImport = 16 << 20

func (s *Pages) datasets(_ *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Datasets"
	return datasets(*f, s.Datasets.Sets(f.Session.ProjectID)), nil
}

func (s *Pages) createDataset(r *http.Request, f *page.Frame) (templ.Component, error) {
	set, err := s.Datasets.Create(r.Context(), f.Session.ProjectID, f.Form.Get("name"), f.Form.Get("description"))
	if err != nil {
		return nil, err
	}
	return f.Done(f.Path("/datasets/"+set.ID), "Dataset created. Save responses to it from event pages, or import a file.")
}

// datasetPage is one dataset.
type datasetPage struct {
	Set      dataset.Set
	Examples []dataset.Example
	More     int // examples beyond what fits onto the page
	Runs     []dataset.Run
	Checks   []eval.Check
	Prompts  []string // names
}

func (s *Pages) dataset(r *http.Request, f *page.Frame) (templ.Component, error) {
	set, err := s.Datasets.Set(f.Session.ProjectID, r.PathValue("dataset"))
	if err != nil {
		return nil, err
	}
	f.Title = set.Name
	p := datasetPage{Set: set, Runs: s.Datasets.Runs(f.Session.ProjectID, set.ID), Checks: s.Checks.Checks(f.Session.ProjectID)}
	if p.Examples, err = s.Datasets.Examples(r.Context(), f.Session.ProjectID, set.ID); err != nil {
		return nil, err
	}
	left := maxExamples
	for i, x := range p.Examples {
		for _, m := range x.Messages {
			left -= min(len(m.Content), maxExample)
		}
		if left -= min(len(x.Expected), maxExample) + min(len(x.Answer), maxExample) + 1000; left < 0 {
			p.Examples, p.More = p.Examples[:i+1], len(p.Examples)-i-1
			break
		}
	}
	for _, x := range s.Prompts.Prompts(f.Session.ProjectID) {
		p.Prompts = append(p.Prompts, x.Name)
	}
	if len(p.Examples) > 0 {
		if err := s.AuditContent(r, f, "dataset "+set.ID); err != nil {
			return nil, err
		}
	}
	return datasetDetail(*f, p), nil
}

func (s *Pages) deleteDataset(r *http.Request, f *page.Frame) (templ.Component, error) {
	set, err := s.Datasets.Set(f.Session.ProjectID, r.PathValue("dataset"))
	if err != nil {
		return nil, err
	}
	if err := s.Datasets.Delete(r.Context(), f.Session.ProjectID, set.ID); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/datasets"), "Dataset "+set.Name+" deleted with its examples and runs.")
}

func (s *Pages) removeExample(r *http.Request, f *page.Frame) (templ.Component, error) {
	if err := s.Datasets.Remove(r.Context(), f.Session.ProjectID, r.PathValue("dataset"), r.PathValue("example")); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/datasets/"+r.PathValue("dataset")), "Example removed.")
}

// importExamples takes a file or what was pasted.
func (s *Pages) importExamples(r *http.Request, f *page.Frame) (templ.Component, error) {
	var in io.Reader = strings.NewReader(f.Form.Get("lines"))
	if r.MultipartForm != nil && len(r.MultipartForm.File["file"]) > 0 && r.MultipartForm.File["file"][0].Size > 0 {
		file, err := r.MultipartForm.File["file"][0].Open()
		if err != nil {
			return nil, event.NewError(event.CodeInvalid, "the file could not be read", "upload it again", err)
		}
		defer file.Close()
		in = file
	}
	list, err := dataset.ParseJSONL(in)
	if err != nil {
		return nil, err
	}
	if _, err := s.Datasets.Add(r.Context(), f.Session.ProjectID, r.PathValue("dataset"), list...); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/datasets/"+r.PathValue("dataset")), page.Plural(int64(len(list)), "example")+" imported.")
}

func (s *Pages) exportExamples(w http.ResponseWriter, r *http.Request, f *page.Frame) {
	set, err := s.Datasets.Set(f.Session.ProjectID, r.PathValue("dataset"))
	var b bytes.Buffer
	if err == nil {
		err = s.AuditContent(r, f, "dataset "+set.ID)
	}
	if err == nil {
		err = s.Datasets.WriteJSONL(r.Context(), &b, f.Session.ProjectID, set.ID)
	}
	if err == nil {
		err = s.Registry.Audit(r.Context(), project.AuditEntry{Action: "dataset.export", ProjectID: f.Session.ProjectID, Target: set.Name})
	}
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/jsonl")
	h.Set("Content-Disposition", `attachment; filename="`+set.ID+`.jsonl"`)
	_, _ = w.Write(b.Bytes())
}

// saveExample saves the generation of a page to a dataset, which it makes where it
// has a new name.
func (s *Pages) saveExample(r *http.Request, f *page.Frame) (templ.Component, error) {
	if !f.Reads {
		return nil, project.ContentForbidden(f.Session.Role)
	}
	e, err := s.Query.Event(r.Context(), f.Session.ProjectID, r.PathValue("uuid"), true)
	if err != nil {
		return nil, err
	}
	x, err := dataset.FromGeneration(e)
	if err != nil {
		return nil, err
	}
	if f.Form.Get("good") != "" {
		x.Expected = x.Answer
	}
	ref := f.Form.Get("dataset")
	if name := strings.TrimSpace(f.Form.Get("name")); name != "" {
		set, err := s.Datasets.Create(r.Context(), f.Session.ProjectID, name, "")
		if err != nil {
			return nil, err
		}
		ref = set.ID
	}
	if ref == "" {
		return nil, event.Invalid("no dataset selected", "choose a dataset, or name a new one")
	}
	set, err := s.Datasets.Set(f.Session.ProjectID, ref)
	if err != nil {
		return nil, err
	}
	if _, err := s.Datasets.Add(r.Context(), f.Session.ProjectID, set.ID, x); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/events/"+e.UUID), "Saved to dataset "+set.Name+".")
}

func (s *Pages) startRun(r *http.Request, f *page.Frame) (templ.Component, error) {
	if s.Runs == nil {
		return nil, event.NewError(event.CodeUnavailable, "runs cannot be started here", "this process serves pages only", nil)
	}
	p := dataset.Plan{Prompt: f.Form.Get("prompt"), Version: f.Form.Get("version"), Provider: f.Form.Get("provider"), Model: f.Form.Get("model"), Checks: f.Form["check"], Name: f.Form.Get("name")}
	if raw := strings.TrimSpace(f.Form.Get("params")); raw != "" {
		if json.Unmarshal([]byte(raw), &p.Params) != nil {
			return nil, event.Invalid("the parameters are not a JSON object", `use an object such as {"temperature": 0.2}`)
		}
	}
	var concurrency float64
	for name, to := range map[string]*float64{"budget": &p.BudgetUSD, "concurrency": &concurrency} {
		d, err := decimal.NewFromString(strings.ReplaceAll(cmp.Or(strings.TrimSpace(f.Form.Get(name)), "0"), ",", "."))
		if err != nil {
			return nil, event.Invalid(name+" is not a number", "enter a number such as 0.5")
		}
		*to = d.InexactFloat64()
	}
	p.Concurrency = int(concurrency)
	run, err := s.Runs.Start(r.Context(), f.Session.ProjectID, r.PathValue("dataset"), p)
	if err != nil {
		return nil, err
	}
	return f.Done(f.Path("/datasets/"+run.SetID+"/runs/"+run.ID), "Run started.")
}

// runPage is one run with its results.
type runPage struct {
	Set     dataset.Set
	Run     dataset.Run
	Others  []dataset.Run
	Rows    []runRow
	Verdict []dataset.Tally
}

type runRow struct {
	Example dataset.Example
	dataset.Result
}

// runOf is the run that the address names, and its dataset.
func (s *Pages) runOf(f *page.Frame, set, id string) (dataset.Set, dataset.Run, error) {
	d, err := s.Datasets.Set(f.Session.ProjectID, set)
	if err != nil {
		return d, dataset.Run{}, err
	}
	run, err := s.Datasets.Run(f.Session.ProjectID, id)
	if err == nil && run.SetID != d.ID {
		err = event.NewError(event.CodeNotFound, "the dataset has no such run", "choose one from its page", nil)
	}
	return d, run, err
}

func (s *Pages) run(r *http.Request, f *page.Frame) (templ.Component, error) {
	set, run, err := s.runOf(f, r.PathValue("dataset"), r.PathValue("run"))
	if err != nil {
		return nil, err
	}
	f.Title = run.Name
	p := runPage{Set: set, Run: run}
	for _, x := range s.Datasets.Runs(f.Session.ProjectID, set.ID) {
		if x.ID != run.ID {
			p.Others = append(p.Others, x)
		}
	}
	results, err := s.Datasets.Results(r.Context(), f.Session.ProjectID, run.ID)
	if err != nil {
		return nil, err
	}
	examples, err := s.Datasets.Examples(r.Context(), f.Session.ProjectID, set.ID)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]dataset.Result, len(results))
	for _, x := range results {
		byID[x.ExampleID] = x
	}
	var shown []dataset.Result
	for _, x := range examples {
		if res, ok := byID[x.ID]; ok {
			p.Rows = append(p.Rows, runRow{x, res})
			shown = append(shown, res)
		}
	}
	p.Verdict = dataset.Tallies(shown)
	if len(results) > 0 && run.Status != dataset.Running {
		if err := s.AuditContent(r, f, "dataset "+set.ID); err != nil {
			return nil, err
		}
	}
	return runDetail(*f, p), nil
}

func (s *Pages) cancelRun(r *http.Request, f *page.Frame) (templ.Component, error) {
	set, run, err := s.runOf(f, r.PathValue("dataset"), r.PathValue("run"))
	if err != nil {
		return nil, err
	}
	if s.Runs == nil {
		return nil, event.NewError(event.CodeUnavailable, "runs cannot be cancelled here", "this process serves pages only", nil)
	}
	if err := s.Runs.Cancel(r.Context(), f.Session.ProjectID, run.ID); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/datasets/"+set.ID+"/runs/"+run.ID), "Cancelling the run. Finished responses are kept.")
}

func (s *Pages) resumeRun(r *http.Request, f *page.Frame) (templ.Component, error) {
	set, run, err := s.runOf(f, r.PathValue("dataset"), r.PathValue("run"))
	if err != nil {
		return nil, err
	}
	if s.Runs == nil {
		return nil, event.NewError(event.CodeUnavailable, "runs cannot be resumed here", "this process serves pages only", nil)
	}
	if _, err := s.Runs.Resume(r.Context(), f.Session.ProjectID, run.ID); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/datasets/"+set.ID+"/runs/"+run.ID), "Run resumed.")
}

func (s *Pages) deleteRun(r *http.Request, f *page.Frame) (templ.Component, error) {
	set, run, err := s.runOf(f, r.PathValue("dataset"), r.PathValue("run"))
	if err != nil {
		return nil, err
	}
	if err := s.Datasets.DeleteRun(r.Context(), f.Session.ProjectID, run.ID); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/datasets/"+set.ID), "Run deleted. Its calls are kept as events.")
}

// comparePage is two runs side by side, a part at a time.
type comparePage struct {
	Set      dataset.Set
	C        *dataset.Comparison
	Runs     []dataset.Run
	Differ   bool // only pairs whose answers or verdicts differ
	Pairs    []dataset.Pair
	From, Of int
}

const pairsAPage = 20

func (s *Pages) compareRuns(r *http.Request, f *page.Frame) (templ.Component, error) {
	q := r.URL.Query()
	set, a, err := s.runOf(f, r.PathValue("dataset"), q.Get("a"))
	if err != nil {
		return nil, err
	}
	_, b, err := s.runOf(f, set.ID, q.Get("b"))
	if err != nil {
		return nil, err
	}
	f.Title = "Compare runs"
	p := comparePage{Set: set, Runs: s.Datasets.Runs(f.Session.ProjectID, set.ID), Differ: q.Get("differ") == "1"}
	if p.C, err = s.Datasets.Compare(r.Context(), f.Session.ProjectID, a.ID, b.ID); err != nil {
		return nil, err
	}
	if err := s.AuditContent(r, f, "dataset "+set.ID); err != nil {
		return nil, err
	}
	pairs := p.C.Pairs
	if p.Differ {
		pairs = nil
		for _, x := range p.C.Pairs {
			if !x.Same {
				pairs = append(pairs, x)
			}
		}
	}
	p.Of = len(pairs)
	if d, err := decimal.NewFromString(cmp.Or(q.Get("from"), "0")); err == nil && d.IsPositive() {
		p.From = min(int(d.IntPart()), p.Of)
	}
	p.Pairs = pairs[p.From:min(p.From+pairsAPage, p.Of)]
	return comparison(*f, p), nil
}

// to is the address of the comparison from a pair on.
func (p comparePage) to(f page.Frame, from int, differ bool) templ.SafeURL {
	v := url.Values{"a": {p.C.A.ID}, "b": {p.C.B.ID}}
	if from > 0 {
		v.Set("from", page.PlainCount(int64(from)))
	}
	if differ {
		v.Set("differ", "1")
	}
	return f.URL("/datasets/" + p.Set.ID + "/compare?" + v.Encode())
}

// question is the user's last words of an example, or its variables.
func question(x dataset.Example) string {
	for i := len(x.Messages) - 1; i >= 0; i-- {
		if m := x.Messages[i]; m.Role == "user" {
			var words []string
			for _, part := range traces.Parts(m.Content) {
				words = append(words, part.Text)
			}
			return strings.Join(words, "\n")
		}
	}
	b, err := json.MarshalIndent(x.Variables, "", "  ")
	if err != nil || len(x.Variables) == 0 {
		return "example not found"
	}
	return string(b)
}

// conversation returns the messages of an example in the form of an event's page.
func conversation(x dataset.Example) []traces.Message {
	b, err := json.Marshal(x.Messages)
	if err != nil {
		return nil
	}
	return traces.Clipped(traces.Messages(b), maxExample)
}

// Bounds of what a page shows of examples, in bytes: of a part of one, and of all.
const (
	maxExample  = 64 << 10
	maxExamples = 4 << 20
)

// picked reports whether the form of a run has a check ticked: those that cost
// nothing are to begin with.
func (p datasetPage) picked(f page.Frame, c eval.Check) bool {
	if f.Problem != nil && f.Form.Has("budget") {
		return slices.Contains(f.Form["check"], c.ID)
	}
	return c.Kind != eval.KindJudge
}

func runStatus(x dataset.Run) (word, class string) {
	switch x.Status {
	case dataset.Running:
		return "running", "pill"
	case dataset.Done:
		return "completed", "pill good"
	case dataset.OverBudget:
		return "budget spent", "pill warn"
	case dataset.Cancelled:
		return "cancelled", "pill warn"
	case dataset.Interrupted:
		return "interrupted", "pill bad"
	}
	return "failed", "pill bad"
}

func runCost(x dataset.Run) string { return page.USD(page.SomeUSD(x.CostUSD)) }

func resultCost(c event.Opt[decimal.Decimal]) string { return page.USD(query.USD(c)) }

// part is how far a run is, of 1000.
func (p runPage) part() float64 {
	if p.Run.Total == 0 {
		return 0
	}
	return 1000 * float64(p.Run.Finished) / float64(p.Run.Total)
}

// versus writes how b compares with a.
func versus(a, b event.Opt[float64], unit string) string {
	if !a.Known || !b.Known {
		return ""
	}
	if unit == "points" {
		return strings.Replace(signedFloat(100*(b.Value-a.Value), 1), "-", "−", 1) + " points"
	}
	if a.Value == 0 {
		return ""
	}
	return strings.Replace(signedFloat(100*(b.Value/a.Value-1), 0), "-", "−", 1) + " %"
}

// planning states what a comparison of two runs over so many examples can show.
func planning(examples int) string {
	least := dataset.LeastDetectable(examples)
	if !least.Known {
		return page.Plural(int64(examples), "example") + " are too few to show any difference between the pass rates of two runs; at least 6 are needed."
	}
	return "Over " + page.Plural(int64(examples), "example") + ", the pass rates of two runs must differ by " + page.OneDecimal(100*least.Value) + " points or more to show with a chance of 80 %, if one example in five passes in one run only."
}

// between is the interval of a pass rate.
func between(r eval.PassRate) string {
	if !r.Rate.Known {
		return page.Unknown
	}
	return page.Percent(r.Lower) + " to " + page.Percent(r.Upper)
}

func intervalHelp(r eval.PassRate) string {
	s := level(r.Level) + " interval, exact, of " + page.Plural(int64(r.Judged), "result")
	if r.Users == 0 {
		return s + "; results count as independent"
	}
	return s + " of " + page.Plural(int64(r.Users), "user") + ", with the user as cluster"
}

// level writes the level of an interval: 95 %, 98.3 %.
func level(of float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(100*of, 'f', 1, 64), ".0") + " %"
}

// pairedInterval is that of a difference between two runs; "" if it has none.
func pairedInterval(d dataset.Difference) string {
	if !d.Lower.Known {
		return ""
	}
	return amount(d.Unit, d.Lower.Value) + " to " + amount(d.Unit, d.Upper.Value)
}

// amount writes a difference with its sign.
func amount(u query.Unit, v float64) string {
	var s string
	switch u {
	case query.UnitShare:
		s = signedFloat(100*v, 1)
	case query.UnitMillis:
		s = signedFloat(v, 0) + " ms"
	case query.UnitUSD:
		s = strings.Replace(signedFloat(v, 6), "+", "+$", 1)
		s = strings.Replace(s, "-", "-$", 1)
	default:
		s = signedFloat(v, 2)
	}
	return strings.Replace(s, "-", "−", 1)
}

func signedFloat(v float64, places int32) string {
	s := decimal.NewFromFloat(v).StringFixed(places)
	if !strings.HasPrefix(s, "-") {
		s = "+" + s
	}
	return s
}

func costNumber(c event.Opt[decimal.Decimal]) event.Opt[float64] {
	return event.Opt[float64]{Value: c.Value.InexactFloat64(), Known: c.Known}
}
