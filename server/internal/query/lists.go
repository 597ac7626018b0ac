package query

import (
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
)

// ListQuery asks for a page of traces, sessions or users.
type ListQuery struct {
	Project string
	Filter           // those with an event that meets it; their figures are over the events of the time range
	Sort    Sort     // SortStart where it is empty
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
	Errors        int64      `json:"errors"` // failed events, calls or not
	Traces        int64      `json:"traces"`
	Sessions      int64      `json:"sessions"`
	TotalTokens   event.Int  `json:"total_tokens"`
	CostUSD       USD        `json:"cost_usd"`
	UncostedCalls int64      `json:"uncosted_calls"`
	FirstValue    *time.Time `json:"first_value"` // of users: when first_value_reached came
}

// ListPage is a page of a list.
type ListPage struct {
	Rows []Summary `json:"rows"`
	Next string    `json:"next_cursor"`
}

// Traces lists traces: those whose events in the time range meet the filter.
func (r *Reader) Traces(ctx context.Context, q ListQuery) (*ListPage, error) {
	return r.list(ctx, "trace_id", q)
}

// Sessions lists sessions, which are conversations across traces.
func (r *Reader) Sessions(ctx context.Context, q ListQuery) (*ListPage, error) {
	return r.list(ctx, "session_id", q)
}

// Users lists distinct ids.
func (r *Reader) Users(ctx context.Context, q ListQuery) (*ListPage, error) {
	return r.list(ctx, "distinct_id", q)
}

// narrows reports whether f asks for more than a time range.
func (f *Filter) narrows() bool {
	g := *f
	g.From, g.To, g.Properties = time.Time{}, time.Time{}, nil
	return g.Output+g.Name+g.Kind+g.ModelAsked+g.Step+g.InputLength+g.Provider+g.Model+g.Operation+g.Surface+g.User+g.SessionID+g.TraceID+g.PromptName+g.PromptVersion+g.Status+g.ErrorType+g.TaskType+g.Environment+g.Tag+g.Flag+g.ErrorGroup+g.Text != "" || len(f.Properties) > 0
}

// listOrders are what lists are ordered by, over the parts of an id; that of
// SortStart is momentExpr.
var listOrders = map[Sort]string{
	SortStart: "", SortErrors: partSum("errors"), SortCalls: partSum("calls"),
	SortDuration: "coalesce(greatest(" + partSum("ended") + " - " + partSum("began") + ", 0), 0)",
	SortCost:     "coalesce(" + partSum("cost") + ", 0)", SortTokens: "coalesce(" + partSum("tokens") + ", 0)",
}

// mostSort is what a list is ordered by where that is more than the type holds.
const mostSort = "99999999999999999999"

// momentExpr is when a trace began, or a session or user was last seen.
func momentExpr(key string) string {
	if key == "trace_id" {
		return "epoch_us(" + partSum("first") + ")"
	}
	return "epoch_us(" + partSum("latest") + ")"
}

func (r *Reader) list(ctx context.Context, key string, q ListQuery) (*ListPage, error) {
	switch {
	case q.Limit < 0 || q.Limit > MaxLimit:
		return nil, event.Invalid("the limit is out of range", fmt.Sprintf("use 1 to %d", MaxLimit))
	case q.Limit == 0:
		q.Limit = DefaultLimit
	case q.Sort == "":
		q.Sort = SortStart
	}
	if q.Sort == "" {
		q.Sort = SortStart
	}
	order, ok := listOrders[q.Sort]
	if !ok {
		return nil, event.Invalid("there is no such order", "use start, duration, cost, tokens, errors or calls")
	}
	if order == "" {
		order = momentExpr(key)
	}
	if _, err := r.where(q.Project, &q.Filter); err != nil {
		return nil, err
	}
	if own := map[string]*string{"trace_id": &q.TraceID, "session_id": &q.SessionID, "distinct_id": &q.User}[key]; *own != "" && q.IDs == nil {
		q.IDs, *own = []string{*own}, ""
	}
	c, err := r.cover(ctx, q.Project)
	if err != nil {
		return nil, err
	}
	w := new(where)
	w.add(key + " IS NOT NULL")
	within := *w
	byWindows := q.Sort == SortStart && !q.narrows()
	if q.narrows() {
		in, err := r.where(q.Project, &q.Filter)
		if err != nil {
			return nil, err
		}
		from := source{sql: "events"}
		those, ok := partsOf(q.Filter)
		byWindows = q.Sort == SortStart && !ok && key == "trace_id"
		if ok {
			if from, err = r.parts(q.Project, q.Filter, c, those.String()); err != nil {
				return nil, err
			}
			in = those
		}
		w.add(key+" IN (SELECT "+key+" FROM "+from.sql+" "+in.String()+")", slices.Concat(from.args, in.args)...)
	}
	for _, id := range q.IDs {
		if err := checkText("id", id); err != nil {
			return nil, err
		}
	}
	after, afterArgs := "", []any(nil)
	if q.Cursor != "" {
		c, err := parseMark(q.Cursor, string(q.Sort))
		if err != nil {
			return nil, err
		}
		value := "CAST(? AS DECIMAL(38,18))"
		after = " WHERE (sort < " + value + " OR sort = " + value + " AND id > ?)"
		afterArgs = []any{c.Value, c.Value, c.ID}
	}
	sorted := "coalesce(TRY_CAST(" + order + " AS DECIMAL(38,18)), " + mostSort + ") AS sort"
	if q.IDs == nil {
		// First which they are, from what the order needs alone.
		if byWindows {
			var since time.Time
			if q.IDs, since, err = r.newest(ctx, key, q, q.Limit+1); since.After(q.From) {
				q.From = since
			}
		} else if key == "trace_id" && q.Sort != SortStart && !q.narrows() && !c.last.IsZero() && c.events <= maxRest {
			q.IDs, err = r.largest(ctx, q, &c, order, after, afterArgs, q.Limit+1)
		} else {
			var from source
			if from, err = r.parts(q.Project, q.Filter, c, order); err != nil {
				return nil, err
			}
			q.IDs, err = r.texts(ctx, "SELECT id FROM (SELECT "+key+" AS id, "+sorted+" FROM "+from.sql+" "+w.String()+" GROUP BY "+key+")"+after+" ORDER BY sort DESC, id LIMIT ?", append(slices.Concat(from.args, w.args, afterArgs), q.Limit+1)...)
		}
		if err != nil {
			return nil, err
		}
		w = &within
	}
	if len(q.IDs) == 0 {
		return &ListPage{Rows: []Summary{}}, nil
	}
	r.among(w, key, q.IDs)
	name := "coalesce(" + partSum("trace_name") + ", " + partSum("root_name") + ", '')"
	user, session := "coalesce(arg_min(distinct_id, first), '')", "coalesce(arg_min(session_id, first), '')"
	if key == "distinct_id" {
		name, user, session = "''", "distinct_id", "''"
	}
	if key == "session_id" {
		name, session = "''", "session_id"
	}
	traces, sessions := "0", "0"
	if key != "trace_id" {
		traces = "count(DISTINCT trace_id)"
	}
	if key == "distinct_id" {
		sessions = "count(DISTINCT session_id)"
	}
	cols := []string{key + " AS id", name + " AS name_of_trace", user + " AS user_name", session + " AS session"}
	for _, n := range []string{"first", "latest"} {
		cols = append(cols, partSum(n)+" AS all_"+n)
	}
	cols = append(cols, sorted, listOrders[SortDuration]+" AS duration", traces+" AS traces", sessions+" AS sessions")
	for _, n := range []string{"events", "calls", "errors", "tokens", "uncosted"} {
		cols = append(cols, r.sql.bigint(partSum(n))+" AS all_"+n)
	}
	cols = append(cols, partSum("cost")+" AS all_cost", partSum("first_value")+" AS all_first_value")
	from, err := r.parts(q.Project, q.Filter, c, strings.Join(cols, " "))
	if err != nil {
		return nil, err
	}
	query := "SELECT id, name_of_trace, user_name, session, all_first, all_latest, duration, all_events, all_calls, all_errors, traces, sessions, all_tokens, " + r.sql.digits("all_cost") + ", all_uncosted, all_first_value, " + r.sql.digits("sort") +
		" FROM (SELECT " + strings.Join(cols, ", ") + " FROM " + from.sql + " " + w.String() + " GROUP BY " + key + ")" + after + " ORDER BY sort DESC, id LIMIT ?"
	page := &ListPage{Rows: []Summary{}}
	var marks []string
	err = r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var s Summary
			var us float64
			var tokens sql.NullInt64
			var cost sql.NullString
			var first sql.NullTime
			var mark string
			if err := rows.Scan(&s.ID, &s.Name, &s.User, &s.SessionID, &s.First, &s.Last, &us, &s.Events, &s.Calls, &s.Errors, &s.Traces, &s.Sessions, &tokens, &cost, &s.UncostedCalls, &first, &mark); err != nil {
				return err
			}
			s.First, s.Last, s.DurationMS, s.TotalTokens = s.First.UTC(), s.Last.UTC(), us/1000, optInt(tokens)
			if cost.Valid {
				d, err := decimal.NewFromString(cost.String)
				if err != nil {
					return err
				}
				s.CostUSD = USD(event.Some(d))
			}
			if first.Valid {
				s.FirstValue = optTime(first.Time)
			}
			page.Rows, marks = append(page.Rows, s), append(marks, mark)
		}
		return nil
	}, query, append(slices.Concat(from.args, w.args, afterArgs), q.Limit+1)...)
	if err != nil {
		return nil, err
	}
	if len(page.Rows) > q.Limit {
		page.Rows = page.Rows[:q.Limit]
		page.Next = mark{string(q.Sort), marks[q.Limit-1], page.Rows[q.Limit-1].ID}.String()
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
	from, fromArgs, w, err := r.failures(ctx, project, f)
	if err != nil {
		return nil, err
	}
	step := max(f.To.Sub(f.From).Microseconds()/TrendPoints, 1)
	out := []ErrorGroup{}
	err = r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
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
		}
		return nil
	}, "SELECT m, coalesce(error_type, '') AS type, coalesce(arg_max(error_message, (ts, uuid)), ''), count(*) AS n, count(DISTINCT distinct_id), list_sort(list(DISTINCT "+modelExpr+") FILTER (WHERE "+modelExpr+" IS NOT NULL)), min(ts), max(ts), CAST(arg_max(uuid, (ts, uuid)) AS VARCHAR),"+
		" list((epoch_us(ts) - epoch_us(CAST(? AS TIMESTAMP))) // CAST(? AS BIGINT)) FROM "+from+" "+w.String()+" GROUP BY m, type ORDER BY n DESC, m, type LIMIT ?",
		append(slices.Concat([]any{f.From.UTC(), step}, fromArgs, w.args), limit)...)
	return out, err
}

// ErrorsBefore counts, for each of the groups that [Reader.Errors] gave for f,
// its failures in the equally long period before.
func (r *Reader) ErrorsBefore(ctx context.Context, project string, f Filter, groups []ErrorGroup) ([]int64, error) {
	before, ok := f.Before()
	if !ok {
		return nil, event.Invalid("this question needs a time range", `send "from" and "to"`)
	}
	from, fromArgs, w, err := r.failures(ctx, project, before)
	if err != nil {
		return nil, err
	}
	type cause struct{ message, kind string }
	at := make(map[cause]int, len(groups))
	for i, g := range groups {
		at[cause{g.Message, g.ErrorType}] = i
	}
	out := make([]int64, len(groups))
	err = r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var c cause
			var n int64
			if err := rows.Scan(&c.message, &c.kind, &n); err != nil {
				return err
			}
			if i, ok := at[c]; ok {
				out[i] = n
			}
		}
		return nil
	}, "SELECT m, coalesce(error_type, '') AS type, count(*) FROM "+from+" "+w.String()+" GROUP BY m, type", append(fromArgs, w.args...)...)
	return out, err
}

// failureExpr tells failures from the spans and traces that only say that
// something below them failed.
var failureExpr = "is_error AND (" + callExpr + " OR error_message IS NOT NULL OR error_type IS NOT NULL)"

// failureColumns are the columns of table rollup_errors after its stretch: a row
// is a failed event, and m its normalised message.
var failureColumns = []string{"project_id", "uuid", "ts", "stored_at", "name", "is_error", "error_type", "error_message", "status", "provider", "model", "model_asked", "operation",
	"prompt_name", "prompt_version", "prompt_version_id", "surface", "task_type", "environment", "input_length_bucket", "distinct_id", "trace_id", "session_id"}

// failures is a table expression of failed events with their normalised message
// m, and the conditions of f. Those of closed stretches have it already: to find
// it takes longer than all the rest.
func (r *Reader) failures(ctx context.Context, project string, f Filter) (from string, args []any, w *where, err error) {
	group := f.ErrorGroup
	f.ErrorGroup = ""
	if err := checkText("error_group", group); err != nil {
		return "", nil, nil, err
	}
	if w, err = r.where(project, &f); err != nil {
		return "", nil, nil, err
	}
	if group != "" {
		w.add("m = ?", group)
	}
	raw := "SELECT *, " + errorExpr + " AS m FROM events WHERE " + failureExpr
	other := f.Tag+f.Flag+f.FlagVariant+f.Text+f.Step+f.Output != "" || f.Kind == KindTools || len(f.Properties) > 0 // of columns that table rollup_errors has not
	var c cover
	if !other {
		if c, err = r.cover(ctx, project); err != nil {
			return "", nil, nil, err
		}
	}
	if c.last.IsZero() {
		return "(" + raw + ")", nil, w, nil
	}
	columns := strings.Join(failureColumns, ", ")
	from, args = "SELECT "+columns+", m FROM rollup_errors WHERE "+c.rows(), []any{c.last}
	for _, rest := range c.rest {
		from, args = from+" UNION ALL SELECT "+columns+", m FROM ("+raw+" AND "+rest.cond+")", append(args, rest.args...)
	}
	return "(" + from + ")", args, w, nil
}

// errorExpr is the normalised message: what a message has in common with its
// like. Ids (a hexadecimal word of 8 or more with a digit, an id with a prefix)
// and quoted words become *, numbers 0; the first 300 characters count.
var errorExpr = `coalesce(regexp_replace(regexp_replace(regexp_replace(regexp_replace(left(error_message, 300),` +
	` '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}', '*', 'g'),` +
	` '\b[a-zA-Z]+[_-](` + withDigit(`A-Za-z`) + `)\b|\b(` + withDigit(`a-f`) + `)\b', '*', 'g'),` +
	` '"[^"]*"|''[^'']*''', '*', 'g'),` +
	` '[0-9]+([.,][0-9]+)*', '0', 'g'), '')`

// withDigit matches words of 8 or more letters and digits, a digit among them.
func withDigit(letters string) string {
	var alternatives []string
	for i := range 7 {
		alternatives = append(alternatives, fmt.Sprintf("[%s]{%d}[0-9][0-9%s]{%d,}", letters, i, letters, 7-i))
	}
	return strings.Join(append(alternatives, fmt.Sprintf("[%s]{7,}[0-9][0-9%s]*", letters, letters)), "|")
}

// stepExpr names the tool that was called, or else the span.
func (d *dialect) stepExpr() string {
	return "coalesce(" + d.constProperty(ToolName) + ", " + d.constProperty("gen_ai.tool.name") + ", span_name, '')"
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
	w.add("name = '" + event.Span + "' AND coalesce(operation, 'execute_tool') IN ('execute_tool', 'invoke_agent', 'create_agent', 'invoke_workflow', 'span')")
	out := []Step{}
	tool := "coalesce(" + r.sql.toolExpr() + ", false)"
	step := "coalesce(" + r.sql.constProperty(AgentStep) + ", " + r.sql.stepExpr() + ")"
	// Only where a span failed can one come after it: few are put in order.
	err = r.store.Read(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			var s Step
			var us sql.NullFloat64
			if err := rows.Scan(&s.Name, &s.Tool, &s.Runs, &s.Errors, &s.Retries, &us); err != nil {
				return err
			}
			s.LatencyMS = Millis{Value: us.Float64 / 1000, Known: us.Valid}
			out = append(out, s)
		}
		return nil
	}, "WITH span AS MATERIALIZED (SELECT "+step+" AS step, "+tool+" AS tool, is_error, latency_us, CASE WHEN trace_id IS NOT NULL THEN hash(trace_id) END AS trace, ts, uuid FROM events "+w.String()+"),"+
		" again AS (SELECT step, count(*) FILTER (WHERE after_error) AS retries FROM ("+
		"SELECT step, lag(is_error) OVER (PARTITION BY trace, step ORDER BY ts, uuid) AS after_error FROM span WHERE trace IN (SELECT trace FROM span WHERE is_error)) GROUP BY step)"+
		" SELECT step, bool_or(tool), count(*) AS n, count(*) FILTER (WHERE is_error), coalesce(any_value(retries), 0), quantile_cont(latency_us, 0.95) FROM span LEFT JOIN again USING (step) GROUP BY step ORDER BY n DESC, step LIMIT ?", append(w.args, limit)...)
	return out, err
}
