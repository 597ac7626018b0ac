package charts

import (
	"cmp"
	"context"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/supervise"
	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// Board is a page of charts.
type Board struct {
	Title, Sub string
	View       *page.View
	Tiles      []page.Figure
	Cards      []Card
	Steps      []query.Step // agents only
	Empty      bool
	Pending    bool // the layout only: scripts request the figures
}

// Card is a chart: a table that the scripts draw, each of whose cells leads to
// the events that it counts.
type Card struct {
	Spec
	First   string // heading of the first column
	Columns []column
	Rows    []row
	Base    string // address of the events behind all of it
	Total   string // the figure over the whole range
	Change  string // how it compares with the period before
	Pending bool   // its figures are being requested
	File    string // address of its numbers, where no chart builder makes them
}

type column struct{ Name, Query, unit string }

type row struct {
	Label, Query string
	Key          string // Label for machines: a time in RFC 3339, "" where Label is it
	Cells        []cell
}

// cell is a figure: for the chart, for people, and with all its digits.
type cell struct {
	Plain, Text, Exact string
	least              bool // see atLeast
}

// Spec is a card's query.
type Spec struct {
	ID, Title, Note string
	Measures        []query.Measure
	By              query.GroupBy
	OverTime        bool
	Draw            string // bar, stack or line
	Only            func(*query.Filter)
	Share           bool             // calls or errors as a share of all calls
	Event           query.EventMatch // of figures of an application's own events
	counted         query.Measure    // what a share is of, while it is written as a rate
	Limit           int
}

// unit says how a measure is written.
func unit(m query.Measure) string { return string(m.Info().Unit) }

// FormatNumber formats a figure with its unit.
func FormatNumber(m query.Measure, n query.Number) string {
	if !n.Known {
		return page.Unknown
	}
	switch unit(m) {
	case "ms":
		return page.Millis(n)
	case "usd":
		return page.USD(query.USD(event.Some(decimal.NewFromFloat(n.Value).Round(12))))
	case "rate":
		return page.Percent(n)
	case "tok":
		return page.Tokens(event.Some(int64(math.Round(n.Value))))
	case "score":
		return decimal.NewFromFloat(n.Value).Round(12).StringFixed(2) // a sum in another order ends in other digits
	}
	return page.Count(int64(math.Round(n.Value)))
}

// atLeast reports whether a figure is the least that it can be: some of its calls are
// incompletely priced.
func atLeast(m query.Measure, v query.Values) bool {
	return (m == query.CostUSD || m == query.CostPerTask) && v.Get(m).Known && v.Get(query.IncompleteCalls).Value > 0
}

// figureText formats a figure with its unit, and says where it is the least that it can be.
func figureText(m query.Measure, v query.Values) string {
	return FigureText(m, v.Get(m), atLeast(m, v))
}

// FigureText is a figure with its unit, which is the least that it can be or all of it.
func FigureText(m query.Measure, n query.Number, least bool) string {
	if least {
		return "at least " + FormatNumber(m, n)
	}
	return FormatNumber(m, n)
}

// plainNumber is a figure for a chart: shares are in percent there.
func plainNumber(m query.Measure, n query.Number) string {
	if !n.Known {
		return ""
	}
	if unit(m) == "rate" {
		n.Value *= 100
	}
	return strconv.FormatFloat(n.Value, 'g', 6, 64)
}

// exactNumber is a figure for a file, with all its digits.
func exactNumber(m query.Measure, n query.Number) string {
	if !n.Known {
		return ""
	}
	if unit(m) == "rate" {
		n.Value *= 100
	}
	return strconv.FormatFloat(n.Value, 'f', -1, 64)
}

// change is how a figure compares with the period before.
func change(m query.Measure, now, before query.Number) string {
	if !now.Known || !before.Known || before.Value == 0 && unit(m) != "rate" {
		return ""
	}
	sign := func(f float64, places int) string {
		s := strconv.FormatFloat(math.Abs(f), 'f', places, 64)
		switch {
		case s == strconv.FormatFloat(0, 'f', places, 64):
			return "±" + s
		case f < 0:
			return "−" + s
		}
		return "+" + s
	}
	if unit(m) == "rate" {
		return sign(100*(now.Value-before.Value), 1) + " points"
	}
	if percent := 100 * (now.Value/before.Value - 1); percent < 1000 {
		return sign(percent, 0) + " %"
	}
	return "+" + page.Count(int64(math.Round(100*(now.Value/before.Value-1)))) + " %"
}

// Against is change for a table's cell, where what was not there before is new.
func Against(m query.Measure, now, before query.Number) string {
	if now.Known && now.Value > 0 && unit(m) != "rate" && before.Known && before.Value == 0 {
		return "new"
	}
	return change(m, now, before)
}

// dayLayout is how charts write a day.
const dayLayout = "Mon 02 Jan"

// KeyQuery is the filter that finds the events of a group.
func KeyQuery(by query.GroupBy, key string) string {
	if key == "" {
		return ""
	}
	v := url.Values{}
	switch by {
	case query.ByModel, query.ByModelAsked, query.ByProvider, query.BySurface, query.ByEnvironment, query.ByStatus, query.ByErrorType, query.ByTaskType, query.ByPromptName, query.ByUser, query.ByOperation, query.ByInputLength, query.ByOutput:
		v.Set(string(by), key)
	case query.ByPrompt:
		name, version, ok := strings.Cut(key, "@")
		v.Set("prompt_name", name)
		if ok {
			v.Set("prompt_version", version)
		}
	case query.ByTool:
		v.Set("step", key)
	case query.ByEval:
		v.Set(page.PropPrefix+"eval_name", key)
	default:
		name, ok := strings.CutPrefix(string(by), string(query.ByProperty("")))
		if !ok {
			return ""
		}
		v.Set(page.PropPrefix+name, key)
	}
	return v.Encode()
}

// fill makes a card of a series.
func (c *Card) fill(f page.Frame, v *page.View, s *query.Series) {
	c.Base = c.base(f, v, s)
	name := func(key string) string { return cmp.Or(key, "not set") }
	at := func(i int) string {
		// The first and the last may be cut off by the range.
		from, to := s.Starts[i].Start, s.Starts[i].End
		if from.Before(s.From) {
			from = s.From
		}
		if to.After(s.To) {
			to = s.To
		}
		return url.Values{"from": {from.Format(time.RFC3339Nano)}, "to": {to.Format(time.RFC3339Nano)}}.Encode()
	}
	when := func(i int) string {
		t := s.Starts[i].Start.In(v.Zone)
		if s.Every == query.ByHour {
			return t.Format("Mon 02 15:04")
		}
		return t.Format(dayLayout)
	}
	m := c.Measures[0]
	c.Total = figureText(m, s.Total.Total)
	c.Change = change(m, s.Total.Total[m], s.Total.Previous[m])
	groups := slices.DeleteFunc(slices.Clone(s.Groups), func(g query.Line) bool { return !c.knows(g) })
	if c.By == query.ByInputLength {
		groups = slices.SortedStableFunc(slices.Values(groups), func(a, b query.Line) int { return cmp.Compare(shortest(a.Key), shortest(b.Key)) })
	}
	if c.tall() && c.By != query.ByInputLength {
		slices.SortStableFunc(groups, func(a, b query.Line) int { return cmp.Compare(b.Total[m].Value, a.Total[m].Value) })
	}
	if s.Rest != nil && c.knows(*s.Rest) {
		rest := *s.Rest
		rest.Key = "\x00"
		groups = append(slices.Clone(groups), rest)
	}
	label := func(key string) string {
		if key == "\x00" {
			return "Other"
		}
		return name(key)
	}
	filter := func(key string) string {
		if key != "\x00" {
			return url.Values{page.PointGroup: {key}}.Encode()
		}
		var shown []string
		for _, g := range s.Groups {
			shown = append(shown, g.Key)
		}
		return url.Values{page.PointNot: shown}.Encode()
	}
	put := func(m query.Measure, v query.Values) cell {
		n := v.Get(m)
		return cell{plainNumber(m, n), figureText(m, v), exactNumber(m, n), atLeast(m, v)}
	}
	switch {
	case c.OverTime && c.By == "":
		c.First = "Time"
		for _, m := range c.Measures {
			c.Columns = append(c.Columns, c.figureColumn(m))
		}
		for i := range s.Keys {
			r := row{Label: when(i), Key: s.Keys[i], Query: at(i)}
			for _, m := range c.Measures {
				r.Cells = append(r.Cells, put(m, s.Total.Points[i]))
			}
			c.Rows = append(c.Rows, r)
		}
	case c.OverTime:
		c.First = "Time"
		for _, g := range groups {
			c.Columns = append(c.Columns, column{label(g.Key), filter(g.Key), unit(m)})
		}
		for i := range s.Keys {
			r := row{Label: when(i), Key: s.Keys[i], Query: at(i)}
			for _, g := range groups {
				r.Cells = append(r.Cells, put(m, g.Points[i]))
			}
			c.Rows = append(c.Rows, r)
		}
	case c.By == "":
		c.First = "Group"
		r := row{Label: "All"}
		for _, m := range c.Measures {
			c.Columns = append(c.Columns, c.figureColumn(m))
			r.Cells = append(r.Cells, put(m, s.Total.Total))
		}
		c.Rows = []row{r}
	default:
		c.First = "Group"
		for _, m := range c.Measures {
			c.Columns = append(c.Columns, c.figureColumn(m))
		}
		for _, g := range groups {
			r := row{Label: label(g.Key), Query: filter(g.Key)}
			for _, m := range c.Measures {
				r.Cells = append(r.Cells, put(m, g.Total))
			}
			c.Rows = append(c.Rows, r)
		}
	}
}

// base is the address of the events behind the whole of a chart's first figure, in
// the time range that was counted: what comes later is not in the chart.
func (c *Card) base(f page.Frame, v *page.View, s *query.Series) string {
	q := v.Values()
	q.Del("range")
	q.Set("from", s.From.Format(time.RFC3339Nano))
	q.Set("to", s.To.Format(time.RFC3339Nano))
	if c.Only != nil {
		var only query.Filter
		c.Only(&only)
		q.Set("kind", only.Kind)
	}
	maps.Copy(q, c.ofFigure(c.Measures[0]))
	if c.By != "" {
		q.Set(page.PointBy, string(c.By))
	}
	return string(f.URL("/events?" + q.Encode()))
}

// ofFigure is the part of an address that names a figure of the card.
func (c *Card) ofFigure(m query.Measure) url.Values {
	if c.Share {
		m = c.counted
	}
	q := ofMeasure(m)
	maps.Copy(q, page.MatchValues(c.Event))
	return q
}

// figureColumn is a column of one figure.
func (c *Card) figureColumn(m query.Measure) column {
	if len(c.Measures) == 1 {
		return column{m.Info().Label, "", unit(m)}
	}
	q := c.ofFigure(m)
	if !q.Has("sort") {
		q.Set("sort", "") // takes away that of the first figure
	}
	return column{m.Info().Label, q.Encode(), unit(m)}
}

// knows reports whether a group has any figure of the card's: one without would
// be a name in the legend and nothing else.
func (c *Card) knows(g query.Line) bool {
	return slices.ContainsFunc(c.Measures, func(m query.Measure) bool { return g.Total[m].Known })
}

// shortest is the lower bound of a bucket of lengths, such as 1k_2k_tokens;
// anything else sorts last.
func shortest(bucket string) float64 {
	first, _, _ := strings.Cut(bucket, "_")
	n, err := strconv.ParseFloat(strings.TrimSuffix(first, "k"), 64)
	if err != nil {
		return math.Inf(1)
	}
	if strings.HasSuffix(first, "k") {
		n *= 1000
	}
	return n
}

// empty reports whether the card has nothing to draw. A share, a duration or a
// price of zero is something: only a count of zero says that nothing was there.
func (c *Card) empty() bool {
	for _, r := range c.Rows {
		for i, x := range r.Cells {
			if x.Plain != "" && (x.Plain != "0" || c.Columns[i].unit != "") {
				return false
			}
		}
	}
	return true
}

// link joins the address of the events with the filters of a row or a column.
func (c *Card) link(q string) templ.SafeURL {
	if q == "" {
		return templ.SafeURL(c.Base)
	}
	base, have, _ := strings.Cut(c.Base, "?")
	v, err := url.ParseQuery(have)
	if err != nil {
		return templ.SafeURL(c.Base)
	}
	more, _ := url.ParseQuery(q)
	for k, x := range more {
		if v[k] = x; len(x) == 1 && x[0] == "" && k != page.PointGroup && k != page.PointNot {
			v.Del(k)
		}
	}
	if v.Has("from") {
		v.Del("range")
	}
	return templ.SafeURL(base + "?" + v.Encode())
}

// Pending is a board without figures, as high as the one with them.
func Pending(v *page.View, specs []Spec, tiles []query.Measure) *Board {
	b := &Board{View: v, Pending: true, Cards: make([]Card, len(specs))}
	for i, sp := range specs {
		b.Cards[i] = Card{Spec: sp, Pending: true}
	}
	for _, m := range tiles {
		b.Tiles = append(b.Tiles, page.Figure{Measure: m, Text: "\u00a0", Note: "\u00a0"})
	}
	return b
}

// Load runs the questions of a board, all of them about the moment of at, which is a
// snapshot. One after the other: a question uses all of the store's threads, and most
// of its memory.
func Load(ctx context.Context, at *query.Reader, f *page.Frame, v *page.View, specs []Spec, tiles []query.Measure) (*Board, error) {
	b := &Board{View: v, Cards: make([]Card, len(specs))}
	var totals *query.Series
	err := supervise.Catch(func() (err error) {
		if totals, err = at.Series(ctx, seriesQuery(f, v, Spec{Measures: tiles})); err != nil {
			return err
		}
		for i, sp := range specs {
			if b.Cards[i], err = loadCard(ctx, at, f, v, sp); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	b.Empty = true
	past := slices.ContainsFunc(tiles, func(m query.Measure) bool { n := totals.Total.Previous[m]; return n.Known && n.Value != 0 })
	for _, m := range tiles {
		now, before := totals.Total.Total[m], totals.Total.Previous[m]
		note := "no previous data"
		if past {
			note = "prev. " + figureText(m, totals.Total.Previous)
		}
		b.Tiles = append(b.Tiles, page.Figure{Measure: m, Text: figureText(m, totals.Total.Total), Note: note, Change: change(m, now, before), Compared: v.Compared(), URL: ListOf(*f, v, m, totals.From, totals.To)})
		if now.Known && now.Value != 0 {
			b.Empty = false
		}
	}
	return b, nil
}

func errorsOnly(f *query.Filter) { f.Kind = query.KindErrors }

func (s *Pages) traffic(r *http.Request, f *page.Frame) (templ.Component, error) {
	calls, rate := []query.Measure{query.Calls}, []query.Measure{query.ErrorRate}
	return s.board(r, f, "/traffic", "Traffic & reliability", "Call volume, errors and users", []query.Measure{query.Calls, query.Errors, query.ErrorRate, query.Users}, []Spec{
		{ID: "by-model", Title: "Calls by model", Measures: calls, By: query.ByModelAsked, OverTime: true, Draw: "stack"},
		{ID: "rate-prompt", Title: "Error rate by prompt version", Measures: rate, By: query.ByPrompt, OverTime: true, Draw: "line", Limit: 8},
		{ID: "error-type", Title: "Error rate by error type", Measures: calls, By: query.ByErrorType, OverTime: true, Draw: "stack", Only: errorsOnly, Share: true},
		{ID: "rate-provider", Title: "Error rate by provider", Measures: rate, By: query.ByProvider, OverTime: true, Draw: "line"},
		{ID: "rate-environment", Title: "Error rate by environment", Measures: rate, By: query.ByEnvironment, OverTime: true, Draw: "line"},
		{ID: "by-prompt", Title: "Calls by prompt", Measures: calls, By: query.ByPromptName, OverTime: true, Draw: "stack"},
		{ID: "by-provider", Title: "Calls by provider", Measures: calls, By: query.ByProvider, OverTime: true, Draw: "stack"},
		{ID: "by-surface", Title: "Calls by surface", Measures: calls, By: query.BySurface, OverTime: true, Draw: "stack"},
	})
}

func (s *Pages) spending(r *http.Request, f *page.Frame) (templ.Component, error) {
	one := func(m query.Measure) []query.Measure { return []query.Measure{m} }
	latencies := []query.Measure{query.LatencyP50, query.LatencyP95, query.LatencyP99}
	firsts := []query.Measure{query.TTFTP50, query.TTFTP95, query.TTFTP99}
	return s.board(r, f, "/latency-cost", "Latency & cost", "Latency, time to first token, tokens and cost", []query.Measure{query.CostUSD, query.CostPerTask, query.CacheShare, query.CacheSaved, query.LatencyP50, query.LatencyP95, query.TTFTP95}, []Spec{
		{ID: "cost", Title: "Cost by model", Measures: one(query.CostUSD), By: query.ByModelAsked, OverTime: true, Draw: "stack"},
		{ID: "latency", Title: "Latency", Measures: latencies, OverTime: true, Draw: "line"},
		{ID: "latency-model", Title: "Latency p95 by model", Measures: one(query.LatencyP95), By: query.ByModelAsked, OverTime: true, Draw: "line"},
		{ID: "ttft-model", Title: "Time to first token p95 by model", Measures: one(query.TTFTP95), By: query.ByModelAsked, OverTime: true, Draw: "line"},
		{ID: "latency-prompt", Title: "Latency by prompt version", Measures: latencies, By: query.ByPrompt, Draw: "bar", Limit: 12},
		{ID: "ttft-prompt", Title: "Time to first token by prompt version", Measures: firsts, By: query.ByPrompt, Draw: "bar", Limit: 12},
		{ID: "latency-models", Title: "Latency by model", Measures: latencies, By: query.ByModelAsked, Draw: "bar", Limit: 12},
		{ID: "ttft-models", Title: "Time to first token by model", Measures: firsts, By: query.ByModelAsked, Draw: "bar", Limit: 12},
		{ID: "latency-length", Title: "Latency by input length", Measures: latencies, By: query.ByInputLength, Draw: "bar", Limit: 12},
		{ID: "ttft-length", Title: "Time to first token by input length", Measures: firsts, By: query.ByInputLength, Draw: "bar", Limit: 12},
		{ID: "tokens", Title: "Tokens by kind", Note: "Reasoning is part of output. Whether cache tokens are part of input depends on the provider.",
			Measures: []query.Measure{query.TokensIn, query.TokensOut, query.TokensCached, query.TokensCacheNew, query.TokensReasoning}, OverTime: true, Draw: "line"},
		{ID: "cache", Title: "Cache hit rate by model", Measures: one(query.CacheShare), By: query.ByModelAsked, OverTime: true, Draw: "line"},
		{ID: "saved", Title: "Cache savings by model", Note: "Cached input tokens × (input price − cache read price). Cache write costs are not deducted.", Measures: one(query.CacheSaved), By: query.ByModelAsked, OverTime: true, Draw: "stack"},
		{ID: "per-task", Title: "Cost per completed task", Note: "Cost of all calls, including failed attempts, divided by completed tasks.", Measures: one(query.CostPerTask), By: query.ByTaskType, OverTime: true, Draw: "line"},
		{ID: "cost-prompt", Title: "Cost by prompt version", Measures: []query.Measure{query.CostUSD, query.Calls}, By: query.ByPrompt, Draw: "bar", Limit: 12},
		{ID: "call-prompt", Title: "Cost per call by prompt version", Measures: one(query.CostPerCall), By: query.ByPrompt, Draw: "bar", Limit: 12},
	})
}

func (s *Pages) quality(r *http.Request, f *page.Frame) (templ.Component, error) {
	one := func(m query.Measure) []query.Measure { return []query.Measure{m} }
	return s.board(r, f, "/quality", "Quality & outcomes", "Outcomes from llm_task_completed, llm_output_rated and evaluations", []query.Measure{query.CompletionRate, query.NegativeRate, query.EscalationRate, query.EvalScore, query.AcceptanceRate, query.RetryRate}, []Spec{
		{ID: "completion", Title: "Task completion rate by prompt version", Measures: one(query.CompletionRate), By: query.ByPrompt, OverTime: true, Draw: "line", Limit: 8},
		{ID: "negative", Title: "Negative feedback by prompt version", Measures: one(query.NegativeRate), By: query.ByPrompt, OverTime: true, Draw: "line", Limit: 8},
		{ID: "score", Title: "Average eval score by prompt version", Measures: one(query.EvalScore), By: query.ByPrompt, OverTime: true, Draw: "line", Limit: 8},
		{ID: "escalation", Title: "Escalation rate by prompt version", Measures: one(query.EscalationRate), By: query.ByPrompt, OverTime: true, Draw: "line", Limit: 8},
		{ID: "use", Title: "Accepted, edited, retried", Measures: []query.Measure{query.AcceptanceRate, query.EditRate, query.RetryRate}, OverTime: true, Draw: "line"},
		{ID: "tasks", Title: "Tasks by type", Measures: one(query.Tasks), By: query.ByTaskType, OverTime: true, Draw: "stack"},
		{ID: "versions", Title: "Prompt versions side by side", Measures: []query.Measure{query.CompletionRate, query.NegativeRate, query.EscalationRate, query.AcceptanceRate, query.EditRate, query.RetryRate, query.EvalPassRate}, By: query.ByPrompt, Draw: "table", Limit: 12},
		{ID: "models", Title: "Models side by side", Measures: []query.Measure{query.CompletionRate, query.NegativeRate, query.EscalationRate, query.AcceptanceRate, query.EditRate, query.RetryRate, query.EvalPassRate}, By: query.ByModelAsked, Draw: "table", Limit: 12},
	})
}

// agentConfig is the custom property that names the set-up of an agent.
const agentConfig = query.AgentConfig

func (s *Pages) agents(r *http.Request, f *page.Frame) (templ.Component, error) {
	v, err := s.View(r, "/agents", "7d")
	if err != nil {
		return nil, err
	}
	f.Title = "Agents"
	one := func(m query.Measure) []query.Measure { return []query.Measure{m} }
	specs := []Spec{
		{ID: "tool-rate", Title: "Tool-call failure rate by tool", Measures: one(query.ToolErrorRate), By: query.ByTool, OverTime: true, Draw: "line"},
		{ID: "tools", Title: "Tool calls", Measures: one(query.ToolCalls), By: query.ByTool, OverTime: true, Draw: "stack"},
		{ID: "retries", Title: "Retries by step", Note: "Sum of retry_count over events with the property " + query.AgentStep + ".", Measures: one(query.Retries), By: query.ByProperty(query.AgentStep), OverTime: true, Draw: "stack"},
		{ID: "config", Title: "Completion rate by agent config", Note: "By the property " + agentConfig + ", falling back to " + query.AgentConfigID + ".", Measures: one(query.CompletionRate), By: query.ByProperty(agentConfig), OverTime: true, Draw: "line"},
		{ID: "config-cost", Title: "Cost per completed task by agent config", Note: "By the property " + agentConfig + ", falling back to " + query.AgentConfigID + ".", Measures: one(query.CostPerTask), By: query.ByProperty(agentConfig), OverTime: true, Draw: "line"},
	}
	tiles := []query.Measure{query.ToolCalls, query.ToolErrorRate, query.ToolP95, query.CompletionRate, query.CostPerTask}
	const sub = "Tool calls, steps, retries and trace shape"
	if s.Defers(r, f) {
		b := Pending(v, append(specs, Spec{ID: "calls", Title: "Calls per trace"}, Spec{ID: "depth", Title: "Trace depth"}), tiles)
		b.Title, b.Sub = f.Title, sub
		return boardPage(*f, b), nil
	}
	at, err := s.Query.Snapshot(r.Context(), f.Session.ProjectID)
	if err != nil {
		return nil, err
	}
	b, err := Load(r.Context(), at, f, v, specs, tiles)
	if err != nil {
		return nil, err
	}
	b.Title, b.Sub = f.Title, sub
	calls, depth, err := at.Shapes(r.Context(), f.Session.ProjectID, v.Filter)
	if err != nil {
		return nil, err
	}
	for _, x := range []struct {
		id, title, first string
		shapes           []query.Shape
	}{{"calls", "Calls per trace", "Calls", calls}, {"depth", "Trace depth", "Levels", depth}} {
		c := Card{Spec: Spec{ID: x.id, Title: x.title, Draw: "bar"}, First: x.first, Base: string(v.LinkNow(*f, "/examples", page.PointShape, x.id)), Columns: []column{{Name: "Traces"}}, File: string(v.Link(*f, "/agents.csv", "of", x.id))}
		for _, n := range x.shapes {
			if len(c.Rows) == 30 {
				break // a tail this long says nothing more
			}
			c.Rows = append(c.Rows, row{Label: page.Count(n.Size), Query: url.Values{page.PointSize: {strconv.FormatInt(n.Size, 10)}}.Encode(), Cells: []cell{{Plain: page.PlainCount(n.Traces), Text: page.Count(n.Traces), Exact: page.PlainCount(n.Traces)}}})
		}
		b.Cards = append(b.Cards, c)
	}
	if b.Steps, err = at.Steps(r.Context(), f.Session.ProjectID, v.Filter, 25); err != nil {
		return nil, err
	}
	return boardPage(*f, b), nil
}

func (s *Pages) board(r *http.Request, f *page.Frame, page, title, sub string, tiles []query.Measure, specs []Spec) (templ.Component, error) {
	v, err := s.View(r, page, "7d")
	if err != nil {
		return nil, err
	}
	f.Title = title
	if s.Defers(r, f) {
		b := Pending(v, specs, tiles)
		b.Title, b.Sub = title, sub
		return boardPage(*f, b), nil
	}
	at, err := s.Query.Snapshot(r.Context(), f.Session.ProjectID)
	if err != nil {
		return nil, err
	}
	b, err := Load(r.Context(), at, f, v, specs, tiles)
	if err != nil {
		return nil, err
	}
	b.Title, b.Sub = title, sub
	return boardPage(*f, b), nil
}
