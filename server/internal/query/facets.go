package query

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/filter"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// The lists whose rows [Reader.Facet] counts.
const (
	ListEvents      = "events"
	ListGenerations = "generations" // events of KindCalls
	ListTraces      = "traces"
	ListSessions    = "sessions"
	ListUsers       = "users"
)

// FacetLists are these lists.
var FacetLists = []string{ListEvents, ListGenerations, ListTraces, ListSessions, ListUsers}

// listKeys are the columns that the rows of a list differ in; events have none.
var listKeys = map[string]string{ListEvents: "", ListGenerations: "", ListTraces: "trace_id", ListSessions: "session_id", ListUsers: "distinct_id"}

// Bounds of [FacetQuery.Limit].
const (
	DefaultFacet = 50
	MaxFacet     = 500
)

// facetBuckets is how many parts a histogram has.
const facetBuckets = 32

// FacetQuery requests the values of one field among the rows of a list.
type FacetQuery struct {
	Project string
	Filter         // of the list; terms on Field that are not in a group are left out
	List    string // ListEvents if it is empty
	Field   string // as filters name it
	Search  string // only values that contain this, ignoring case, and selected ones
	Limit   int    // of values; 0 is DefaultFacet, at most MaxFacet
}

// Facet is the values of a field. Selecting one of them, as the only term on the
// field, gives a list of exactly Count rows.
type Facet struct {
	Field     string       `json:"field"`
	Type      filter.Type  `json:"type"`
	Rows      int64        `json:"rows"`                // of the list without the terms on the field
	TookMS    int64        `json:"took_ms"`             //
	Sampled   bool         `json:"sampled"`             // whether counts are estimates; always false: all rows are counted
	Values    []FacetValue `json:"values"`              // the most frequent first; empty for numbers
	More      int64        `json:"more"`                // further values
	Missing   int64        `json:"missing"`             // rows without the field: -has:FIELD
	Histogram *Histogram   `json:"histogram,omitempty"` // of numbers that are known
}

// FacetValue is a value of a field.
type FacetValue struct {
	Value    string `json:"value"`
	Label    string `json:"label"`
	Count    int64  `json:"count"`    // rows that have it
	Selected bool   `json:"selected"` // the filter names it: such values are always there
}

// Histogram is how the numbers of a field are distributed, in the unit of filters:
// seconds, US dollars, bytes.
type Histogram struct {
	Scale   string            `json:"scale"` // linear, or log: each bucket ends at the same multiple of its start
	Min     float64           `json:"min"`
	Max     float64           `json:"max"`
	P50     float64           `json:"p50"`
	P90     float64           `json:"p90"`
	P95     float64           `json:"p95"`
	P99     float64           `json:"p99"`
	Buckets []HistogramBucket `json:"buckets"`
}

// HistogramBucket counts the numbers in [Lo, Hi); the last one includes Hi.
type HistogramBucket struct {
	Lo float64 `json:"lo"`
	Hi float64 `json:"hi"`
	N  int64   `json:"n"` // rows with such a number
}

// Facet counts the values of a field among the rows of a list.
func (r *Reader) Facet(ctx context.Context, q FacetQuery) (*Facet, error) {
	began := r.now()
	of, canonical, ok := FindField(q.Field)
	q.List = cmp.Or(q.List, ListEvents)
	if !slices.Contains(FacetLists, q.List) {
		return nil, event.Invalid("unknown list", "use "+strings.Join(FacetLists, ", "))
	}
	switch {
	case !ok:
		return nil, fieldTable.Unknown(q.Field)
	case of.Type == filter.Text: // which people read rather than choose
		return nil, event.Invalid(fmt.Sprintf("the field %q has too many values to count", canonical), "search it with "+canonical+":~text")
	case q.Limit < 0 || q.Limit > MaxFacet:
		return nil, event.Invalid("the limit is out of range", fmt.Sprintf("use 1 to %d", MaxFacet))
	case q.Limit == 0:
		q.Limit = DefaultFacet
	}
	if err := checkText("search", q.Search); err != nil {
		return nil, err
	}
	selected := q.Filter.release(canonical)
	var own sqlf.Fragment // the list's, next to any kind that the filter names
	switch {
	case q.List == ListGenerations && q.Kind == "":
		q.Kind = KindCalls
	case q.List == ListGenerations:
		own = callExpr
	}
	w, err := r.where(q.Project, &q.Filter)
	if err != nil {
		return nil, err
	}
	w = w.And(own)
	if key := listKeys[q.List]; key != "" {
		w = w.And(isKnown(sqlf.Column(key)))
	}
	out := &Facet{Field: canonical, Type: of.Type, Values: []FacetValue{}}
	f := &facet{r: r, q: &q, out: out, where: w, whole: own.IsZero()}
	f.of, f.name = fieldOf(canonical)
	if f.of.expr != nil {
		f.expr = f.of.expr(r, f.name)
	}
	switch {
	case canonical == "kind":
		err = f.kinds(ctx, selected)
	case of.Type.Numeric() && canonical != "http":
		err = f.numbers(ctx)
	default:
		err = f.values(ctx, selected)
	}
	out.TookMS = r.now().Sub(began).Milliseconds()
	return out, err
}

// release takes the terms on a field out of f, those in groups aside, and returns the
// values that they ask for.
func (f *Filter) release(canonical string) (selected []string) {
	of, name := fieldOf(canonical)
	if of.exact != nil {
		if at := of.exact(f); *at != "" {
			selected, *at = append(selected, *at), ""
		}
	}
	if v, ok := f.Properties[name]; of.Name == "property" && ok {
		selected, f.Properties = append(selected, v), maps.Clone(f.Properties)
		delete(f.Properties, name)
	}
	for _, t := range f.Where.Terms {
		if t.Any == nil && !t.Not && t.Field == canonical && t.Op == filter.Is {
			selected = append(selected, t.Values...)
		}
	}
	f.Where = f.Where.Without(canonical)
	return selected
}

// facet is a facet being counted.
type facet struct {
	r     *Reader
	q     *FacetQuery
	out   *Facet
	of    *field
	name  string
	expr  sqlf.Fragment // the value; empty for one without a column
	where sqlf.Fragment
	whole bool // where is the filter, no more
}

// rows counts the rows of the list among some events.
func (f *facet) rows() sqlf.Fragment {
	if key := listKeys[f.q.List]; key != "" {
		return sqlf.New("count(DISTINCT ?)", sqlf.Column(key))
	}
	return sqlf.Raw("count(*)")
}

// rowsWith counts the rows with an event that meets a condition.
func (f *facet) rowsWith(cond sqlf.Fragment) sqlf.Fragment {
	return sqlf.New("? FILTER (WHERE ?)", f.rows(), cond)
}

// text is the value of an event as filters write it: of a tag and a step, one of
// several.
func (f *facet) text() sqlf.Fragment {
	switch {
	case f.of.Name == "tag":
		return sqlf.New(f.r.sql.unnest, sqlf.New("list_distinct({tags})"))
	case f.of.Name == "step":
		return sqlf.New(f.r.sql.unnest, sqlf.New("list_distinct([nullif(?, ''), ?])", f.r.stepExpr(), f.r.constProperty(AgentStep)))
	case f.of.Type == filter.Bool || f.of.Type.Numeric():
		return sqlf.New("CAST(? AS VARCHAR)", f.expr)
	}
	return f.expr
}

// values counts the values of a field.
func (f *facet) values(ctx context.Context, selected []string) error {
	found, rolled, err := f.found(ctx)
	if err != nil {
		return err
	}
	if rolled {
		err = f.r.one(ctx, sqlf.New("SELECT coalesce(?, 0), coalesce(?, 0) FROM (?)", sqlf.New(f.r.sql.bigint, sqlf.Raw("sum(n)")), sqlf.New(f.r.sql.bigint, sqlf.Raw("sum(n) FILTER (WHERE v IS NULL)")), found), &f.out.Rows, &f.out.Missing)
	} else {
		err = f.r.one(ctx, sqlf.New("SELECT ?, ? FROM events WHERE ?", f.rows(), f.rowsWith(sqlf.New("? IS NULL", f.expr)), f.where), &f.out.Rows, &f.out.Missing)
	}
	if err != nil {
		return err
	}
	chosen := f.r.sql.inTexts(anys(selected), sqlf.Raw("v"))
	matching := sqlf.Raw("v IS NOT NULL")
	if f.q.Search != "" {
		matching = matching.Andf("(contains(lower(v), lower(CAST(? AS VARCHAR))) OR ?)", f.q.Search, chosen)
	}
	var all int64
	err = f.r.each(ctx, sqlf.New("SELECT v, n, count(*) OVER () FROM (?) WHERE ? QUALIFY row_number() OVER (ORDER BY n DESC, v) <= ? OR ? ORDER BY n DESC, v", found, matching, f.q.Limit, chosen), func(rows *sql.Rows) error {
		var v FacetValue
		err := rows.Scan(&v.Value, &v.Count, &all)
		v.Label, v.Selected = v.Value, slices.Contains(selected, v.Value)
		f.out.Values = append(f.out.Values, v)
		return err
	})
	f.out.More = all - int64(len(f.out.Values))
	f.unseen(selected)
	return err
}

// unseen adds the selected values that no row has.
func (f *facet) unseen(selected []string) {
	for _, s := range selected {
		if !slices.ContainsFunc(f.out.Values, func(v FacetValue) bool { return v.Value == s }) {
			f.out.Values = append(f.out.Values, FacetValue{Value: s, Label: s, Selected: true})
		}
	}
}

// found is a query for the values v of a field and how many rows n have them: from a
// roll-up where one has them, and then with those that have none.
func (f *facet) found(ctx context.Context) (query sqlf.Fragment, rolled bool, err error) {
	key := listKeys[f.q.List]
	by := f.of.by
	if f.of.Name == "property" {
		by = ByProperty(f.name)
	}
	if by != ByNone && key == "" && f.whole {
		of := f.q.Filter
		if of.To.IsZero() {
			of.To = endOfTime
		}
		c, err := f.r.cover(ctx, f.q.Project)
		if err != nil {
			return query, false, err
		}
		p, err := f.r.rolledPlan(ctx, f.q.Project, c, &of, by, nil)
		if err != nil {
			return query, false, err
		}
		if p.ok {
			from, err := f.r.eventsSource(ofAll, f.q.Project, &of, by, p, sqlf.Column("n"))
			return sqlf.New("SELECT nullif(value, '') AS v, ? AS n FROM ? GROUP BY v", sqlf.New(f.r.sql.bigint, sqlf.Raw("sum(n)")), from.sql), true, err
		}
	}
	if key == "" {
		return sqlf.New("SELECT v, count(*) AS n FROM (SELECT ? AS v FROM events WHERE ?) GROUP BY v", f.text(), f.where), false, nil
	}
	return sqlf.New("SELECT v, count(DISTINCT k) AS n FROM (SELECT ? AS v, "+key+" AS k FROM events WHERE ?) GROUP BY v", f.text(), f.where), false, nil
}

// kinds counts the rows of each kind: an event can be of several.
func (f *facet) kinds(ctx context.Context, selected []string) error {
	counts := make([]int64, len(kinds))
	columns, dest := []sqlf.Fragment{f.rows()}, []any{&f.out.Rows}
	for i, k := range kinds {
		columns, dest = append(columns, f.rowsWith(f.r.kind(f.q.Project, k))), append(dest, &counts[i])
	}
	if err := f.r.one(ctx, sqlf.New("SELECT ? FROM events WHERE ?", columns, f.where), dest...); err != nil {
		return err
	}
	for i, k := range kinds {
		if chosen := slices.Contains(selected, k); chosen || counts[i] > 0 && strings.Contains(k, strings.ToLower(f.q.Search)) {
			f.out.Values = append(f.out.Values, FacetValue{Value: k, Label: k, Count: counts[i], Selected: chosen})
		}
	}
	slices.SortStableFunc(f.out.Values, func(a, b FacetValue) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	return nil
}

// numbers describes how the numbers of a field are distributed.
func (f *facet) numbers(ctx context.Context) error {
	v := sqlf.New("CAST(? AS DOUBLE)", f.expr)
	if f.of.Type == filter.Duration {
		v = sqlf.New("CAST(? AS DOUBLE) / 1000000", f.expr)
	}
	known := isKnown(f.expr)
	var low, high, positive, p50, p90, p95, p99 sql.NullFloat64
	err := f.r.one(ctx, sqlf.New("SELECT n, missing, low, high, positive, q[1], q[2], q[3], q[4] FROM (SELECT ? AS n, ? AS missing, min(?) AS low, max(?) AS high, min(?) FILTER (WHERE ? > 0) AS positive, quantile_cont(?, [0.5, 0.9, 0.95, 0.99]) AS q FROM events WHERE ?)",
		f.rows(), f.rowsWith(sqlf.New("? IS NULL", f.expr)), v, v, v, v, v, f.where), &f.out.Rows, &f.out.Missing, &low, &high, &positive, &p50, &p90, &p95, &p99)
	if err != nil || !low.Valid {
		return err
	}
	h := &Histogram{Scale: "linear", Min: low.Float64, Max: high.Float64, P50: p50.Float64, P90: p90.Float64, P95: p95.Float64, P99: p99.Float64}
	f.out.Histogram = h
	part := sqlf.New("(? - CAST(? AS DOUBLE)) / CAST(? AS DOUBLE)", v, h.Min, max(h.Max-h.Min, math.SmallestNonzeroFloat64))
	start := func(i int) float64 { return h.Min + (h.Max-h.Min)*float64(i)/facetBuckets }
	if positive.Valid && h.Max > 100*positive.Float64 {
		h.Scale = "log"
		ratio := math.Log(h.Max / positive.Float64)
		part = sqlf.New("CASE WHEN ? > 0 THEN ln(? / CAST(? AS DOUBLE)) / CAST(? AS DOUBLE) ELSE 0 END", v, v, positive.Float64, ratio)
		start = func(i int) float64 {
			if i == 0 {
				return h.Min
			}
			return positive.Float64 * math.Exp(ratio*float64(i)/facetBuckets)
		}
	}
	for i := range facetBuckets {
		h.Buckets = append(h.Buckets, HistogramBucket{Lo: start(i), Hi: start(i + 1)})
	}
	h.Buckets[facetBuckets-1].Hi = h.Max
	bucket := sqlf.New(fmt.Sprintf("CAST(least(greatest(floor(? * %d), 0), %d) AS BIGINT)", facetBuckets, facetBuckets-1), part)
	return f.r.each(ctx, sqlf.New("SELECT ? AS bucket, ? FROM events WHERE ? GROUP BY bucket", bucket, f.rows(), f.where.And(known)), func(rows *sql.Rows) error {
		var at, n int64
		if err := rows.Scan(&at, &n); err != nil {
			return err
		}
		h.Buckets[at].N = n
		return nil
	})
}
