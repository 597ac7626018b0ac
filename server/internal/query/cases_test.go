package query_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// TestCases runs the case files of testdata, which every engine must pass. A file
// has events, one per line, then queries, each followed by its answer in indented
// lines:
//
//	event $ai_generation at=2026-03-29T10:00 model=gpt trace=t1 in=10 out=5 cost=0.01 latency=200ms
//	ask series measures=calls,cost_usd by=model every=day
//	  total calls=1 cost_usd=0.01
//	  gpt calls=1 cost_usd=0.01
//	  gpt 2026-03-29 calls=1 cost_usd=0.01
//
// Words are separated by blanks; a value with blanks is in double quotes. Empty
// points are omitted. Unknown figures are "-". A query covers March 2026 unless
// it has from and to. Each runs before the events are rolled up and after.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			c := readCase(t, name)
			p := newPair(t)
			p.roller.Stretch = 1
			p.write(t, c.events...)
			if p.roll(t) == 0 {
				t.Fatal("nothing was rolled up")
			}
			for _, q := range c.questions {
				for engine, r := range map[string]*query.Reader{"events": p.askPlain, "roll-ups": p.ask} {
					got, err := answer(t.Context(), r, q.words)
					if err != nil {
						t.Errorf("line %d, by %s: %v", q.line, engine, err)
						continue
					}
					if !slices.Equal(got, q.want) {
						t.Errorf("line %d, by %s: the answer is\n  %s\nwant\n  %s", q.line, engine, strings.Join(got, "\n  "), strings.Join(q.want, "\n  "))
					}
				}
			}
		})
	}
}

// testCase is one file.
type testCase struct {
	events    []*event.Event
	questions []question
}

type question struct {
	line  int
	words []string
	want  []string
}

func readCase(t *testing.T, name string) (c testCase) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text := lines.Text()
		words := split(text)
		switch {
		case len(words) == 0 || strings.HasPrefix(text, "#"):
		case strings.HasPrefix(text, " ") && len(c.questions) > 0:
			q := &c.questions[len(c.questions)-1]
			q.want = append(q.want, strings.TrimSpace(text))
		case words[0] == "event" && len(words) > 1:
			e, err := eventOf(words[1:])
			if err != nil {
				t.Fatalf("%s:%d: %v", name, n, err)
			}
			c.events = append(c.events, e)
		case words[0] == "ask" && len(words) > 1:
			c.questions = append(c.questions, question{line: n, words: words[1:]})
		default:
			t.Fatalf("%s:%d: neither an event nor a question nor an answer", name, n)
		}
	}
	return c
}

// split separates words at blanks outside of quotes.
func split(s string) []string {
	quoted := false
	return strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
}

// moment parses 2026-03-29T10:00.
func moment(s string) (time.Time, error) { return time.Parse("2006-01-02T15:04", s) }

func eventOf(words []string) (*event.Event, error) {
	e := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: words[0], Status: event.StatusSuccess, Properties: map[string]json.RawMessage{}}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		value = strings.Trim(value, `"`)
		var err error
		number := func(into *event.Int) {
			n, failed := strconv.ParseInt(value, 10, 64)
			*into, err = event.Some(n), failed
		}
		duration := func(into *event.Opt[time.Duration]) {
			d, failed := time.ParseDuration(value)
			*into, err = event.Some(d), failed
		}
		switch key {
		case "at":
			e.Timestamp, err = moment(value)
		case "model":
			e.Model, e.ModelAsked = value, value
		case "provider":
			e.Provider = value
		case "user":
			e.DistinctID = value
		case "trace":
			e.TraceID = value
		case "span":
			e.SpanID = value
		case "parent":
			e.ParentID = value
		case "session":
			e.SessionID = value
		case "name":
			e.SpanName = value
		case "operation":
			e.Operation = value
		case "prompt":
			e.PromptName, e.PromptVersion, _ = strings.Cut(value, "@")
		case "environment":
			e.Environment = value
		case "in":
			number(&e.Usage.Input)
		case "out":
			number(&e.Usage.Output)
		case "cost":
			var d decimal.Decimal
			d, err = decimal.NewFromString(value)
			e.Cost.Total = event.Some(d)
		case "latency":
			duration(&e.Latency)
		case "error":
			e.IsError, e.Status, e.ErrorType = true, event.StatusError, value
		case "message":
			e.ErrorMessage = value
		default:
			name, ok := strings.CutPrefix(key, "prop.")
			if !ok {
				return nil, fmt.Errorf("an event has no %s", key)
			}
			if e.Properties[name] = json.RawMessage(value); !json.Valid(e.Properties[name]) {
				e.Properties[name], err = json.Marshal(value)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return e, nil
}

// answer runs a query and formats its answer.
func answer(ctx context.Context, r *query.Reader, words []string) (out []string, err error) {
	p := map[string]string{"from": "2026-03-01T00:00", "to": "2026-03-31T00:00"}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		p[key] = strings.Trim(value, `"`)
	}
	f := query.Filter{Kind: p["kind"], Provider: p["provider"], Model: p["model"], User: p["user"], Environment: p["environment"], PromptName: p["prompt"], ErrorType: p["error_type"], SessionID: p["session"]}
	if f.From, err = moment(p["from"]); err == nil {
		f.To, err = moment(p["to"])
	}
	if err != nil {
		return nil, err
	}
	line := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	summaries := func(page *query.ListPage, err error) error {
		if err != nil {
			return err
		}
		for _, s := range page.Rows {
			line("%s events=%d calls=%d errors=%d other=%d traces=%d tokens=%s cost=%s duration=%gms", s.ID, s.Events, s.Calls, s.Errors, s.OtherErrors, s.Traces, whole(s.TotalTokens), usd(s.CostUSD), s.DurationMS)
		}
		return nil
	}
	list := query.ListQuery{Project: "default", Filter: f, Sort: query.Sort(p["sort"])}
	switch words[0] {
	case "series":
		err = askSeries(ctx, r, f, p, line)
	case "stats":
		var st *query.Stats
		if st, err = r.Stats(ctx, query.StatsQuery{Project: "default", Filter: f, GroupBy: query.GroupBy(p["by"])}); err != nil {
			return nil, err
		}
		for _, g := range append([]query.Group{{Key: "total", Totals: st.Totals}}, st.Groups...) {
			t := g.Totals
			line("%s events=%d calls=%d errors=%d in=%s out=%s cost=%s uncosted=%d", g.Key, t.Events, t.Calls, t.Errors, whole(t.InputTokens), whole(t.OutputTokens), usd(t.CostUSD), t.UncostedCalls)
		}
	case "traces":
		err = summaries(r.Traces(ctx, list))
	case "sessions":
		err = summaries(r.Sessions(ctx, list))
	case "users":
		err = summaries(r.Users(ctx, list))
	case "errors":
		var groups []query.ErrorGroup
		groups, err = r.Errors(ctx, "default", f, 0)
		for _, g := range groups {
			line("%q type=%s count=%d users=%d models=%s", g.Message, g.ErrorType, g.Count, g.Users, strings.Join(g.Models, ","))
		}
	case "trace":
		var t *query.Trace
		if t, err = r.Trace(ctx, "default", p["id"]); err != nil {
			return nil, err
		}
		line("events=%d calls=%d errors=%d other=%d tokens=%s cost=%s", t.Rollup.Events, t.Rollup.Calls, t.Rollup.Errors, t.Rollup.OtherErrors, whole(t.Rollup.TotalTokens), usd(t.Rollup.CostUSD))
		var walk func(nodes []*query.Node, depth int)
		walk = func(nodes []*query.Node, depth int) {
			for _, n := range nodes {
				line("%s%s %s", strings.Repeat("> ", depth), n.Event.Name, n.Event.SpanID)
				walk(n.Children, depth+1)
			}
		}
		walk(t.Roots, 0)
	case "steps":
		var steps []query.Step
		steps, err = r.Steps(ctx, "default", f, 0)
		for _, s := range steps {
			line("%s runs=%d errors=%d retries=%d tool=%v", s.Name, s.Runs, s.Errors, s.Retries, s.Tool)
		}
	case "experiment":
		var x *query.Experiment
		x, err = r.Experiment(ctx, query.ExperimentQuery{Project: "default", From: f.From, To: f.To, Prompt: p["prompt"], Variants: strings.Split(p["arms"], ","), Metrics: []query.Metric{{Measure: query.Measure(p["metric"])}}})
		if err != nil {
			return nil, err
		}
		mixed := int64(0)
		for _, c := range x.Cells {
			m := c.Figures[0]
			line("%s users=%d calls=%d y=%g n=%g", c.Variant, c.Users, c.Calls, m.Y, m.N)
			mixed += c.Mixed
		}
		line("mixed=%d", mixed)
	default:
		err = fmt.Errorf("there is no question %s", words[0])
	}
	return out, err
}

func askSeries(ctx context.Context, r *query.Reader, f query.Filter, p map[string]string, line func(string, ...any)) error {
	q := query.SeriesQuery{Project: "default", Filter: f, By: query.GroupBy(p["by"]), Every: query.GroupBy(p["every"]), TimeZone: p["zone"],
		Event: query.EventMatch{Name: p["event"], Property: p["property"], Value: p["value"]}}
	for _, m := range strings.Split(p["measures"], ",") {
		q.Measures = append(q.Measures, query.Measure(m))
	}
	s, err := r.Series(ctx, q)
	if err != nil {
		return err
	}
	figures := func(key string, v query.Values, always bool) {
		something := always
		for _, m := range q.Measures {
			n := v.Get(m)
			something = something || n.Known && n.Value != 0
			key += " " + string(m) + "=" + number(n)
		}
		if something {
			line("%s", key)
		}
	}
	figures("total", s.Total.Total, true)
	for i, v := range s.Total.Points {
		figures("total "+s.Keys[i], v, false)
	}
	for _, g := range s.Groups {
		key := g.Key
		if key == "" {
			key = "(none)"
		}
		figures(key, g.Total, true)
		for i, v := range g.Points {
			figures(key+" "+s.Keys[i], v, false)
		}
	}
	return nil
}

func number(n query.Number) string {
	if !n.Known {
		return "-"
	}
	return strconv.FormatFloat(n.Value, 'g', 6, 64)
}

func whole(n event.Int) string {
	if !n.Known {
		return "-"
	}
	return strconv.FormatInt(n.Value, 10)
}

func usd(u query.USD) string {
	if !u.Known {
		return "-"
	}
	return u.Value.String()
}
