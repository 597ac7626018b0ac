package web_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/posthog"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/query/querytest"
	"github.com/hedgerow/hedgerow/server/internal/store/storetest"
)

// causes are messages of failures, and what they have in common.
var causes = []struct{ message, normal, kind string }{
	{"citation %d is missing (req_%012d)", "citation 0 is missing (*)", "validation_error"},
	{`the model "gpt-%d" is overloaded, request %d`, "the model * is overloaded, request 0", "overloaded"},
	{"too many requests", "too many requests", "rate_limit"},
	{"too many requests", "too many requests", "quota"},
}

// world is a month of random events, and who looks at them.
type world struct {
	*site
	events   []*event.Event // of the project
	complete []*event.Event // the same, outcomes with what they inherit
	zone     *time.Location
	rng      *rand.Rand
}

// newWorld fills a store: calls and embeddings, some failed, some of unknown
// tokens or cost, outcomes, tools, deep traces, milestones; next to another
// project's. The clocks of the reader's zone change within it.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{rng: rand.New(rand.NewPCG(17, 4))}
	var err error
	if w.zone, err = time.LoadLocation("America/New_York"); err != nil {
		t.Fatal(err)
	}
	g := storetest.NewGenerator(11)
	const minutes = 31 * 24 * 60
	for i := range 1100 {
		e := g.Event(now.Add(-time.Duration(10+i*7919%minutes) * time.Minute))
		e.DistinctID, e.SessionID = fmt.Sprintf("user-%d", w.rng.IntN(60)), fmt.Sprintf("s-%d", w.rng.IntN(90))
		if w.rng.IntN(3) > 0 {
			e.InputLengthBucket = []string{"0_1k_tokens", "1k_2k_tokens"}[w.rng.IntN(2)]
		}
		if w.rng.IntN(2) == 0 {
			e.Properties["agent_config"] = json.RawMessage([]string{`"solo"`, `"swarm"`}[w.rng.IntN(2)])
		}
		if e.Usage.Output.Known && w.rng.IntN(3) == 0 {
			e.Usage.Reasoning = event.Some(w.rng.Int64N(200))
		}
		if e.Usage.CacheRead.Known && w.rng.IntN(3) == 0 {
			e.Usage.CacheWrite = event.Some(w.rng.Int64N(200))
		}
		if w.rng.IntN(12) == 0 {
			e.IsError, e.Status = true, event.StatusError
		}
		if e.IsError {
			c := causes[w.rng.IntN(len(causes))]
			e.ErrorType, e.ErrorMessage = c.kind, c.message
			if strings.Contains(c.message, "%") {
				e.ErrorMessage = fmt.Sprintf(c.message, w.rng.IntN(100), w.rng.IntN(1e6))
			}
		}
		w.events = append(w.events, e)
	}
	more := querytest.Outcomes(w.rng, w.events)
	for _, e := range more {
		if querytest.IsOutcome(e) && w.rng.IntN(2) == 0 {
			e.Properties["agent_config"] = json.RawMessage([]string{`"solo"`, `"swarm"`}[w.rng.IntN(2)])
		}
	}
	for i := 0; i < len(w.events); i += 9 { // steps of agents below a call
		above := w.events[i]
		for depth := range 1 + w.rng.IntN(4) {
			at := w.events[i]
			s := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Span, Operation: "invoke_agent", SpanName: []string{"plan", "search"}[w.rng.IntN(2)], SpanID: fmt.Sprintf("%d-%d", i, depth), ParentID: above.SpanID,
				TraceID: at.TraceID, Timestamp: at.Timestamp.Add(time.Duration(depth) * time.Second), Latency: event.Some(time.Duration(w.rng.IntN(4000)) * time.Millisecond), IsError: w.rng.IntN(3) == 0}
			more, above = append(more, s), s
		}
	}
	for i := range 20 {
		more = append(more, &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.FirstValue, DistinctID: fmt.Sprintf("user-%d", i), Timestamp: w.events[i].Timestamp})
	}
	w.events = append(w.events, more...)
	w.complete = querytest.Complete(w.events)
	w.site = newSite(t, append(slices.Clone(w.events), sample("other"))...)
	w.client = w.as(w.admin)
	return w
}

// span is what a page is asked about, and the same in plain Go.
type span struct {
	address string // its query
	ok      func(*event.Event) bool
	from    time.Time
}

// spans are the last 14 days of the reader's zone, with and without filters.
func (w *world) spans() map[string]span {
	local := now.In(w.zone)
	from := time.Date(local.Year(), local.Month(), local.Day()-13, 0, 0, 0, 0, w.zone)
	at := "range=14d&tz=America/New_York"
	return map[string]span{
		"All":      {at, func(*event.Event) bool { return true }, from},
		"Filtered": {at + "&environment=production&provider=openai", func(e *event.Event) bool { return e.Environment == "production" && e.Provider == "openai" }, from},
	}
}

// in are the events of a span, before those of the same local days two weeks earlier.
func (s span) in(events []*event.Event) (in, before []*event.Event) {
	from, to := s.from.AddDate(0, 0, -14), now.In(s.from.Location()).AddDate(0, 0, -14)
	for _, e := range events {
		switch {
		case !s.ok(e):
		case !e.Timestamp.Before(s.from) && e.Timestamp.Before(now):
			in = append(in, e)
		case !e.Timestamp.Before(from) && e.Timestamp.Before(to):
			before = append(before, e)
		}
	}
	return in, before
}

func (w *world) open(t *testing.T, page, address string) string {
	t.Helper()
	if address != "" {
		page += "?" + address
	}
	resp, body := w.get("/p/default" + page)
	if resp.StatusCode != 200 {
		t.Fatalf("%s: status %d", page, resp.StatusCode)
	}
	return body
}

func keep(events []*event.Event, ok func(*event.Event) bool) (out []*event.Event) {
	for _, e := range events {
		if ok(e) {
			out = append(out, e)
		}
	}
	return out
}

// by are the groups of events as chart and tables name them.
func by(events []*event.Event, key func(*event.Event) string) map[string][]*event.Event {
	out := make(map[string][]*event.Event)
	for _, e := range events {
		out[key(e)] = append(out[key(e)], e)
	}
	return out
}

// keys of the breakdowns.
var keys = map[query.GroupBy]func(*event.Event) string{
	query.ByModelAsked:  func(e *event.Event) string { return cmp.Or(e.ModelAsked, e.Model) },
	query.ByModel:       func(e *event.Event) string { return cmp.Or(e.Model, e.ModelAsked) },
	query.ByProvider:    func(e *event.Event) string { return e.Provider },
	query.ByEnvironment: func(e *event.Event) string { return e.Environment },
	query.ByErrorType:   func(e *event.Event) string { return e.ErrorType },
	query.ByPromptName:  func(e *event.Event) string { return e.PromptName },
	query.BySurface:     func(e *event.Event) string { return e.Surface },
	query.ByTaskType:    func(e *event.Event) string { return e.TaskType },
	query.ByInputLength: func(e *event.Event) string { return e.InputLengthBucket },
	query.ByTool:        func(e *event.Event) string { return cmp.Or(querytest.Text(e, "gen_ai.tool.name"), e.SpanName) },
	query.ByPrompt: func(e *event.Event) string {
		if version := cmp.Or(e.PromptVersion, e.PromptVersionID); e.PromptName != "" && version != "" {
			return e.PromptName + "@" + version
		}
		return e.PromptName
	},
	query.ByEval: func(e *event.Event) string {
		return cmp.Or(querytest.Text(e, "eval_name"), querytest.Text(e, "$ai_metric_name"), querytest.Text(e, "$ai_evaluation_name"))
	},
	query.ByProperty("agent_config"): func(e *event.Event) string { return querytest.Text(e, "agent_config") },
}

// drawing is a chart of a page.
type drawing struct {
	id       string
	measures []query.Measure
	by       query.GroupBy
	inTotal  bool // not over time
	failed   bool // failed events only
	share    bool // of all calls
}

func of(ms ...query.Measure) []query.Measure { return ms }

// boards are the pages of charts: their tiles, and their charts.
var boards = map[string]struct {
	tiles  []query.Measure
	charts []drawing
}{
	"/traffic": {of(query.Calls, query.Errors, query.ErrorRate, query.Users), []drawing{
		{id: "by-model", measures: of(query.Calls), by: query.ByModelAsked},
		{id: "rate-prompt", measures: of(query.ErrorRate), by: query.ByPrompt},
		{id: "error-type", measures: of(query.Calls), by: query.ByErrorType, failed: true, share: true},
		{id: "rate-provider", measures: of(query.ErrorRate), by: query.ByProvider},
		{id: "rate-environment", measures: of(query.ErrorRate), by: query.ByEnvironment},
		{id: "by-prompt", measures: of(query.Calls), by: query.ByPromptName},
		{id: "by-provider", measures: of(query.Calls), by: query.ByProvider},
		{id: "by-surface", measures: of(query.Calls), by: query.BySurface},
	}},
	"/latency-cost": {of(query.CostUSD, query.CostPerTask, query.CacheShare, query.CacheSaved, query.LatencyP50, query.LatencyP95, query.TTFTP95), []drawing{
		{id: "cost", measures: of(query.CostUSD), by: query.ByModelAsked},
		{id: "latency", measures: of(query.LatencyP50, query.LatencyP95, query.LatencyP99)},
		{id: "latency-model", measures: of(query.LatencyP95), by: query.ByModelAsked},
		{id: "ttft-model", measures: of(query.TTFTP95), by: query.ByModelAsked},
		{id: "latency-prompt", measures: of(query.LatencyP50, query.LatencyP95, query.LatencyP99), by: query.ByPrompt, inTotal: true},
		{id: "ttft-prompt", measures: of(query.TTFTP50, query.TTFTP95, query.TTFTP99), by: query.ByPrompt, inTotal: true},
		{id: "latency-models", measures: of(query.LatencyP50, query.LatencyP95, query.LatencyP99), by: query.ByModelAsked, inTotal: true},
		{id: "ttft-models", measures: of(query.TTFTP50, query.TTFTP95, query.TTFTP99), by: query.ByModelAsked, inTotal: true},
		{id: "ttft-length", measures: of(query.TTFTP50, query.TTFTP95, query.TTFTP99), by: query.ByInputLength, inTotal: true},
		{id: "latency-length", measures: of(query.LatencyP50, query.LatencyP95, query.LatencyP99), by: query.ByInputLength, inTotal: true},
		{id: "tokens", measures: of(query.TokensIn, query.TokensOut, query.TokensCached, query.TokensCacheNew, query.TokensReasoning)},
		{id: "cache", measures: of(query.CacheShare), by: query.ByModelAsked},
		{id: "saved", measures: of(query.CacheSaved), by: query.ByModelAsked},
		{id: "per-task", measures: of(query.CostPerTask), by: query.ByTaskType},
		{id: "cost-prompt", measures: of(query.CostUSD, query.Calls), by: query.ByPrompt, inTotal: true},
		{id: "call-prompt", measures: of(query.CostPerCall), by: query.ByPrompt, inTotal: true},
	}},
	"/quality": {of(query.CompletionRate, query.NegativeRate, query.EscalationRate, query.EvalScore, query.AcceptanceRate, query.RetryRate), []drawing{
		{id: "completion", measures: of(query.CompletionRate), by: query.ByPrompt},
		{id: "negative", measures: of(query.NegativeRate), by: query.ByPrompt},
		{id: "score", measures: of(query.EvalScore), by: query.ByPrompt},
		{id: "escalation", measures: of(query.EscalationRate), by: query.ByPrompt},
		{id: "use", measures: of(query.AcceptanceRate, query.EditRate, query.RetryRate)},
		{id: "tasks", measures: of(query.Tasks), by: query.ByTaskType},
		{id: "versions", measures: of(query.CompletionRate, query.NegativeRate, query.EscalationRate, query.AcceptanceRate, query.EditRate, query.RetryRate, query.EvalPassRate), by: query.ByPrompt, inTotal: true},
		{id: "models", measures: of(query.CompletionRate, query.NegativeRate, query.EscalationRate, query.AcceptanceRate, query.EditRate, query.RetryRate, query.EvalPassRate), by: query.ByModelAsked, inTotal: true},
	}},
	"/evals": {of(query.Evals, query.EvalPassRate, query.EvalScore, query.Rated, query.NegativeRate), []drawing{
		{id: "passed", measures: of(query.EvalPassRate), by: query.ByEval},
		{id: "scores", measures: of(query.EvalScore), by: query.ByEval},
	}},
	"/agents": {of(query.ToolCalls, query.ToolErrorRate, query.ToolP95, query.CompletionRate, query.CostPerTask), []drawing{
		{id: "tool-rate", measures: of(query.ToolErrorRate), by: query.ByTool},
		{id: "tools", measures: of(query.ToolCalls), by: query.ByTool},
		{id: "config", measures: of(query.CompletionRate), by: query.ByProperty("agent_config")},
		{id: "config-cost", measures: of(query.CostPerTask), by: query.ByProperty("agent_config")},
	}},
	"/models": {nil, []drawing{
		{id: "latency", measures: of(query.LatencyP50, query.LatencyP95), by: query.ByModelAsked, inTotal: true},
		{id: "per-call", measures: of(query.CostPerCall), by: query.ByModelAsked},
	}},
	"/people/user-7": {nil, []drawing{
		{id: "cost", measures: of(query.CostUSD), by: query.ByModelAsked},
		{id: "calls", measures: of(query.Calls), by: query.ByPrompt},
	}},
}

// chart compares every cell of a chart's table, as it is drawn and as it is
// written, and what its title says of the whole.
func (w *world) chart(t *testing.T, body string, d drawing, in, before []*event.Event) {
	t.Helper()
	all, allBefore := in, before
	if d.failed {
		failed := func(e *event.Event) bool { return e.IsError }
		in, before = keep(in, failed), keep(before, failed)
	}
	key := func(e *event.Event) string { return "" }
	if d.by != "" {
		key = func(e *event.Event) string { return cmp.Or(keys[d.by](e), "not set") }
	}
	unit := 1.0
	m := d.measures[0]
	shown := m
	if d.share {
		shown = query.ErrorRate
	}
	// count is a figure of events or, of a share, what it is of all calls among whole.
	count := func(m query.Measure, events, whole []*event.Event) query.Number {
		n := querytest.Figures(events)[m]
		if d.share {
			calls := querytest.Figures(whole)[query.Calls].Value
			return query.Number{Value: n.Value / calls, Known: calls > 0}
		}
		return n
	}
	if s := string(shown); strings.HasSuffix(s, "_rate") || strings.HasSuffix(s, "_share") {
		unit = 100
	}
	g, ok := gridAfter(body, `<table id="t-`+d.id+`"`)
	if !ok {
		if n := querytest.Figures(in)[m]; n.Known && n.Value != 0 {
			t.Errorf("%s is not there", d.id)
		}
		return
	}
	// named are the groups of the table: its columns or, in total, its rows.
	named := make(map[string]bool)
	if d.inTotal {
		for _, row := range g.rows {
			named[row[0].text] = true
		}
	} else {
		for _, h := range g.head[1:] {
			named[h] = true
		}
	}
	group := func(events []*event.Event, name string) []*event.Event {
		return keep(events, func(e *event.Event) bool {
			return d.by == "" || key(e) == name || name == "Other" && !named[key(e)]
		})
	}
	if d.by != "" {
		var lost []*event.Event
		for k, list := range by(in, key) {
			if !named[k] && !named["Other"] {
				lost = append(lost, list...)
			}
		}
		if n := querytest.Figures(lost)[m]; n.Known && n.Value != 0 {
			t.Errorf("%s has no place for %v of %s", d.id, n.Value, m)
		}
	}
	cell := func(what string, x gridCell, m query.Measure, events, whole []*event.Event) {
		t.Helper()
		want := count(m, events, whole)
		wantShown(t, what, x.text, want)
		if (x.exact != "") != want.Known {
			t.Errorf("%s is drawn as %q, want %v", what, x.exact, want)
		} else if v, _ := strconv.ParseFloat(x.exact, 64); want.Known && math.Abs(v-want.Value*unit) > 1e-5*math.Abs(want.Value*unit) && len(d.measures) == 1 {
			t.Errorf("%s is drawn as %q, want %v", what, x.exact, want)
		}
	}
	switch {
	case d.inTotal:
		for _, row := range g.rows {
			for i, m := range d.measures {
				cell(fmt.Sprintf("%s, %s of %s", d.id, m, row[0].text), row[i+1], m, group(in, row[0].text), all)
			}
		}
	default:
		days := by(in, func(e *event.Event) string { return e.Timestamp.In(w.zone).Format("Mon 02 Jan") })
		wholes := by(all, func(e *event.Event) string { return e.Timestamp.In(w.zone).Format("Mon 02 Jan") })
		for _, row := range g.rows {
			day, whole := days[row[0].text], wholes[row[0].text]
			delete(days, row[0].text)
			for i, x := range row[1:] {
				if d.by == "" {
					cell(fmt.Sprintf("%s, %s on %s", d.id, d.measures[i], row[0].text), x, d.measures[i], day, whole)
					continue
				}
				cell(fmt.Sprintf("%s, %s on %s", d.id, g.head[i+1], row[0].text), x, m, group(day, g.head[i+1]), whole)
			}
		}
		for day := range days {
			t.Errorf("%s lacks %s", d.id, day)
		}
		if len(g.rows) != 14 {
			t.Errorf("%s has %d days, want 14", d.id, len(g.rows))
		}
	}
	// The section begins before the table does.
	upTo, _, _ := strings.Cut(body, `<table id="t-`+d.id+`"`)
	_, total, ok := cutLast(upTo, `<span class="soft total">`)
	if !ok {
		t.Fatalf("%s has no total", d.id)
	}
	changed := ""
	if d := deltaTag.FindStringSubmatch(total); d != nil && d[0] != "" {
		before, _, _ := strings.Cut(total, d[0])
		if !strings.Contains(before, "<div") && !strings.Contains(before, "<details") { // within the title
			total, changed = before, html.UnescapeString(d[1])
		}
	}
	total, _, _ = strings.Cut(total, "</span>")
	figure := strings.TrimSuffix(words(total), " ·")
	if len(d.measures) > 1 { // its name precedes it
		named := false
		if figure, named = strings.CutPrefix(figure, g.head[1]+" "); !named {
			t.Errorf("%s does not say which figure %q is", d.id, figure)
		}
	}
	now, then := count(m, in, all), count(m, before, allBefore)
	wantShown(t, d.id+" in all", figure, now)
	wantChange(t, d.id, changed, shown, now, then)
}

// intervalTag is what a tile says of its figure's interval.
var intervalTag = regexp.MustCompile(`95 % interval [^;]*; `)

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// TestFigures counts again, in plain Go over the events, every figure of every
// page: over two weeks of a reader's zone in which the clocks change, with and
// without filters, and against the period before.
func TestFigures(t *testing.T) {
	w := newWorld(t)
	t.Run("Board", w.boardFigures)
	t.Run("Overview", w.overviewFigures)
	t.Run("List", w.listFigures)
	t.Run("Event", w.eventFigures)
	t.Run("Error", w.errorFigures)
	t.Run("Model", w.modelFigures)
	t.Run("Prompt", w.promptFigures)
	t.Run("File", w.fileFigures)
}

// boardFigures counts again each figure of each page of charts.
func (w *world) boardFigures(t *testing.T) {
	for name, s := range w.spans() {
		for page, b := range boards {
			t.Run(name+page, func(t *testing.T) {
				body := w.open(t, page, s.address)
				in, before := s.in(w.complete)
				if user, ok := strings.CutPrefix(page, "/people/"); ok {
					theirs := func(e *event.Event) bool { return e.DistinctID == user }
					in, before = keep(in, theirs), keep(before, theirs)
				}
				now, then := querytest.Figures(in), querytest.Figures(before)
				if b.tiles != nil {
					tiles := tilesOf(body)
					if len(tiles) != len(b.tiles) {
						t.Fatalf("tiles %q", tiles)
					}
					for i, m := range b.tiles {
						changed, was, ok := strings.Cut(tiles[i][2], "prev. ")
						if !ok {
							t.Fatalf("tile %q", tiles[i])
						}
						wantShown(t, string(m), tiles[i][1], now[m])
						wantShown(t, string(m)+" before", was, then[m])
						changed = intervalTag.ReplaceAllString(changed, "")
						wantChange(t, string(m), strings.TrimSuffix(changed, " · "), m, now[m], then[m])
					}
				}
				for _, d := range b.charts {
					w.chart(t, body, d, in, before)
				}
				switch page {
				case "/agents":
					w.steps(t, body, s)
				case "/evals":
					w.checks(t, body, in)
				}
			})
		}
	}
}

// checks compares the table of judgments that no check of the project made.
func (w *world) checks(t *testing.T, body string, in []*event.Event) {
	t.Helper()
	named := by(keep(in, querytest.IsOutcome), keys[query.ByEval])
	delete(named, "")
	g, _ := gridAfter(body, `aria-label="External evaluations"`)
	if len(g.rows) != len(named) || len(named) == 0 {
		t.Errorf("%d checks, want %d", len(g.rows), len(named))
	}
	for _, row := range g.rows {
		f := querytest.Figures(named[row[0].text])
		for i, m := range of(query.Evals, query.EvalPassRate, query.EvalScore) {
			wantShown(t, row[0].text+", "+g.head[i+1], row[i+1].text, f[m])
		}
	}
}

// steps compares the tables of agents: steps with their retries, calls and depth
// of traces.
func (w *world) steps(t *testing.T, body string, s span) {
	t.Helper()
	in, _ := s.in(w.events)
	own := keep(in, func(e *event.Event) bool {
		return e.Name == event.Span && slices.Contains([]string{"", "execute_tool", "invoke_agent"}, e.Operation)
	})
	groups := by(own, func(e *event.Event) string { return cmp.Or(keys[query.ByTool](e), "not set") })
	g, ok := gridAfter(body, `<section class="card" aria-label="Steps">`)
	if ok != (len(groups) > 0) || len(g.rows) != len(groups) {
		t.Fatalf("%d steps, want %d", len(g.rows), len(groups))
	}
	for _, row := range g.rows {
		name := strings.TrimSuffix(row[0].text, " tool")
		events := groups[name]
		slices.SortFunc(events, func(a, b *event.Event) int {
			return cmp.Or(a.Timestamp.Compare(b.Timestamp), strings.Compare(a.UUID, b.UUID))
		})
		var failed, retried float64
		last := make(map[string]bool)
		for _, e := range events {
			if e.TraceID != "" && last[e.TraceID] {
				retried++
			}
			if last[e.TraceID] = e.IsError; e.IsError {
				failed++
			}
		}
		n := float64(len(events))
		for i, want := range []query.Number{event.Some(n), event.Some(failed), event.Some(failed / n), event.Some(retried), querytest.Quantiles(latencies(events)).P95} {
			wantShown(t, "step "+name+", "+g.head[i+1], row[i+1].text, want)
		}
	}
	// Traces with an event that the filter takes, whole.
	ids := by(in, func(e *event.Event) string { return e.TraceID })
	delete(ids, "")
	all, _ := span{ok: func(e *event.Event) bool { return ids[e.TraceID] != nil }, from: s.from}.in(w.events)
	calls, depths := make(map[int]float64), make(map[int]float64)
	for _, list := range by(all, func(e *event.Event) string { return e.TraceID }) {
		calls[len(keep(list, (*event.Event).IsCosted))]++
		if d := deepest(list); d > 0 {
			depths[d]++
		}
	}
	for id, want := range map[string]map[int]float64{"calls": calls, "depth": depths} {
		g, ok := gridAfter(body, `<table id="t-`+id+`"`)
		if !ok || len(g.rows) != len(want) {
			t.Errorf("%s of traces: %d rows, want %d", id, len(g.rows), len(want))
		}
		for _, row := range g.rows {
			size, _ := strconv.Atoi(row[0].text)
			wantShown(t, fmt.Sprintf("traces with %d %s", size, id), row[1].text, event.Some(want[size]))
		}
	}
}

// deepest is how many levels of parents the deepest part of a trace has.
func deepest(list []*event.Event) (most int) {
	parent := make(map[string]string)
	for _, e := range list {
		if e.SpanID != "" {
			parent[e.SpanID] = e.ParentID
		}
	}
	for id := range parent {
		n := 1
		for up := parent[id]; parent[up] != "" || up != "" && has(parent, up); up = parent[up] {
			n++
		}
		most = max(most, n)
	}
	return most
}

func has(m map[string]string, key string) bool { _, ok := m[key]; return ok }

func latencies(events []*event.Event) (out []float64) {
	for _, e := range events {
		if e.Latency.Known {
			out = append(out, float64(e.Latency.Value.Microseconds())/1000)
		}
	}
	return out
}

func whole(n int64) query.Number     { return event.Some(float64(n)) }
func maybe(n event.Int) query.Number { return query.Number{Value: float64(n.Value), Known: n.Known} }
func dollars(c query.USD) query.Number {
	return query.Number{Value: c.Value.InexactFloat64(), Known: c.Known}
}

// totalTiles compares the six tiles over a set of events.
func totalTiles(t *testing.T, what string, tiles [][3]string, events, before []*event.Event) {
	t.Helper()
	figures := func(events []*event.Event) []query.Number {
		of := querytest.Totals(events)
		return []query.Number{whole(of.Calls), maybe(of.TotalTokens), dollars(of.CostUSD), whole(of.Errors), of.LatencyMS.P95, of.TTFTMS.P95}
	}
	want, was := querytest.Totals(events), figures(before)
	tiles = slices.Clone(tiles)
	for i, n := range figures(events) {
		wantShown(t, what+", "+tiles[i][0], tiles[i][1], n)
		changed, note, ok := strings.Cut(tiles[i][2], " · ")
		if !ok {
			changed, note = "", tiles[i][2]
		}
		m := []query.Measure{query.Calls, query.TokensTotal, query.CostUSD, query.Errors, query.LatencyP95, query.TTFTP95}[i]
		wantChange(t, what+", "+tiles[i][0], changed, m, n, was[i])
		tiles[i][2] = note
	}
	in, out, _ := strings.Cut(strings.TrimSuffix(tiles[1][2], " out"), " in, ")
	wantShown(t, what+", input", in, maybe(want.InputTokens))
	wantShown(t, what+", output", out, maybe(want.OutputTokens))
	wantShown(t, what+", events", strings.TrimSuffix(tiles[0][2], " events"), whole(want.Events))
	wantShown(t, what+", error rate", strings.TrimSuffix(tiles[3][2], " of calls"), want.ErrorRate)
	wantShown(t, what+", latency p50", strings.TrimPrefix(tiles[4][2], "p50 "), want.LatencyMS.P50)
	wantShown(t, what+", first token p50", strings.TrimPrefix(tiles[5][2], "p50 "), want.TTFTMS.P50)
	if n := want.Incomplete; n > 1 {
		wantShown(t, what+", unpriced", strings.TrimSuffix(tiles[2][2], " calls incompletely priced"), whole(n))
	}
	if least := strings.HasPrefix(tiles[2][1], "at least "); least != want.CostAtLeast {
		t.Errorf("%s: cost %q of %d incompletely priced calls", what, tiles[2][1], want.Incomplete)
	}
}

// groupRows compares a table of groups: calls, tokens, cost and errors under
// their headings.
func groupRows(t *testing.T, body, mark string, events []*event.Event, key func(*event.Event) string) {
	t.Helper()
	g, ok := gridAfter(body, mark)
	if !ok {
		t.Fatalf("no table %s", mark)
	}
	want := by(keep(events, (*event.Event).IsCosted), func(e *event.Event) string { return cmp.Or(key(e), "not set") })
	if len(g.rows) != len(want) {
		t.Errorf("%s: %d rows, want %d", mark, len(g.rows), len(want))
	}
	for _, row := range g.rows {
		totals := querytest.Totals(want[row[0].text])
		for name, n := range map[string]query.Number{"Calls": whole(totals.Calls), "Tokens": maybe(totals.TotalTokens), "Cost": dollars(totals.CostUSD), "Errors": whole(totals.Errors), "Latency p95": totals.LatencyMS.P95} {
			if slices.Contains(g.head, name) {
				wantShown(t, mark+" "+row[0].text+", "+name, row[g.col(t, name)].text, n)
			}
		}
	}
}

// daysBefore are the events before those of sinceMidnight, up to the same time of day.
func (w *world) daysBefore(zone *time.Location, days int) []*event.Event {
	local := now.In(zone)
	from, to := time.Date(local.Year(), local.Month(), local.Day()-2*days+1, 0, 0, 0, 0, zone), local.AddDate(0, 0, -days)
	return keep(w.events, func(e *event.Event) bool { return !e.Timestamp.Before(from) && e.Timestamp.Before(to) })
}

// sinceMidnight are the events of the last days of a zone, today among them.
func (w *world) sinceMidnight(zone *time.Location, days int) []*event.Event {
	local := now.In(zone)
	from := time.Date(local.Year(), local.Month(), local.Day()-days+1, 0, 0, 0, 0, zone)
	return keep(w.events, func(e *event.Event) bool { return !e.Timestamp.Before(from) })
}

// overviewFigures counts again the overview in the reader's zone, and the
// analytics in UTC, whose days are shown next to PostHog's.
func (w *world) overviewFigures(t *testing.T) {
	body := w.open(t, "/overview", "tz=America/New_York")
	tiles, week := tilesOf(body), w.sinceMidnight(w.zone, 7)
	totalTiles(t, "today", tiles[:6], w.sinceMidnight(w.zone, 1), w.daysBefore(w.zone, 1))
	totalTiles(t, "7 days", tiles[6:], week, w.daysBefore(w.zone, 7))
	groupRows(t, body, `aria-label="By model, last 7 days"`, week, keys[query.ByModelAsked])
	groupRows(t, body, `aria-label="By surface, last 7 days"`, week, keys[query.BySurface])
	days := by(week, func(e *event.Event) string { return e.Timestamp.In(w.zone).Format("Mon 02 Jan") })
	g, _ := gridAfter(body, `<table id="by-day"`)
	if len(g.rows) != 7 {
		t.Errorf("%d days", len(g.rows))
	}
	for _, row := range g.rows {
		totals := querytest.Totals(days[row[0].text])
		for i, n := range []query.Number{whole(totals.Calls), whole(totals.Errors), dollars(totals.CostUSD)} {
			wantShown(t, row[0].text+", "+g.head[i+1], row[i+1].text, n)
			if v, err := strconv.ParseFloat(row[i+1].exact, 64); n.Known && (err != nil || math.Abs(v-n.Value) > 1e-9) {
				t.Errorf("%s, %s is drawn as %q, want %v", row[0].text, g.head[i+1], row[i+1].exact, n)
			}
		}
	}

	c := project.NewConnection("default", "production")
	c.ProjectKey, c.PersonalKey = project.NewSecret(phc), project.NewSecret(phx)
	if _, err := w.Registry.CreateConnection(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	days = by(w.sinceMidnight(time.UTC, 7), func(e *event.Event) string { return e.Timestamp.UTC().Format(time.DateOnly) })
	for _, day := range slices.Sorted(maps.Keys(days)) {
		w.delivery.days = append(w.delivery.days, posthog.Day{Day: day, Calls: 5, InputTokens: 300, OutputTokens: 20, CostUSD: decimal.RequireFromString("1.5"), Errors: 2})
	}
	body = w.open(t, "/analytics", "")
	tiles = tilesOf(body)
	totalTiles(t, "today in UTC", tiles[:6], w.sinceMidnight(time.UTC, 1), w.daysBefore(time.UTC, 1))
	totalTiles(t, "7 days in UTC", tiles[6:], w.sinceMidnight(time.UTC, 7), w.daysBefore(time.UTC, 7))
	g, _ = gridAfter(body, `aria-label="PostHog’s counts, production"`)
	if len(g.rows) != 7 {
		t.Fatalf("%d days beside PostHog’s", len(g.rows))
	}
	for _, row := range g.rows {
		o := querytest.Totals(days[row[0].text])
		calls, difference := whole(o.Calls), strings.NewReplacer("−", "-", "+", "").Replace(row[3].text)
		for i, n := range []query.Number{calls, whole(5), {}, whole(o.InputTokens.Value + o.OutputTokens.Value), whole(320), dollars(o.CostUSD), event.Some(1.5), whole(o.Errors), whole(2)} {
			if i != 2 {
				wantShown(t, row[0].text+", "+g.head[i+1], row[i+1].text, n)
			}
		}
		wantShown(t, row[0].text+", difference", difference, event.Some(5-calls.Value))
	}
}

var (
	sparkTag = regexp.MustCompile(`(?s)<svg class="spark".*?</svg>`)
	tallAttr = regexp.MustCompile(`height="([^"]*)"`)
)
