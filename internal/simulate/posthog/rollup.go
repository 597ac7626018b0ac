package posthog

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"time"
)

// Names of the built-in queries, which the server evaluates over its events of the
// last seven days (HogQL, https://posthog.com/docs/sql). Their columns are
//
//   - by day: day, calls, in_tok, out_tok, cost, errors, p95_s, uncosted
//   - by model: model, provider, then the same
const (
	QueryByDay   = "hedgerow 7d by day"
	QueryByModel = "hedgerow 7d by model"
)

var errUnknownQuery = errors.New("the simulated PostHog does not know this query: use a built-in name or register one with HandleQuery")

// builtin returns the result of a built-in query. Queries that it cannot
// evaluate correctly are errors.
func (s *Server) builtin(q Query) QueryFunc {
	sql := strings.ToLower(strings.Join(strings.Fields(q.HogQL), " "))
	if sql == "select 1" {
		return func(Query) (Result, error) { return Result{Columns: []string{"1"}, Rows: [][]any{{1}}}, nil }
	}
	var key func(Event) [2]string
	var columns []string
	switch q.Name {
	case QueryByDay:
		columns = []string{"day"}
		key = func(e Event) [2]string { return [2]string{e.Timestamp.Format(time.DateOnly)} }
	case QueryByModel:
		columns = []string{"model", "provider"}
		key = func(e Event) [2]string { return [2]string{e.Text("$ai_model"), e.Text("$ai_provider")} }
	default:
		return func(Query) (Result, error) { return Result{}, errUnknownQuery }
	}
	if !strings.Contains(sql, "from events") || !strings.Contains(sql, "timestamp >=") || !strings.Contains(sql, "group by "+columns[0]) {
		return func(Query) (Result, error) {
			return Result{}, errors.New("a query of this name reads FROM events, constrains timestamp and groups by " + columns[0])
		}
	}
	return func(q Query) (Result, error) { return s.rollup(q.Project, columns, key), nil }
}

type totals struct {
	key                                [2]string
	calls, inTok, outTok, errs, noCost int64
	cost                               float64
	latencies                          []float64
}

func (s *Server) rollup(p Project, columns []string, key func(Event) [2]string) Result {
	since := s.o.Now().Add(-7 * 24 * time.Hour)
	groups := make(map[[2]string]*totals)
	for _, e := range s.Events() {
		if e.ProjectID != p.ID || e.Name != "$ai_generation" && e.Name != "$ai_embedding" || e.Timestamp.Before(since) {
			continue
		}
		k := key(e)
		t := groups[k]
		if t == nil {
			t = &totals{key: k}
			groups[k] = t
		}
		t.calls++
		t.inTok += int64(e.Number("$ai_input_tokens"))
		if e.Text("$ai_cache_reporting_exclusive") == "true" {
			t.inTok += int64(e.Number("$ai_cache_read_input_tokens")) + int64(e.Number("$ai_cache_creation_input_tokens"))
		}
		t.outTok += int64(e.Number("$ai_output_tokens"))
		if cost, _, known := e.Cost(s.o.Prices); known {
			t.cost += cost
		} else {
			t.noCost++
		}
		if e.Text("$ai_is_error") == "true" {
			t.errs++
		}
		if e.Has("$ai_latency") {
			t.latencies = append(t.latencies, e.Number("$ai_latency"))
		}
	}
	list := make([]*totals, 0, len(groups))
	for _, t := range groups {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b *totals) int {
		if columns[0] == "day" {
			return cmp.Compare(a.key[0], b.key[0])
		}
		return cmp.Or(cmp.Compare(b.cost, a.cost), cmp.Compare(a.key[0], b.key[0]), cmp.Compare(a.key[1], b.key[1]))
	})
	res := Result{Columns: append(slices.Clone(columns), "calls", "in_tok", "out_tok", "cost", "errors", "p95_s", "uncosted")}
	for _, t := range list {
		row := make([]any, 0, len(res.Columns))
		for i := range columns {
			row = append(row, t.key[i])
		}
		res.Rows = append(res.Rows, append(row, t.calls, t.inTok, t.outTok, t.cost, t.errs, quantile(t.latencies, 0.95), t.noCost))
	}
	return res
}

// quantile interpolates between ranks, as ClickHouse's quantile does; nil
// without values, as its NaN becomes null in JSON.
func quantile(v []float64, q float64) any {
	if len(v) == 0 {
		return json.RawMessage("null")
	}
	slices.Sort(v)
	at := q * float64(len(v)-1)
	lo := math.Floor(at)
	hi := min(int(lo)+1, len(v)-1)
	return v[int(lo)] + (at-lo)*(v[hi]-v[int(lo)])
}
