package query

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// JudgedByUser are sums over users of evaluations, by the evaluation's name, and under "" of
// all of them: of each user, how many results passed (y) among those that say passed or
// not (n). A result without a user counts by its trace. The filter finds results by their
// call's fields too, as [Reader.Series] does.
func (r *Reader) JudgedByUser(ctx context.Context, project string, f Filter) (map[string]Moments, error) {
	c, err := r.cover(ctx, project)
	if err != nil {
		return nil, err
	}
	yes, known := yesNo(r.ofOutcome().terms("", EventMatch{}).passed)
	unit := sqlf.New("coalesce({distinct_id}, {trace_id}, CAST({uuid} AS VARCHAR))")
	from, err := r.outcomesSource(ctx, project, &f, ByEval, c, sqlf.Join(" ", yes, known, unit))
	if err != nil {
		return nil, err
	}
	out := make(map[string]Moments)
	err = r.each(ctx, sqlf.New("WITH each AS MATERIALIZED (SELECT eval, u, count(*) AS n, sum(y) AS y FROM (SELECT coalesce(value, '') AS eval, ? AS u, CASE WHEN ? THEN 1 ELSE 0 END AS y FROM ? AS events WHERE ?) GROUP BY eval, u), "+
		"every AS (SELECT * FROM each WHERE eval <> '' UNION ALL SELECT '', u, sum(n), sum(y) FROM each GROUP BY u) "+
		"SELECT eval, CAST(count(*) AS DOUBLE), CAST(sum(n) AS DOUBLE), CAST(sum(y) AS DOUBLE), CAST(sum(n * n) AS DOUBLE), CAST(sum(y * y) AS DOUBLE), CAST(sum(n * y) AS DOUBLE) FROM every GROUP BY eval", unit, yes, from.sql, known), func(rows *sql.Rows) error {
		var name string
		var m Moments
		if err := rows.Scan(&name, &m.Users, &m.N, &m.Y, &m.NN, &m.YY, &m.NY); err != nil {
			return fmt.Errorf("scan evaluations of users: %w", err)
		}
		out[name] = m
		return nil
	})
	return out, err
}
