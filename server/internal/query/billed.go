package query

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// BilledCalls are the calls of one UTC day, provider, model and tier whose cost is known
// or of those whose cost is not, with what a provider bills by. Sums are of the calls
// that report the count; 0 where none does.
type BilledCalls struct {
	Day      time.Time // its start, UTC
	Provider string
	Model    string // the response model or, if unknown, the requested one
	Tier     string // as events have it; "" is the standard one
	Speed    string // as events have it, too
	Costed   bool   // the cost of these calls is known

	Calls     int64
	Failed    int64 // failed calls without counts, which providers do not bill
	Unmetered int64 // other calls without any count
	CostUSD   USD

	Input, CacheRead, CacheWrite, CacheWrite1h, CacheWrite12h int64 // Input is all input, cached or not
	InputAudio, InputImage                                    int64 // parts of Input
	Output, OutputAudio, OutputImage                          int64 // the latter two are parts of Output
	Images, Characters                                        int64
	MediaTime                                                 time.Duration
	WebSearches, FileSearches, CodeSessions                   int64

	// ToolsUSD is what is billed apart from tokens: searches, sessions, requests.
	ToolsUSD USD
}

// Billed sums up a project's calls to providers in [from, to), which are starts of UTC
// days, as providers bill them.
func (r *Reader) Billed(ctx context.Context, project string, providers []string, from, to time.Time) ([]BilledCalls, error) {
	w, err := r.where(project, &Filter{From: from, To: to, Kind: KindCalls})
	if err != nil {
		return nil, err
	}
	w = w.And(r.sql.inTexts(anys(providers), orEmpty(sqlf.Column("provider"))))
	sum := func(column string) sqlf.Fragment {
		return sqlf.New("coalesce(?, 0)", sqlf.New(r.sql.bigint, sqlf.New("sum(?)", sqlf.Column(column))))
	}
	const counted = "coalesce({tokens}, {input_tokens}, {output_tokens}, {images}, {characters}, {media_us}, {pages}, {web_searches}) IS NOT NULL"
	columns := []sqlf.Fragment{
		sqlf.Raw("count(*)"),
		sqlf.New("count(*) FILTER (WHERE {is_error} AND NOT (" + counted + "))"),
		sqlf.New("count(*) FILTER (WHERE NOT {is_error} AND NOT (" + counted + "))"),
		digits(sqlf.New("sum({cost_total})")),
		sqlf.New("coalesce(?, 0)", sqlf.New(r.sql.bigint, sqlf.New("sum(?)", inputExpr))),
	}
	for _, c := range []string{"cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "cache_write_12h_tokens", "input_audio_tokens", "input_image_tokens", "output_tokens", "output_audio_tokens",
		"output_image_tokens", "images", "characters", "media_us", "web_searches", "file_searches", "code_sessions"} {
		columns = append(columns, sum(c))
	}
	columns = append(columns, digits(sqlf.New("sum(coalesce({cost_web_search}, 0) + coalesce({cost_tools}, 0) + coalesce({cost_request}, 0)) FILTER (WHERE {cost_total} IS NOT NULL)")))
	q := sqlf.New("SELECT date_trunc('day', {ts}) AS d, coalesce({provider}, '') AS p, coalesce(?, '') AS m, coalesce({service_tier}, '') AS t, coalesce({speed}, '') AS s, {cost_total} IS NOT NULL AS k, ? FROM events WHERE ? GROUP BY d, p, m, t, s, k ORDER BY d, p, m, t, s, k",
		modelExpr, columns, w)
	out := []BilledCalls{}
	err = r.each(ctx, q, func(rows *sql.Rows) error {
		var b BilledCalls
		var cost, tools sql.NullString
		var media int64
		if err := rows.Scan(&b.Day, &b.Provider, &b.Model, &b.Tier, &b.Speed, &b.Costed, &b.Calls, &b.Failed, &b.Unmetered, &cost, &b.Input, &b.CacheRead, &b.CacheWrite, &b.CacheWrite1h, &b.CacheWrite12h,
			&b.InputAudio, &b.InputImage, &b.Output, &b.OutputAudio, &b.OutputImage, &b.Images, &b.Characters, &media, &b.WebSearches, &b.FileSearches, &b.CodeSessions, &tools); err != nil {
			return fmt.Errorf("scan billed calls: %w", err)
		}
		b.Day, b.MediaTime = b.Day.UTC(), time.Duration(media)*time.Microsecond
		var err error
		if b.CostUSD, err = optUSD(cost); err != nil {
			return err
		}
		b.ToolsUSD, err = optUSD(tools)
		out = append(out, b)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
