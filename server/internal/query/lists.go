package query

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// ListQuery requests a page of traces, sessions or users.
type ListQuery struct {
	Project string
	Filter           // those with an event that meets it; their figures are over the events of the time range
	Sort    Sort     // SortStart if it is empty
	Cursor  string   // Next of the page before; "" for the first
	Limit   int      // 0 is DefaultLimit; at most MaxLimit
	IDs     []string // only these traces, sessions or users; nil is all
}

// Sort orders a list, the largest first.
type Sort string

// The orders of a list.
const (
	SortStart    Sort = "start" // of sessions and users: their last event
	SortDuration Sort = "duration"
	SortCost     Sort = "cost"
	SortTokens   Sort = "tokens"
	SortErrors   Sort = "errors"
	SortCalls    Sort = "calls"
)

// Summary is one trace, session or user as a list shows it. Its figures are
// sums over calls: what the events of a time range say.
type Summary struct {
	ID            string     `json:"id"`
	Name          string     `json:"name"` // of traces
	User          string     `json:"user"`
	SessionID     string     `json:"session_id"` // of traces
	First         time.Time  `json:"first"`
	Last          time.Time  `json:"last"`        // start of the last event
	DurationMS    float64    `json:"duration_ms"` // from the first start to the last end of what has a duration: a rating that comes later adds nothing
	Events        int64      `json:"events"`
	Calls         int64      `json:"calls"`
	Errors        int64      `json:"errors"`       // calls that failed
	OtherErrors   int64      `json:"other_errors"` // failed events that are not calls
	Traces        int64      `json:"traces"`
	Sessions      int64      `json:"sessions"`
	TotalTokens   event.Int  `json:"total_tokens"`
	CostUSD       USD        `json:"cost_usd"`       // at least, where CostAtLeast is true
	UncostedCalls int64      `json:"uncosted_calls"` // as in [Totals], and the next two
	Incomplete    int64      `json:"incomplete_calls"`
	CostAtLeast   bool       `json:"cost_at_least"`
	FirstValue    *time.Time `json:"first_value"` // of users: when first_value_reached came
}

// ListPage is a page of a list.
type ListPage struct {
	Rows []Summary `json:"rows"`
	Next string    `json:"next_cursor"`
}

// Traces lists traces: those whose events in the time range meet the filter.
func (r *Reader) Traces(ctx context.Context, q ListQuery) (*ListPage, error) {
	return r.list(ctx, &traceList, &q.TraceID, &q)
}

// Sessions lists sessions, which are conversations across traces.
func (r *Reader) Sessions(ctx context.Context, q ListQuery) (*ListPage, error) {
	return r.list(ctx, &sessionList, &q.SessionID, &q)
}

// Users lists distinct ids.
func (r *Reader) Users(ctx context.Context, q ListQuery) (*ListPage, error) {
	return r.list(ctx, &userList, &q.User, &q)
}

// narrows reports whether f requests more than a time range.
func (f *Filter) narrows() bool {
	g := *f
	g.From, g.To, g.Properties = time.Time{}, time.Time{}, nil
	return g.Output+g.Name+g.Kind+g.ModelAsked+g.Step+g.InputLength+g.Provider+g.Model+g.Operation+g.Surface+g.User+g.SessionID+g.TraceID+g.PromptName+g.PromptVersion+g.Status+g.ErrorType+g.TaskType+g.Environment+g.Tag+g.Flag+g.ErrorGroup+g.Text != "" || len(f.Properties) > 0 || !f.Where.IsZero()
}

// listed is one of the lists: what its rows are, over the parts that rollup_parts
// has of an id.
type listed struct {
	column  string        // that has the id
	moment  sqlf.Fragment // of SortStart
	byStart bool          // that moment is the start, else the last event

	name, user, session sqlf.Fragment
	traces, sessions    sqlf.Fragment
}

var (
	traceList = listed{
		column: "trace_id", moment: sqlf.New("epoch_us(?)", partSum("first")), byStart: true,
		name: sqlf.New("coalesce(?, ?, '')", partSum("trace_name"), partSum("root_name")),
		user: earliest("distinct_id"), session: earliest("session_id"),
		traces: sqlf.Raw("0"), sessions: sqlf.Raw("0"),
	}
	sessionList = listed{
		column: "session_id", moment: sqlf.New("epoch_us(?)", partSum("latest")),
		name: sqlf.Raw("''"), user: earliest("distinct_id"), session: sqlf.Raw("session_id"),
		traces: sqlf.Raw("count(DISTINCT trace_id)"), sessions: sqlf.Raw("0"),
	}
	userList = listed{
		column: "distinct_id", moment: sqlf.New("epoch_us(?)", partSum("latest")),
		name: sqlf.Raw("''"), user: sqlf.Raw("distinct_id"), session: sqlf.Raw("''"),
		traces: sqlf.Raw("count(DISTINCT trace_id)"), sessions: sqlf.Raw("count(DISTINCT session_id)"),
	}
)

// earliest is the first value of a column.
func earliest(column string) sqlf.Fragment {
	return sqlf.New("coalesce(arg_min(" + column + ", {first}), '')")
}

// ofPart makes an expression of a column of parts.
type ofPart func(column string) sqlf.Fragment

// listOrders are what lists are ordered by; that of SortStart differs from list to
// list.
var listOrders = map[Sort]func(ofPart) sqlf.Fragment{
	SortErrors: func(part ofPart) sqlf.Fragment { return part("errors") },
	SortCalls:  func(part ofPart) sqlf.Fragment { return part("calls") },
	SortDuration: func(part ofPart) sqlf.Fragment {
		return sqlf.New("coalesce(greatest(? - ?, 0), 0)", part("ended"), part("began"))
	},
	SortCost:   func(part ofPart) sqlf.Fragment { return sqlf.New("coalesce(?, 0)", part("cost")) },
	SortTokens: func(part ofPart) sqlf.Fragment { return sqlf.New("coalesce(?, 0)", part("tokens")) },
}

// mostSort is what a list is ordered by where that is more than the type holds.
const mostSort = "99999999999999999999"

// sortOf is the column sort of an order.
func sortOf(order sqlf.Fragment) sqlf.Fragment {
	return sqlf.New("coalesce(TRY_CAST(? AS DECIMAL(38,18)), "+mostSort+")", order).As("sort")
}

// listing is a list query.
type listing struct {
	*ListQuery
	*listed
	cover *cover
	order sqlf.Fragment
	after sqlf.Fragment // what follows the cursor, with WHERE
}

// list requests a list; own is the filter by its id.
func (r *Reader) list(ctx context.Context, of *listed, own *string, q *ListQuery) (*ListPage, error) {
	l, err := r.listing(ctx, of, q)
	if err != nil {
		return nil, err
	}
	if *own != "" && q.IDs == nil {
		q.IDs, *own = []string{*own}, ""
	}
	w := isKnown(sqlf.Column(l.column))
	met, err := r.meeting(l)
	if err != nil {
		return nil, err
	}
	if l.IDs != nil {
		w = w.And(met)
	} else if l.IDs, err = r.listedIDs(ctx, l, w.And(met)); err != nil { // from what the order needs alone
		return nil, err
	}
	if len(l.IDs) == 0 {
		return &ListPage{Rows: []Summary{}}, nil
	}
	return r.summaries(ctx, l, w.And(r.among(l.column, l.IDs)))
}

// listing checks a question.
func (r *Reader) listing(ctx context.Context, of *listed, q *ListQuery) (*listing, error) {
	if q.Limit < 0 || q.Limit > MaxLimit {
		return nil, event.Invalid("the limit is out of range", fmt.Sprintf("use 1 to %d", MaxLimit))
	}
	q.Limit, q.Sort = cmp.Or(q.Limit, DefaultLimit), cmp.Or(q.Sort, SortStart)
	l := &listing{ListQuery: q, listed: of, order: of.moment}
	if q.Sort != SortStart {
		order, ok := listOrders[q.Sort]
		if !ok {
			return nil, event.Invalid("unknown sort order", "use start, duration, cost, tokens, errors or calls")
		}
		l.order = order(partSum)
	}
	if _, err := r.where(q.Project, &q.Filter); err != nil {
		return nil, err
	}
	for _, id := range q.IDs {
		if err := checkText("id", id); err != nil {
			return nil, err
		}
	}
	if q.Cursor != "" {
		c, err := parseMark(q.Cursor, string(q.Sort))
		if err != nil {
			return nil, err
		}
		value := sqlf.New("CAST(? AS DECIMAL(38,18))", c.Value)
		l.after = sqlf.New(" WHERE (sort < ? OR sort = ? AND id > ?)", value, value, c.ID)
	}
	var err error
	l.cover, err = r.cover(ctx, q.Project)
	return l, err
}

// meeting is the condition of the parts of a list whose ids have an event that meets
// the filter.
func (r *Reader) meeting(l *listing) (sqlf.Fragment, error) {
	if !l.narrows() {
		return sqlf.Fragment{}, nil
	}
	from := r.allEvents().sql
	in, err := r.where(l.Project, &l.Filter)
	if err != nil {
		return in, err
	}
	if those, ok := partsOf(l.Filter); ok {
		in = those
		if from, err = r.parts(l.Project, l.Filter, l.cover, those); err != nil {
			return in, err
		}
	}
	return sqlf.New("? IN (SELECT "+l.column+" FROM ? WHERE ?)", sqlf.Column(l.column), from, in.Closed()), nil
}

// listedIDs finds out which ids a page has, and maybe more. w is the condition of
// their parts.
func (r *Reader) listedIDs(ctx context.Context, l *listing, w sqlf.Fragment) ([]string, error) {
	_, byParts := partsOf(l.Filter)
	switch {
	case l.Sort == SortStart && (!l.narrows() || l.byStart && !byParts):
		ids, since, err := r.newest(ctx, l)
		if since.After(l.From) {
			l.From = since
		}
		return ids, err
	case l.listed == &traceList && l.Sort != SortStart && !l.narrows() && !l.cover.last.IsZero() && l.cover.events <= maxRest:
		return r.largest(ctx, l)
	}
	from, err := r.parts(l.Project, l.Filter, l.cover, l.order)
	if err != nil {
		return nil, err
	}
	return r.texts(ctx, sqlf.New("SELECT id FROM (SELECT "+l.column+" AS id, ? FROM ? WHERE ? GROUP BY "+l.column+")? ORDER BY sort DESC, id LIMIT ?", sortOf(l.order), from, w, l.after, l.Limit+1))
}

// summaries reads the rows of a list.
func (r *Reader) summaries(ctx context.Context, l *listing, w sqlf.Fragment) (*ListPage, error) {
	columns := []sqlf.Fragment{
		sqlf.Raw(l.column + " AS id"), l.name.As("name_of_trace"), l.user.As("user_name"), l.session.As("session"),
		partSum("first").As("all_first"), partSum("latest").As("all_latest"), sortOf(l.order), listOrders[SortDuration](partSum).As("duration"), l.traces.As("traces"), l.sessions.As("sessions"),
	}
	for _, n := range []string{"events", "calls", "errors", "tokens", "uncosted", "failures", "incomplete"} {
		columns = append(columns, sqlf.New(r.sql.bigint, partSum(n)).As("all_"+n))
	}
	columns = append(columns, partSum("cost").As("all_cost"), partSum("first_value").As("all_first_value"))
	from, err := r.parts(l.Project, l.Filter, l.cover, sqlf.Join(", ", columns...))
	if err != nil {
		return nil, err
	}
	page := &ListPage{Rows: []Summary{}}
	var marks []string
	err = r.each(ctx, sqlf.New("SELECT id, name_of_trace, user_name, session, all_first, all_latest, duration, all_events, all_calls, all_errors, traces, sessions, all_tokens, ?, all_uncosted, all_failures - all_errors, all_incomplete, all_first_value, ?"+
		" FROM (SELECT ? FROM ? WHERE ? GROUP BY "+l.column+")? ORDER BY sort DESC, id LIMIT ?",
		digits(sqlf.Raw("all_cost")), digits(sqlf.Raw("sort")), columns, from, w, l.after, l.Limit+1), func(rows *sql.Rows) error {
		var s Summary
		var us float64
		var tokens sql.NullInt64
		var cost sql.NullString
		var first sql.NullTime
		var mark string
		if err := rows.Scan(&s.ID, &s.Name, &s.User, &s.SessionID, &s.First, &s.Last, &us, &s.Events, &s.Calls, &s.Errors, &s.Traces, &s.Sessions, &tokens, &cost, &s.UncostedCalls, &s.OtherErrors, &s.Incomplete, &first, &mark); err != nil {
			return err
		}
		s.First, s.Last, s.DurationMS, s.TotalTokens = s.First.UTC(), s.Last.UTC(), us/1000, optInt(tokens)
		if first.Valid {
			s.FirstValue = optTime(first.Time)
		}
		var err error
		s.CostUSD, err = optUSD(cost)
		s.CostAtLeast = s.Incomplete > 0
		page.Rows, marks = append(page.Rows, s), append(marks, mark)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(page.Rows) > l.Limit {
		page.Rows = page.Rows[:l.Limit]
		page.Next = mark{string(l.Sort), marks[l.Limit-1], page.Rows[l.Limit-1].ID}.String()
	}
	return page, nil
}

// mark is where a page in an order of values ended.
type mark struct {
	Sort  string `json:"s"`
	Value string `json:"v"` // a decimal
	ID    string `json:"i"`
}

func (m mark) String() string {
	b, _ := json.Marshal(m) // strings always marshal
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseMark(s, sort string) (m mark, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err == nil {
		_, err = decimal.NewFromString(m.Value)
	}
	if err != nil || len(s) > 2000 || len(m.Value) > 60 || m.Sort != sort || strings.ContainsAny(m.Value, "eE") || checkText("cursor", m.ID) != nil {
		return mark{}, event.Invalid("the cursor is not one that hedgerow gave for this order", `leave it out to start at the top, or send "next_cursor" of the page before unchanged`)
	}
	return m, nil
}

// ErrorGroup is failures whose messages are the same but for ids, numbers and
// quoted words.
type ErrorGroup struct {
	Message   string    `json:"message"` // normalised: numbers are 0, ids and quoted words are *
	Example   string    `json:"example"` // the newest message as it came
	ErrorType string    `json:"error_type"`
	Count     int64     `json:"count"`
	Users     int64     `json:"users"`
	Models    []string  `json:"models"` // at most 5
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	LastUUID  string    `json:"last_uuid"` // the newest such event
	Trend     []int64   `json:"trend"`     // TrendPoints equal parts of the time range
}

// TrendPoints is how many parts [ErrorGroup.Trend] has.
const TrendPoints = 24

// Errors groups the failed events of a time range by their normalised message,
// the most frequent first, at most limit (0 is 50). From is needed. Spans and
// traces that only say that something below them failed do not count.
func (r *Reader) Errors(ctx context.Context, project string, f Filter, limit int) ([]ErrorGroup, error) {
	if f.From.IsZero() {
		return nil, event.Invalid("this question needs the start of its time range", `send "from"`)
	}
	if f.To.IsZero() {
		f.To = r.now().UTC()
	}
	switch {
	case limit < 0 || limit > MaxGroups:
		return nil, event.Invalid("the limit is out of range", fmt.Sprintf("use 1 to %d", MaxGroups))
	case limit == 0:
		limit = DefaultLimit
	}
	from, w, err := r.failures(ctx, project, f)
	if err != nil {
		return nil, err
	}
	step := max(f.To.Sub(f.From).Microseconds()/TrendPoints, 1)
	out := []ErrorGroup{}
	columns := []sqlf.Fragment{
		sqlf.Raw("m, coalesce(error_type, '') AS type, coalesce(arg_max(error_message, (ts, uuid)), ''), count(*) AS n, count(DISTINCT distinct_id)"),
		sqlf.New("list_sort(list(DISTINCT ?) FILTER (WHERE ? IS NOT NULL))", modelExpr, modelExpr),
		sqlf.Raw("min(ts), max(ts), CAST(arg_max(uuid, (ts, uuid)) AS VARCHAR)"),
		sqlf.New("list((epoch_us(ts) - epoch_us(CAST(? AS TIMESTAMP))) // CAST(? AS BIGINT))", f.From.UTC(), step),
	}
	err = r.each(ctx, sqlf.New("SELECT ? FROM (?) WHERE ? GROUP BY m, type ORDER BY n DESC, m, type LIMIT ?", columns, from, w, limit), func(rows *sql.Rows) error {
		var g ErrorGroup
		var models, trend any
		if err := rows.Scan(&g.Message, &g.ErrorType, &g.Example, &g.Count, &g.Users, &models, &g.First, &g.Last, &g.LastUUID, &trend); err != nil {
			return err
		}
		g.First, g.Last = g.First.UTC(), g.Last.UTC()
		list, _ := models.([]any)
		for _, m := range list {
			if s, ok := m.(string); ok && len(g.Models) < 5 {
				g.Models = append(g.Models, s)
			}
		}
		g.Trend = make([]int64, TrendPoints)
		parts, _ := trend.([]any)
		for _, p := range parts {
			if i, ok := p.(int64); ok {
				g.Trend[min(max(i, 0), TrendPoints-1)]++
			}
		}
		out = append(out, g)
		return nil
	})
	return out, err
}

// ErrorsBefore counts, for each of the groups that [Reader.Errors] gave for f,
// its failures in the period before (see [Filter.Before]): the same filter over
// another time.
func (r *Reader) ErrorsBefore(ctx context.Context, project string, before Filter, groups []ErrorGroup) ([]int64, error) {
	from, w, err := r.failures(ctx, project, before)
	if err != nil {
		return nil, err
	}
	type cause struct{ message, kind string }
	at := make(map[cause]int, len(groups))
	for i, g := range groups {
		at[cause{g.Message, g.ErrorType}] = i
	}
	out := make([]int64, len(groups))
	err = r.each(ctx, sqlf.New("SELECT m, coalesce(error_type, '') AS type, count(*) FROM (?) WHERE ? GROUP BY m, type", from, w), func(rows *sql.Rows) error {
		var c cause
		var n int64
		err := rows.Scan(&c.message, &c.kind, &n)
		if i, ok := at[c]; ok {
			out[i] = n
		}
		return err
	})
	return out, err
}

// failureExpr distinguishes failures from the spans and traces that only say
// that something below them failed.
var failureExpr = sqlf.New("{is_error} AND (? OR {error_message} IS NOT NULL OR {error_type} IS NOT NULL)", callExpr)

// failureColumns are the columns of table rollup_errors after its stretch: a row
// is a failed event, and m its normalised message.
var failureColumns = []string{"project_id", "uuid", "ts", "stored_at", "name", "is_error", "error_type", "error_message", "status", "provider", "model", "model_asked", "operation",
	"prompt_name", "prompt_version", "prompt_version_id", "surface", "task_type", "environment", "input_length_bucket", "distinct_id", "trace_id", "session_id"}

// failures is a query for failed events with their normalised message m, and the
// conditions of f. Those of closed stretches have it already: to find it takes longer
// than all the rest.
func (r *Reader) failures(ctx context.Context, project string, f Filter) (from, w sqlf.Fragment, err error) {
	group := f.ErrorGroup
	f.ErrorGroup = ""
	if err := checkText("error_group", group); err != nil {
		return from, w, err
	}
	if w, err = r.where(project, &f); err != nil {
		return from, w, err
	}
	if group != "" {
		w = w.Andf("m = ?", group)
	}
	raw := sqlf.New("SELECT *, ? AS m FROM events WHERE ?", errorExpr, failureExpr)
	other := f.Tag+f.Flag+f.FlagVariant+f.Text+f.Step+f.Output != "" || f.Kind == KindTools || len(f.Properties) > 0 // of columns that table rollup_errors has not
	in, err := r.meets(project, f.Where)
	if err != nil {
		return from, w, err
	}
	other = other || slices.ContainsFunc(in.Reads(), func(c string) bool { return !slices.Contains(failureColumns, c) })
	c := new(cover)
	if !other {
		if c, err = r.cover(ctx, project); err != nil {
			return from, w, err
		}
	}
	if c.last.IsZero() {
		return raw, w, nil
	}
	columns := sqlf.Columns(append(slices.Clone(failureColumns), "m")...)
	parts := []sqlf.Fragment{sqlf.New("SELECT ? FROM rollup_errors WHERE ?", columns, c.rows())}
	for _, rest := range c.rest {
		parts = append(parts, sqlf.New("SELECT ? FROM (? AND ?)", columns, raw, rest.cond()))
	}
	return sqlf.Join(" UNION ALL ", parts...), w, nil
}

// errorExpr is the normalised message: what a message has in common with its
// like. Ids (a hexadecimal word of 8 or more with a digit, an id with a prefix)
// and quoted words become *, numbers 0; the first 300 characters count.
var errorExpr = sqlf.New(`coalesce(regexp_replace(regexp_replace(regexp_replace(regexp_replace(left({error_message}, 300),` +
	` '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}', '*', 'g'),` +
	` '\b[a-zA-Z]+[_-](` + withDigit(`A-Za-z`) + `)\b|\b(` + withDigit(`a-f`) + `)\b', '*', 'g'),` +
	` '"[^"]*"|''[^'']*''', '*', 'g'),` +
	` '[0-9]+([.,][0-9]+)*', '0', 'g'), '')`)

// withDigit matches words of 8 or more letters and digits, a digit among them.
func withDigit(letters string) string {
	var alternatives []string
	for i := range 7 {
		alternatives = append(alternatives, fmt.Sprintf("[%s]{%d}[0-9][0-9%s]{%d,}", letters, i, letters, 7-i))
	}
	return strings.Join(append(alternatives, fmt.Sprintf("[%s]{7,}[0-9][0-9%s]*", letters, letters)), "|")
}

// stepExpr names the tool that was called, or else the span.
func (r *Reader) stepExpr() sqlf.Fragment {
	return sqlf.New("coalesce(?, ?, {span_name}, '')", r.constProperty(ToolName), r.constProperty("gen_ai.tool.name"))
}

// Step is one kind of step of agents: spans of the same name.
type Step struct {
	Name      string `json:"name"`
	Tool      bool   `json:"tool"`
	Runs      int64  `json:"runs"`
	Errors    int64  `json:"errors"`
	Retries   int64  `json:"retries"` // runs that followed a failed one of the same name in the same trace
	LatencyMS Millis `json:"latency_p95_ms"`
}

// Steps lists the spans of a time range by the step of the agent that they name, or by name, the most frequent first, at
// most limit (0 is 50).
func (r *Reader) Steps(ctx context.Context, project string, f Filter, limit int) ([]Step, error) {
	if limit <= 0 || limit > MaxGroups {
		limit = DefaultLimit
	}
	w, err := r.where(project, &f)
	if err != nil {
		return nil, err
	}
	w = w.Andf("{name} = '" + event.Span + "' AND coalesce({operation}, 'execute_tool') IN ('execute_tool', 'invoke_agent', 'create_agent', 'invoke_workflow', 'span')")
	out := []Step{}
	spans := sqlf.New("SELECT coalesce(?, ?) AS step, coalesce(?, false) AS tool, is_error, latency_us, CASE WHEN trace_id IS NOT NULL THEN hash(trace_id) END AS trace, ts, uuid FROM events WHERE ?",
		r.constProperty(AgentStep), r.stepExpr(), r.toolExpr(), w)
	// Only where a span failed can one come after it: few are put in order.
	err = r.each(ctx, sqlf.New("WITH span AS MATERIALIZED (?),"+
		" again AS (SELECT step, count(*) FILTER (WHERE after_error) AS retries FROM ("+
		"SELECT step, lag(is_error) OVER (PARTITION BY trace, step ORDER BY ts, uuid) AS after_error FROM span WHERE trace IN (SELECT trace FROM span WHERE is_error)) GROUP BY step)"+
		" SELECT step, bool_or(tool), count(*) AS n, count(*) FILTER (WHERE is_error), coalesce(any_value(retries), 0), quantile_cont(latency_us, 0.95) FROM span LEFT JOIN again USING (step) GROUP BY step ORDER BY n DESC, step LIMIT ?", spans, limit), func(rows *sql.Rows) error {
		var s Step
		var us sql.NullFloat64
		err := rows.Scan(&s.Name, &s.Tool, &s.Runs, &s.Errors, &s.Retries, &us)
		s.LatencyMS = Millis{Value: us.Float64 / 1000, Known: us.Valid}
		out = append(out, s)
		return err
	})
	return out, err
}
