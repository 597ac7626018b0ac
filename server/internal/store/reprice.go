package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

// A repricing ([event.Repricing]) has the new cost of an event that is stored:
// what was captured stays, and so does the time of storing. The later run wins,
// in whatever order records arrive: ids of runs are in their order. A store
// that is filled again from the journal can meet a record before its event,
// since batches may overtake each other. Table repricings keeps it until the
// event comes, for a day.

// repricingKeep is how long a record waits for its event.
const repricingKeep = 24 * time.Hour

// createRepricings creates the table of records that wait for their events.
const createRepricings = `
CREATE TABLE IF NOT EXISTS repricings ( -- kept for a day: see reprice.go
	event UUID NOT NULL,
	stored_at TIMESTAMP NOT NULL,
	body BLOB NOT NULL -- the record's frame
);`

// warningProperty is price.WarningProperty, the one property that a repricing sets.
const warningProperty = "cost_warning"

// costColumns are the columns that a repricing sets, with their fields.
var costColumns = func() (list []event.Field) {
	for _, f := range event.Fields {
		if strings.HasPrefix(f.Path, "Cost.") && f.Column != "" {
			list = append(list, f)
		}
	}
	return list
}()

// repricedColumns are the columns that are read of an event that may be repriced.
var repricedColumns = func() (list []column) {
	names := []string{"uuid", "project_id", "stored_at", "properties"}
	for _, f := range costColumns {
		names = append(names, f.Column)
	}
	for _, name := range names {
		list = append(list, columns[columnIndex(name)])
	}
	return list
}()

// separator separates values that are bound as one text: no valid JSON contains it, and
// no label or name of an event. fields is the table of such a text.
const (
	separator = "\x1e"
	fields    = "unnest(string_split(CAST(? AS VARCHAR), chr(30)))"
)

// splitRepricings separates repricings from a batch. events is not changed.
func splitRepricings(events []*event.Event) (rows, repricings []*event.Event) {
	if !slices.ContainsFunc(events, (*event.Event).IsRepricing) {
		return events, nil
	}
	for _, e := range events {
		if e.IsRepricing() {
			repricings = append(repricings, e)
		} else {
			rows = append(rows, e)
		}
	}
	return rows, repricings
}

// reprice applies the records among a batch, and those that have waited for events of
// the batch. It runs inside the transaction of a write, after its rows.
func (d *DuckDB) reprice(ctx context.Context, conn *sql.Conn, records []*event.Event, fresh []*encoded) error {
	if d.hasRepricings.Load() && len(fresh) > 0 {
		waited, err := repricingsOf(ctx, conn, fresh)
		if err != nil {
			return err
		}
		records = append(slices.Clip(records), waited...)
	}
	if len(records) == 0 {
		return nil
	}
	latest := make(map[string]*event.Event, len(records))
	for _, r := range records {
		if id, err := parseUUID(r.ParentID); err == nil {
			if have := latest[id.String()]; have == nil || have.Cost.Repricing < r.Cost.Repricing {
				latest[id.String()] = r
			}
		}
	}
	ids := slices.Sorted(maps.Keys(latest))
	rows, err := conn.QueryContext(ctx, "SELECT "+columnList("", repricedColumns)+" FROM events WHERE uuid IN ("+listedUUIDs+")", strings.Join(ids, ","))
	if err != nil {
		return fmt.Errorf("look up repriced events: %w", err)
	}
	var changed, warned []*Row
	err = func() error {
		defer rows.Close()
		for rows.Next() {
			row, err := scanRow(repricedColumns, rows)
			if err != nil {
				return err
			}
			e := row.Event
			r := latest[e.UUID]
			delete(latest, e.UUID)
			if r.ProjectID != e.ProjectID || r.Cost.Repricing <= e.Cost.Repricing || r.Cost.Same(&e.Cost) {
				continue
			}
			e.Cost = r.Cost
			changed = append(changed, row)
			if w := r.Properties[warningProperty]; !bytes.Equal(w, e.Properties[warningProperty]) {
				setWarning(e, w)
				warned = append(warned, row)
			}
		}
		return rows.Err()
	}()
	if err != nil {
		return fmt.Errorf("look up repriced events: %w", err)
	}
	for id, r := range latest { // not stored, or not any more
		body, err := r.AppendFrame(nil)
		if err != nil {
			continue // it came from a frame
		}
		if _, err := conn.ExecContext(ctx, "INSERT INTO repricings VALUES (CAST(? AS UUID), ?, ?)", id, d.c.Now().UTC(), body); err != nil {
			return fmt.Errorf("keep repricing: %w", err)
		}
		d.hasRepricings.Store(true)
	}
	if len(changed) == 0 {
		return nil
	}
	if err := setCosts(ctx, conn, changed); err != nil {
		return err
	}
	d.changes.pending = append(d.changes.pending, changed)
	return setProperties(ctx, conn, warned)
}

// setWarning sets the property with the warnings of pricing, or removes it.
func setWarning(e *event.Event, warning json.RawMessage) {
	if warning == nil {
		delete(e.Properties, warningProperty)
		return
	}
	if e.Properties == nil {
		e.Properties = make(map[string]json.RawMessage, 1)
	}
	e.Properties[warningProperty] = warning
}

// setCosts writes the costs of rows, and notes that the ranges in which they were rolled
// up are to be rolled up again.
func setCosts(ctx context.Context, conn *sql.Conn, rows []*Row) error {
	byProject := make(map[string][]string)
	values := make([][]string, len(costColumns))
	for _, row := range rows {
		e := row.Event
		byProject[e.ProjectID] = append(byProject[e.ProjectID], e.UUID)
		for k, f := range costColumns {
			var v string
			switch at := f.At.(type) {
			case func(*event.Event) *string:
				v = *at(e)
			case func(*event.Event) *event.Opt[decimal.Decimal]:
				if d := *at(e); d.Known {
					v = d.Value.RoundBank(moneyScale).String()
				}
			}
			values[k] = append(values[k], v)
		}
	}
	for project, list := range byProject {
		if err := markStale(ctx, conn, project, strings.Join(list, ",")); err != nil {
			return fmt.Errorf("roll up again what is repriced: %w", err)
		}
	}
	var set, from []string
	var args []any
	for k, f := range costColumns {
		from, args = append(from, fields+" AS "+f.Column), append(args, strings.Join(values[k], separator))
		v := "nullif(n." + f.Column + ", '')"
		if _, text := f.At.(func(*event.Event) *string); !text {
			v = "CAST(" + v + " AS " + moneyType + ")"
		}
		set = append(set, f.Column+" = "+v)
	}
	return setRows(ctx, conn, rows, strings.Join(set, ", "), strings.Join(from, ", "), args)
}

// setProperties writes the properties of rows.
func setProperties(ctx context.Context, conn *sql.Conn, rows []*Row) error {
	if len(rows) == 0 {
		return nil
	}
	values := make([]string, len(rows))
	for i, row := range rows {
		if len(row.Event.Properties) == 0 {
			continue
		}
		b, err := row.Event.AppendRaw(nil, row.Event.Properties)
		if err != nil { // which names a property: that is for no log
			return errors.New("reprice events: properties are not JSON")
		}
		values[i] = string(validText(b))
	}
	return setRows(ctx, conn, rows, "properties = nullif(n.properties, '')", fields+" AS properties", []any{strings.Join(values, separator)})
}

// setRows changes stored rows: set from the columns of a row n each.
func setRows(ctx context.Context, conn *sql.Conn, rows []*Row, set, from string, args []any) error {
	first, last := rows[0].StoredAt, rows[0].StoredAt
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.Event.UUID
		if row.StoredAt.Before(first) {
			first = row.StoredAt
		}
		if row.StoredAt.After(last) {
			last = row.StoredAt
		}
	}
	args = append(append([]any{strings.Join(ids, ",")}, args...), first.UTC(), last.UTC())
	// stored_at lets the engine skip row groups.
	if _, err := conn.ExecContext(ctx, "UPDATE events SET "+set+" FROM (SELECT CAST(unnest(string_split(CAST(? AS VARCHAR), ',')) AS UUID) AS id, "+from+") n WHERE events.uuid = n.id AND events.stored_at BETWEEN ? AND ?", args...); err != nil {
		return fmt.Errorf("reprice events: %w", err)
	}
	return nil
}

// repricingsOf takes the records out of table repricings that have waited for rows.
func repricingsOf(ctx context.Context, conn *sql.Conn, fresh []*encoded) (records []*event.Event, err error) {
	var ids []string
	for _, r := range fresh {
		ids = append(ids, r.row.Event.UUID)
	}
	list := strings.Join(ids, ",")
	rows, err := conn.QueryContext(ctx, "SELECT body FROM repricings WHERE event IN ("+listedUUIDs+")", list)
	if err != nil {
		return nil, fmt.Errorf("look up repricings: %w", err)
	}
	err = func() error {
		defer rows.Close()
		for rows.Next() {
			var body []byte
			if err := rows.Scan(&body); err != nil {
				return err
			}
			if e, err := event.DecodeFrame(body); err == nil { // what is damaged says nothing
				records = append(records, e)
			}
		}
		return rows.Err()
	}()
	if err != nil || len(records) == 0 {
		return nil, err
	}
	_, err = conn.ExecContext(ctx, "DELETE FROM repricings WHERE event IN ("+listedUUIDs+")", list)
	return records, err
}

// pruneRepricings forgets records whose event has not come: it was deleted, or is
// older than the journal.
func (d *DuckDB) pruneRepricings(ctx context.Context, now time.Time) error {
	if !d.hasRepricings.Load() {
		return nil
	}
	return d.exclusive(ctx, func(e *engine) error {
		return d.transaction(ctx, e, func(conn *sql.Conn) error {
			_, err := conn.ExecContext(ctx, "DELETE FROM repricings WHERE stored_at < ?", now.Add(-repricingKeep))
			var left int
			if err == nil {
				err = conn.QueryRowContext(ctx, "SELECT count(*) FROM repricings").Scan(&left)
			}
			if err == nil && left == 0 {
				d.hasRepricings.Store(false)
			}
			return err
		})
	})
}

// Stale returns how many rolled-up ranges of events are to be rolled up again.
func (d *DuckDB) Stale(ctx context.Context) (n int, err error) {
	err = d.Read(ctx, func(rows *sql.Rows) error {
		rows.Next()
		return rows.Scan(&n)
	}, "SELECT count(*) FROM rolled_stale")
	return n, err
}
