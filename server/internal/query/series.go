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
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
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

// propertyPrefix precedes the name of a custom property in a GroupBy.
const propertyPrefix = "property:"

// ByProperty breaks down by a custom property.
func ByProperty(name string) GroupBy { return GroupBy(propertyPrefix + name) }

// SeriesQuery requests figures over time, broken down.
type SeriesQuery struct {
	Project   string
	Filter               // From is needed; To defaults to now
	Measures  []Measure  // at least one, at most MaxMeasures. IncompleteCalls comes with a sum of costs: it says that the sum is "at least"
	By        GroupBy    // of each point; not day or hour
	Every     GroupBy    // ByDay or ByHour; ByNone: no points, totals only
	Compare   bool       // also the totals of the period before (see [Filter.Before]); of groups only without points
	TimeZone  string     // IANA name; "" is UTC
	Event     EventMatch // of the measures of own events
	LatencyOf LatencyOf  // the calls of latency and time to first token; "" is OfCompleted
	Limit     int        // groups with the most events or, if failures are requested first, the most failures; 0 is DefaultLines, at most MaxGroups
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
	Keys     []string  `json:"keys"`                     // of the points: 2026-01-31, or RFC 3339
	Starts   []Moment  `json:"points"`                   // where each point begins and ends
	Total    Line      `json:"total"`                    // over all
	Groups   []Line    `json:"groups"`                   // by events, descending
	Rest     *Line     `json:"rest"`                     // all groups beyond Limit together; null if there are none
	Compared *Range    `json:"previous_range,omitempty"` // the time of the lines' previous figures
}

// Moment is the time of one point.
type Moment struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// Line is one group.
type Line struct {
	Key      string   `json:"key"` // "" for events without a value
	Total    Values   `json:"total"`
	Previous Values   `json:"previous,omitempty"` // where Compare was requested
	Points   []Values `json:"points"`             // of Total only without a breakdown
}

// Number is a figure, or unknown (null): a rate of nothing, a quantile of none.
type Number = event.Opt[float64]

// Values are figures by measure.
type Values map[Measure]Number

// Get returns a figure, unknown if it was not requested.
func (v Values) Get(m Measure) Number { return v[m] }

// by is the expression of a breakdown.
func (r *Reader) by(g GroupBy) (sqlf.Fragment, error) {
	switch g {
	case ByNone:
		return sqlf.Raw("''"), nil
	case ByTool:
		return r.stepExpr(), nil
	case ByEval:
		return orEmpty(r.evalName()), nil
	}
	if name, ok := strings.CutPrefix(string(g), propertyPrefix); ok && name != "" {
		if err := checkText("breakdown", name); err != nil {
			return sqlf.Fragment{}, err
		}
		column := r.constProperty(name)
		if name == AgentConfig || slices.ContainsFunc(facts, func(f fact) bool { return f.column == column.String() }) { // read out of outcomes beforehand
			return orEmpty(column), nil
		}
		return orEmpty(r.sql.property(name)), nil
	}
	if expr, ok := groupExprs[g]; ok {
		return expr, nil
	}
	if expr, ok := seriesExprs[g]; ok {
		return expr, nil
	}
	return sqlf.Fragment{}, event.Invalid("unknown breakdown", "use model, model_asked, provider, prompt, prompt_name, surface, user, environment, status, error_type, task_type, operation, input_length, output_category, tool, eval or property:NAME")
}

// seriesExprs are the breakdowns of a series that are columns, in addition to
// groupExprs.
var seriesExprs = map[GroupBy]sqlf.Fragment{
	ByErrorType:   orEmpty(sqlf.Column("error_type")),
	ByPromptName:  orEmpty(sqlf.Column("prompt_name")),
	ByTaskType:    orEmpty(sqlf.Column("task_type")),
	ByOperation:   orEmpty(sqlf.Column("operation")),
	ByInputLength: orEmpty(sqlf.Column("input_length_bucket")),
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
	case q.words():
		return nil, event.Invalid("figures cannot be narrowed by words", "look for words in the list of events, or use the other filters")
	case q.LatencyOf.Check() != nil:
		return nil, q.LatencyOf.Check()
	case q.Limit < 0 || q.Limit > MaxGroups:
		return nil, event.Invalid("the limit is out of range", fmt.Sprintf("use 1 to %d", MaxGroups))
	case q.Every != ByNone && q.Every != ByDay && q.Every != ByHour:
		return nil, event.Invalid("unknown time step", "use day or hour")
	case q.Limit == 0:
		q.Limit = DefaultLines
	}
	if summed := []Measure{CostUSD, CostPerTask}; slices.ContainsFunc(q.Measures, func(m Measure) bool { return slices.Contains(summed, m) }) && !slices.Contains(q.Measures, IncompleteCalls) {
		q.Measures = append(slices.Clone(q.Measures), IncompleteCalls) // where there are any, the sums are the least that the calls cost
	}
	out := &Series{From: q.From.UTC(), To: q.To.UTC(), TimeZone: zone.String(), By: q.By, Every: q.Every, Keys: []string{}, Starts: []Moment{}, Groups: []Line{}}
	var found map[time.Time]int
	if q.Every != ByNone {
		if found, err = out.points(q, zone); err != nil {
			return nil, err
		}
	}
	if before, ok := q.PreviousPeriod(zone); ok && q.Compare {
		out.Compared = &Range{before.From, before.To}
	}
	a := &asked{r: r, q: q, zone: zone, out: out, at: found}
	if err := a.run(ctx); err != nil {
		return nil, err
	}
	return out, nil
}

// points fills Keys and Starts, and reports which bucket is which point.
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

	failedFirst bool // groups are those with the most failures
}

// run queries one kind of events after the other. Groups are those of the
// first measure's kind; figures of other kinds are joined by key.
func (a *asked) run(ctx context.Context) error {
	c, err := a.r.cover(ctx, a.q.Project)
	if err != nil {
		return err
	}
	if a.plan, err = a.r.rolledPlan(ctx, a.q.Project, c, &a.q.Filter, a.q.By, a.out.Starts); err != nil {
		return err
	}
	for _, m := range a.q.Measures {
		if err := a.q.Event.check(m); err != nil {
			return err
		}
	}
	terms := a.r.ofOutcome().terms(a.q.LatencyOf, a.q.Event)
	names, defs := make(map[of][]Measure), make(map[of][]measure)
	var order []of
	add := func(m Measure, def measure) {
		k := def.of()
		if names[k] == nil {
			order = append(order, k)
		}
		if !slices.Contains(names[k], m) {
			names[k], defs[k] = append(names[k], m), append(defs[k], def)
		}
	}
	ratios := make(map[Measure][]Measure) // of two others
	for i, m := range a.q.Measures {
		def, err := terms.measure(m)
		if err != nil {
			return err
		}
		a.failedFirst = a.failedFirst || i == 0 && def.failures
		if def.parts == nil {
			add(m, def)
			continue
		}
		ratios[m] = def.parts
		for _, p := range def.parts {
			if def, err = terms.measure(p); err != nil {
				return err
			}
			add(p, def)
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
		if err := a.ask(ctx, k, names[k], defs[k], i == 0); err != nil {
			return err
		}
	}
	a.each(func(v Values) {
		for _, k := range order {
			for _, m := range names[k] {
				n := v[m]
				if m.Info().Zero && !n.Known {
					n = event.Some(0.0)
				}
				v[m] = n // unknown, if there was nothing
			}
		}
	})
	for m, parts := range ratios {
		a.each(func(v Values) {
			over, under := v[parts[0]], v[parts[1]]
			v[m] = Number{}
			if over.Known && under.Value > 0 {
				v[m] = event.Some(over.Value / under.Value)
			}
		})
	}
	a.each(func(v Values) {
		maps.DeleteFunc(v, func(m Measure, _ Number) bool { return !slices.Contains(a.q.Measures, m) })
	})
	return nil
}

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

// source is what figures of one kind are computed from; uses is what computes them.
func (a *asked) source(ctx context.Context, k of, f *Filter, uses sqlf.Fragment) (source, error) {
	switch {
	case k.kind == ofOutcomes:
		return a.r.outcomesSource(ctx, a.q.Project, f, a.q.By, a.plan.cover, uses)
	case k.kind == ofUsers && a.q.By == ByNone && a.q.Every == ByNone:
		return a.r.usersSource(a.q.Project, f, a.plan)
	case k.kind == ofEvents:
		return a.r.namedSource(ctx, a.q.Project, f, a.q.By, a.q.Event, a.plan.cover)
	case k.kind == ofTraces:
		return a.r.unitSource(a.q.Project, f, a.q.By, a.q.Event, "trace_id")
	case k.kind == ofUserUnits:
		return a.r.unitSource(a.q.Project, f, a.q.By, a.q.Event, "distinct_id")
	case k.times:
		return a.r.timesSource(k.kind, timesQuery{a.q.Project, f, a.q.By, a.q.LatencyOf}, a.plan, uses)
	}
	return a.r.eventsSource(k.kind, a.q.Project, f, a.q.By, a.plan, uses)
}

// ask reads the measures of one kind: totals by group, then points. lead
// selects the groups.
func (a *asked) ask(ctx context.Context, k of, names []Measure, defs []measure, lead bool) error {
	adds := !slices.ContainsFunc(defs, func(m measure) bool { return len(m.sums) == 0 })
	lead = lead && a.q.By != ByNone
	if lead && !adds {
		if err := a.findGroups(ctx, k.kind); err != nil {
			return err
		}
	}
	read := func(f *Filter, sets []string, bucket sqlf.Fragment, lead bool, put func(l *Line, at time.Time, timed bool) Values) error {
		uses := slices.Concat([]sqlf.Fragment{allRows}, sumsOf(defs), columnsOf(defs, sumsOf(defs)))
		from, err := a.source(ctx, k, f, sqlf.Join(" ", uses...))
		if err != nil {
			return err
		}
		s := selection{names: names, defs: defs, sets: sets, put: put}
		s.timed, s.grouped = strings.Contains(sets[len(sets)-1], "t"), strings.Contains(sets[len(sets)-1], "g")
		columns := []sqlf.Fragment{sqlf.Raw("*")}
		if s.timed {
			columns = append(columns, bucket.As("t"))
		}
		if s.grouped && !lead {
			keys := make([]any, len(a.out.Groups)) // the group of each row: its place among them, or -1
			for i, g := range a.out.Groups {
				keys[i] = g.Key
			}
			columns = append(columns, sqlf.New("coalesce(list_position(CAST(? AS VARCHAR[]), value), 0) - 1 AS g", keys))
		}
		s.from = sqlf.New("(SELECT ? FROM ?)", columns, from.sql)
		switch {
		case from.binned:
			return a.readBins(ctx, s)
		case adds:
			s.lead = lead
			return a.readSums(ctx, s)
		}
		// Exact quantiles keep all values in memory: the sets are computed one
		// after the other.
		for _, set := range sets {
			s.sets = []string{set}
			if err := a.readWhole(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}
	sets, before := []string{"()"}, []string{"()"}
	var bucket sqlf.Fragment
	switch {
	case a.q.Every != ByNone:
		bucket = a.r.bucket(a.q.From, a.q.To, a.q.Every, a.zone)
		if a.q.By == ByNone {
			sets = append(sets, "(t)")
		} else {
			sets = append(sets, "(g)", "(g, t)")
		}
	case a.q.By != ByNone:
		sets, before = append(sets, "(g)"), append(before, "(g)")
	}
	err := read(&a.q.Filter, sets, bucket, lead && adds, func(l *Line, at time.Time, timed bool) Values {
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
	earlier, _ := a.q.PreviousPeriod(a.zone) // the range has both ends here
	return read(&earlier, before, bucket, false, func(l *Line, _ time.Time, _ bool) Values { return l.Previous })
}

// selection is one reading of measures from a source, summed up by sets of g, the
// group, and t, the point: (), (g), (t), (g, t).
type selection struct {
	names          []Measure
	defs           []measure
	sets           []string
	grouped, timed bool                                           // a set has g, t
	lead           bool                                           // it makes the groups
	from           sqlf.Fragment                                  // the source, with g and t
	put            func(l *Line, at time.Time, timed bool) Values // where a line's figures are stored; nil: they are dropped
}

// cell are the figures of one group or point.
type cell struct {
	g        sql.NullInt64
	t        sql.NullTime
	noG, noT int64          // 1: of all groups, of all points
	key      sql.NullString // of the group, where the selection makes them
	columns  []any
	binned   map[string]bins
}

// store adds figures to their lines.
func (a *asked) store(s *selection, sums []sqlf.Fragment, f *cell) {
	l := a.out.Rest
	switch {
	case f.noG == 1:
		l = &a.out.Total
	case f.g.Int64 >= 0 && f.g.Int64 < int64(len(a.out.Groups)):
		l = &a.out.Groups[f.g.Int64]
	case a.q.By == ByNone:
		l = nil
	}
	if l == nil {
		return
	}
	if into := s.put(l, f.t.Time.UTC(), f.noT == 0); into != nil {
		maps.Copy(into, values(s.names, s.defs, sums, f.columns, f.binned))
	}
}

// readWhole reads measures that do not add up.
func (a *asked) readWhole(ctx context.Context, s selection) error {
	g, t, noG, noT := "-1", "CAST(NULL AS TIMESTAMP)", "1", "1"
	if strings.Contains(s.sets[0], "g") {
		g, noG = "g", "GROUPING(g)"
	}
	if strings.Contains(s.sets[0], "t") {
		t, noT = "t", "GROUPING(t)"
	}
	// The source names group and bucket, so that each is computed once.
	read, err := a.cells(ctx, s.defs, nil, sqlf.New("SELECT ? FROM ? GROUP BY GROUPING SETS ("+s.sets[0]+")", append(sqlf.Texts(g, t, noG, noT, "NULL"), columnsOf(s.defs, nil)...), s.from))
	for i := range read {
		a.store(&s, nil, &read[i])
	}
	return err
}

// cells reads cells.
func (a *asked) cells(ctx context.Context, defs []measure, sums []sqlf.Fragment, query sqlf.Fragment) (out []cell, err error) {
	n := len(columnsOf(defs, sums))
	err = a.r.each(ctx, query, func(rows *sql.Rows) error {
		f := cell{columns: make([]any, n)}
		dest := []any{&f.g, &f.t, &f.noG, &f.noT, &f.key}
		for i := range f.columns {
			dest = append(dest, &f.columns[i])
		}
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("scan measures: %w", err)
		}
		out = append(out, f)
		return nil
	})
	return out, err
}

// readSums reads measures that are sums, and selects the groups if it leads:
// those with the most events. It reads the source once, into sums by group and
// point, from which all sets are computed.
func (a *asked) readSums(ctx context.Context, s selection) error {
	sums := sumsOf(s.defs)
	read := sums
	by, g, t, noG, noT, key := []string{}, "-1", "CAST(NULL AS TIMESTAMP)", "1", "1", "NULL"
	if s.timed {
		by, t, noT = append(by, "t"), "t", "GROUPING(t)"
	}
	from := "pre"
	var ranked sqlf.Fragment
	if s.grouped {
		g, noG = "g", "GROUPING(g)"
		if s.lead {
			by, key = append(by, "value"), "min(value)"
			count := allRows
			if s.defs[0].kind == ofOutcomes || s.defs[0].kind == ofEvents {
				count = sqlf.Raw("count(*)")
			}
			rank := ""
			if read = distinct(append(slices.Clone(sums), count)); a.failedFirst {
				read = distinct(append(read, failedRows))
				rank = sumOf(indexOf(read, failedRows)).String() + " DESC NULLS LAST, "
			}
			rank += sumOf(indexOf(read, count)).String() + " DESC, value"
			ranked = sqlf.Raw(fmt.Sprintf(", ranked AS (SELECT value, least(row_number() OVER (ORDER BY %s), %d) - 1 AS g FROM pre GROUP BY value)", rank, a.q.Limit+1))
			from = "(SELECT * FROM pre JOIN ranked USING (value))"
		} else {
			by = append(by, "g")
		}
	}
	columns, group := sqlf.Texts(by...), ""
	for i, s := range read {
		columns = append(columns, s.As(sumName(i)))
	}
	if len(by) > 0 {
		group = " GROUP BY " + strings.Join(by, ", ")
	}
	cells, err := a.cells(ctx, s.defs, sums, sqlf.New("WITH pre AS MATERIALIZED (SELECT ? FROM ?"+group+")? SELECT ? FROM "+from+" GROUP BY GROUPING SETS ("+strings.Join(s.sets, ", ")+")",
		columns, s.from, ranked, append(sqlf.Texts(g, t, noG, noT, key), columnsOf(s.defs, sums)...)))
	if err != nil {
		return err
	}
	if s.lead {
		keys := make(map[int64]string)
		for _, c := range cells {
			if c.noG == 0 && (c.noT == 1 || !s.timed) {
				keys[c.g.Int64] = c.key.String
			}
		}
		for i := range int64(len(keys)) {
			l := a.line(keys[i])
			if i == int64(a.q.Limit) {
				l.Key = ""
				a.out.Rest = &l
				continue
			}
			a.out.Groups = append(a.out.Groups, l)
		}
	}
	for i := range cells {
		a.store(&s, sums, &cells[i])
	}
	return nil
}

// readBins reads durations counted by bin: those of each point, from which it
// computes those of the groups and of all.
func (a *asked) readBins(ctx context.Context, s selection) error {
	var whats []string
	for _, m := range s.defs {
		whats = append(whats, m.what)
	}
	slices.Sort(whats)
	whats = slices.Compact(whats)
	g, t := "CAST(-1 AS BIGINT) AS g", "CAST(NULL AS TIMESTAMP) AS t"
	if s.grouped {
		g = "g"
	}
	if s.timed {
		t = "t"
	}
	columns := sqlf.Texts(g, t)
	for _, w := range whats {
		columns = append(columns, sqlf.Raw("string_agg("+w+", ' ')"))
	}
	by := ""
	if s.grouped {
		by = " GROUP BY g, t ORDER BY g, t"
	} else if s.timed {
		by = " GROUP BY t"
	}
	var last cell // the group that is being read
	all, group := make(map[string]bins), map[string]bins(nil)
	flush := func() {
		if group != nil && s.grouped {
			a.store(&s, nil, &cell{g: last.g, noT: 1, binned: group})
		}
	}
	texts := make([]sql.NullString, len(whats))
	var f cell
	dest := []any{&f.g, &f.t}
	for i := range texts {
		dest = append(dest, &texts[i])
	}
	err := a.r.each(ctx, sqlf.New("SELECT ? FROM ?"+by, columns, s.from), func(rows *sql.Rows) error {
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("scan bins: %w", err)
		}
		if group == nil || f.g != last.g {
			flush()
			last, group = f, make(map[string]bins)
		}
		f.binned = make(map[string]bins)
		for i, w := range whats {
			b, err := parseBins(texts[i].String)
			if err != nil {
				return err
			}
			f.binned[w], group[w], all[w] = b, group[w].plus(b), all[w].plus(b)
		}
		if s.timed {
			if f.noG = 1; s.grouped {
				f.noG = 0
			}
			a.store(&s, nil, &f)
		}
		return nil
	})
	if err == nil {
		flush()
		a.store(&s, nil, &cell{noG: 1, noT: 1, binned: all})
	}
	return err
}

// findGroups sets Groups to the keys with the most events, and Rest if there are
// more.
func (a *asked) findGroups(ctx context.Context, k kind) error {
	from, err := a.source(ctx, of{kind: k}, &a.q.Filter, sqlf.Column("n"))
	if err != nil {
		return err
	}
	var rank sqlf.Fragment
	if a.failedFirst {
		rank = sqlf.New("? DESC NULLS LAST, ", failedRows)
	}
	return a.r.each(ctx, sqlf.New("SELECT value, ? AS n FROM ? GROUP BY value ORDER BY ?n DESC, value LIMIT ?", sqlf.New(a.r.sql.bigint, allRows), from.sql, rank, a.q.Limit+1), func(rows *sql.Rows) error {
		var key string
		var n int64
		if err := rows.Scan(&key, &n); err != nil {
			return err
		}
		if len(a.out.Groups) == a.q.Limit {
			rest := a.line("")
			a.out.Rest = &rest
			return nil
		}
		a.out.Groups = append(a.out.Groups, a.line(key))
		return nil
	})
}
