package web_test

import (
	"maps"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/query/querytest"
)

var nextPage = regexp.MustCompile(`<a rel="next" href="([^"]*)"`)

// rows are the rows of a list, page by page.
func (w *world) rows(t *testing.T, page, address, mark string) (all grid) {
	t.Helper()
	for {
		body := w.open(t, page, address)
		g, _ := gridAfter(body, mark)
		all.head, all.rows = g.head, append(all.rows, g.rows...)
		m := nextPage.FindStringSubmatch(body)
		if m == nil {
			return all
		}
		_, address, _ = strings.Cut(strings.ReplaceAll(m[1], "&amp;", "&"), "?")
	}
}

// took is the time from the first start to the last end of what has a duration.
func took(events []*event.Event) query.Number {
	var first, end time.Time
	for _, e := range keep(events, func(e *event.Event) bool { return e.Latency.Known }) {
		if first.IsZero() || e.Timestamp.Before(first) {
			first = e.Timestamp
		}
		if at := e.Timestamp.Add(e.Latency.Value); at.After(end) {
			end = at
		}
	}
	return event.Some(float64(end.Sub(first).Microseconds()) / 1000)
}

// listFigures counts again every row of the lists of traces, sessions and
// users, and of some of them their own pages.
func (w *world) listFigures(t *testing.T) {
	clock := func(at time.Time) string { return at.In(w.zone).Format("2006-01-02 15:04:05") }
	for name, s := range w.spans() {
		for _, l := range []struct {
			page, title, sort string
			key               func(*event.Event) string
		}{
			{"/traces", "Traces", "start", func(e *event.Event) string { return e.TraceID }},
			{"/sessions", "Sessions", "calls", func(e *event.Event) string { return e.SessionID }},
			{"/people", "Users", "cost", func(e *event.Event) string { return e.DistinctID }},
		} {
			t.Run(name+l.page, func(t *testing.T) {
				in, before := s.in(w.events)
				met, metBefore := by(in, l.key), by(before, l.key)
				whole1 := span{ok: func(e *event.Event) bool { return l.key(e) != "" }, from: s.from}
				in, before = whole1.in(w.events)
				all, then := by(in, l.key), by(before, l.key)
				g := w.rows(t, l.page, s.address+"&sort="+l.sort, `<section class="card" aria-label="`+l.title+`">`)
				delete(met, "")
				if len(g.rows) != len(met) || len(met) == 0 {
					t.Fatalf("%d rows, want %d", len(g.rows), len(met))
				}
				for _, row := range g.rows {
					id := row[0].text
					events := all[id]
					if met[id] == nil {
						t.Errorf("%s is not one that the filter takes", id)
					}
					was := then[id]
					if metBefore[id] == nil {
						was = nil
					}
					totals, earlier := querytest.Totals(events), querytest.Totals(was)
					errors, errorsBefore := whole(totals.Errors), whole(earlier.Errors)
					traces := by(events, func(e *event.Event) string { return e.TraceID })
					delete(traces, "")
					slices.SortFunc(events, func(a, b *event.Event) int { return a.Timestamp.Compare(b.Timestamp) })
					for i, head := range g.head {
						x, what := row[i], id+", "+head
						var m query.Measure
						var n, b query.Number
						switch head {
						case "Calls":
							m, n, b = query.Calls, whole(totals.Calls), whole(earlier.Calls)
						case "Tokens":
							m, n, b = query.TokensTotal, maybe(totals.TotalTokens), maybe(earlier.TotalTokens)
						case "Cost":
							m, n, b = query.CostUSD, dollars(totals.CostUSD), dollars(earlier.CostUSD)
						case "Errors":
							m, n, b = query.Errors, errors, errorsBefore
						case "Traces":
							n = whole(int64(len(traces)))
						case "Duration":
							n = took(events)
						case "Start":
							if x.text != clock(events[0].Timestamp) {
								t.Errorf("%s: %q", what, x.text)
							}
							continue
						case "Last seen":
							if x.text != clock(events[len(events)-1].Timestamp) {
								t.Errorf("%s: %q", what, x.text)
							}
							continue
						case "First value":
							// Ever, whatever the page is asked about.
							firsts := keep(w.events, func(e *event.Event) bool { return e.Name == event.FirstValue && e.DistinctID == id })
							if want := "–"; len(firsts) == 0 && x.text != want || len(firsts) > 0 && x.text != clock(firsts[0].Timestamp) {
								t.Errorf("%s: %q", what, x.text)
							}
							continue
						default:
							continue
						}
						wantShown(t, what, x.text, n)
						if m == query.CostUSD && n.Known && strings.HasPrefix(x.text, "at least ") != totals.CostAtLeast {
							t.Errorf("%s: %q of %d incompletely priced calls", what, x.text, totals.Incomplete)
						}
						if m != "" && l.page == "/people" {
							wantChange(t, what, x.change, m, n, b)
						} else if x.change != "" {
							t.Errorf("%s: changed by %q", what, x.change)
						}
					}
				}
			})
		}
	}
	t.Run("OneUser", func(t *testing.T) {
		s := w.spans()["All"]
		body := w.open(t, "/people/user-7", s.address)
		own := func(e *event.Event) bool { return e.DistinctID == "user-7" }
		in, before := s.in(w.events)
		in, before = keep(in, own), keep(before, own)
		totals, earlier, tiles := querytest.Totals(in), querytest.Totals(before), tilesOf(body)
		for i, x := range []struct {
			m      query.Measure
			n, was query.Number
		}{
			{query.Calls, whole(totals.Calls), whole(earlier.Calls)}, {query.TokensTotal, maybe(totals.TotalTokens), maybe(earlier.TotalTokens)},
			{query.CostUSD, dollars(totals.CostUSD), dollars(earlier.CostUSD)}, {query.Errors, whole(totals.Errors), whole(earlier.Errors)},
		} {
			wantShown(t, tiles[i][0], tiles[i][1], x.n)
			if changed, _, ok := strings.Cut(tiles[i][2], " · "); ok {
				wantChange(t, tiles[i][0], changed, x.m, x.n, x.was)
			} else if x.n.Known && x.was.Known && x.was.Value > 0 {
				wantChange(t, tiles[i][0], tiles[i][2], x.m, x.n, x.was)
			}
		}
		if !strings.Contains(body, "Changes: compared with ") {
			t.Error("the page does not say what its changes compare")
		}
		groupRows(t, body, `aria-label="Spend by model"`, in, keys[query.ByModelAsked])
		groupRows(t, body, `aria-label="Spend by prompt version"`, in, keys[query.ByPrompt])
	})
	t.Run("OneTrace", func(t *testing.T) {
		for i := 0; i < 1100; i += 90 {
			id := w.events[i].TraceID
			list := keep(w.events, func(e *event.Event) bool { return e.TraceID == id })
			totals, body := querytest.Totals(list), w.open(t, "/traces/"+id, "")
			tiles := tilesOf(body)
			for j, n := range []query.Number{whole(totals.Calls), {}, maybe(totals.TotalTokens), dollars(totals.CostUSD), whole(totals.Errors)} {
				if j != 1 {
					wantShown(t, id+", "+tiles[j][0], tiles[j][1], n)
				}
			}
			g, _ := gridAfter(body, `aria-label="Steps"`)
			if len(g.rows) != len(list) {
				t.Errorf("%s: %d steps, want %d", id, len(g.rows), len(list))
			}
			byID := by(list, func(e *event.Event) string { return e.UUID })
			span := regexp.MustCompile(`span=([0-9a-f-]{36})`)
			for _, row := range g.rows {
				e := byID[span.FindStringSubmatch(row[0].raw)[1]][0]
				for j, n := range []query.Number{{Value: float64(e.Latency.Value.Microseconds()) / 1000, Known: e.Latency.Known}, maybe(e.Usage.Tokens()), dollars(query.USD(e.Cost.Total))} {
					wantShown(t, id+", "+row[0].text+", "+g.head[j+2], row[j+2].text, n)
				}
			}
		}
	})
	t.Run("OneSession", func(t *testing.T) {
		own := func(e *event.Event) bool { return e.SessionID == "s-7" }
		body := w.open(t, "/sessions/s-7", "")
		totals, tiles := querytest.Totals(keep(w.events, own)), tilesOf(body)
		turns := keep(w.events, func(e *event.Event) bool { return own(e) && e.Name == event.Generation })
		if n := strings.Count(body, `<li class="card">`); n != len(turns) || n == 0 {
			t.Errorf("%d turns, want %d", n, len(turns))
		}
		for _, e := range turns {
			_, turn, _ := strings.Cut(body, "/p/default/events/"+e.UUID)
			turn, _, _ = strings.Cut(turn, "trace</a>")
			said := strings.Split(words(turn), " · ")
			if len(said) < 3 {
				t.Fatalf("a turn says %q", said)
			}
			wantShown(t, e.UUID+", latency", said[len(said)-2], query.Number{Value: float64(e.Latency.Value.Microseconds()) / 1000, Known: e.Latency.Known})
			wantShown(t, e.UUID+", cost", strings.TrimSuffix(said[len(said)-1], " ·"), dollars(query.USD(e.Cost.Total)))
		}
		for i, n := range []query.Number{whole(totals.Calls), maybe(totals.TotalTokens), dollars(totals.CostUSD), whole(totals.Errors)} {
			wantShown(t, tiles[i][0], tiles[i][1], n)
		}
	})
}

// eventFigures counts again the list of generations in an order, and the
// usage and cost of some of them.
func (w *world) eventFigures(t *testing.T) {
	for name, s := range w.spans() {
		t.Run(name, func(t *testing.T) {
			in, _ := s.in(w.events)
			want := keep(in, (*event.Event).IsCosted)
			g := w.rows(t, "/events", s.address+"&kind=calls&sort=latency", `<section class="card" aria-label="Events"`)
			if len(g.rows) != len(want) || len(want) == 0 {
				t.Fatalf("%d rows, want %d", len(g.rows), len(want))
			}
			byID := by(want, func(e *event.Event) string { return e.UUID })
			id := regexp.MustCompile(`/events/([0-9a-f-]{36})`)
			last := math.Inf(1)
			for _, row := range g.rows {
				e := byID[id.FindStringSubmatch(row[0].raw)[1]]
				if len(e) != 1 {
					t.Fatalf("%q is not one that the filter takes", row[0].text)
				}
				one := querytest.Totals(e)
				took := func(d event.Opt[time.Duration]) query.Number {
					return query.Number{Value: float64(d.Value.Microseconds()) / 1000, Known: d.Known}
				}
				ms := took(e[0].Latency)
				for head, n := range map[string]query.Number{"Tokens": maybe(one.TotalTokens), "Cost": dollars(one.CostUSD), "Latency": ms, "TTFT": took(e[0].TimeToFirstToken)} {
					wantShown(t, e[0].UUID+", "+head, row[g.col(t, head)].text, n)
				}
				if ms.Value > last {
					t.Errorf("%v ms stand below %v ms", ms.Value, last)
				}
				last = ms.Value
			}
		})
	}
	for i := 0; i < 1100; i += 70 {
		e := w.events[i]
		g, ok := gridAfter(w.open(t, "/events/"+e.UUID, ""), `aria-label="Usage and cost"`)
		if !ok {
			if e.Usage.Tokens().Known || e.Cost.Total.Known {
				t.Errorf("%s has no bill", e.UUID)
			}
			continue
		}
		rows := [][]gridCell{}
		for i, h := range g.head { // the table has no heading: its first row is one of the bill
			if i == 0 {
				rows = append(rows, nil)
			}
			rows[0] = append(rows[0], gridCell{text: h})
		}
		for _, row := range append(rows, g.rows...) {
			var n event.Int
			switch row[0].text {
			case "Input":
				if n = e.Usage.Input; n.Known && e.Usage.CacheExclusive.Value {
					n.Value += e.Usage.CacheRead.Value + e.Usage.CacheWrite.Value
				}
			case "Output":
				n = e.Usage.Output
			case "Cache read":
				n = e.Usage.CacheRead
			case "Cache write":
				n = e.Usage.CacheWrite
			case "Reasoning":
				n = e.Usage.Reasoning
			case "Total":
				n = e.Usage.Tokens()
				if e.Cost.Total.Known && row[2].text != "$"+e.Cost.Total.Value.String() {
					t.Errorf("%s cost %q, want %s", e.UUID, row[2].text, e.Cost.Total.Value)
				}
			default:
				continue
			}
			wantShown(t, e.UUID+", "+row[0].text, row[1].text, maybe(n))
		}
	}
}

// errorFigures counts again failures by their cause.
func (w *world) errorFigures(t *testing.T) {
	cause := func(e *event.Event) string {
		for _, c := range causes {
			if e.ErrorType == c.kind {
				return c.normal + " / " + c.kind
			}
		}
		return ""
	}
	failed := func(e *event.Event) bool {
		return e.IsError && (e.IsCosted() || e.ErrorMessage != "" || e.ErrorType != "")
	}
	for name, s := range w.spans() {
		t.Run(name, func(t *testing.T) {
			in, before := s.in(w.events)
			groups, then := by(keep(in, failed), cause), by(keep(before, failed), cause)
			g, _ := gridAfter(w.open(t, "/errors", s.address), `<section class="card" aria-label="Errors">`)
			if len(g.rows) != len(groups) || len(groups) < 3 {
				t.Fatalf("%d rows, want %d", len(g.rows), len(groups))
			}
			for _, row := range g.rows {
				var key string
				for k := range groups {
					message, kind, _ := strings.Cut(k, " / ")
					if strings.HasPrefix(row[0].text, strings.ReplaceAll(message, "0", "#")) && row[1].text == kind {
						key = k
					}
				}
				events := groups[key]
				if events == nil {
					t.Fatalf("no such cause: %q", row[0].text)
				}
				n := whole(int64(len(events)))
				wantShown(t, key, row[2].text, n)
				wantChange(t, key, row[2].change, query.Errors, n, whole(int64(len(then[key]))))
				wantShown(t, key+", users", row[3].text, whole(int64(len(maps.Collect(func(yield func(string, bool) bool) {
					for u := range by(events, func(e *event.Event) string { return e.DistinctID }) {
						if u != "" && !yield(u, true) {
							return
						}
					}
				})))))
				parts, top := make([]float64, query.TrendPoints), 1.0
				step := now.Sub(s.from) / query.TrendPoints
				for _, e := range events {
					i := min(int(e.Timestamp.Sub(s.from)/step), query.TrendPoints-1)
					parts[i]++
					top = max(top, parts[i])
				}
				bars := tallAttr.FindAllStringSubmatch(sparkTag.FindString(row[4].raw), -1)
				if len(bars) != len(parts) {
					t.Fatalf("%s: %d bars", key, len(bars))
				}
				for i, n := range parts {
					want := max(2, 24*n/top)
					if n == 0 {
						want = 0.7
					}
					if got, _ := strconv.ParseFloat(bars[i][1], 64); math.Abs(got-want) > 0.06 {
						t.Errorf("%s: bar %d is %v high, want %v", key, i, got, want)
					}
				}
				models := slices.Sorted(maps.Keys(by(events, keys[query.ByModel])))
				if got := strings.Fields(row[5].text); !slices.Equal(got, models[:min(len(models), 5)]) {
					t.Errorf("%s: models %q, want %q", key, got, models)
				}
			}
		})
	}
}

// modelFigures counts again the models side by side.
func (w *world) modelFigures(t *testing.T) {
	for name, s := range w.spans() {
		t.Run(name, func(t *testing.T) {
			in, before := s.in(w.complete)
			all, then := by(in, keys[query.ByModelAsked]), by(before, keys[query.ByModelAsked])
			g, _ := gridAfter(w.open(t, "/models", s.address), `<section class="card" aria-label="Models">`)
			if len(g.rows) != 5 {
				t.Fatalf("%d models", len(g.rows))
			}
			columns := map[string]query.Measure{"Calls": query.Calls, "Error rate": query.ErrorRate, "Latency p50": query.LatencyP50, "Latency p95": query.LatencyP95, "TTFT p95": query.TTFTP95, "Tokens": query.TokensTotal,
				"Cost": query.CostUSD, "Cost per call": query.CostPerCall, "Cache hit rate": query.CacheShare, "Completion rate": query.CompletionRate, "Negative feedback": query.NegativeRate, "Eval score": query.EvalScore}
			for _, row := range g.rows {
				id := row[0].text
				now, was := querytest.Figures(all[id]), querytest.Figures(then[id])
				for head, m := range columns {
					x := row[g.col(t, head)]
					wantShown(t, id+", "+head, x.text, now[m])
					if head != "Latency p50" && head != "TTFT p95" && head != "Tokens" && head != "Cache hit rate" {
						wantChange(t, id+", "+head, x.change, m, now[m], was[m])
					}
				}
			}
		})
	}
}

// promptFigures counts again prompts, kept here or named by calls only, and
// their versions.
func (w *world) promptFigures(t *testing.T) {
	draft := prompt.Draft{Messages: []prompt.Message{{Role: "system", Content: "Summarise."}}}
	if _, err := w.Prompts.Create(t.Context(), w.admin.ID, "default", "summarise", "", draft); err != nil {
		t.Fatal(err)
	}
	draft.Messages[0].Content = "Summarise briefly."
	if _, _, err := w.Prompts.AddVersion(t.Context(), w.admin.ID, "default", "summarise", draft); err != nil {
		t.Fatal(err)
	}
	use := func(g grid, row []gridCell, what string, events []*event.Event) {
		t.Helper()
		f := querytest.Figures(events)
		for head, m := range map[string]query.Measure{"Calls": query.Calls, "Error rate": query.ErrorRate, "Cost": query.CostUSD, "Cost per call": query.CostPerCall, "Latency p95": query.LatencyP95} {
			wantShown(t, what+", "+head, row[g.col(t, head)].text, f[m])
		}
	}
	for name, s := range w.spans() {
		t.Run(name, func(t *testing.T) {
			in, _ := s.in(w.events)
			calls := keep(in, (*event.Event).IsCosted)
			names := by(calls, func(e *event.Event) string { return e.PromptName })
			body := w.open(t, "/prompts", s.address)
			for mark, id := range map[string]string{`aria-label="Prompts"`: "summarise", `aria-label="Unregistered prompts"`: "classify"} {
				g, _ := gridAfter(body, mark)
				if len(g.rows) != 1 || g.rows[0][0].text != id {
					t.Fatalf("%s: %v", mark, g.rows)
				}
				use(g, g.rows[0], id, names[id])
			}
			body = w.open(t, "/prompts/summarise", s.address)
			f := querytest.Figures(names["summarise"])
			for i, m := range of(query.Calls, query.ErrorRate, query.CostUSD, query.LatencyP95) {
				wantShown(t, "the prompt's "+string(m), tilesOf(body)[i][1], f[m])
			}
			versions := by(names["summarise"], func(e *event.Event) string { return e.PromptVersion })
			g, _ := gridAfter(body, `aria-label="Versions"`)
			if len(g.rows) != 4 {
				t.Errorf("%d versions", len(g.rows))
			}
			for _, row := range g.rows {
				version := strings.TrimPrefix(strings.Fields(row[0].text)[0], "v")
				if version == "no" {
					version = ""
				}
				use(g, row, "version "+version, versions[version])
			}
		})
	}
}

// fileFigures: the files of charts have the figures of the pages, in full.
func (w *world) fileFigures(t *testing.T) {
	s := w.spans()["All"]
	in, _ := s.in(w.complete)
	groups := by(in, keys[query.ByPrompt])
	body := w.open(t, "/chart.csv", s.address+"&"+url.Values{"m": {"calls", "cost_usd", "latency_p95_ms"}, "by": {"prompt"}, "over": {"total"}, "limit": {"20"}}.Encode())
	lines := strings.Split(strings.TrimSpace(body), "\n")
	for _, line := range lines[1:] {
		x := strings.Split(strings.TrimSpace(line), ",")
		name := x[0]
		if name == "not set" {
			name = ""
		}
		f := querytest.Figures(groups[name])
		for i, m := range of(query.Calls, query.CostUSD, query.LatencyP95) {
			got, err := strconv.ParseFloat(x[i+1], 64)
			if err != nil && x[i+1] != "" || (x[i+1] != "") != f[m].Known || math.Abs(got-f[m].Value) > 1e-9*math.Max(1, math.Abs(f[m].Value)) {
				t.Errorf("%s, %s: %q, want %v", name, m, x[i+1], f[m])
			}
		}
	}
	if len(lines) < 5 {
		t.Errorf("%d lines", len(lines))
	}
}
