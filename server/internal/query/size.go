package query

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
	"github.com/hedgerow/hedgerow/server/internal/store"
)

// How large results get. An event has up to 3 MB of properties, parameters and
// metadata, and a page of events or a trace can have thousands of them.
const (
	maxPageBytes  = 8 << 20  // of the long columns of a page of events, and of a complete trace
	maxTraceBytes = 32 << 20 // of everything else in a trace
	eventBytes    = 2500     // size of an event without its content
)

// longColumns are an event's potentially long columns, and the replacement if
// all of them together are too long.
var longColumns = []struct{ name, kept string }{
	{"properties", "NULL"}, {"model_parameters", "NULL"}, {"provider_metadata", "NULL"}, {"flags", "NULL"}, {"group_keys", "NULL"}, {"request_url", "NULL"}, {"base_url", "NULL"},
	{"error_message", "left(error_message, 300)"},
}

// weightExpr is how long the long columns of an event are, in bytes.
var weightExpr = func() string {
	parts := make([]string, len(longColumns))
	for i, c := range longColumns {
		parts[i] = "coalesce(strlen(" + c.name + "), 0)"
	}
	return strings.Join(parts, " + ")
}()

// weights returns the sizes of the long columns of events, without events
// deleted meanwhile.
func (r *Reader) weights(ctx context.Context, of []found) (map[string]int64, error) {
	in, _, err := r.located(ctx, of)
	if err != nil {
		return nil, err
	}
	rows, err := r.raw(ctx, sqlf.New("SELECT CAST(uuid AS VARCHAR), "+weightExpr+" FROM events WHERE ?", in))
	weights := make(map[string]int64, len(rows))
	for _, row := range rows {
		id, _ := row[0].(string)
		weights[id], _ = row[1].(int64)
	}
	return weights, err
}

// fitting are the first events that fit onto a page: at most limit, and one at
// least.
func (r *Reader) fitting(ctx context.Context, of []found, limit int) ([]found, error) {
	of = of[:min(len(of), limit)]
	if len(of) < 2 {
		return of, nil
	}
	weights, err := r.weights(ctx, of)
	if err != nil {
		return nil, err
	}
	var sum int64
	for i, f := range of {
		if sum += weights[f.id]; sum > maxPageBytes && i > 0 {
			return of[:i], nil
		}
	}
	return of, nil
}

// light reads rows of a trace. If they are too long together, it omits each long
// column above its share, and returns the events that are incomplete.
func (r *Reader) light(ctx context.Context, of []found) (rows []*store.Row, less map[string]bool, err error) {
	weights, err := r.weights(ctx, of)
	if err != nil {
		return nil, nil, err
	}
	var sum int64
	for _, w := range weights {
		sum += w
	}
	columns, share := store.EventColumns(""), maxPageBytes/int64(max(len(of), 1))
	if sum > maxPageBytes {
		less = make(map[string]bool)
		for id, w := range weights {
			less[id] = w > share
		}
		list := strings.Split(columns, ", ")
		for i, name := range list {
			for _, c := range longColumns {
				if c.name == name {
					list[i] = "CASE WHEN " + weightExpr + " <= " + strconv.FormatInt(share, 10) + " THEN " + c.name + " ELSE " + c.kept + " END AS " + c.name
				}
			}
		}
		columns = strings.Join(list, ", ")
	}
	rows, err = r.whole(ctx, of, columns)
	return rows, less, err
}

// cut cuts a trace to what fits into an answer, and reports whether it had to.
func cut(events []*Event) ([]*Event, bool) {
	sum := 0
	for i, e := range events {
		sum += e.textBytes()
		for _, t := range e.Tags {
			sum += len(t)
		}
		if sum += eventBytes; sum > maxTraceBytes {
			return slices.Clip(events[:i]), true
		}
	}
	return events, false
}
