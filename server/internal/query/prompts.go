package query

import (
	"context"
	"database/sql"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// PromptUse is how a prompt, or one version of it, was used. Only calls count.
type PromptUse struct {
	Name    string    `json:"prompt_name"`
	Version string    `json:"prompt_version"` // as in events: a number, or the caller's own; "" without one
	Totals  Totals    `json:"totals"`
	Last    time.Time `json:"last_used"`
	Drifted int64     `json:"drifted"` // calls with other instructions than the version's
}

// driftProperty is true on a call whose instructions differ from those of its
// version: server/internal/prompt sets it.
const driftProperty = "prompt_drift"

// PromptUse reports the use of the project's prompts, one row per prompt or,
// with versions, per prompt and version. At most MaxGroups rows, those with the
// most calls.
func (r *Reader) PromptUse(ctx context.Context, project string, f Filter, versions bool) ([]PromptUse, error) {
	f.Kind = KindCalls
	w, err := r.where(project, &f)
	if err != nil {
		return nil, err
	}
	version := sqlf.Raw("''")
	if versions {
		version = orEmpty(versionExpr)
	}
	out := []PromptUse{}
	err = r.each(ctx, sqlf.New("SELECT prompt_name, ? AS version, max(ts) AS last_used, ? AS drifted, ? FROM events WHERE ? AND prompt_name IS NOT NULL GROUP BY prompt_name, version ORDER BY calls DESC, prompt_name, version LIMIT ?",
		version, countOf(sqlf.New("? = 'true'", r.constProperty(driftProperty))), r.totalColumns(""), w, MaxGroups), func(rows *sql.Rows) error {
		var u PromptUse
		err := scanTotals(rows, &u.Totals, &u.Name, &u.Version, &u.Last, &u.Drifted)
		u.Last = u.Last.UTC()
		out = append(out, u)
		return err
	})
	return out, err
}
