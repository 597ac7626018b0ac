package query

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// Deriver is a store that keeps derived tables. store.DuckDB is one.
type Deriver interface {
	Generation() uint64
	Stage(ctx context.Context, table, query string) error
	Unstage(ctx context.Context, table string) error
	Derive(ctx context.Context, generation uint64, first, last time.Time, f func(*store.Derivation) error) (done bool, err error)
}

// Roller closes stretches of stored events and rolls them up. Until it has,
// questions count those events one by one; answers do not depend on it.
type Roller struct {
	Reader  *Reader
	Store   Deriver
	Stretch int           // events that make a stretch, which then takes up to maxStretches times as many. Defaults to 4,096
	Every   time.Duration // wait where no stretch is full. Defaults to 15 s
	Logger  *slog.Logger  // nil: no log
}

// rollerShare is the part of its time that a Roller works where it has much to
// do, as after an upgrade: writes and queries have priority.
const rollerShare = 4 // one in

// Run rolls up until ctx ends. A failure is logged, and tried again after a while.
func (l *Roller) Run(ctx context.Context) error {
	log, every := l.Logger, l.Every
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if every <= 0 {
		every = 15 * time.Second
	}
	failures := 0
	for {
		begin := time.Now()
		done, err := l.Roll(ctx)
		wait := every
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			failures++
			wait = min(every<<min(failures, 16), max(every, maxFailureWait))
			if e := (*event.Error)(nil); errors.As(err, &e) && e.Code == event.CodeUnavailable { // the store has failed, and reports it itself
				log.Debug("events were not rolled up", "err", err)
			} else {
				log.Error("events were not rolled up: questions count them one by one", "err", err)
			}
		case done:
			failures, wait = 0, (rollerShare-1)*time.Since(begin)
		default:
			failures = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// maxFailureWait bounds the wait after failures, which doubles with each.
const maxFailureWait = 5 * time.Minute

func (l *Roller) size() int {
	if l.Stretch <= 0 {
		return minStretch
	}
	return l.Stretch
}

// maxStretches is how many times Stretch a stretch takes where there are so many
// events. Each takes some 12 KB of the engine's memory.
const maxStretches = 4

// Roll rolls up the next stretch, and reports false where it is not full yet.
func (l *Roller) Roll(ctx context.Context) (done bool, err error) {
	generation := l.Store.Generation()
	s := stretch{r: l.Reader, into: l.Store}
	defer s.unstage(context.WithoutCancel(ctx))
	if err := s.findStale(ctx); err != nil {
		return false, err
	}
	if !s.again {
		if err := s.find(ctx, maxStretches*l.size()); err != nil || s.events < int64(l.size()) {
			return false, err
		}
	}
	if err := s.read(ctx); err != nil {
		return false, err
	}
	return l.Store.Derive(ctx, generation, s.first, s.last, s.write)
}

// stretch is a range of events being rolled up. Its rows are read first, so
// that writes of events are blocked as briefly as possible.
type stretch struct {
	r           *Reader
	first, last time.Time
	events      int64
	again       bool      // it was rolled up before, and lost events
	known       time.Time // the last of all stretches rolled up before
	into        Deriver
	ids         []idCount
	outcomes    [][]any // new ones, and older ones whose call has changed
	replaced    []any   // uuids of the older ones
}

// idCount is a row of rollup_ids.
type idCount struct {
	project string
	hash    int64
}

// findStale finds the first stretch that is to be rolled up again.
func (s *stretch) findStale(ctx context.Context) error {
	err := s.r.each(ctx, sqlf.New("SELECT first, last, (SELECT max(last) FROM "+allRolled+") FROM rolled_stale ORDER BY last LIMIT 1"), func(rows *sql.Rows) error {
		s.again = true
		return rows.Scan(&s.first, &s.last, &s.known)
	})
	s.first, s.last, s.known = s.first.UTC(), s.last.UTC(), s.known.UTC()
	if err != nil || !s.again {
		return err
	}
	return s.r.one(ctx, sqlf.New("SELECT count(*) FROM events WHERE ?", s.in()), &s.events)
}

// find finds the end of the stretch. Rows are in the order of storing, so the
// engine's first rows are the next; otherwise the stretch would only be longer.
func (s *stretch) find(ctx context.Context, size int) error {
	err := s.r.one(ctx, sqlf.New("SELECT coalesce(max(last), TIMESTAMP '0001-01-01') FROM "+allRolled), &s.first)
	if err != nil {
		return err
	}
	s.first = s.first.UTC()
	s.known = s.first
	var last sql.NullTime
	err = s.r.one(ctx, sqlf.New("SELECT max(stored_at), count(*) FROM events WHERE stored_at > ? AND stored_at <= (SELECT max(stored_at) FROM (SELECT stored_at FROM events WHERE stored_at > ? LIMIT ?))", s.first, s.first, size), &last, &s.events)
	s.last = last.Time.UTC()
	return err
}

// in is the condition of the stretch's events. It binds nothing, for Stage.
func (s *stretch) in() sqlf.Fragment {
	return sqlf.New("{stored_at} > ? AND {stored_at} <= ?", literal(s.first), literal(s.last))
}

// literal is a time in SQL.
func literal(t time.Time) sqlf.Fragment {
	return sqlf.Raw("TIMESTAMP '" + t.UTC().Format("2006-01-02 15:04:05.000000") + "'")
}

// stagedTables are the tables whose rows the engine computes.
var stagedTables = func() []string {
	tables := []string{"rollup_properties", "rollup", "rollup_users", "rollup_errors", "rollup_traces", "rollup_parts"} // rollup is made of rollup_properties
	for _, d := range dimensions {
		if d.calls || d.tools {
			tables = append(tables, d.timesTable())
		}
	}
	return tables
}()

func (s *stretch) read(ctx context.Context) error {
	in := s.in()
	slot := sqlf.New(fmt.Sprintf("time_bucket(INTERVAL %d SECONDS, {ts})", int(slotLength/time.Second)))
	sums, err := s.sumsQuery(slot)
	if err != nil {
		return err
	}
	queries := map[string]sqlf.Fragment{
		"rollup_properties": s.propertiesQuery(),
		"rollup_traces":     s.tracesQuery(),
		"rollup_parts":      s.partsQuery(slot),
		"rollup":            sums,
		"rollup_users":      sqlf.New("SELECT DISTINCT project_id, date_trunc('day', ts), distinct_id FROM events WHERE ? AND distinct_id IS NOT NULL AND ?", callExpr, in),
		"rollup_errors":     sqlf.New("SELECT ?, ? AS m FROM events WHERE ? AND ? ORDER BY ts", sqlf.Columns(failureColumns...), errorExpr, failureExpr, in),
	}
	for _, d := range dimensions {
		if !d.calls && !d.tools {
			continue
		}
		if queries[d.timesTable()], err = s.timesQuery(&d, slot); err != nil {
			return err
		}
	}
	for _, table := range stagedTables {
		q := sqlf.New("SELECT ? AS last, * FROM (?)", literal(s.last), queries[table])
		if len(q.Args()) > 0 {
			return fmt.Errorf("roll up for %s: the query binds values", table)
		}
		if err := s.into.Stage(ctx, table, q.String()); err != nil {
			return fmt.Errorf("roll up for %s: %w", table, err)
		}
	}
	if err := s.readIDs(ctx); err != nil {
		return fmt.Errorf("roll up ids: %w", err)
	}
	return s.readOutcomes(ctx)
}

// unstage frees memory; the next stretch would, too.
func (s *stretch) unstage(ctx context.Context) {
	for _, table := range stagedTables {
		_ = s.into.Unstage(ctx, table) // nothing depends on it
	}
}

// readIDs reads which traces and sessions the stretch has events of.
func (s *stretch) readIDs(ctx context.Context) error {
	for _, column := range identified {
		err := s.r.each(ctx, sqlf.New("SELECT DISTINCT project_id, "+column+" FROM events WHERE "+column+" IS NOT NULL AND ?", s.in()), func(rows *sql.Rows) error {
			var project, id string
			err := rows.Scan(&project, &id)
			s.ids = append(s.ids, idCount{project, idHash(column, id)})
			return err
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(s.ids, func(a, b idCount) int {
		return cmp.Or(strings.Compare(a.project, b.project), cmp.Compare(a.hash, b.hash))
	})
	return nil
}

// dims are lists of the names and values of dimensions, one row each when both
// are unnested.
func (s *stretch) dims() (names string, values []sqlf.Fragment, err error) {
	var n []string
	for _, d := range dimensions {
		value, err := s.r.by(d.by)
		if err != nil {
			return "", nil, err
		}
		n, values = append(n, "'"+string(d.by)+"'"), append(values, value)
	}
	return "[" + strings.Join(n, ", ") + "]", values, nil
}

// sumsQuery makes the rows of sums: by dimension, and of calls by custom property.
func (s *stretch) sumsQuery(slot sqlf.Fragment) (sqlf.Fragment, error) {
	names, values, err := s.dims()
	if err != nil {
		return sqlf.Fragment{}, err
	}
	columns := []sqlf.Fragment{sqlf.Raw("coalesce(environment, '') AS environment, is_error"), slot.As("slot")}
	var all []sqlf.Fragment
	for _, c := range sums {
		sum := sqlf.New("sum(" + c.name + ")")
		if !strings.HasPrefix(c.name, "cost_") { // exact decimals
			sum = sqlf.New(s.r.sql.bigint, sum)
		}
		columns, all = append(columns, c.expr.As(c.name)), append(all, sum)
	}
	kind := sqlf.New("CASE WHEN ? AND ? THEN '"+rolledBoth+"' WHEN ? THEN '"+rolledCalls+"' WHEN ? THEN '"+rolledTools+"' ELSE '"+rolledOther+"' END", callExpr, s.r.toolExpr(), callExpr, s.r.toolExpr())
	return sqlf.New("SELECT project_id, kind, dim, value, environment, is_error, slot, ? FROM ("+
		"SELECT project_id, ? AS kind, unnest("+names+") AS dim, unnest([?]) AS value, ? FROM events WHERE ?"+
		" UNION ALL SELECT project_id, '"+rolledCalls+"', '"+propertyPrefix+"' || property, ?, ?"+
		" FROM events JOIN (SELECT project_id, name AS property FROM "+store.StagingTable("rollup_properties")+" WHERE rolled) USING (project_id) WHERE ? AND ?"+
		") GROUP BY ALL ORDER BY ALL", all, kind, values, columns, s.in(), orEmpty(s.r.sql.propertyAt(sqlf.Raw(pathOfProperty))), columns, callExpr, s.in()), nil
}

// pathOfProperty is what propertyPath makes of the name in column property.
const pathOfProperty = "'/' || replace(replace(property, '~', '~0'), '/', '~1')"

// propertiesQuery returns the rows that record the calls' properties.
func (s *stretch) propertiesQuery() sqlf.Fragment {
	few := fmt.Sprintf("count(DISTINCT value) <= %d AND max(length(value)) <= %d", mostValues, mostValueLen)
	return sqlf.New(fmt.Sprintf("SELECT project_id, CASE WHEN rank <= %d THEN property ELSE '' END AS name, few AND rank <= %d AS rolled FROM (", mostNames, mostProperties)+
		"SELECT project_id, property, few, row_number() OVER (PARTITION BY project_id ORDER BY few DESC, calls DESC, property) AS rank FROM ("+
		"SELECT project_id, property, coalesce("+few+", true) AS few, count(*) AS calls FROM (SELECT project_id, property, ? AS value FROM ("+
		"SELECT project_id, properties, ? AS property FROM events WHERE ? AND properties IS NOT NULL AND ?"+
		") WHERE property NOT IN ('', '"+AgentConfig+"')) GROUP BY project_id, property)"+
		fmt.Sprintf(") WHERE rank <= %d", mostNames+1), s.r.sql.propertyAt(sqlf.Raw(pathOfProperty)), s.r.sql.names(), callExpr, s.in())
}

// tracesQuery makes the rows of traces. Which of them older stretches have a part
// of, it finds among these.
func (s *stretch) tracesQuery() sqlf.Fragment {
	columns := sqlf.Texts("any_value(project_id) AS project_id", "any_value(trace_id) AS trace_id", "min(ts) AS first", "max(ts) AS latest")
	for _, n := range wholeColumns {
		sum := partSumOfEvents(n)
		if n == "tokens" {
			sum = sqlf.New(s.r.sql.bigint, sum)
		}
		columns = append(columns, sum.As(n))
	}
	return sqlf.New("WITH new AS MATERIALIZED (?),"+
		" hashed AS MATERIALIZED (SELECT *, ? AS hash FROM new),"+
		" known AS MATERIALIZED (SELECT DISTINCT hash FROM rollup_traces WHERE hash IN (SELECT hash FROM hashed))"+
		" SELECT project_id, trace_id, hash, first, latest, calls, depth, hash IN (SELECT hash FROM known) AS shared, ? FROM hashed ORDER BY project_id, first",
		shapesOf(s.r.allEvents().sql, s.in(), columns...), traceHash, sqlf.Columns(wholeColumns...))
}

// timesQuery makes the rows of a dimension's times.
func (s *stretch) timesQuery(d *dimension, slot sqlf.Fragment) (sqlf.Fragment, error) {
	value, err := s.r.by(d.by)
	if err != nil {
		return value, err
	}
	var parts, columns []sqlf.Fragment
	for _, t := range times {
		column := "CAST(NULL AS VARCHAR)"
		if d.timed(t.kind) {
			parts = append(parts, sqlf.New("SELECT project_id, ? AS value, coalesce(environment, '') AS environment, ? AS slot, '"+t.what+"' AS what, ? AS bin FROM events WHERE ?",
				value, slot, binExpr(t.col), s.r.of(t.kind).And(t.of.cond(), isKnown(sqlf.Column(t.col)), s.in())))
			column = "string_agg(CASE WHEN n = 1 THEN CAST(bin AS VARCHAR) ELSE bin || ':' || n END, ' ') FILTER (WHERE what = '" + t.what + "')"
		}
		columns = append(columns, sqlf.Raw(column+" AS "+t.what))
	}
	return sqlf.New("SELECT project_id, value, environment, slot, ? FROM (SELECT *, count(*) AS n FROM (?) GROUP BY ALL) GROUP BY project_id, value, environment, slot ORDER BY project_id, value, environment, slot", columns, sqlf.Join(" UNION ALL ", parts...)), nil
}

// readOutcomes reads the outcomes of the stretch with their calls, and the older
// ones for which a call of the stretch comes before the one that they have.
func (s *stretch) readOutcomes(ctx context.Context) error {
	var projects []string
	var first, latest time.Time
	err := s.r.each(ctx, sqlf.New("SELECT project_id, min(ts), max(ts) FROM events WHERE (? OR ?) AND ? GROUP BY project_id", outcomeExpr, callExpr, s.in()), func(rows *sql.Rows) error {
		var p string
		var from, to time.Time
		if err := rows.Scan(&p, &from, &to); err != nil {
			return err
		}
		if projects = append(projects, p); first.IsZero() || from.Before(first) {
			first = from
		}
		if to.After(latest) {
			latest = to
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("roll up outcomes: %w", err)
	}
	upto := s.last
	if s.again {
		upto = s.known // calls of later stretches may belong to its outcomes
	}
	for _, p := range projects {
		if err := s.projectOutcomes(ctx, p, &cover{last: s.known, rest: []storedIn{{s.first, s.last}}, events: s.events, first: first.UTC(), latest: latest.UTC(), upto: upto}); err != nil {
			return fmt.Errorf("roll up outcomes: %w", err)
		}
	}
	return nil
}

func (s *stretch) projectOutcomes(ctx context.Context, project string, c *cover) error {
	found, err := s.r.newCalls(ctx, project, c)
	if err != nil {
		return err
	}
	calls := make(map[string][]any)
	ids := []any{}
	for _, f := range found {
		calls[f.uuid] = append([]any{f.order}, f.values...)
		ids = append(ids, f.uuid)
	}
	id := func(v any) string {
		raw, _ := v.([]byte)
		id, _ := uuid.FromBytes(raw) // none is in no list
		return id.String()
	}
	// In the order of the table: the stretch, own columns, those of the call, facts,
	// parent_id.
	all := fields{own: slices.Concat(outcomeColumns[:len(outcomeColumns)-1], inheritable)}
	parent := len(all.own)
	all.own = append(all.own, "parent_id")
	for i := range facts {
		all.facts = append(all.facts, i)
	}
	at := slices.Index(outcomeColumns, "uuid")
	rows, err := s.r.raw(ctx, s.r.withoutCall(all, outcomeExpr.Andf("project_id = ?", project).And(s.in())))
	if err != nil {
		return err
	}
	for _, row := range rows {
		c := calls[id(row[at])]
		if c == nil {
			c = make([]any, 1+len(inheritable))
		}
		s.outcomes = append(s.outcomes, slices.Concat([]any{s.last}, row[:parent], c, row[parent+1:], row[parent:parent+1]))
	}
	if len(found) == 0 {
		return nil
	}
	if rows, err = s.r.raw(ctx, sqlf.New("SELECT * FROM rollup_outcomes WHERE project_id = ? AND uuid IN (?)", project, s.r.sql.uuidRows(ids))); err != nil {
		return err
	}
	for _, row := range rows {
		copy(row[1+parent:], calls[id(row[1+at])])
		s.replaced, s.outcomes = append(s.replaced, id(row[1+at])), append(s.outcomes, row)
	}
	return nil
}

func (s *stretch) write(d *store.Derivation) error {
	if len(s.replaced) > 0 {
		q := sqlf.New("DELETE FROM rollup_outcomes WHERE uuid IN (?)", s.r.sql.uuidRows(s.replaced))
		if err := d.Exec(q.String(), q.Args()...); err != nil {
			return err
		}
	}
	for _, table := range stagedTables {
		if err := d.Take(table); err != nil {
			return fmt.Errorf("fill %s: %w", table, err)
		}
	}
	if err := d.Exec("UPDATE rollup_traces SET shared = true WHERE NOT shared AND hash IN (SELECT hash FROM rollup_traces WHERE last = ? AND shared)", s.last); err != nil {
		return err
	}
	outcome, id := 0, 0
	if err := d.Append("rollup_outcomes", func() []any {
		if outcome == len(s.outcomes) {
			return nil
		}
		outcome++
		return s.outcomes[outcome-1]
	}); err != nil {
		return err
	}
	if err := d.Append("rollup_ids", func() []any {
		if id == len(s.ids) {
			return nil
		}
		id++
		return []any{s.last, s.ids[id-1].project, s.ids[id-1].hash}
	}); err != nil {
		return err
	}
	if s.again {
		if err := s.replace(d); err != nil {
			return err
		}
	}
	return d.Exec("INSERT INTO rolled VALUES (?, ?, ?)", s.first, s.last, s.events)
}

// replace ends that the stretch is to be rolled up again. What retention has cut
// into since it was rolled up first stays out of the derived tables.
func (s *stretch) replace(d *store.Derivation) error {
	for _, table := range append([]string{"rollup_outcomes", "rollup_ids"}, stagedTables...) {
		if err := d.Exec("DELETE FROM "+table+" WHERE last = ? AND project_id IN (SELECT project_id FROM rolled_floor WHERE floor >= ?)", s.last, s.last); err != nil {
			return err
		}
	}
	return d.Exec("DELETE FROM rolled_stale WHERE last = ?", s.last)
}
