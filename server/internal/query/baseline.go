package query

import (
	"context"

	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// everyone is the variant of all users of a [Reader.Baseline].
const everyone = "all"

// Baseline reads the metrics of an experiment that has not begun, of all users who would take
// part: those with the flag, whatever its variant; where there are none, those with the
// prompt, or all of the project. Variants of the query are not used.
func (r *Reader) Baseline(ctx context.Context, q ExperimentQuery) (Cell, error) {
	flag := q.Flag
	q.Flag, q.By = everyone, ByNone // valid; the condition is in audience
	q.Variants = []string{everyone, everyone}
	if err := q.check(r.now); err != nil {
		return Cell{}, err
	}
	q.Flag, q.Variants = "", q.Variants[:1]
	prompt := sqlf.Raw("true")
	if q.Prompt != "" {
		prompt = equals(sqlf.Column("prompt_name"), q.Prompt)
	}
	audiences := []sqlf.Fragment{prompt}
	if flag != "" {
		audiences = []sqlf.Fragment{isKnown(r.sql.flag(flag)).And(prompt), prompt}
	}
	for _, a := range audiences {
		x := &experimentReader{r: r, q: q, out: new(Experiment), at: make(map[[2]string]int), audience: a}
		if err := x.all(ctx); err != nil {
			return Cell{}, err
		}
		if len(x.out.Cells) > 0 && x.out.Cells[0].Users > 1 {
			return x.out.Cells[0], nil
		}
	}
	return Cell{Figures: make([]Figure, len(q.Metrics))}, nil
}
