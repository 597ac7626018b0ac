package query

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// More breakdowns, of [SeriesQuery.By].
const (
	ByErrorType   GroupBy = "error_type"
	ByPromptName  GroupBy = "prompt_name"
	ByTaskType    GroupBy = "task_type"
	ByOperation   GroupBy = "operation"
	ByInputLength GroupBy = "input_length" // bucket of the input's length
	ByTool        GroupBy = "tool"         // of tool calls
	ByEval        GroupBy = "eval"         // of outcomes: the check that scored
)

// propertyPrefix stands before the name of a custom property in a GroupBy.
const propertyPrefix = "property:"

// ByProperty breaks down by a custom property.
func ByProperty(name string) GroupBy { return GroupBy(propertyPrefix + name) }

// SeriesQuery asks for figures over time, broken down.
type SeriesQuery struct {
	Project  string
	Filter             // From is needed; To defaults to now
	Measures []Measure // at least one, at most MaxMeasures
	By       GroupBy   // of each point; not day or hour
	Every    GroupBy   // ByDay or ByHour; ByNone: no points, totals only
	Compare  bool      // also the totals of the equally long period before; of groups only where there are no points
	TimeZone string    // IANA name; "" is UTC
	Limit    int       // groups, those of the most events or, where failures are asked for first, of the most failures; 0 is DefaultLines, at most MaxGroups
}

// Bounds of [SeriesQuery].
const (
	DefaultLines = 6
	MaxMeasures  = 20
)

// Series are figures over time.
type Series struct {
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	TimeZone string    `json:"time_zone"`
	By       GroupBy   `json:"by"`
	Every    GroupBy   `json:"every"`
	Keys     []string  `json:"keys"`   // of the points: 2026-01-31, or RFC 3339
	Starts   []Moment  `json:"points"` // where each point begins and ends
	Total    Line      `json:"total"`  // over all
	Groups   []Line    `json:"groups"` // by events, descending
	Rest     *Line     `json:"rest"`   // all groups beyond Limit together; null where there are none
}

// Moment is the time of one point.
type Moment struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// Line is one group.
type Line struct {
	Key      string   `json:"key"` // "" where the events do not say
	Total    Values   `json:"total"`
	Previous Values   `json:"previous,omitempty"` // where Compare was asked for
	Points   []Values `json:"points"`             // of Total only where there is no breakdown
}

// Number is a figure, or unknown (null): a rate of nothing, a quantile of none.
type Number = event.Opt[float64]

// Values are figures by measure.
type Values map[Measure]Number

// Get is a figure, unknown where it was not asked for.
func (v Values) Get(m Measure) Number { return v[m] }

// by is the expression of a breakdown.
func (r *Reader) by(g GroupBy) (expr string, args []any, err error) {
	text := func(col string) string { return "coalesce(" + col + ", '')" }
	switch g {
	case ByNone:
		return "''", nil, nil
	case ByErrorType:
		return text("error_type"), nil, nil
	case ByPromptName:
		return text("prompt_name"), nil, nil
	case ByTaskType:
		return text("task_type"), nil, nil
	case ByOperation:
		return text("operation"), nil, nil
	case ByInputLength:
		return text("input_length_bucket"), nil, nil
	case ByTool:
		return r.sql.stepExpr(), nil, nil
	case ByEval:
		return text(r.sql.evalName()), nil, nil
	}
	if name, ok := strings.CutPrefix(string(g), propertyPrefix); ok && name != "" {
		if err := checkText("breakdown", name); err != nil {
			return "", nil, err
		}
		return text(r.sql.property), []any{propertyPath(name)}, nil
	}
	if expr := groupExprs[g]; expr != "" {
		return expr, nil, nil
	}
	return "", nil, event.Invalid("there is no such breakdown", "use model, model_asked, provider, prompt, prompt_name, surface, user, environment, status, error_type, task_type, operation, input_length, tool, eval or property:NAME")
}

// Series computes figures over time.
func (r *Reader) Series(ctx context.Context, q SeriesQuery) (*Series, error) {
	zone, err := loadZone(q.TimeZone)
	if err != nil {
		return nil, err
	}
	if q.To.IsZero() {
		q.To = r.now().UTC()
	}
	switch {
	case q.From.IsZero():
		return nil, event.Invalid("this question needs the start of its time range", `send "from"`)
	case !q.From.Before(q.To):
		return nil, event.Invalid("the time range is empty", `"from" must be before "to"`)
	case len(q.Measures) == 0 || len(q.Measures) > MaxMeasures:
		return nil, event.Invalid("the number of measures is out of range", fmt.Sprintf("ask for 1 to %d", MaxMeasures))
	case q.Text != "":
		return nil, event.Invalid("figures cannot be narrowed by words", "look for words in the list of events, or use the other filters")
	case q.Limit < 0 || q.Limit > MaxGroups:
		return nil, event.Invalid("the limit is out of range", fmt.Sprintf("use 1 to %d", MaxGroups))
	case q.Every != ByNone && q.Every != ByDay && q.Every != ByHour:
		return nil, event.Invalid("there is no such step of time", "use day or hour")
	case q.Limit == 0:
		q.Limit = DefaultLines
	}
	out := &Series{From: q.From.UTC(), To: q.To.UTC(), TimeZone: zone.String(), By: q.By, Every: q.Every, Keys: []string{}, Starts: []Moment{}, Groups: []Line{}}
	var found map[time.Time]int
	if q.Every != ByNone {
		if found, err = out.points(q, zone); err != nil {
			return nil, err
		}
	}
	a := &asked{r: r, q: q, zone: zone, out: out, at: found}
	if err := a.run(ctx); err != nil {
		return nil, err
	}
	return out, nil
}

// points fills Keys and Starts, and tells which bucket is which point.
func (s *Series) points(q SeriesQuery, zone *time.Location) (map[time.Time]int, error) {
	starts, err := timeBuckets(q.From, q.To, q.Every, zone)
	if err != nil {
		return nil, err
	}
	found := make(map[time.Time]int, len(starts))
	for i, start := range starts {
		end := q.To.UTC()
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		s.Starts = append(s.Starts, Moment{start, end})
		local := start.In(zone)
		if q.Every == ByHour {
			s.Keys, found[start.UTC()] = append(s.Keys, local.Format(time.RFC3339)), i
			continue
		}
		date := time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, time.UTC)
		s.Keys, found[date] = append(s.Keys, date.Format(time.DateOnly)), i
	}
	return found, nil
}

// asked is a series being computed.
type asked struct {
	r    *Reader
	q    SeriesQuery
	zone *time.Location
	out  *Series
	at   map[time.Time]int
	plan plan
}

// run asks one kind of events after the other. Groups are those of the kind of
// the first measure; the others' figures join them by key.
func (a *asked) run(ctx context.Context) error {
	c, err := a.r.cover(ctx, a.q.Project)
	if err != nil {
		return err
	}
	a.plan = rolledPlan(c, &a.q.Filter, a.q.By, a.out.Starts)
	all := a.r.sql.ofOutcome().measures()
	names := make(map[of][]Measure)
	var order []of
	add := func(m Measure) error {
		d, ok := all[m]
		if !ok {
			return event.Invalid("there is no such measure", "see the list of measures in the documentation")
		}
		if names[d.of()] == nil {
			order = append(order, d.of())
		}
		if !slices.Contains(names[d.of()], m) {
			names[d.of()] = append(names[d.of()], m)
		}
		return nil
	}
	perTask := slices.Contains(a.q.Measures, CostPerTask)
	for _, m := range a.q.Measures {
		needs := []Measure{m}
		if m == CostPerTask {
			needs = []Measure{CostUSD, TasksCompleted}
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return err
			}
		}
	}
	a.out.Total = a.line("")
	if a.q.By != ByNone {
		a.out.Total.Points = []Values{}
	}
	if a.q.Compare {
		a.out.Total.Previous = Values{}
	}
	for i, k := range order {
		defs := make([]measure, len(names[k]))
		for j, m := range names[k] {
			defs[j] = all[m]
		}
		if err := a.ask(ctx, k, names[k], defs, i == 0); err != nil {
			return err
		}
	}
	a.each(func(v Values) {
		for _, k := range order {
			for _, m := range names[k] {
				n := v[m]
				if counts[m] && !n.Known {
					n = event.Some(0.0)
				}
				v[m] = n // unknown, where there was nothing
			}
		}
	})
	if perTask {
		a.each(func(v Values) {
			cost, tasks := v[CostUSD], v[TasksCompleted]
			v[CostPerTask] = Number{}
			if cost.Known && tasks.Value > 0 {
				v[CostPerTask] = event.Some(cost.Value / tasks.Value)
			}
			for _, m := range []Measure{CostUSD, TasksCompleted} {
				if !slices.Contains(a.q.Measures, m) {
					delete(v, m)
				}
			}
		})
	}
	return nil
}

// counts are 0 where there was nothing; every other figure is unknown there.
var counts = map[Measure]bool{Calls: true, Errors: true, Users: true, Tasks: true, TasksCompleted: true, Rated: true, Negative: true, ToolCalls: true, ToolErrors: true}

func (a *asked) line(key string) Line {
	l := Line{Key: key, Total: Values{}, Points: make([]Values, len(a.out.Keys))}
	for i := range l.Points {
		l.Points[i] = Values{}
	}
	if a.q.Compare && a.q.Every == ByNone {
		l.Previous = Values{}
	}
	return l
}

// each visits all figures.
func (a *asked) each(f func(Values)) {
	visit := func(l *Line) {
		f(l.Total)
		if l.Previous != nil {
			f(l.Previous)
		}
		for _, p := range l.Points {
			f(p)
		}
	}
	visit(&a.out.Total)
	for i := range a.out.Groups {
		visit(&a.out.Groups[i])
	}
	if a.out.Rest != nil {
		visit(a.out.Rest)
	}
}

// source is what figures of one kind are computed from; uses is the SQL that
// computes them.
func (a *asked) source(ctx context.Context, k of, f *Filter, uses string) (source, error) {
	switch {
	case k.kind == ofOutcomes:
		return a.r.outcomesSource(ctx, a.q.Project, f, a.q.By, &a.plan.cover, uses)
	case k.kind == ofUsers && a.q.By == ByNone && a.q.Every == ByNone:
		return a.r.usersSource(a.q.Project, f, a.plan)
	case k.times:
		return a.r.timesSource(k.kind, a.q.Project, f, a.q.By, a.plan, uses)
	}
	return a.r.eventsSource(k.kind, a.q.Project, f, a.q.By, a.plan, uses)
}

// ask takes the measures of one kind: totals by group, then points. lead makes
// the groups.
func (a *asked) ask(ctx context.Context, k of, names []Measure, defs []measure, lead bool) error {
	if lead && a.q.By != ByNone {
		if err := a.findGroups(ctx, k.kind); err != nil {
			return err
		}
	}
	// The group of each row: its place in the list, or -1.
	keys := make([]any, len(a.out.Groups))
	for i, g := range a.out.Groups {
		keys[i] = g.Key
	}
	line := func(i int64, total bool) *Line {
		switch {
		case total:
			return &a.out.Total
		case i >= 0 && i < int64(len(a.out.Groups)):
			return &a.out.Groups[i]
		case a.q.By == ByNone:
			return nil
		}
		return a.out.Rest
	}
	read := func(f *Filter, sets []string, bucket string, bucketArgs []any, put func(l *Line, at time.Time, timed bool) Values) error {
		from, err := a.source(ctx, k, f, strings.Join(columnsOf(defs), " "))
		if err != nil {
			return err
		}
		g, t, inner, noG, noT := "-1", "CAST(NULL AS TIMESTAMP)", "*", "1", "1"
		var args []any
		if slices.ContainsFunc(sets, func(s string) bool { return strings.Contains(s, "g") }) {
			g, noG, inner = "g", "GROUPING(g)", inner+", coalesce(list_position(CAST(? AS VARCHAR[]), value), 0) - 1 AS g"
			args = append(args, keys)
		}
		if slices.ContainsFunc(sets, func(s string) bool { return strings.Contains(s, "t") }) {
			t, noT, inner = "t", "GROUPING(t)", inner+", "+bucket+" AS t"
			args = append(args, bucketArgs...)
		}
		args = append(args, from.args...)
		store := func(g sql.NullInt64, t sql.NullTime, noG, noT int64, columns []any, binned map[string]bins) {
			l := line(g.Int64, noG == 1)
			if l == nil {
				return
			}
			if into := put(l, t.Time.UTC(), noT == 0); into != nil {
				maps.Copy(into, values(names, defs, columns, binned))
			}
		}
		if from.binned {
			return a.readBins(ctx, defs, g, t, noG, noT, sets, "SELECT "+inner+" FROM "+from.sql, args, store)
		}
		// The inner selection names group and bucket, so that each is computed once.
		query := "SELECT " + strings.Join(slices.Concat([]string{g, t, noG, noT}, columnsOf(defs)), ", ") + " FROM (SELECT " + inner + " FROM " + from.sql + ") GROUP BY GROUPING SETS (" + strings.Join(sets, ", ") + ")"
		return a.r.store.Read(ctx, func(rows *sql.Rows) error {
			columns := make([]any, len(columnsOf(defs)))
			var g sql.NullInt64
			var t sql.NullTime
			var noG, noT int64
			dest := []any{&g, &t, &noG, &noT}
			for i := range columns {
				dest = append(dest, &columns[i])
			}
			for rows.Next() {
				if err := rows.Scan(dest...); err != nil {
					return fmt.Errorf("scan measures: %w", err)
				}
				store(g, t, noG, noT, columns, nil)
			}
			return nil
		}, query, args...)
	}
	// Exact quantiles hold all values until they are done: their sets are taken
	// one after the other. The rest is taken in one go.
	each := func(f *Filter, sets []string, bucket string, bucketArgs []any, put func(l *Line, at time.Time, timed bool) Values) error {
		if !k.times {
			return read(f, sets, bucket, bucketArgs, put)
		}
		for _, set := range sets {
			if err := read(f, []string{set}, bucket, bucketArgs, put); err != nil {
				return err
			}
		}
		return nil
	}
	sets, before := []string{"()"}, []string{"()"}
	bucket, bucketArgs := "", []any(nil)
	switch {
	case a.q.Every != ByNone:
		bucket, bucketArgs = a.r.bucket(a.q.From, a.q.To, a.q.Every, a.zone)
		if a.q.By == ByNone {
			sets = append(sets, "(t)")
		} else {
			sets = append(sets, "(g)", "(g, t)")
		}
	case a.q.By != ByNone:
		sets, before = append(sets, "(g)"), append(before, "(g)")
	}
	err := each(&a.q.Filter, sets, bucket, bucketArgs, func(l *Line, at time.Time, timed bool) Values {
		if !timed {
			return l.Total
		}
		if i, ok := a.at[at]; ok {
			return l.Points[i]
		}
		return nil
	})
	if err != nil || !a.q.Compare {
		return err
	}
	earlier, _ := a.q.Before() // the range has both ends here
	return each(&earlier, before, "", nil, func(l *Line, _ time.Time, _ bool) Values { return l.Previous })
}

// readBins reads durations counted by bin, one text for each set and kind of
// duration.
func (a *asked) readBins(ctx context.Context, defs []measure, g, t, noG, noT string, sets []string, inner string, args []any, store func(g sql.NullInt64, t sql.NullTime, noG, noT int64, columns []any, binned map[string]bins)) error {
	var whats []any
	for _, m := range defs {
		if !slices.Contains(whats, any(m.what)) {
			whats = append(whats, m.what)
		}
	}
	with := make([]string, len(sets))
	for i, set := range sets {
		with[i] = strings.Replace(strings.Replace(set, "(", "(what, bin, ", 1), ", )", ")", 1)
	}
	query := "SELECT g, t, no_g, no_t, what, string_agg(bin || ':' || n, ' ') FROM (SELECT " + g + " AS g, " + t + " AS t, " + noG + " AS no_g, " + noT + " AS no_t, what, bin, sum(n) AS n FROM (" + inner +
		" WHERE list_contains(CAST(? AS VARCHAR[]), what)) GROUP BY GROUPING SETS (" + strings.Join(with, ", ") + ")) GROUP BY ALL ORDER BY no_g, no_t, g, t"
	type key struct {
		g        sql.NullInt64
		t        sql.NullTime
		noG, noT int64
	}
	var last key
	binned := make(map[string]bins)
	flush := func() {
		if len(binned) > 0 {
			store(last.g, last.t, last.noG, last.noT, nil, binned)
			binned = make(map[string]bins)
		}
	}
	return a.r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var k key
			var what, counts string
			if err := rows.Scan(&k.g, &k.t, &k.noG, &k.noT, &what, &counts); err != nil {
				return fmt.Errorf("scan bins: %w", err)
			}
			if k != last {
				flush()
				last = k
			}
			var err error
			if binned[what], err = parseBins(counts); err != nil {
				return err
			}
		}
		flush()
		return nil
	}, query, append(args, whats)...)
}

// findGroups fills Groups with the keys of the most events, and Rest where there
// are more.
func (a *asked) findGroups(ctx context.Context, k kind) error {
	from, err := a.source(ctx, of{kind: k}, &a.q.Filter, "n")
	if err != nil {
		return err
	}
	count := "sum(n)"
	if k == ofOutcomes {
		count = "count(*)"
	}
	rank := ""
	switch a.q.Measures[0] {
	case Errors, ErrorRate, ToolErrors, ToolErrorRate:
		rank = "sum(n) FILTER (WHERE is_error) DESC NULLS LAST, "
	}
	return a.r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var key string
			var n int64
			if err := rows.Scan(&key, &n); err != nil {
				return err
			}
			if len(a.out.Groups) == a.q.Limit {
				rest := a.line("")
				a.out.Rest = &rest
				continue
			}
			a.out.Groups = append(a.out.Groups, a.line(key))
		}
		return nil
	}, "SELECT value, "+a.r.sql.bigint(count)+" AS n FROM "+from.sql+" GROUP BY value ORDER BY "+rank+"n DESC, value LIMIT ?", append(from.args, a.q.Limit+1)...)
}
