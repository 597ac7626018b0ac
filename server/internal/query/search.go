package query

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// MaxSearched bounds the contents that one page of [Reader.SearchContent] reads.
const MaxSearched = 2000

// searchStep is how many of them are in memory at a time.
const searchStep = 100

// SearchPage is a page of events whose content contains some words, newest
// first.
type SearchPage struct {
	Events   []*Event  `json:"events"`
	Searched int       `json:"searched"`       // contents that were read for this page
	Until    time.Time `json:"until,omitzero"` // timestamp of the last of them
	Next     string    `json:"next_cursor"`    // cursor of the next page; "" at the end
}

// SearchContent lists events whose prompts and answers contain words,
// case-insensitive. Contents are stored compressed, without an index: it
// reads them from the newest on, MaxSearched per page, so a page can be empty
// though later ones are not. It searches the text of JSON strings, as
// displayed. q.Sort must be [ByTime]; q.Filter.Text still means metadata.
//
// Callers that search for a user must record that in project's audit log.
func (r *Reader) SearchContent(ctx context.Context, q EventsQuery, words string) (*SearchPage, error) {
	words = strings.ToLower(strings.TrimSpace(words))
	if words == "" {
		return nil, event.Invalid("there is nothing to search for", "type a word")
	}
	if err := checkText("text", words); err != nil {
		return nil, err
	}
	if q.Sort != ByTime {
		return nil, event.Invalid("a search through content is ordered by time", "leave the order out")
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	out := &SearchPage{Events: []*Event{}}
	limit := q.Limit
	q.Limit = searchStep
	var all []found // that contain the words
	for {
		from, w, err := r.eventsFrom(ctx, &q)
		if err != nil {
			return nil, err
		}
		if q.Point != nil && from.sql.String() != r.allEvents().sql.String() {
			return nil, event.Invalid("what this point of a chart counts has no prompts and answers to search", "take the point away")
		}
		after, err := r.after(q.Cursor)
		if err != nil {
			return nil, err
		}
		some, err := r.find(ctx, from, w.Andf("content_bytes > 0").And(after), sqlf.Column("ts"), "DESC", q.Limit)
		if err != nil {
			return nil, err
		}
		var rows []*store.Row
		if len(some) > 0 {
			if rows, _, err = r.light(ctx, some); err != nil {
				return nil, err
			}
		}
		hits, err := r.holding(ctx, rows, words)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			out.Searched++
			out.Until = row.Event.Timestamp
			q.Cursor = cursor{row.Event.Timestamp, uuid.MustParse(row.Event.UUID)}.String()
			if hits[row.Event.UUID] {
				at := slices.IndexFunc(some, func(f found) bool { return f.id == row.Event.UUID })
				if all = append(all, some[at]); len(all) == limit {
					break
				}
			}
		}
		if len(all) == limit || out.Searched >= MaxSearched {
			out.Next = q.Cursor
			break
		}
		if len(rows) < q.Limit {
			break
		}
	}
	if len(all) == 0 {
		return out, nil
	}
	shown, err := r.fitting(ctx, all, limit)
	if err != nil {
		return nil, err
	}
	if last := shown[len(shown)-1]; len(shown) < len(all) {
		out.Next = cursor{last.ts.UTC(), uuid.MustParse(last.id)}.String()
	}
	rows, err := r.whole(ctx, shown, store.EventColumns(""))
	if err != nil {
		return nil, err
	}
	out.Events, err = r.views(ctx, rows)
	return out, err
}

// holding reports which of the rows have words in their content.
func (r *Reader) holding(ctx context.Context, rows []*store.Row, words string) (map[string]bool, error) {
	hits := make(map[string]bool)
	if len(rows) == 0 {
		return hits, nil
	}
	var ids []any
	for _, row := range rows {
		ids = append(ids, row.Event.UUID)
	}
	err := r.each(ctx, sqlf.New("SELECT CAST(uuid AS VARCHAR), body FROM content WHERE ?", r.contentsOf(rows, ids)), func(rows *sql.Rows) error {
		var id string
		var body []byte
		if err := rows.Scan(&id, &body); err != nil {
			return err
		}
		c, err := store.DecodeContent(body)
		if err != nil {
			return err
		}
		hits[id] = slices.ContainsFunc([]json.RawMessage{c.Input, c.Output, c.Tools, c.InputState, c.OutputState}, func(part json.RawMessage) bool { return holds(part, words) })
		return nil
	})
	return hits, err
}

// holds reports whether a string in raw, an object's key or a value, contains
// words, which are in lower case.
func holds(raw json.RawMessage, words string) bool {
	if len(raw) == 0 {
		return false
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	for {
		t, err := d.Token()
		if err != nil {
			return false // its end, or damage: everything before it has been read
		}
		switch t := t.(type) {
		case string:
			if strings.Contains(strings.ToLower(t), words) {
				return true
			}
		case json.Number:
			if strings.Contains(t.String(), words) {
				return true
			}
		}
	}
}
