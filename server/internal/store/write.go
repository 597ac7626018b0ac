package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/hedgerow/hedgerow/event"
)

// WriteResult is the result of a batch.
type WriteResult struct {
	Stored     []*event.Event // new rows, in the order given; then rows changed by a merge
	Duplicates int            // events whose uuid is already stored, was deleted, was merged into another, or is repeated in the batch
}

// Write stores events with their content in one transaction, and returns when
// it is durable. It skips an event whose uuid is already stored or occurs
// earlier in the batch, regardless of timestamp and project: there is one row
// per uuid until retention removes it. It also skips events that
// [DuckDB.DeleteEvents] has deleted.
//
// An [event.SpanContent] is added to the content of its span's event, whether
// that is already stored, in the same batch or within an hour; it has no row
// itself. An [event.Merge] changes the row of the call that counts and removes the
// other capture's, whether they are already stored, in the same batch or come later.
// An [event.Repricing] changes the cost of the row that it names.
//
// If the store has failed or has no disk space, Write stores nothing and returns
// an error of code [event.CodeUnavailable]. An event that cannot be stored (an
// invalid uuid, a cost beyond the engine's decimals) fails the whole batch with
// an error of code [event.CodeInvalid].
func (d *DuckDB) Write(ctx context.Context, events []*event.Event) (WriteResult, error) {
	start := time.Now()
	b, _ := d.spare.Get().(*batch)
	if b == nil {
		b = new(batch)
	}
	defer func() {
		b.clear()
		d.spare.Put(b)
	}()
	events, contents := splitSpanContent(events)
	events, merges := splitMerges(events)
	events, repricings := splitRepricings(events)
	if err := b.encode(events); err != nil {
		return WriteResult{}, err
	}
	res := WriteResult{Duplicates: len(events) - len(b.rows)}
	if len(b.rows) == 0 && len(contents) == 0 && len(merges) == 0 && len(repricings) == 0 {
		return res, nil
	}
	var fresh, replaced []*encoded
	err := d.exclusive(ctx, func(e *engine) error {
		if err := d.ensureSpace(b.size()); err != nil {
			d.hasRoom(false)
			return err
		}
		d.used.Store(time.Now().UnixNano())
		d.adjustThreads(e, events)
		defer d.publishChanges()
		return d.transaction(ctx, e, func(conn *sql.Conn) (err error) {
			if fresh, replaced, err = d.append(ctx, conn, b, contents, merges); err != nil {
				return err
			}
			return d.reprice(ctx, conn, repricings, fresh)
		})
	})
	if err != nil {
		return WriteResult{}, fmt.Errorf("write events: %w", err)
	}
	d.hasRoom(true)
	res.Duplicates += len(b.rows) - (len(fresh) - len(replaced))
	for _, r := range fresh {
		res.Stored = append(res.Stored, r.row.Event)
	}
	d.metrics.write(res, time.Since(start))
	return res, nil
}

// encoded is an event ready for the appender.
type encoded struct {
	id     duckdb.UUID
	row    Row
	values []driver.Value // of table events; nil at storedAtColumn until the write
	body   []byte         // nil without content
}

// batch is the rows of one write, with the memory for their values, which is
// used again: a full batch has more than a third of a million.
type batch struct {
	rows   []encoded
	values []driver.Value // backing array of the rows' values
	filled []bool         // the columns of which some row has a value
	last   []lastText     // of each column

	numbers []*[numbersAtOnce]big.Int
	used    int // of numbers
}

const numbersAtOnce = 512

// size is about how many bytes the rows take.
func (b *batch) size() (n int64) {
	for i := range b.rows {
		n += 1<<10 + int64(len(b.rows[i].body))
	}
	return n
}

// lastText is the text that a column had last, as the engine takes it.
type lastText struct {
	text  string
	value driver.Value
}

// int lends a number until the batch is cleared.
func (b *batch) int() *big.Int {
	block, i := b.used/numbersAtOnce, b.used%numbersAtOnce
	if block == len(b.numbers) {
		b.numbers = append(b.numbers, new([numbersAtOnce]big.Int))
	}
	b.used++
	return &b.numbers[block][i]
}

// clear lets go of the events.
func (b *batch) clear() {
	clear(b.rows)
	clear(b.values)
	clear(b.last)
	clear(b.filled)
	b.rows, b.used = b.rows[:0], 0
}

// Where Write finds some columns.
var (
	uuidColumn     = columnIndex("uuid")
	projectColumn  = columnIndex("project_id")
	storedAtColumn = columnIndex("stored_at")

	contentBytesColumn = columnIndex("content_bytes")
)

// encode turns events into rows, the first of each uuid. The batch is empty before.
func (b *batch) encode(events []*event.Event) error {
	b.rows = slices.Grow(b.rows, len(events))
	b.values = slices.Grow(b.values[:0], len(events)*len(columns))[:len(events)*len(columns)]
	if b.filled == nil {
		b.filled, b.last = make([]bool, len(columns)), make([]lastText, len(columns))
	}
	seen := make(map[duckdb.UUID]bool, len(events))
	for k, e := range events {
		e.Bound() // an event of an older binary can wait in the journal
		b.rows = append(b.rows, encoded{row: Row{Event: e, ContentBytes: int64(e.Content.Size())}, values: b.values[k*len(columns) : (k+1)*len(columns)]})
		r := &b.rows[len(b.rows)-1]
		for i := range columns {
			c := &columns[i]
			if c.text != nil {
				if s := *c.text(e); s != "" && s == b.last[i].text {
					r.values[i] = b.last[i].value
					continue
				}
			}
			v, err := c.get(&r.row, b)
			if err != nil {
				return event.NewError(event.CodeInvalid, "an event cannot be stored", "", err)
			}
			if v != nil {
				r.values[i], b.filled[i] = v, true
				if c.text != nil {
					b.last[i] = lastText{*c.text(e), v}
				}
			}
		}
		r.id = r.values[uuidColumn].(duckdb.UUID)
		if seen[r.id] {
			b.rows = b.rows[:len(b.rows)-1]
			continue
		}
		seen[r.id] = true
		if !e.Content.IsZero() {
			r.body = newBody(&e.Content)
		}
	}
	b.filled[storedAtColumn] = true
	return nil
}

// append adds the rows that are new to both tables, inside a transaction, and
// returns them, and of these those that replace others.
func (d *DuckDB) append(ctx context.Context, conn *sql.Conn, b *batch, contents []*event.Event, merges []merging) (fresh, replaced []*encoded, err error) {
	list := uuidList(b.rows)
	var have map[duckdb.UUID]bool
	if len(b.rows) > 0 {
		if have, err = existing(ctx, conn, list); err != nil {
			return nil, nil, err
		}
	}
	gone := make(map[deletedKey]bool)
	if d.deletions.Load() && len(b.rows) > 0 {
		if err := deletedOf(ctx, conn, list, gone); err != nil {
			return nil, nil, err
		}
	}
	now := d.c.Now().UTC().Truncate(time.Microsecond)
	if !now.After(d.lastTime) {
		// The clock did not advance; the order of storing must.
		now = d.lastTime.Add(time.Microsecond)
	}
	var storedAt driver.Value = now
	fresh = make([]*encoded, 0, len(b.rows))
	for i := range b.rows {
		if r := &b.rows[i]; !have[r.id] && !gone[deletedKey{r.id, r.row.Event.ProjectID}] {
			r.row.StoredAt = now
			r.values[storedAtColumn] = storedAt
			fresh = append(fresh, r)
		}
	}
	if err := d.meetSpanContent(ctx, conn, contents, fresh, now); err != nil {
		return nil, nil, err
	}
	if fresh, replaced, err = d.meetMerges(ctx, conn, merges, fresh, now); err != nil {
		return nil, nil, err
	}
	if len(fresh) == 0 {
		return nil, nil, d.moveOutcomes(ctx, conn, merges, nil)
	}
	for _, r := range fresh { // those that a merge has changed have values of their own
		for i, v := range r.values {
			b.filled[i] = b.filled[i] || v != nil
		}
	}
	// A batch usually sets a third of some 90 columns. The engine fills
	// omitted columns with NULL in one step, where each value would be a call.
	var at []int
	var names []string
	for i, filled := range b.filled {
		if filled {
			at, names = append(at, i), append(names, columns[i].name)
		}
	}
	some := make([]driver.Value, len(at))
	err = conn.Raw(func(conn any) error {
		if err := appendRows(ctx, conn.(driver.Conn), "events", names, fresh, func(r *encoded) []driver.Value {
			for i, k := range at {
				some[i] = r.values[k]
			}
			return some
		}); err != nil {
			return err
		}
		content := make([]driver.Value, 4)
		return appendRows(ctx, conn.(driver.Conn), "content", nil, fresh, func(r *encoded) []driver.Value {
			if r.body == nil {
				return nil
			}
			content[0], content[1], content[2], content[3] = r.values[uuidColumn], r.values[projectColumn], r.values[storedAtColumn], r.body
			return content
		})
	})
	if err != nil {
		return nil, nil, err
	}
	if err := d.moveOutcomes(ctx, conn, merges, fresh); err != nil {
		return nil, nil, err
	}
	d.lastTime = now
	return fresh, replaced, nil
}

// appendRows appends a row for each r for which values returns any: all
// columns, or the named ones.
func appendRows(ctx context.Context, conn driver.Conn, table string, columns []string, rows []*encoded, values func(*encoded) []driver.Value) error {
	var a *duckdb.Appender
	var err error
	if columns == nil {
		a, err = duckdb.NewAppender(conn, catalog, "main", table)
	} else {
		a, err = duckdb.NewAppenderWithColumns(conn, catalog, "main", table, columns)
	}
	if err != nil {
		return fmt.Errorf("open appender for %s: %w", table, err)
	}
	for _, r := range rows {
		v := values(r)
		if v == nil {
			continue
		}
		if err := a.AppendRow(v...); err != nil {
			// The driver's error quotes the value: it must not reach a log.
			_ = a.Clear()
			return errors.Join(event.NewError(event.CodeInvalid, "an event cannot be stored in table "+table, "", nil), a.Close())
		}
	}
	if err := a.CloseWithCancel(ctx); err != nil {
		return fmt.Errorf("append to %s: %w", table, err)
	}
	return nil
}

// uuidList is the uuids of a batch as one text: a list would be a call to the
// engine for each, and the driver binds UUIDs within lists with a wrong sign.
func uuidList(batch []encoded) string {
	var ids strings.Builder
	ids.Grow(len(batch) * 37)
	for i := range batch {
		if i > 0 {
			ids.WriteByte(',')
		}
		ids.WriteString(batch[i].id.String())
	}
	return ids.String()
}

// existing returns which uuids of a list the store has.
func existing(ctx context.Context, conn *sql.Conn, list string) (map[duckdb.UUID]bool, error) {
	rows, err := conn.QueryContext(ctx, "SELECT uuid FROM events WHERE uuid IN ("+listedUUIDs+")", list)
	if err != nil {
		return nil, fmt.Errorf("look up uuids: %w", err)
	}
	defer rows.Close()
	have := make(map[duckdb.UUID]bool)
	for rows.Next() {
		var id duckdb.UUID
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("look up uuids: %w", err)
		}
		have[id] = true
	}
	return have, rows.Err()
}
