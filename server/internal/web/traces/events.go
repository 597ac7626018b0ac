package traces

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/dataset"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/charts"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// Delivery is the delivery to PostHog.
type Delivery interface {
	// Outgoing returns what was sent of an event to a connection, or what will be.
	Outgoing(ctx context.Context, c project.Connection, uuid string) (Outgoing, error)
}

// The delivery state of an event for a connection.
const (
	DeliverySent     = "sent"
	DeliveryWaiting  = "waiting"
	DeliveryFailed   = "failed"
	DeliveryFiltered = "filtered" // by the connection's filter or sampling
	DeliveryUnknown  = "older"    // than the connection: whether it was sent is not known
)

// Outgoing is what an event is to a connection.
type Outgoing struct {
	State  string            // DeliverySent …
	At     time.Time         // when PostHog took it, or it was given up; zero where only the state is known
	By     time.Time         // where At is zero: PostHog had it by then at the latest
	Reason string            // why it was given up
	Bodies []json.RawMessage // as it leaves: PostHog's form of it, after privacy
}

// eventsPage is a filtered list of events, a page at a time.
type eventsPage struct {
	Page    *query.EventsPage
	View    *page.View
	Sort    query.EventSort
	Cursor  string
	Columns []string // names of eventColumns
	Chosen  bool     // the address names them
	Said    string   // words that prompts or answers hold
	Search  *query.SearchPage
	Found   *query.Found // of all pages; nil of a search, and of all that there is
	Saved   []project.SavedView
}

// eventColumn is a column that the table can have.
type eventColumn struct {
	Name, Label string
	Sort        query.EventSort // "" cannot be sorted by
	Number      bool
	text        func(*page.View, *query.Event) string
}

var eventColumns = []eventColumn{
	{"model", "Model or event", "", false, func(_ *page.View, e *query.Event) string { return page.Heading(e) }},
	{"event", "Event", "", false, func(_ *page.View, e *query.Event) string { return e.Name }},
	{"provider", "Provider", "", false, func(_ *page.View, e *query.Event) string { return cmp.Or(e.Provider, page.Unknown) }},
	{"prompt", "Prompt", "", false, func(_ *page.View, e *query.Event) string { return cmp.Or(page.PromptOf(e), page.Unknown) }},
	{"surface", "Surface", "", false, func(_ *page.View, e *query.Event) string { return cmp.Or(e.Surface, page.Unknown) }},
	{"environment", "Environment", "", false, func(_ *page.View, e *query.Event) string { return cmp.Or(e.Environment, page.Unknown) }},
	{"user", "User", "", false, func(_ *page.View, e *query.Event) string { return cmp.Or(e.DistinctID, page.Unknown) }},
	{"session", "Session", "", false, func(_ *page.View, e *query.Event) string { return cmp.Or(e.SessionID, page.Unknown) }},
	{"trace", "Trace", "", false, func(_ *page.View, e *query.Event) string { return cmp.Or(e.TraceName, cmp.Or(e.TraceID, page.Unknown)) }},
	{"tokens", "Tokens", query.ByTokens, true, func(_ *page.View, e *query.Event) string { return page.Tokens(e.Usage.Total) }},
	{"cost", "Cost", query.ByCost, true, func(_ *page.View, e *query.Event) string { return page.CostOf(e) }},
	{"latency", "Latency", query.ByLatency, true, func(_ *page.View, e *query.Event) string { return page.Millis(e.LatencyMS) }},
	{"ttft", "TTFT", query.ByTTFT, true, func(_ *page.View, e *query.Event) string { return page.Millis(e.TTFTMS) }},
	{"said", "Outcome", "", false, func(_ *page.View, e *query.Event) string { return cmp.Or(page.Description(e), page.Unknown) }},
}

// usualColumns are the default columns of a list.
var usualColumns = []string{"model", "prompt", "surface", "user", "tokens", "cost", "latency", "ttft"}

// generations is the list of events that are calls.
func (s *Pages) generations(_ *http.Request, f *page.Frame) (templ.Component, error) {
	return f.Done(f.Path("/events?kind="+query.KindCalls), "")
}

func (s *Pages) events(r *http.Request, f *page.Frame) (templ.Component, error) {
	f.Title = "Events"
	if r.URL.Query().Get("kind") == query.KindCalls {
		f.Title = "Generations"
	}
	v, err := s.View(r, "/events", "")
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	p := eventsPage{View: v, Sort: query.EventSort(q.Get("sort")), Cursor: q.Get("cursor"), Columns: usualColumns}
	if v.Kind == query.KindOutcomes || strings.HasPrefix(v.Name, "llm_") || v.Point != nil && charts.KindOf(v.Point.Measure) == query.KindOutcomes {
		p.Columns = []string{"event", "said", "prompt", "surface", "user", "trace"}
	}
	if chosen := q["col"]; len(chosen) > 0 {
		p.Columns, p.Chosen = nil, true
		for _, c := range eventColumns {
			if slices.Contains(chosen, c.Name) {
				p.Columns = append(p.Columns, c.Name)
			}
		}
	}
	p.Saved = s.Registry.Snapshot().SavedViews(f.Session.ProjectID, "/events")
	ask := query.EventsQuery{Project: f.Session.ProjectID, Filter: v.Filter, Point: v.Point, Sort: p.Sort, Cursor: p.Cursor, Limit: 50}
	if p.Said = strings.TrimSpace(q.Get("said")); p.Said == "" {
		if p.Page, err = s.Query.Events(r.Context(), ask); err == nil && p.filtered() {
			p.Found, err = s.Query.Found(r.Context(), ask)
		}
		return events(*f, p), err
	}
	if !f.Reads {
		return nil, project.ContentForbidden(f.Session.Role)
	}
	v.Params["said"] = []string{p.Said}
	p.Sort, ask.Sort = "", ""
	// Recorded first, and without the search text: it may be a person's name.
	if p.Cursor == "" {
		if err := s.Registry.Audit(r.Context(), project.AuditEntry{Action: "content.search", ProjectID: f.Session.ProjectID}); err != nil {
			return nil, err
		}
	}
	if p.Search, err = s.Query.SearchContent(r.Context(), ask, p.Said); err != nil {
		return nil, err
	}
	p.Page = &query.EventsPage{Events: p.Search.Events, Next: p.Search.Next}
	return events(*f, p), nil
}

// searched says how far a search has come.
func (p eventsPage) searched() string {
	out := page.Count(int64(p.Search.Searched)) + " prompts and responses searched for “" + p.Said + "”, "
	if p.Search.Next == "" {
		return out + "everything that is stored."
	}
	return out + "back to " + p.View.Clock(p.Search.Until) + "."
}

// saveView keeps a list's filters, order and columns under a name.
func (s *Pages) saveView(r *http.Request, f *page.Frame) (templ.Component, error) {
	q, err := url.ParseQuery(f.Form.Get("query"))
	if err != nil {
		return nil, event.Invalid("the view could not be read", "reload the page and try again")
	}
	for _, name := range []string{"cursor", "said", "tz", "live"} {
		q.Del(name)
	}
	v, err := s.Registry.CreateSavedView(r.Context(), project.SavedView{ProjectID: f.Session.ProjectID, Name: f.Form.Get("name"), Page: "/events", Query: q.Encode()})
	if err != nil {
		return nil, err
	}
	return f.Done(f.Path("/events?"+v.Query), "Saved.")
}

func (s *Pages) deleteView(r *http.Request, f *page.Frame) (templ.Component, error) {
	if err := s.Registry.DeleteSavedView(r.Context(), f.Session.ProjectID, r.PathValue("view")); err != nil {
		return nil, err
	}
	return f.Done(f.Path("/events"), "Deleted.")
}

// address is the current query of the list, to be saved.
func (p eventsPage) address(f page.Frame) string {
	_, q, _ := strings.Cut(string(p.to(f, p.Sort, "")), "?")
	return q
}

func (p eventsPage) filtered() bool {
	return len(p.View.Params) > 0 || p.Cursor != "" || !p.View.From.IsZero()
}

// shown are the columns in order.
func (p eventsPage) shown() []eventColumn {
	var out []eventColumn
	for _, c := range eventColumns {
		if slices.Contains(p.Columns, c.Name) {
			out = append(out, c)
		}
	}
	return out
}

// to is the list with its columns, in an order, from a cursor on.
func (p eventsPage) to(f page.Frame, sort query.EventSort, cursor string) templ.SafeURL {
	q := p.View.Values()
	if p.Chosen {
		q["col"] = p.Columns
	}
	if sort != "" {
		q.Set("sort", string(sort))
	}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	if len(q) == 0 {
		return f.URL("/events")
	}
	return f.URL("/events?" + q.Encode())
}

// file is the address of the list as a file.
func (p eventsPage) file(f page.Frame) templ.SafeURL {
	return p.View.Link(f, "/events.csv", "sort", string(p.Sort))
}

func (s *Pages) Event(r *http.Request, f *page.Frame) (templ.Component, error) {
	e, err := s.Query.Event(r.Context(), f.Session.ProjectID, r.PathValue("uuid"), f.Reads)
	if err != nil {
		return nil, err
	}
	f.Title = page.Heading(e)
	if e.Content != nil {
		if err := s.AuditContent(r, f, "event "+e.UUID); err != nil {
			return nil, err
		}
	}
	price := ""
	if s.Price != nil && e.Cost.ModelUsed != "" {
		price = s.Price(e.Cost.Provider, e.Cost.ModelUsed)
	}
	x, err := s.extras(r, f, e)
	if err != nil {
		return nil, err
	}
	return eventDetail(*f, e, price, x), nil
}

// sentRow is what was sent to one connection.
type sentRow struct {
	project.Connection
	Outgoing
	Changed bool // the connection's settings are newer than the event
}

// sentPage is what left of an event, connection by connection.
type sentPage struct {
	Event *query.Event
	Rows  []sentRow
	Zone  *time.Location
}

func (s *Pages) sent(r *http.Request, f *page.Frame) (templ.Component, error) {
	v, err := s.View(r, "/events", "")
	if err != nil {
		return nil, err
	}
	e, err := s.Query.Event(r.Context(), f.Session.ProjectID, r.PathValue("uuid"), false)
	if err != nil {
		return nil, err
	}
	f.Title = "Sent to PostHog"
	p := sentPage{Event: e, Zone: v.Zone}
	for _, c := range s.Registry.Snapshot().Connections(f.Session.ProjectID) {
		said := !c.PrivacyMode && e.ContentState == query.ContentKept // its form has prompts and answers
		if said && f.Reads {
			if err := s.AuditContent(r, f, "event "+e.UUID); err != nil {
				return nil, err
			}
		}
		o, err := s.Delivery.Outgoing(r.Context(), c, e.UUID)
		if err != nil {
			return nil, err
		}
		if said && !f.Reads {
			o.Bodies = nil
		}
		p.Rows = append(p.Rows, sentRow{c, o, c.UpdatedAt.After(e.StoredAt)})
	}
	return sentTo(*f, p), nil
}

// when says what is known of the time.
func (x sentRow) when(z *time.Location) string {
	at := func(t time.Time) string { return page.Clock(z, t) }
	switch {
	case !x.At.IsZero():
		return at(x.At)
	case !x.By.IsZero():
		return "by " + at(x.By)
	}
	return ""
}

func (x sentRow) class() string {
	switch x.State {
	case DeliveryFailed:
		return "pill bad"
	case DeliveryWaiting, DeliveryUnknown:
		return "pill warn"
	}
	return "pill"
}

// facts are an event's metadata as rows; a row without a value is left out.
func facts(f page.Frame, e *query.Event) [][2]string {
	prompt := page.PromptOf(e)
	all := [][2]string{
		{"Time", page.Clock(f.Zone, e.Timestamp) + " " + f.Zone.String()}, {"Provider", e.Provider}, {"Response model", e.Model}, {"Requested model", e.ModelAsked},
		{"Latency", page.Millis(e.LatencyMS)}, {"Time to first token", page.Millis(e.TTFTMS)},
		{"Stop reason", e.StopReason}, {"Error", e.ErrorMessage}, {"Parse error", e.ParseError}, {"Prompt", prompt}, {"Prompt hash", e.PromptHash},
		{"Surface", e.Surface}, {"User", e.DistinctID}, {"Session", e.SessionID}, {"Environment", e.Environment}, {"Task type", e.TaskType},
		{"Completion ID", e.CompletionID}, {"Request size", page.Size(e.RequestBytes)}, {"Response size", page.Size(e.ResponseBytes)}, {"URL", e.RequestURL}, {"UUID", e.UUID},
	}
	var out [][2]string
	for _, x := range all {
		if x[1] != "" && x[1] != page.Unknown {
			out = append(out, x)
		}
	}
	return out
}

// bill is the usage and cost of a call, a line a kind.
func bill(e *query.Event) [][3]string {
	u, c := e.Usage, e.Cost
	exact := func(v query.USD) string {
		if !v.Known {
			return ""
		}
		return "$" + v.Value.String()
	}
	all := [][3]string{
		{"Input", page.Tokens(u.Input), exact(c.Input)}, {"Cache read", page.Tokens(u.CacheRead), "part of input"}, {"Cache write", page.Tokens(u.CacheWrite), "part of input"},
		{"Output", page.Tokens(u.Output), exact(c.Output)}, {"Output, estimated from the text", page.Tokens(u.OutputEstimated), "not part of the total"}, {"Reasoning", page.Tokens(u.Reasoning), "part of output"},
		{"Audio input", page.Tokens(u.InputAudio), "part of input"}, {"Audio output", page.Tokens(u.OutputAudio), "part of output"}, {"Image input", page.Tokens(u.InputImage), "part of input"}, {"Image output", page.Tokens(u.OutputImage), "part of output"},
		{"Video input", page.Tokens(u.InputVideo), "part of input"}, {"Video output", page.Tokens(u.OutputVideo), "part of output"}, {"Document input", page.Tokens(u.InputDocument), "part of input"},
		{"Web searches", plainInt(u.WebSearches), exact(c.WebSearch)}, {"Images", plainInt(u.Images), ""}, {"Per-request fee", page.Unknown, exact(c.Request)},
	}
	var out [][3]string
	for _, l := range all {
		if l[1] != page.Unknown || strings.HasPrefix(l[2], "$") {
			out = append(out, l)
		}
	}
	if c.CacheSaved.Known && c.CacheSaved.Value.IsPositive() {
		out = append(out, [3]string{"Cache savings", page.Unknown, exact(c.CacheSaved)})
	}
	if known, whole := c.Known(); u.Total.Known || known.Known {
		total := "cost unknown"
		if known.Known {
			total = exact(known)
		}
		if known.Known && !whole {
			total = "at least " + total
		}
		out = append(out, [3]string{"Total", page.Tokens(u.Total), total})
	}
	return out
}

func plainInt(n event.Int) string {
	if !n.Known {
		return page.Unknown
	}
	return page.Count(n.Value)
}

// priced says where the price came from.
func priced(c query.Cost) string {
	switch c.Source {
	case "":
		return ""
	case event.CostPassthrough:
		return "Cost reported by the provider or the caller."
	case event.CostCaller:
		return "Cost reported by the caller."
	case event.CostTable:
		return "Priced with hedgerow’s price table as " + strings.TrimSpace(c.Provider+" "+c.ModelUsed) + "."
	case event.CostManual:
		return "Priced with your custom price for " + strings.TrimSpace(c.Provider+" "+c.ModelUsed) + "."
	case event.CostSynced:
		return "Priced with the synced price for " + strings.TrimSpace(c.Provider+" "+c.ModelUsed) + "."
	}
	return "Priced with the prices sent with the event."
}

// curl is the call as a shell command, without any key: it uses the reader's
// own, from the environment.
func curl(e *query.Event) string {
	if e.Content == nil || len(e.Content.Input) == 0 || len(e.Content.Input) > maxShown || e.RequestURL == "" || e.Name != event.Generation && e.Name != event.Embedding {
		return ""
	}
	body := map[string]json.RawMessage{}
	for k, v := range e.ModelParameters {
		body[k] = v
	}
	set := func(name string, v any) {
		if b, err := json.Marshal(v); err == nil {
			body[name] = b
		}
	}
	set("model", cmp.Or(e.ModelAsked, e.Model))
	if e.Stream.Or(false) {
		set("stream", true)
	}
	key := "authorization: Bearer $" + strings.ToUpper(strings.Map(envName, cmp.Or(e.Provider, "provider"))) + "_API_KEY"
	headers := []string{key}
	switch e.Operation {
	case "embeddings", "responses":
		body["input"] = e.Content.Input
	case "messages":
		headers = []string{"x-api-key: $ANTHROPIC_API_KEY", "anthropic-version: 2023-06-01"}
		var list, rest []map[string]json.RawMessage
		if json.Unmarshal(e.Content.Input, &list) != nil {
			return ""
		}
		for _, m := range list {
			if string(m["role"]) == `"system"` {
				body["system"] = m["content"]
				continue
			}
			rest = append(rest, m)
		}
		set("messages", rest)
	case "generate_content":
		headers = []string{"x-goog-api-key: $GEMINI_API_KEY"}
		body = map[string]json.RawMessage{}
		if len(e.ModelParameters) > 0 {
			set("generationConfig", e.ModelParameters)
		}
		type content map[string]any
		var contents []content
		for _, m := range Messages(e.Content.Input) {
			c := content{"parts": texts(m)}
			if m.Role == "system" {
				set("systemInstruction", c)
				continue
			}
			c["role"] = map[bool]string{true: "model", false: "user"}[m.Role == "assistant" || m.Role == "model"]
			contents = append(contents, c)
		}
		set("contents", contents)
	case "completions", "fim":
		var said []string
		for _, m := range Messages(e.Content.Input) {
			for _, w := range texts(m) {
				said = append(said, w["text"])
			}
		}
		set("prompt", strings.Join(said, "\n"))
	default:
		body["messages"] = e.Content.Input
	}
	if len(e.Content.Tools) > 0 && string(e.Content.Tools) != "null" {
		body["tools"] = e.Content.Tools
	}
	b, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		return ""
	}
	var out strings.Builder
	out.WriteString("curl " + quoted(e.RequestURL) + " \\\n  -H 'content-type: application/json' \\\n")
	for _, h := range headers {
		out.WriteString("  -H \"" + h + "\" \\\n") // double quotes: the shell fills in the key
	}
	out.WriteString("  -d " + quoted(string(b)))
	return out.String()
}

// texts are the parts of a message that are text, as Gemini takes them.
func texts(m Message) []map[string]string {
	out := []map[string]string{}
	for _, p := range m.Parts {
		if p.Kind == "" {
			out = append(out, map[string]string{"text": p.Text})
		}
	}
	return out
}

// quoted is one word of a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// envName keeps what a variable's name can have.
func envName(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '_'
}

// rawJSON is an event as it is stored, without its content, which is shown next
// to it.
func rawJSON(e *query.Event) string {
	c := *e
	c.Content = nil
	b, err := json.Marshal(&c)
	if err != nil {
		return ""
	}
	return indent(b)
}

// extras are what an event's page shows in addition to the event.
type extras struct {
	Judged []judgment
	Sets   []dataset.Set
	Save   bool // it can be saved as an example

	Deletes   bool // events can be deleted from here
	Connected bool // to a PostHog
}

func (s *Pages) extras(r *http.Request, f *page.Frame, e *query.Event) (extras, error) {
	list, err := s.judged(r, f, e.TraceID)
	x := extras{Judged: ofCall(list, e), Sets: s.Datasets.Sets(f.Session.ProjectID), Deletes: s.Erasure != nil, Connected: len(s.Registry.Snapshot().Connections(f.Session.ProjectID)) > 0}
	x.Save = f.Member() && e.Name == event.Generation && e.Content != nil && len(e.Content.Input) > 0
	return x, err
}
