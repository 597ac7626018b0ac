package query

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// GroupBy is what [Stats] are broken down by.
type GroupBy string

// The breakdowns.
const (
	ByNone        GroupBy = ""
	ByModel       GroupBy = "model"
	ByModelAsked  GroupBy = "model_asked" // includes failed calls, which have no answering model
	BySurface     GroupBy = "surface"
	ByProvider    GroupBy = "provider"
	ByPrompt      GroupBy = "prompt" // name@version
	ByUser        GroupBy = "user"   // distinct id
	ByEnvironment GroupBy = "environment"
	ByStatus      GroupBy = "status"
	ByOutput      GroupBy = "output_category" // the caller's word for the answer, or the derived one; of outcomes, their property of that name
	ByDay         GroupBy = "day"             // days of the viewer's time zone
	ByHour        GroupBy = "hour"            // hours of the viewer's time zone
)

// StatsQuery requests totals over a time range.
type StatsQuery struct {
	Project string
	Filter
	Compare   bool // also the totals of the period before: see [Filter.Before]
	GroupBy   GroupBy
	TimeZone  string    // IANA name; "" is UTC
	LatencyOf LatencyOf // the calls of latency and time to first token; "" is OfCompleted
	Limit     int       // groups, the most frequent; 0 is 100, at most 1000. Days and hours are not limited by it
}

// Stats are totals and their breakdown.
type Stats struct {
	From      *time.Time `json:"from"` // null: from the first event on
	To        *time.Time `json:"to"`
	TimeZone  string     `json:"time_zone"`
	GroupBy   GroupBy    `json:"group_by"`
	Totals    Totals     `json:"totals"`
	Previous  *Totals    `json:"previous,omitempty"`       // where Compare was requested
	Compared  *Range     `json:"previous_range,omitempty"` // the time of Previous
	Groups    []Group    `json:"groups"`                   // by calls, descending; days and hours by time, without gaps
	Truncated bool       `json:"truncated"`                // there are more groups
}

// Group is one part of the breakdown.
type Group struct {
	Key    string     `json:"key"`             // "" for events without a value; for days 2026-01-31, for hours RFC 3339 with the zone's offset
	Start  *time.Time `json:"start,omitempty"` // days and hours: their start
	Totals Totals     `json:"totals"`
}

// Totals over a set of events. A call is a generation or an embedding.
type Totals struct {
	Events         int64              `json:"events"`
	Calls          int64              `json:"calls"`
	Errors         int64              `json:"errors"`       // calls that failed
	OtherErrors    int64              `json:"other_errors"` // failed events that are not calls
	ErrorRate      event.Opt[float64] `json:"error_rate"`   // Errors / Calls
	InputTokens    event.Int          `json:"input_tokens"`
	OutputTokens   event.Int          `json:"output_tokens"`
	TotalTokens    event.Int          `json:"total_tokens"`
	UnmeteredCalls int64              `json:"unmetered_calls"`  // calls of unknown tokens: not included in the sums
	CostUSD        USD                `json:"cost_usd"`         // of an incompletely priced call, what is known of its cost
	UncostedCalls  int64              `json:"uncosted_calls"`   // calls whose cost is unknown, or known only in part
	UncostedErrors int64              `json:"uncosted_errors"`  // those among them that failed
	Incomplete     int64              `json:"incomplete_calls"` // incompletely priced calls: uncosted ones, but for those that failed without any known use
	CostAtLeast    bool               `json:"cost_at_least"`    // there are such calls: all cost at least CostUSD
	PricedUSD      USD                `json:"-"`                // of the calls whose cost is known
	LatencyMS      Quantiles          `json:"latency_ms"`
	TTFTMS         Quantiles          `json:"time_to_first_token_ms"`
	CacheHitShare  event.Opt[float64] `json:"cache_hit_share"` // input tokens read from a cache / all input tokens, over calls that report it
}

// Quantiles of the completed calls with a value, or of the requested ones.
type Quantiles struct {
	P50 Millis `json:"p50"`
	P95 Millis `json:"p95"`
	P99 Millis `json:"p99"`
}

// Bounds of [StatsQuery].
const (
	DefaultGroups = 100
	MaxGroups     = 1000
	maxBuckets    = 1500 // days or hours: four years, two months
)

// groupExprs are the breakdowns that are columns.
var groupExprs = map[GroupBy]sqlf.Fragment{
	ByModel:       orEmpty(modelExpr),
	ByModelAsked:  orEmpty(askedExpr),
	BySurface:     orEmpty(sqlf.Column("surface")),
	ByProvider:    orEmpty(sqlf.Column("provider")),
	ByPrompt:      sqlf.New("CASE WHEN {prompt_name} IS NULL THEN '' WHEN ? IS NULL THEN {prompt_name} ELSE {prompt_name} || '@' || ? END", versionExpr, versionExpr),
	ByUser:        orEmpty(sqlf.Column("distinct_id")),
	ByEnvironment: orEmpty(sqlf.Column("environment")),
	ByStatus:      orEmpty(sqlf.Column("status")),
	ByOutput:      orEmpty(sqlf.Column("output_category")),
}

// orEmpty is a text that is empty if it is unknown.
func orEmpty(expr sqlf.Fragment) sqlf.Fragment { return sqlf.New("coalesce(?, '')", expr) }

// Stats computes totals.
func (r *Reader) Stats(ctx context.Context, q StatsQuery) (*Stats, error) {
	zone, err := loadZone(q.TimeZone)
	if err != nil {
		return nil, err
	}
	switch {
	case q.Limit < 0 || q.Limit > MaxGroups:
		return nil, event.Invalid("the limit is out of range", fmt.Sprintf("use 1 to %d", MaxGroups))
	case q.Limit == 0:
		q.Limit = DefaultGroups
	}
	byTime := q.GroupBy == ByDay || q.GroupBy == ByHour
	if _, ok := groupExprs[q.GroupBy]; !ok && !byTime && q.GroupBy != ByNone {
		return nil, event.Invalid("unknown breakdown", "use model, model_asked, surface, provider, prompt, user, environment, status, output_category, day or hour")
	}
	if (byTime || q.Compare) && q.To.IsZero() {
		q.To = r.now().UTC()
	}
	if (byTime || q.Compare) && q.From.IsZero() {
		return nil, event.Invalid("this question needs the start of its time range", `send "from"`)
	}
	out := &Stats{From: optTime(q.From), To: optTime(q.To), TimeZone: zone.String(), GroupBy: q.GroupBy, Groups: []Group{}}
	if err := q.LatencyOf.Check(); err != nil {
		return nil, err
	}
	sum, err := r.summing(ctx, q.Project)
	if err != nil {
		return nil, err
	}
	sum.of = q.LatencyOf
	var totals *Totals
	switch {
	case byTime:
		totals, out.Groups, err = sum.overTime(ctx, q, zone)
	case q.GroupBy != ByNone:
		if totals, out.Groups, err = sum.groups(ctx, q.Filter, q.GroupBy, q.Limit+1); len(out.Groups) > q.Limit {
			out.Groups, out.Truncated = out.Groups[:q.Limit], true
		}
	default:
		totals, err = sum.totals(ctx, q.Filter)
	}
	if err != nil {
		return nil, err
	}
	out.Totals = *totals
	if q.Compare {
		before, ok := q.PreviousPeriod(zone)
		if !ok {
			return nil, event.Invalid("the time range is empty", `"from" must be before "to"`)
		}
		if out.Previous, err = sum.totals(ctx, before); err != nil {
			return nil, err
		}
		out.Compared = &Range{before.From, before.To}
	}
	return out, nil
}

func (s *summing) totals(ctx context.Context, f Filter) (*Totals, error) {
	all, _, err := s.read(ctx, &f, breakdown{})
	return all, err
}

// groups are the totals of all, and of the groups with the most calls.
func (s *summing) groups(ctx context.Context, f Filter, by GroupBy, limit int) (*Totals, []Group, error) {
	all, found, err := s.read(ctx, &f, breakdown{by: by, limit: limit})
	groups := make([]Group, len(found))
	for i, k := range found {
		groups[i].Totals = k.totals
		groups[i].Key, _ = k.key.(string)
	}
	return all, groups, err
}

// overTime breaks down by days or hours of a zone. The zone's offsets within
// the range are bound, so that an engine needs no time zone data and all agree
// with Go's.
func (s *summing) overTime(ctx context.Context, q StatsQuery, zone *time.Location) (*Totals, []Group, error) {
	buckets, err := timeBuckets(q.From, q.To, q.GroupBy, zone)
	if err != nil {
		return nil, nil, err
	}
	all, rows, err := s.read(ctx, &q.Filter, breakdown{key: s.r.bucket(q.From, q.To, q.GroupBy, zone), starts: buckets})
	if err != nil {
		return nil, nil, err
	}
	found := make(map[time.Time]Totals)
	for _, k := range rows {
		if start, ok := k.key.(time.Time); ok {
			found[start.UTC()] = k.totals
		}
	}
	groups := make([]Group, len(buckets))
	for i, start := range buckets {
		local := start.In(zone)
		if q.GroupBy == ByHour {
			groups[i] = Group{Key: local.Format(time.RFC3339), Start: &start, Totals: found[start.UTC()]}
			continue
		}
		date := time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, time.UTC)
		groups[i] = Group{Key: date.Format(time.DateOnly), Start: &start, Totals: found[date]}
	}
	return all, groups, nil
}

// bucket is the day or hour of a row: a local date, or the hour's start in UTC.
func (r *Reader) bucket(from, to time.Time, by GroupBy, zone *time.Location) sqlf.Fragment {
	offset := sqlf.New(r.sql.interval, zoneOffset(from, to, zone))
	if by == ByHour {
		// Back to UTC: when clocks go back, an hour of the wall clock comes twice.
		return sqlf.New("date_trunc('hour', {ts} + ?) - ?", offset, offset)
	}
	return sqlf.New("date_trunc('day', {ts} + ?)", offset)
}

// timeBuckets lists the starts, in UTC, of the days or hours that
// overlap [from, to).
func timeBuckets(from, to time.Time, by GroupBy, zone *time.Location) ([]time.Time, error) {
	var out []time.Time
	local := from.In(zone)
	start, next := startOfDay(local), func(t time.Time) time.Time {
		l := t.In(zone)
		return startOfDay(time.Date(l.Year(), l.Month(), l.Day()+1, 12, 0, 0, 0, zone))
	}
	if by == ByHour {
		_, offset := local.Zone()
		shift := time.Duration(offset) * time.Second
		start = from.UTC().Add(shift).Truncate(time.Hour).Add(-shift)
		next = func(t time.Time) time.Time { return nextHour(t, zone) }
	}
	for t := start; t.Before(to); t = next(t) {
		if len(out) == maxBuckets {
			return nil, event.Invalid("the time range has too many "+string(by)+"s", fmt.Sprintf("ask for at most %d of them", maxBuckets))
		}
		out = append(out, t.UTC())
	}
	return out, nil
}

// nextHour is the start of the wall clock's hour after the one that starts at
// t. It is shorter or longer in zones whose clocks shift by half an hour.
func nextHour(t time.Time, zone *time.Location) time.Time {
	for next := t.Add(time.Minute); ; next = next.Add(time.Minute) {
		_, offset := next.In(zone).Zone()
		shift := time.Duration(offset) * time.Second
		if start := next.UTC().Add(shift).Truncate(time.Hour).Add(-shift); start.After(t) {
			return start
		}
	}
}

// startOfDay is the start of t's date in its zone. It is not always
// midnight: some zones shift their clocks then.
func startOfDay(t time.Time) time.Time {
	start := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())
	if start.Day() != t.Day() {
		_, end := start.ZoneBounds()
		start = end
	}
	return start
}

// zoneOffset is the zone's offset from UTC at ts, in seconds, for timestamps in
// [from, to).
func zoneOffset(from, to time.Time, zone *time.Location) sqlf.Fragment {
	var cases sqlf.Fragment
	for t := from.In(zone); ; {
		_, offset := t.Zone()
		_, end := t.ZoneBounds()
		if end.IsZero() || !end.Before(to) {
			if cases.IsZero() {
				return sqlf.New("?", int64(offset))
			}
			return sqlf.New("CASE ? ELSE ? END", cases, int64(offset))
		}
		cases = sqlf.Join(" ", cases, sqlf.New("WHEN {ts} < ? THEN ?", end.UTC(), int64(offset)))
		t = end
	}
}

func loadZone(name string) (*time.Location, error) {
	// "Local" is the server's zone, which no client means.
	if zone, err := time.LoadLocation(name); err == nil && name != "Local" {
		return zone, nil
	}
	return nil, event.Invalid("unknown time zone", `use an IANA name as "Europe/Paris"`)
}

func optTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// totalColumns are what scanTotals reads.
func (r *Reader) totalColumns(of LatencyOf) sqlf.Fragment {
	filtered := func(aggregate string, of sqlf.Fragment, cond sqlf.Fragment) sqlf.Fragment {
		return sqlf.New("?(?) FILTER (WHERE ?)", sqlf.Raw(aggregate), of, cond)
	}
	sum := func(expr sqlf.Fragment, cond string) sqlf.Fragment {
		return sqlf.New(r.sql.bigint, filtered("sum", expr, sqlf.New("?"+cond, callExpr)))
	}
	count := func(cond string) sqlf.Fragment {
		return filtered("count", sqlf.Raw("*"), sqlf.New("?"+cond, callExpr))
	}
	times := func(col string) sqlf.Fragment {
		return sqlf.New(r.sql.quantiles, sqlf.Column(col), callExpr.And(isKnown(sqlf.Column(col)), of.cond()))
	}
	const reported = " AND {cache_read_tokens} IS NOT NULL AND {input_tokens} IS NOT NULL"
	return sqlf.Join(", ",
		sqlf.Raw("count(*) AS events"),
		count("").As("calls"),
		count(" AND {is_error}"),
		filtered("count", sqlf.Raw("*"), sqlf.New("{is_error} AND NOT ?", callExpr)),
		sum(inputExpr, ""),
		sum(sqlf.Column("output_tokens"), ""),
		sum(sqlf.Column("tokens"), ""),
		count(" AND {tokens} IS NULL"),
		digits(filtered("sum", knownCost, callExpr)),
		digits(filtered("sum", sqlf.Column("cost_total"), callExpr)),
		count(" AND {cost_total} IS NULL"),
		count(" AND {cost_total} IS NULL AND {is_error}"),
		filtered("count", sqlf.Raw("*"), callExpr.And(incompleteExpr)),
		times("latency_us"),
		times("ttft_us"),
		sum(sqlf.Column("cache_read_tokens"), reported),
		sum(inputExpr, reported),
	)
}

// scanTotals reads totalColumns, with what precedes them.
func scanTotals(rows *sql.Rows, t *Totals, before ...any) error {
	var input, output, tokens, cacheRead, allInput sql.NullInt64
	var cost, priced sql.NullString
	var latency, ttft any
	if err := rows.Scan(append(before, &t.Events, &t.Calls, &t.Errors, &t.OtherErrors, &input, &output, &tokens, &t.UnmeteredCalls,
		&cost, &priced, &t.UncostedCalls, &t.UncostedErrors, &t.Incomplete, &latency, &ttft, &cacheRead, &allInput)...); err != nil {
		return fmt.Errorf("scan totals: %w", err)
	}
	t.InputTokens, t.OutputTokens, t.TotalTokens = optInt(input), optInt(output), optInt(tokens)
	var err error
	if t.CostUSD, err = optUSD(cost); err != nil {
		return err
	}
	if t.PricedUSD, err = optUSD(priced); err != nil {
		return err
	}
	t.CostAtLeast = t.Incomplete > 0
	t.LatencyMS, t.TTFTMS = quantiles(latency), quantiles(ttft)
	if t.Calls > 0 {
		t.ErrorRate = event.Some(float64(t.Errors) / float64(t.Calls))
	}
	if allInput.Int64 > 0 {
		t.CacheHitShare = event.Some(float64(cacheRead.Int64) / float64(allInput.Int64))
	}
	return nil
}

// optUSD reads what dialect.digits writes of an amount.
func optUSD(digits sql.NullString) (USD, error) {
	if !digits.Valid {
		return USD{}, nil
	}
	d, err := decimal.NewFromString(digits.String)
	if err != nil {
		return USD{}, fmt.Errorf("scan cost: %w", err)
	}
	return USD(event.Some(d)), nil
}

func optInt(n sql.NullInt64) event.Int { return event.Int{Value: n.Int64, Known: n.Valid} }

// quantiles reads a list of three numbers of microseconds, or NULL.
func quantiles(v any) Quantiles {
	list, _ := v.([]any)
	if len(list) != 3 {
		return Quantiles{}
	}
	ms := func(v any) Millis {
		us, ok := v.(float64)
		return Millis{Value: us / 1000, Known: ok}
	}
	return Quantiles{ms(list[0]), ms(list[1]), ms(list[2])}
}

// Period is a summary of a stretch of time, with its two usual breakdowns.
type Period struct {
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	TimeZone  string    `json:"time_zone"`
	Totals    Totals    `json:"totals"`
	Previous  Totals    `json:"previous"`                 // up to the same time of day: see [Filter.Before]
	Compared  *Range    `json:"previous_range,omitempty"` // the time of Previous
	ByModel   []Group   `json:"by_model"`
	BySurface []Group   `json:"by_surface"`
}

// Today sums up the current day of a time zone (IANA name, "" is UTC), compared
// with the day before up to the same time of day.
func (r *Reader) Today(ctx context.Context, project, timeZone string) (*Period, error) {
	return r.period(ctx, project, timeZone, 1)
}

// SevenDays sums up the current day of a time zone and the six before it,
// compared with the seven days before.
func (r *Reader) SevenDays(ctx context.Context, project, timeZone string) (*Period, error) {
	return r.period(ctx, project, timeZone, 7)
}

func (r *Reader) period(ctx context.Context, project, timeZone string, days int) (*Period, error) {
	zone, err := loadZone(timeZone)
	if err != nil {
		return nil, err
	}
	now := r.now().In(zone)
	// Events whose clock is slightly ahead belong to today as well.
	tomorrow := startOfDay(time.Date(now.Year(), now.Month(), now.Day()+1, 12, 0, 0, 0, zone))
	from := startOfDay(time.Date(now.Year(), now.Month(), now.Day()-days+1, 12, 0, 0, 0, zone))
	p := &Period{From: from.UTC(), To: tomorrow.UTC(), TimeZone: zone.String()}
	f := Filter{From: from, To: tomorrow}
	before, compared := Filter{From: from, To: now}.PreviousPeriod(zone) // not in the first instant of a day
	sum, err := r.summing(ctx, project)
	if err != nil {
		return nil, err
	}
	totals, models, err := sum.groups(ctx, f, ByModel, DefaultGroups)
	if err != nil {
		return nil, err
	}
	p.Totals, p.ByModel = *totals, models
	if compared {
		if totals, err = sum.totals(ctx, before); err != nil {
			return nil, err
		}
		p.Previous, p.Compared = *totals, &Range{before.From, before.To}
	}
	_, p.BySurface, err = sum.groups(ctx, f, BySurface, DefaultGroups)
	return p, err
}
