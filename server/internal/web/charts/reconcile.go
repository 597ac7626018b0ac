package charts

import (
	"cmp"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/reconcile"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// reconcilePage compares a provider's bill with the recorded cost.
type reconcilePage struct {
	Provider string
	From     string // the first UTC day
	Until    string // the last
	Account  string
	Report   *reconcile.Report // nil: the question makes no sense, as Problem says
	Problem  *event.Error
	Imports  []reconcile.Import
	Keys     []reconcile.KeyInfo
	Fetches  bool // this server can fetch bills
	Page     int  // of the models, from 1
}

// billRows is how many models a page shows.
const billRows = 100

// providerLabels are how the providers are called.
var providerLabels = [][2]string{{reconcile.OpenAI, "OpenAI"}, {reconcile.Anthropic, "Anthropic"}, {reconcile.OpenRouter, "OpenRouter"}, {reconcile.Bedrock, "Amazon Bedrock"}}

func providerLabel(provider string) string {
	for _, p := range providerLabels {
		if p[0] == provider {
			return p[1]
		}
	}
	return provider
}

// fetchable are the providers whose bills can be fetched.
func fetchable() (out [][2]string) {
	for _, p := range providerLabels {
		if slices.Contains(reconcile.Fetchable, p[0]) {
			out = append(out, p)
		}
	}
	return out
}

func (s *Pages) reconciliation(r *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Reconciliation"
	q := r.URL.Query()
	today := s.Now().UTC().Truncate(24 * time.Hour)
	p := reconcilePage{Provider: q.Get("provider"), From: q.Get("from"), Until: q.Get("until"), Account: q.Get("account"), Imports: s.Bills.Imports(f.Session.ProjectID), Fetches: s.Bills.Fetcher != nil}
	if f.Admin() {
		p.Keys = s.Bills.Keys(f.Session.ProjectID)
	}
	// Without a question it is about the newest import.
	if len(p.Imports) > 0 && p.Provider == "" {
		p.Provider = p.Imports[0].Provider
		if p.From == "" && p.Until == "" {
			p.From, p.Until = p.Imports[0].From, p.Imports[0].To
		}
	}
	p.Provider = cmp.Or(p.Provider, reconcile.OpenAI)
	p.Page, _ = strconv.Atoi(q.Get("page"))
	p.Page = max(p.Page, 1)
	p.From, p.Until = cmp.Or(p.From, today.AddDate(0, 0, -29).Format(time.DateOnly)), cmp.Or(p.Until, today.Format(time.DateOnly))
	from, until, err := dates(p.From, p.Until)
	if err == nil {
		p.Report, err = s.Bills.Compare(r.Context(), reconcile.Question{Project: f.Session.ProjectID, Provider: p.Provider, Account: p.Account, From: from, To: until.AddDate(0, 0, 1)})
	}
	if err != nil {
		e := event.AsError(err)
		if e.Code != event.CodeInvalid {
			return nil, err
		}
		p.Problem = e
	}
	if p.Report != nil {
		p.Report.Page(p.Page, billRows)
	}
	return reconcileView(*f, p), nil
}

// at is the address of a page of the models.
func (p reconcilePage) at(f page.Frame, n int) templ.SafeURL {
	q := url.Values{"provider": {p.Provider}, "from": {p.From}, "until": {p.Until}}
	if p.Account != "" {
		q.Set("account", p.Account)
	}
	if n > 1 {
		q.Set("page", strconv.Itoa(n))
	}
	return templ.SafeURL(f.Path("/reconcile") + "?" + q.Encode())
}

// recordedUSD is hedgerow's figure of a row.
func recordedUSD(row reconcile.Row) string { return page.Cost(row.HedgerowUSD, row.AtLeast) }

func dates(from, until string) (a, b time.Time, err error) {
	if a, err = time.Parse(time.DateOnly, from); err == nil {
		b, err = time.Parse(time.DateOnly, until)
	}
	if err != nil {
		return a, b, event.Invalid("the period has an invalid day", "choose the first and the last day")
	}
	return a, b, nil
}

// importBill takes the files of a form.
func (s *Pages) importBill(r *http.Request, f *page.Frame) (templ.Component, error) {
	var files []reconcile.File
	if r.MultipartForm != nil {
		for _, h := range r.MultipartForm.File["file"] {
			part, err := h.Open()
			if err != nil {
				return nil, err
			}
			b, err := io.ReadAll(part)
			if cerr := part.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				return nil, err
			}
			files = append(files, reconcile.File{Name: h.Filename, Data: b})
		}
	}
	if len(files) == 0 {
		return nil, event.Invalid("no file was chosen", "choose the provider's export")
	}
	list, err := s.Bills.Import(r.Context(), f.Session.ProjectID, reconcile.Source{Account: f.Form.Get("account")}, files...)
	if err != nil {
		return nil, err
	}
	return f.Done(billPath(f, list), importWords(list))
}

// billPath is the page about what was imported.
func billPath(f *page.Frame, list []reconcile.Import) string {
	from, to := list[0].From, list[0].To
	for _, m := range list {
		from, to = min(from, m.From), max(to, m.To)
	}
	return f.Path("/reconcile") + "?" + url.Values{"provider": {list[0].Provider}, "from": {from}, "until": {to}}.Encode()
}

func importWords(list []reconcile.Import) string {
	var out []string
	for _, m := range list {
		words := "Imported " + page.Plural(int64(m.Lines), "line") + " of " + feedLabel(m.Feed) + "."
		if m.Unchanged {
			words = "This export of " + feedLabel(m.Feed) + " was imported already."
		}
		if len(m.Unknown) > 0 {
			words += " Not read: " + strings.Join(m.Unknown, ", ") + "."
		}
		out = append(out, words)
	}
	return strings.Join(out, " ")
}

// feedLabel is a report in words.
func feedLabel(f reconcile.Feed) string {
	kind := strings.ReplaceAll(strings.TrimPrefix(string(f), f.Provider()+"-"), "-", " ")
	if f == reconcile.AWSCostAndUsage {
		kind = "cost and usage"
	}
	return providerLabel(f.Provider()) + " " + strings.ReplaceAll(kind, "_", " ")
}

func (s *Pages) eraseBill(r *http.Request, f *page.Frame) (templ.Component, error) {
	if err := s.Bills.Delete(r.Context(), f.Session.ProjectID, r.PathValue("import")); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/reconcile"), "Import erased.")
}

func (s *Pages) fetchBill(r *http.Request, f *page.Frame) (templ.Component, error) {
	from, until, err := dates(f.Form.Get("from"), f.Form.Get("until"))
	if err != nil {
		return nil, err
	}
	list, err := s.Bills.Fetch(r.Context(), f.Session.ProjectID, f.Form.Get("provider"), f.Form.Get("account"), from, until.AddDate(0, 0, 1))
	if err != nil {
		return nil, err
	}
	return f.Done(billPath(f, list), importWords(list))
}

func (s *Pages) setAdminKey(r *http.Request, f *page.Frame) (templ.Component, error) {
	if err := s.Bills.SetKey(r.Context(), f.Session.ProjectID, f.Form.Get("provider"), strings.TrimSpace(f.Form.Get("key"))); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/reconcile"), "Admin key stored.")
}

func (s *Pages) deleteAdminKey(r *http.Request, f *page.Frame) (templ.Component, error) {
	if err := s.Bills.DeleteKey(r.Context(), f.Session.ProjectID, r.PathValue("provider")); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/reconcile"), "Admin key deleted.")
}

// calls is the list of the calls that a figure of hedgerow's counts: those of the row's
// days and models, all or those of one kind. m is "" for the latter.
func (p reconcilePage) calls(f page.Frame, row reconcile.Row, m query.Measure, kind string) templ.SafeURL {
	from, to := p.Report.From, p.Report.To
	if row.Day != "" {
		day, _ := time.Parse(time.DateOnly, row.Day) // of a report
		from, to = row.Day, day.AddDate(0, 0, 1).Format(time.DateOnly)
	}
	q := url.Values{"from": {from + "T00:00"}, "to": {to + "T00:00"}, "tz": {"UTC"}, "provider": {p.Report.Provider}}
	switch {
	case m != "":
		q.Set(page.PointMeasure, string(m))
		if len(row.Recorded) > 0 {
			q.Set(page.PointBy, string(query.ByModel))
			q[page.PointGroup] = row.Recorded
		}
	default:
		q.Set("kind", kind)
		if len(row.Recorded) == 1 {
			q.Set("model", row.Recorded[0])
		}
	}
	return templ.SafeURL(f.Path("/events") + "?" + q.Encode())
}

// modelName is how a row's model is called.
func modelName(row reconcile.Row) string {
	switch {
	case row.Model != "":
		return row.Model
	case len(row.Recorded) > 0:
		return "All models"
	}
	return "Other lines"
}

// otherNames are further names of a row's model.
func otherNames(row reconcile.Row) string {
	var out []string
	for _, n := range slices.Concat(row.Recorded, row.Names) {
		if n != row.Model && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return strings.Join(out, ", ")
}

// shown are the causes of a row that are worth a line: not the remainder of 0, nor what
// is below a hundredth of a cent.
func shown(causes []reconcile.Cause) (out []reconcile.Cause) {
	for _, c := range causes {
		if !c.USD.Known || !c.USD.Value.Round(4).IsZero() || len(c.Items) > 1 {
			out = append(out, c)
		}
	}
	return out
}

// causeUSD is a cause's amount in words.
func causeUSD(c reconcile.Cause) string {
	if !c.USD.Known {
		return "not known"
	}
	return signedUSD(c.USD)
}

// signedUSD writes the sign before the dollars, and a plus.
func signedUSD(u query.USD) string {
	if !u.Known {
		return page.Unknown
	}
	d := u.Value.Round(4)
	text := page.USD(page.SomeUSD(d.Abs()))
	switch d.Sign() {
	case 1:
		return "+" + text
	case -1:
		return "−" + text
	}
	return text
}

// explainedUSD is the part of a difference that has a cause.
func explainedUSD(row reconcile.Row) query.USD {
	if !row.Difference.Known {
		return query.USD{}
	}
	open := row.Causes[len(row.Causes)-1].USD.Value
	return page.SomeUSD(row.Difference.Value.Sub(open))
}

// billedDays are the days of a report that have a bill or calls.
func billedDays(r *reconcile.Report) (out []reconcile.Row) {
	for _, d := range r.Days {
		if d.ProviderUSD.Known || d.Calls > 0 {
			out = append(out, d)
		}
	}
	return out
}

// exact reports whether a link can name exactly the calls that a row counts: the days
// of a row without a day must all have a bill, since the sums leave the others out.
func (p reconcilePage) exact(row reconcile.Row) bool {
	return row.Day != "" || len(p.Report.NoBill) == 0
}

func optCount(n event.Int) string {
	if !n.Known {
		return page.Unknown
	}
	return page.Count(n.Value)
}
