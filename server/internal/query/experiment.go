package query

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// Moments are sums over the users of one variant, from which every figure of an
// experiment is computed.
type Moments = stats.Moments

// Metric is a figure of an experiment: one of hedgerow's own measures, or one
// made of a property of any event.
type Metric struct {
	// Measure is one of [ExperimentMeasures]; "" if Event defines the metric.
	Measure Measure `json:"measure,omitempty" jsonschema:"one of hedgerow's own measures; left out where an event says what is counted"`
	// Eval narrows eval_score and eval_pass_rate to one check; "" is all of them.
	Eval string `json:"eval,omitempty" jsonschema:"narrows eval_score and eval_pass_rate to one check"`

	Event    string `json:"event,omitempty" jsonschema:"name of the events that are counted, in place of a measure"`
	Property string `json:"property,omitempty" jsonschema:"property of those events"`
	Value    string `json:"value,omitempty" jsonschema:"of a rate: the text that the property has where it counts; left out, true"`
	As       string `json:"as,omitempty" jsonschema:"rate (share of the events whose property is the value; default), mean (of the property), users (share of the users who have such an event), count (events per user; with a property, of those whose property is the value)"`
}

// Values of [Metric.As].
const (
	AsRate  = "rate"  // share of the events with Property in which it is Value
	AsMean  = "mean"  // mean of Property, a number
	AsUsers = "users" // share of the users with such an event
	AsCount = "count" // events per user, 0 of those who have none; with Property, events in which it is Value
)

// IsRate reports whether the metric is a share, 0 to 1.
func (m Metric) IsRate() bool {
	if m.Event != "" {
		return m.As != AsMean && m.As != AsCount
	}
	return m.Measure.Info().Unit == UnitShare
}

// ofUsers reports whether every user counts, also those without the metric's events.
func (m Metric) ofUsers() bool { return m.Event != "" && (m.As == AsUsers || m.As == AsCount) }

// Quantile is the level of the quantile that the metric is; 0 where it is none.
func (m Metric) Quantile() float64 { return m.Measure.Info().Quantile }

// Check returns an error if the metric is invalid.
func (m Metric) Check() error {
	switch {
	case m.Event == "" && !slices.Contains(ExperimentMeasures(), m.Measure):
		names := make([]string, 0, len(ExperimentMeasures()))
		for _, e := range ExperimentMeasures() {
			names = append(names, string(e))
		}
		return event.Invalid("a metric is none that an experiment can have", "name an event, or a measure: "+strings.Join(names, ", "))
	case m.Event != "" && m.Measure != "":
		return event.Invalid("a metric names both a measure and an event", "name one of them")
	case m.Eval != "" && m.Measure != EvalScore && m.Measure != EvalPassRate:
		return event.Invalid("only eval_score and eval_pass_rate can be narrowed to one check", "leave eval away")
	case m.Event != "" && !slices.Contains([]string{"", AsRate, AsMean, AsUsers, AsCount}, m.As):
		return event.Invalid("a metric is made of an event in an unknown way", "use rate, mean, users or count")
	case m.Event != "" && !m.ofUsers() && m.Property == "":
		return event.Invalid("a metric of an event names no property", "name one, or count the users who have the event (users) or the events of each (count)")
	}
	return checkText("metric", m.Event+m.Property+m.Value+m.Eval)
}

// ExperimentQuery selects an experiment's users and metrics.
//
// A user has the variant that their first event with a variant names, whatever
// their later ones name (analysis by intention to treat): which users a variant
// has must not depend on what happened to them under it. A user's calls and
// outcomes have the user's variant. A call counts if it or another call of its
// trace names a variant. An outcome (or any other event) counts by its trace
// or, if it has none or names a variant itself, by its user, from the user's
// first event with a variant on. Calls without a user count by trace.
type ExperimentQuery struct {
	Project  string
	From, To time.Time     // From is needed; To defaults to now
	Flag     string        // key of the feature flag; "" makes versions of Prompt the variants
	Prompt   string        // with Flag: only calls of this prompt, and of none, count as meeting a variant
	Variants []string      // variants or versions (number or id), at least two; what names others is not checked
	Exclude  Exclusion     // users who do not count
	Metrics  []Metric      // at most MaxMeasures
	Past     time.Duration // before From: where the same users' earlier values are read; 0 reads none
	MinUsers int64         // of each variant, at which the limits of amounts are fixed
	By       GroupBy       // segments of users by their first event with a variant; ByNone is one segment
}

// Experiment is the answer to an [ExperimentQuery].
type Experiment struct {
	Cells []Cell // one for each segment and variant that users met first: the largest segments first, at most MaxSegments; variants in the requested order
}

// MaxSegments bounds the segments of an [Experiment].
const MaxSegments = 20

// Cell is one variant within one segment.
type Cell struct {
	Segment  string
	Variant  string
	Users    int64
	Calls    int64     // those that the rates of calls count
	Mixed    int64     // users who met another variant later; among Users, unless the query excludes them
	Excluded int64     // users who do not count by [Exclusion]; those who are only mixed are not among them
	First    time.Time // first and last event of the users that names a variant
	Last     time.Time
	Versions []string // prompt versions that really ran, the most frequent first, at most 10
	Figures  []Figure // of each metric, in their order
}

// Figure is what one metric counts in a cell.
type Figure struct {
	Moments // of a quantile: of the values that are not above it, among all

	// Of an amount: the sums with each user's ratio cut at Limits, which are fixed at the
	// start.
	Trimmed Moments
	Limits  stats.Scale

	Looks []Look // of a query without By: at each, what was known then; the last is now

	// Of a quantile: its value, and those around it, for an interval.
	Value  Number
	Levels []float64
	Values []float64
}

// reading extracts a metric from an event: y and n, NULL if the event does not
// have it.
type reading struct {
	y, n   sqlf.Fragment
	p      sqlf.Fragment // a value of each event that y and n name; empty: none
	events sqlf.Fragment // the condition of the events that it is read off
}

// reading returns the expressions of a metric. Those of each event are selected
// under the name p.
func (r *Reader) reading(m Metric, p string) (out reading, err error) {
	if m.Event != "" {
		return r.ownReading(m, p), nil
	}
	t := r.terms("", EventMatch{})
	def, err := t.measure(m.Measure)
	if err != nil {
		return out, err
	}
	out = reading{y: def.y, n: def.n, events: r.of(def.kind)}
	if def.parts != nil {
		y, yErr := t.measure(def.parts[0])
		n, nErr := t.measure(def.parts[1])
		if err := errors.Join(yErr, nErr); err != nil {
			return out, err
		}
		ofY, ofN := r.of(y.kind), r.of(n.kind)
		out = reading{y: when(ofY, y.y), n: when(ofN, n.y), events: sqlf.Or(ofY, ofN)}
	}
	if m.Eval != "" {
		out.p = equals(orEmpty(r.evalName()), m.Eval)
		out.y, out.n = when(sqlf.Raw(p), out.y), when(sqlf.Raw(p), out.n)
	}
	return out, nil
}

// ownReading is how a metric of an application's own events is read.
func (r *Reader) ownReading(m Metric, p string) (out reading) {
	named := sqlf.New("name = CAST(? AS VARCHAR)", m.Event)
	property, column := r.sql.property(m.Property), sqlf.Raw(p)
	low := sqlf.New("lower(?)", column)
	out = reading{p: when(named, property), events: equals(sqlf.Column("name"), m.Event)}
	switch {
	case m.As == AsUsers, m.As == AsCount && m.Property == "":
		out.y, out.n, out.p = when(column, sqlf.Raw("1")), sqlf.Raw("NULL"), named
	case m.As == AsCount:
		value := sqlf.New("lower(?) IN ('true', '1')", property)
		if m.Value != "" {
			value = sqlf.New("? = CAST(? AS VARCHAR)", property, m.Value)
		}
		out.y, out.n, out.p = when(column, sqlf.Raw("1")), sqlf.Raw("NULL"), named.And(value)
	case m.As == AsMean:
		number := r.sql.number(column)
		out.y, out.n = meanOf(number, sqlf.New("isfinite(?)", number))
	case m.Value != "":
		out.y, out.n = shareOf(column, isKnown(column))
		out.p = when(named.And(isKnown(property)), sqlf.New("? = CAST(? AS VARCHAR)", property, m.Value))
	default:
		out.y, out.n = shareOf(sqlf.New("? IN ('true', '1')", low), sqlf.New("? IN ('true', 'false', '1', '0')", low))
	}
	return out
}

// check validates a query and sets its end.
func (q *ExperimentQuery) check(now func() time.Time) error {
	switch {
	case q.From.IsZero():
		return event.Invalid("this question needs the start of its time range", `send "from"`)
	case len(q.Variants) < 2:
		return event.Invalid("an experiment needs two arms", "name a control and at least one treatment")
	case q.Flag == "" && q.Prompt == "":
		return event.Invalid("the experiment names neither a flag nor a prompt", "its arms are variants of the one or versions of the other")
	case len(q.Metrics) > MaxMeasures:
		return event.Invalid("too many metrics", fmt.Sprintf("use at most %d", MaxMeasures))
	}
	if q.To.IsZero() {
		q.To = now().UTC()
	}
	for _, m := range q.Metrics {
		if err := m.Check(); err != nil {
			return err
		}
	}
	if err := q.Exclude.Check(); err != nil {
		return err
	}
	return checkText("flag", q.Flag+q.Prompt+strings.Join(q.Variants, ""))
}

// Experiment reads the variants of an experiment.
func (r *Reader) Experiment(ctx context.Context, q ExperimentQuery) (*Experiment, error) {
	if err := q.check(r.now); err != nil {
		return nil, err
	}
	x := &experimentReader{r: r, q: q, out: new(Experiment), at: make(map[[2]string]int)}
	if err := x.all(ctx); err != nil {
		return nil, err
	}
	return x.out, nil
}

// all reads cells and figures.
func (x *experimentReader) all(ctx context.Context) error {
	if err := x.cells(ctx); err != nil {
		return err
	}
	if len(x.out.Cells) == 0 || len(x.q.Metrics) == 0 {
		return nil
	}
	if err := x.quantiles(ctx); err != nil {
		return err
	}
	// One metric at a time: what all of them together need grows with their number.
	for i := range x.q.Metrics {
		if err := x.moments(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// experimentReader runs one query.
type experimentReader struct {
	r   *Reader
	q   ExperimentQuery
	out *Experiment
	at  map[[2]string]int // segment, variant → place in out.Cells

	audience sqlf.Fragment // of [Reader.Baseline]: the condition of the events whose users take part
}

// unit identifies the user, or a substitute, of an event.
const unitExpr = "coalesce(distinct_id, trace_id, CAST(uuid AS VARCHAR))"

// variant is the variant that an event names, or NULL.
func (x *experimentReader) variant() sqlf.Fragment {
	if !x.audience.IsZero() {
		return when(x.audience, sqlf.New("CAST(? AS VARCHAR)", everyone))
	}
	in := func(expr sqlf.Fragment) sqlf.Fragment { return x.r.sql.inTexts(anys(x.q.Variants), expr) }
	if x.q.Flag != "" {
		flag := x.r.sql.flag(x.q.Flag)
		return when(in(flag), flag)
	}
	return when(sqlf.New("prompt_name = CAST(? AS VARCHAR)", x.q.Prompt),
		sqlf.New("CASE WHEN ? THEN prompt_version WHEN ? THEN prompt_version_id END", in(sqlf.Column("prompt_version")), in(sqlf.Column("prompt_version_id"))))
}

// within is the condition of the events in the experiment's time.
func (x *experimentReader) within() (sqlf.Fragment, error) {
	return x.r.where(x.q.Project, &Filter{From: x.q.From, To: x.q.To})
}

// units is the common part of every query: exposed are the events with a variant,
// met the users with one, units those who count, traces the user of each of
// their traces.
func (x *experimentReader) units() (sqlf.Fragment, error) {
	segment, err := x.r.by(x.q.By)
	if err != nil {
		return segment, err
	}
	w, err := x.within()
	if err != nil {
		return w, err
	}
	w = w.And(sqlf.Or(callExpr, outcomeExpr))
	if x.q.Flag != "" && x.q.Prompt != "" {
		// A flag is on every event of its user, also on the calls of other prompts.
		w = w.Andf("(prompt_name = ? OR prompt_name IS NULL AND NOT (?))", x.q.Prompt, callExpr)
	}
	counts := sqlf.Raw("NOT skipped")
	if x.q.Exclude.Mixed {
		counts = counts.And(sqlf.Raw("NOT mixed"))
	}
	// Of events at one time the uuid chooses: it does not depend on the variant.
	return sqlf.New("WITH exposed AS MATERIALIZED (SELECT * FROM (SELECT "+unitExpr+" AS u, ts, uuid, trace_id, ? AS version, ? AS is_call, ? AS seg, ? AS skip, ? AS arm FROM events WHERE ?) WHERE arm IS NOT NULL), "+
		"firsts AS (SELECT u, arg_min(arm, (ts, uuid)) AS arm, arg_min(seg, (ts, uuid)) AS seg, min(arm) <> max(arm) AS mixed, min(ts) AS since, max(ts) AS until, bool_or(skip) OR ? AS skipped FROM exposed GROUP BY u), "+
		"met AS MATERIALIZED (SELECT *, ? AS counts FROM firsts), "+
		"units AS (SELECT * FROM met WHERE counts), "+
		"traces AS (SELECT trace_id, arg_min(u, ts) AS u FROM exposed WHERE trace_id IS NOT NULL GROUP BY trace_id) ",
		versionExpr, callExpr, segment, x.r.excluded(x.q.Exclude), x.variant(), w, x.r.sql.inTexts(anys(x.q.Exclude.Users), sqlf.Raw("u")), counts), nil
}

// cells finds the variants and segments, and how many users and calls each has.
func (x *experimentReader) cells(ctx context.Context) error {
	calls, err := x.read(reading{y: sqlf.Raw("1"), n: sqlf.Raw("1"), events: callExpr})
	if err != nil {
		return err
	}
	type count struct {
		version string
		n       int64
	}
	versions, ofCalls := make(map[[2]string][]count), make(map[[2]string]int64)
	const users, counted, ran = "users", "calls", "version"
	err = x.r.each(ctx, sqlf.New("?SELECT '"+users+"', seg, arm, count(*) FILTER (WHERE counts), count(*) FILTER (WHERE mixed AND NOT skipped), count(*) FILTER (WHERE skipped), min(since) FILTER (WHERE counts), max(until) FILTER (WHERE counts), CAST(NULL AS VARCHAR) FROM met GROUP BY seg, arm "+
		"UNION ALL SELECT '"+counted+"', seg, arm, count(*), 0, 0, NULL, NULL, NULL FROM readings GROUP BY seg, arm "+
		"UNION ALL SELECT '"+ran+"', units.seg, units.arm, count(*), 0, 0, NULL, NULL, version FROM exposed JOIN units USING (u, arm) WHERE version IS NOT NULL AND is_call GROUP BY units.seg, units.arm, version", calls), func(rows *sql.Rows) error {
		var of string
		var seg, variant, version sql.NullString
		var n, mixed, skipped int64
		var first, last sql.NullTime
		if err := rows.Scan(&of, &seg, &variant, &n, &mixed, &skipped, &first, &last, &version); err != nil {
			return fmt.Errorf("scan arm: %w", err)
		}
		switch key := [2]string{seg.String, variant.String}; of {
		case counted:
			ofCalls[key] = n
		case ran:
			versions[key] = append(versions[key], count{version.String, n})
		default:
			x.out.Cells = append(x.out.Cells, Cell{Segment: seg.String, Variant: variant.String, Users: n, Mixed: mixed, Excluded: skipped, First: first.Time.UTC(), Last: last.Time.UTC(), Versions: []string{}})
		}
		return nil
	})
	if err != nil {
		return err
	}
	size := make(map[string]int64)
	for _, c := range x.out.Cells {
		size[c.Segment] += c.Users
	}
	slices.SortFunc(x.out.Cells, func(a, b Cell) int {
		return cmp.Or(cmp.Compare(size[b.Segment], size[a.Segment]), strings.Compare(a.Segment, b.Segment),
			cmp.Compare(slices.Index(x.q.Variants, a.Variant), slices.Index(x.q.Variants, b.Variant)))
	})
	seen := make(map[string]bool)
	for i := range x.out.Cells {
		c := &x.out.Cells[i]
		if seen[c.Segment] = true; len(seen) > MaxSegments {
			x.out.Cells = x.out.Cells[:i]
			break
		}
		c.Figures = make([]Figure, len(x.q.Metrics))
		key := [2]string{c.Segment, c.Variant}
		x.at[key], c.Calls = i, ofCalls[key]
		list := versions[key]
		slices.SortFunc(list, func(a, b count) int {
			return cmp.Or(cmp.Compare(b.n, a.n), strings.Compare(a.version, b.version))
		})
		for _, v := range list[:min(len(list), 10)] {
			c.Versions = append(c.Versions, v.version)
		}
	}
	return nil
}

// readColumns are the columns that metrics read.
func readColumns() []sqlf.Fragment {
	return sqlf.Columns("name", "ts", "trace_id", "is_error", "status", "cost_total", "cost_input", "cost_output", "cost_request", "cost_web_search", "cost_tools", "latency_us", "ttft_us", "properties")
}

// readings is units and, after them, the events that a metric reads, each with its
// user: columns u, variant, seg, y, n.
func (x *experimentReader) readings(m Metric) (sqlf.Fragment, error) {
	read, err := x.r.reading(m, "p")
	if err != nil {
		return sqlf.Fragment{}, err
	}
	return x.read(read)
}

// read is readings of one reading.
func (x *experimentReader) read(read reading) (sqlf.Fragment, error) {
	units, err := x.units()
	if err != nil {
		return units, err
	}
	w, err := x.within()
	if err != nil {
		return w, err
	}
	picked := append(readColumns(), sqlf.Raw(unitExpr+" AS u"), x.variant().As("own"))
	if !read.p.IsZero() {
		picked = append(picked, read.p.As("p"))
	}
	// An event without a variant, whose trace is not part of the experiment, is
	// unrelated to it; so is a call without a trace.
	return sqlf.New("?, picked AS (SELECT ? FROM events WHERE ?), readings AS (SELECT units.u, units.arm, units.seg, e.trace_id, e.ts, ? AS y0, ? AS n0"+
		" FROM (SELECT picked.* REPLACE (coalesce(traces.u, picked.u) AS u), traces.u IS NOT NULL AS traced FROM picked LEFT JOIN traces ON traces.trace_id = picked.trace_id) AS e "+
		"JOIN units ON units.u = e.u WHERE e.traced OR e.ts >= units.since AND (e.own IS NOT NULL OR e.trace_id IS NULL AND NOT (?))) ",
		units, picked, w.And(read.events), read.y, read.n, callExpr), nil
}

// levels are the quantiles around one that bound its interval: close to it, and
// out to where few users leave it.
func levels(q float64) []float64 {
	var out []float64
	for i := -40; i <= 40; i++ {
		out = append(out, 1/(1+math.Exp(-(math.Log(q/(1-q))+0.08*float64(i)))))
	}
	out[40] = q
	return out
}

// quantiles reads the quantiles of each cell.
func (x *experimentReader) quantiles(ctx context.Context) error {
	for i, m := range x.q.Metrics {
		q := m.Quantile()
		if q == 0 {
			continue
		}
		readings, err := x.readings(m)
		if err != nil {
			return err
		}
		ls := levels(q)
		list := make([]string, len(ls))
		for j, l := range ls {
			list[j] = strconv.FormatFloat(l, 'g', -1, 64)
		}
		err = x.r.each(ctx, sqlf.New("?SELECT seg, arm, quantile_cont(y0, ["+strings.Join(list, ", ")+"]) FROM readings WHERE y0 IS NOT NULL GROUP BY seg, arm", readings), func(rows *sql.Rows) error {
			var seg, variant string
			var raw any
			if err := rows.Scan(&seg, &variant, &raw); err != nil {
				return fmt.Errorf("scan quantiles: %w", err)
			}
			at, ok := x.at[[2]string{seg, variant}]
			values, _ := raw.([]any)
			if !ok || len(values) != len(ls) {
				return nil
			}
			f := &x.out.Cells[at].Figures[i]
			f.Levels, f.Values = ls, make([]float64, len(ls))
			for j, v := range values {
				f.Values[j], _ = v.(float64)
			}
			f.Value = event.Some(f.Values[40])
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Contribution is a trace, or one user's outcomes without a trace, that contributes
// to a variant's figure.
type Contribution struct {
	TraceID string    `json:"trace_id"` // "" where an outcome names no trace
	User    string    `json:"user"`
	At      time.Time `json:"at"` // of the first event that counts
	Y       Number    `json:"y"`  // the numerator; of a quantile, the largest value
	N       Number    `json:"n"`
}

// ContributionsQuery selects the contributions to a figure.
type ContributionsQuery struct {
	ExperimentQuery        // with one metric
	Variant         string // of those that are requested
	Segment         string // of By; without By there is one
	Descending      bool   // the highest figures first, else the lowest; then the newest
	Limit           int    // Defaults to 50, at most 500
}

// ExperimentContributions lists the traces that contribute to a figure of
// [Reader.Experiment].
func (r *Reader) ExperimentContributions(ctx context.Context, q ContributionsQuery) ([]Contribution, error) {
	if err := q.check(r.now); err != nil {
		return nil, err
	}
	if len(q.Metrics) != 1 {
		return nil, event.Invalid("traces are listed for one metric at a time", "name one")
	}
	if q.Limit <= 0 {
		q.Limit = 50
	}
	x := &experimentReader{r: r, q: q.ExperimentQuery}
	readings, err := x.readings(q.Metrics[0])
	if err != nil {
		return nil, err
	}
	sum, order := sqlf.Raw("sum(y0)"), "ASC"
	if q.Metrics[0].Quantile() > 0 {
		sum = sqlf.Raw("max(y0)")
	}
	if q.Descending {
		order = "DESC"
	}
	// Without n, the figure of a trace is its contribution: a call's cost.
	out := []Contribution{}
	err = r.each(ctx, sqlf.New("?SELECT trace_id, u, min(ts), ? AS y, ? AS n FROM readings WHERE arm = CAST(? AS VARCHAR) AND seg = CAST(? AS VARCHAR) AND (y0 IS NOT NULL OR n0 IS NOT NULL)"+
		" GROUP BY trace_id, u ORDER BY coalesce(y, 0) / coalesce(nullif(n, 0), 1) "+order+", min(ts) DESC, u LIMIT ?", readings, float(sum), float(sqlf.Raw("sum(n0)")), q.Variant, q.Segment, min(q.Limit, 500)), func(rows *sql.Rows) error {
		var trace sql.NullString
		var y, n sql.NullFloat64
		var b Contribution
		if err := rows.Scan(&trace, &b.User, &b.At, &y, &n); err != nil {
			return fmt.Errorf("scan trace: %w", err)
		}
		b.TraceID, b.At = trace.String, b.At.UTC()
		b.Y, b.N = Number{Value: y.Float64, Known: y.Valid}, Number{Value: n.Float64, Known: n.Valid}
		out = append(out, b)
		return nil
	})
	return out, err
}
