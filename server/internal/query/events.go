package query

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// Bounds of [EventsQuery.Limit].
const (
	DefaultLimit = 50
	MaxLimit     = 1000
)

// EventsQuery requests a page of events, the newest first.
type EventsQuery struct {
	Project string
	Filter
	Point  *Point    // only what this point of a chart counts; nil is all
	Sort   EventSort // ByTime if it is empty
	Cursor string    // Next of the page before; "" for the first page
	Limit  int       // 0 is DefaultLimit; at most MaxLimit
}

// EventSort orders events, largest first. Events without the value are omitted.
type EventSort string

// The orders of events.
const (
	ByTime    EventSort = ""
	ByLatency EventSort = "latency"
	ByTTFT    EventSort = "ttft"
	ByCost    EventSort = "cost"
	ByTokens  EventSort = "tokens"
)

var eventSorts = map[EventSort]sqlf.Fragment{ByLatency: sqlf.Column("latency_us"), ByTTFT: sqlf.Column("ttft_us"), ByCost: knownCost, ByTokens: sqlf.Column("tokens")}

// EventsPage is a page of events by timestamp, then uuid, both descending. The
// order is stable: events that arrive while someone pages never shift what
// follows.
type EventsPage struct {
	Events []*Event `json:"events"`
	Next   string   `json:"next_cursor"` // "" on the last page
}

// Events lists events, without content. A page has fewer than the limit where they
// are large: see maxPageBytes.
func (r *Reader) Events(ctx context.Context, q EventsQuery) (*EventsPage, error) {
	switch {
	case q.Limit < 0 || q.Limit > MaxLimit:
		return nil, event.Invalid("the limit is out of range", fmt.Sprintf("use 1 to %d", MaxLimit))
	case q.Limit == 0:
		q.Limit = DefaultLimit
	}
	if q.amongOutcomes() {
		q.Filter = *q.Filter.ofOutcomes()
	}
	if q.Sort != ByTime {
		return r.sorted(ctx, q)
	}
	from, w, err := r.eventsFrom(ctx, &q)
	if err != nil {
		return nil, err
	}
	after, err := r.after(q.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := r.find(ctx, from, w.And(after), sqlf.Column("ts"), "DESC", q.Limit+1)
	if err != nil {
		return nil, err
	}
	page := &EventsPage{Events: []*Event{}}
	shown, err := r.fitting(ctx, found, q.Limit)
	if err != nil {
		return nil, err
	}
	if len(shown) < len(found) {
		last := shown[len(shown)-1]
		id, err := uuid.Parse(last.id)
		if err != nil {
			return nil, err
		}
		page.Next = cursor{last.ts.UTC(), id}.String()
	}
	rows, err := r.whole(ctx, shown, store.EventColumns(""))
	if err != nil {
		return nil, err
	}
	if page.Events, err = r.views(ctx, rows); err != nil {
		return nil, err
	}
	return page, nil
}

// table is a table of events to search: an expression of a FROM clause, and
// the column with an event's position; NULL if unknown.
type table struct {
	sql   sqlf.Fragment
	place string
}

// allEvents is the table of all events.
func (r *Reader) allEvents() table { return table{sqlf.Raw("events"), r.sql.place} }

// eventsFrom is where the events of a question are, and their condition.
func (r *Reader) eventsFrom(ctx context.Context, q *EventsQuery) (table, sqlf.Fragment, error) {
	if q.Point != nil {
		from, w, c, err := r.pointed(ctx, q.Project, &q.Filter, q.Point, r.column(q))
		return from, w.And(c.shown), err
	}
	return r.filteredFrom(ctx, q)
}

// column is what events are ordered by; empty where that is time. Of incompletely priced
// calls it is what is known of their cost.
func (r *Reader) column(q *EventsQuery) sqlf.Fragment {
	if q.Sort == ByCost && r.ofFewColumns(q) {
		return sqlf.Column("cost_total")
	}
	return eventSorts[q.Sort]
}

// ofFewColumns reports whether a query is of a table that has [outcomeColumns] only.
func (r *Reader) ofFewColumns(q *EventsQuery) bool {
	if q.Point != nil {
		c, err := r.counted(q.Point)
		return err == nil && (c.kind == ofOutcomes || c.kind == ofEvents)
	}
	return q.amongOutcomes()
}

// amongOutcomes reports whether the filter chooses outcomes only.
func (q *EventsQuery) amongOutcomes() bool { return q.Kind == KindOutcomes || isOutcome(q.Name) }

// filteredFrom lets filters find outcomes by their call's fields, and limits the
// events of a trace or a session to their ranges.
func (r *Reader) filteredFrom(ctx context.Context, q *EventsQuery) (from table, w sqlf.Fragment, err error) {
	names := inherited(&q.Filter, ByNone)
	ofOutcomes := q.amongOutcomes()
	if ofOutcomes && len(names) > 0 && !q.words() { // text is searched only in the outcome itself
		present := *r
		present.at = nil // outcomes has those of the snapshot
		if w, err = present.where(q.Project, &q.Filter); err != nil {
			return from, w, err
		}
		c, err := r.cover(ctx, q.Project)
		if err != nil {
			return from, w, err
		}
		from, err = r.outcomesTable(ctx, q.Project, sqlf.Join(" ", w, r.column(q)), names, &q.Filter, c)
		return from, w, err
	}
	if w, err = r.where(q.Project, &q.Filter); err != nil {
		return from, w, err
	}
	if !ofOutcomes || len(names) == 0 {
		for column, id := range map[string]string{"trace_id": q.TraceID, "session_id": q.SessionID} {
			if id != "" {
				from, err = r.held(ctx, q.Project, column, []string{id})
				return from, w, err
			}
		}
	}
	return r.allEvents(), w, nil
}

// outcomesTable is outcomes as a table.
func (r *Reader) outcomesTable(ctx context.Context, project string, uses sqlf.Fragment, calls []string, q *Filter, c *cover) (table, error) {
	from, err := r.outcomes(ctx, project, uses.Using("uuid", "ts"), calls, q, c)
	return table{from.As("events"), "NULL"}, err
}

// sorted is Events in an order of values. Its cursor is of that order.
func (r *Reader) sorted(ctx context.Context, q EventsQuery) (*EventsPage, error) {
	col := r.column(&q)
	if col.IsZero() {
		return nil, event.Invalid("unknown sort order", "use latency, ttft, cost or tokens")
	}
	from, w, err := r.eventsFrom(ctx, &q)
	if err != nil {
		return nil, err
	}
	w = w.And(isKnown(col))
	if q.Cursor != "" {
		m, err := parseMark(q.Cursor, string(q.Sort))
		if err != nil {
			return nil, err
		}
		if _, err := uuid.Parse(m.ID); err != nil {
			return nil, event.Invalid("the cursor is not one that hedgerow gave", "leave it out to start at the top")
		}
		value := sqlf.New("CAST(? AS DECIMAL(38,18))", m.Value)
		w = w.Andf("(? < ? OR ? = ? AND uuid < ?)", col, value, col, value, r.sql.uuid(m.ID))
	}
	found, err := r.find(ctx, from, w, col, "DESC", q.Limit+1)
	page := &EventsPage{Events: []*Event{}}
	if err != nil {
		return page, err
	}
	shown, err := r.fitting(ctx, found, q.Limit)
	if err != nil {
		return nil, err
	}
	if len(shown) < len(found) {
		last := shown[len(shown)-1]
		page.Next = mark{string(q.Sort), last.value, last.id}.String()
	}
	rows, err := r.whole(ctx, shown, store.EventColumns(""))
	if err != nil {
		return nil, err
	}
	page.Events, err = r.views(ctx, rows)
	return page, err
}

// found is an event that a question is about.
type found struct {
	id    string // its uuid
	ts    time.Time
	place sql.NullInt64 // in table events, until the engine next moves rows
	value string        // the value of the sort column
}

// find returns the positions of events that match w, in the order of a column
// and then of their uuid: DESC or ASC. It reads a few narrow columns. Combined
// with whole in one query, the engine would read all columns of every match.
func (r *Reader) find(ctx context.Context, from table, w, column sqlf.Fragment, direction string, limit int) (out []found, err error) {
	few := sqlf.New("SELECT uuid AS id, ts, "+from.place+" AS place, ? AS value FROM ? WHERE ? ORDER BY ? "+direction+", uuid "+direction+" LIMIT ?", column, from.sql, w, column, limit)
	// Texts of the few alone.
	err = r.each(ctx, sqlf.New("SELECT CAST(id AS VARCHAR), ts, place, ? FROM (?) ORDER BY value "+direction+", id "+direction, digits(sqlf.Raw("value")), few), func(rows *sql.Rows) error {
		var f found
		err := rows.Scan(&f.id, &f.ts, &f.place, &f.value)
		out = append(out, f)
		return err
	})
	return out, err
}

// whole reads columns of the rows from find, in their order: those of
// [store.EventColumns], or expressions instead. The engine reads some 90 columns
// of a few scattered rows at their positions; by uuid or time it would read them
// of all rows in between.
func (r *Reader) whole(ctx context.Context, of []found, columns string) ([]*store.Row, error) {
	if len(of) == 0 {
		return nil, nil
	}
	at := make(map[string]int, len(of))
	for i, f := range of {
		at[f.id] = i
	}
	in, among, err := r.located(ctx, of)
	if err != nil {
		return nil, err
	}
	rows, err := r.rows(ctx, columns, in)
	if err != nil {
		return nil, err
	}
	other := func(row *store.Row) bool { _, ok := at[row.Event.UUID]; return !ok }
	if slices.ContainsFunc(rows, other) || len(rows) < len(of) { // rows were moved or deleted meanwhile
		if rows, err = r.rows(ctx, columns, among); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(rows, func(a, b *store.Row) int { return at[a.Event.UUID] - at[b.Event.UUID] })
	return rows, nil
}

// located are the conditions of some events: by their places, and by their uuids
// where rows have moved meanwhile.
func (r *Reader) located(ctx context.Context, of []found) (in, among sqlf.Fragment, err error) {
	first, last := of[0].ts, of[0].ts
	ids := make([]any, len(of))
	places := make([]any, 0, len(of))
	for i, f := range of {
		if f.ts.Before(first) {
			first = f.ts
		}
		if f.ts.After(last) {
			last = f.ts
		}
		if f.place.Valid {
			places = append(places, f.place.Int64)
		}
		ids[i] = f.id
	}
	among = sqlf.New("ts BETWEEN ? AND ? AND uuid IN (?)", first.UTC(), last.UTC(), r.sql.uuidRows(ids))
	if len(places) < len(of) {
		where, err := r.raw(ctx, sqlf.New("SELECT "+r.sql.place+" FROM events WHERE ?", among))
		if err != nil {
			return in, among, err
		}
		places = places[:0]
		for _, row := range where {
			places = append(places, row[0])
		}
	}
	return sqlf.New(r.sql.place+" IN (?)", r.sql.placeRows(places)), among, nil
}

// Event returns one event; withContent also its content, where it is kept.
func (r *Reader) Event(ctx context.Context, project, id string, withContent bool) (*Event, error) {
	row, err := r.event(ctx, project, id)
	if err != nil {
		return nil, err
	}
	views, err := r.views(ctx, []*store.Row{row})
	if err != nil {
		return nil, err
	}
	v := views[0]
	if withContent && v.ContentState == ContentKept {
		if v.Content, err = r.content(ctx, row); err != nil {
			return nil, err
		}
		if v.Content == nil { // removed between the two questions
			v.ContentState = ContentExpired
		}
	}
	return v, nil
}

// Original returns an event as it was stored, with its content if that is
// kept, and the time of storing. [Event] is its form for display; this one is
// for processing.
func (r *Reader) Original(ctx context.Context, project, id string) (*event.Event, time.Time, error) {
	row, err := r.event(ctx, project, id)
	if err != nil {
		return nil, time.Time{}, err
	}
	e, err := r.original(ctx, row)
	return e, row.StoredAt, err
}

// event reads the row of one event.
func (r *Reader) event(ctx context.Context, project, id string) (*store.Row, error) {
	u, err := uuid.Parse(id)
	if err != nil {
		return nil, event.Invalid("the event id is not a UUID", `use the "uuid" that a list of events gives`)
	}
	rows, err := r.rows(ctx, store.EventColumns(""), sqlf.New("uuid = ? AND project_id = ?", r.sql.uuid(u.String()), project))
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, event.NewError(event.CodeNotFound, "event not found in this project", "it may have passed the project's retention, or not be stored yet", nil)
	}
	return rows[0], nil
}

// original is a row's event with its content, where that is kept.
func (r *Reader) original(ctx context.Context, row *store.Row) (*event.Event, error) {
	if row.ContentBytes == 0 {
		return row.Event, nil
	}
	c, err := r.content(ctx, row)
	if err != nil {
		return nil, err
	}
	if c != nil {
		row.Event.Content = event.Content(*c)
	}
	return row.Event, nil
}

// Stretch is the events of a project captured within a time.
type Stretch struct {
	First, Last time.Time // capture times of the events
	Stored      time.Time // when all of them were stored at the latest
	After       time.Time // where the part before ended; zero is the beginning
}

// Originals returns the next batch of a stretch in the order of storing: events
// that the store wrote together, as stored, with their content if it is kept, and
// After for the next call. No events mean the end. The store records when it
// wrote an event, not its capture: a few that were captured after Last and stored
// by Stored are included. After the store was recreated, events are selected by
// their own timestamps.
func (r *Reader) Originals(ctx context.Context, project string, s Stretch) ([]*event.Event, time.Time, error) {
	after := s.After
	if after.Before(s.First) {
		after = s.First
	}
	within := sqlf.New("project_id = ? AND stored_at > ? AND (stored_at <= ? OR ts BETWEEN ? AND ?)", project, after.UTC(), s.Stored.UTC(), s.First.UTC(), s.Last.UTC())
	rows, err := r.rows(ctx, store.EventColumns(""), within.Andf("stored_at = (SELECT min(stored_at) FROM events WHERE ?)", within))
	if err != nil || len(rows) == 0 {
		return nil, after, err
	}
	out := make([]*event.Event, len(rows))
	for i, row := range rows {
		if out[i], err = r.original(ctx, row); err != nil {
			return nil, after, err
		}
	}
	return out, rows[0].StoredAt, nil
}

// rows reads events that match a condition: the columns of [store.EventColumns],
// or expressions instead.
func (r *Reader) rows(ctx context.Context, columns string, cond sqlf.Fragment) ([]*store.Row, error) {
	return r.rowsOf(ctx, sqlf.New("SELECT ? FROM events WHERE ?", sqlf.Raw(columns), cond))
}

func (r *Reader) rowsOf(ctx context.Context, query sqlf.Fragment) (out []*store.Row, err error) {
	err = r.each(ctx, query, func(rows *sql.Rows) error {
		row, err := store.ScanRow(rows)
		out = append(out, row)
		return err
	})
	return out, err
}

// views converts rows to results, and checks whether their content still
// exists.
func (r *Reader) views(ctx context.Context, rows []*store.Row) ([]*Event, error) {
	views := make([]*Event, len(rows))
	withContent := make(map[string]*Event)
	var ids []any
	for i, row := range rows {
		views[i] = newEvent(row)
		if row.ContentBytes > 0 {
			views[i].ContentState = ContentExpired
			withContent[row.Event.UUID] = views[i]
			ids = append(ids, row.Event.UUID)
		}
	}
	if len(ids) == 0 {
		return views, nil
	}
	err := r.each(ctx, sqlf.New("SELECT CAST(uuid AS VARCHAR) FROM content WHERE ?", r.contentsOf(rows, ids)), func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		if v := withContent[id]; v != nil {
			v.ContentState = ContentKept
		}
		return err
	})
	return views, err
}

// contentsOf is the condition of the contents of some rows. stored_at rises with the
// order of rows, so its range spares most of the table.
func (r *Reader) contentsOf(rows []*store.Row, ids []any) sqlf.Fragment {
	first, last := rows[0].StoredAt, rows[0].StoredAt
	for _, row := range rows {
		if row.StoredAt.Before(first) {
			first = row.StoredAt
		}
		if row.StoredAt.After(last) {
			last = row.StoredAt
		}
	}
	return sqlf.New("stored_at BETWEEN ? AND ? AND uuid IN (?)", first, last, r.sql.uuidRows(ids))
}

// content reads the content of one event; nil if it was deleted.
func (r *Reader) content(ctx context.Context, row *store.Row) (out *Content, err error) {
	err = r.each(ctx, sqlf.New("SELECT body FROM content WHERE stored_at = ? AND uuid = ?", row.StoredAt, r.sql.uuid(row.Event.UUID)), func(rows *sql.Rows) error {
		var body []byte
		if err := rows.Scan(&body); err != nil {
			return err
		}
		c, err := store.DecodeContent(body)
		if err != nil {
			return err
		}
		out = newContent(&event.Event{Content: c})
		return nil
	})
	return out, err
}
