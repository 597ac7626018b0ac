package query

import (
	"fmt"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// dialect holds the SQL that differs between engines; what a question asks is
// common to them.
type dialect struct {
	// uuid is a bound UUID given as text.
	uuid func(id string) sqlf.Fragment
	// uuids is the rows of a bound list of UUIDs given as text.
	uuids func(ids []any) sqlf.Fragment
	// texts is the rows of a bound list of texts.
	texts func(list []any) sqlf.Fragment
	// place is where a row of table events is, until the engine next moves rows;
	// places is the rows of a bound list of them.
	place  string
	places func(list []any) sqlf.Fragment
	// inTexts is true where an expression is one of a bound list of texts.
	inTexts func(list []any, expr sqlf.Fragment) sqlf.Fragment
	// property is the text of a custom property, whose name is bound.
	property func(name string) sqlf.Fragment
	// constProperty is property with a name known beforehand. That of AgentConfig has
	// AgentConfigID beside it.
	constProperty func(name string) sqlf.Fragment
	// propertyAt is property where an expression has its path; see propertyPath.
	propertyAt func(path string) sqlf.Fragment
	// flag is the variant of a feature flag that an event names, as $feature/KEY
	// or as posthog_flag and posthog_flag_variant.
	flag func(key string) sqlf.Fragment
	// hasTag is true for rows that bear the tag.
	hasTag func(tag string) sqlf.Fragment
	// search is true for rows where one of the columns holds the words.
	search func(columns []string, words string) sqlf.Fragment
	// tags is a tag of each row that has any, one row each.
	tags sqlf.Fragment
	// names is the name of each property, one row each.
	names sqlf.Fragment
	// seconds is a bound number of seconds, or a CASE over such numbers, as
	// something to add to a timestamp.
	seconds func(expr sqlf.Fragment) sqlf.Fragment
	// quantiles is the list of the 50th, 95th and 99th percentile of an
	// expression, interpolated, or NULL where there are no values.
	quantiles func(expr, filter sqlf.Fragment) sqlf.Fragment
	// bigint makes a sum of integers fit int64: one that does not is unknown.
	bigint func(expr sqlf.Fragment) sqlf.Fragment
	// oneOf is true where an expression is one of some constants.
	oneOf func(expr sqlf.Fragment, constants string) sqlf.Fragment
	// float turns a number into a double; tryFloat a text, or NULL where it is none
	// or out of the range that event.MaxNumber bounds.
	float, tryFloat func(expr sqlf.Fragment) sqlf.Fragment
	// digits turns an exact decimal into text.
	digits func(expr sqlf.Fragment) sqlf.Fragment
	// derived says that the store keeps the tables of the roll-ups.
	derived bool
}

var duckDB = dialect{
	uuid: func(id string) sqlf.Fragment { return sqlf.New("CAST(CAST(? AS VARCHAR) AS UUID)", id) },
	uuids: func(ids []any) sqlf.Fragment {
		return sqlf.New("SELECT CAST(unnest(CAST(? AS VARCHAR[])) AS UUID)", ids)
	},
	texts:  func(list []any) sqlf.Fragment { return sqlf.New("SELECT unnest(CAST(? AS VARCHAR[]))", list) },
	place:  "rowid",
	places: func(list []any) sqlf.Fragment { return sqlf.New("SELECT unnest(CAST(? AS BIGINT[]))", list) },
	inTexts: func(list []any, expr sqlf.Fragment) sqlf.Fragment {
		return sqlf.New("list_contains(CAST(? AS VARCHAR[]), ?)", list, expr)
	},
	property: func(name string) sqlf.Fragment { return propertyAt(sqlf.New("CAST(? AS VARCHAR)", propertyPath(name))) },
	constProperty: func(name string) sqlf.Fragment {
		if name == AgentConfig {
			return sqlf.New("coalesce(?, ?)", constProperty(AgentConfig), constProperty(AgentConfigID))
		}
		return constProperty(name)
	},
	propertyAt: func(path string) sqlf.Fragment { return propertyAt(sqlf.Raw(path)) },
	flag: func(key string) sqlf.Fragment {
		return sqlf.New("coalesce(TRY(json_extract_string({flags}, CAST(? AS VARCHAR))), CASE WHEN ? = CAST(? AS VARCHAR) THEN ? END)",
			propertyPath(key), constProperty("posthog_flag"), key, constProperty("posthog_flag_variant"))
	},
	hasTag: func(tag string) sqlf.Fragment { return sqlf.New("list_contains({tags}, CAST(? AS VARCHAR))", tag) },
	search: func(columns []string, words string) sqlf.Fragment {
		// A NUL between two columns: no text, which holds none, reaches from one into the next.
		return sqlf.New("contains(lower(concat_ws(chr(0), ?)), lower(CAST(? AS VARCHAR)))", sqlf.Columns(columns...), words)
	},
	tags:    sqlf.New("unnest({tags})"),
	names:   sqlf.New("unnest(TRY(json_keys({properties})))"),
	seconds: func(expr sqlf.Fragment) sqlf.Fragment { return sqlf.New("to_seconds(CAST(? AS BIGINT))", expr) },
	quantiles: func(expr, filter sqlf.Fragment) sqlf.Fragment {
		return sqlf.New("quantile_cont(?, [0.5, 0.95, 0.99]) FILTER (WHERE ?)", expr, filter)
	},
	// The engine adds up integers in 128 bits.
	bigint: func(expr sqlf.Fragment) sqlf.Fragment { return sqlf.New("TRY_CAST(? AS BIGINT)", expr) },
	// The engine compares with IN's constants one after the other.
	oneOf: func(expr sqlf.Fragment, constants string) sqlf.Fragment {
		return sqlf.New("list_contains([?], ?)", sqlf.Raw(constants), expr)
	},
	float: func(expr sqlf.Fragment) sqlf.Fragment { return sqlf.New("CAST(? AS DOUBLE)", expr) },
	tryFloat: func(expr sqlf.Fragment) sqlf.Fragment {
		number := sqlf.New("TRY_CAST(? AS DOUBLE)", expr)
		return sqlf.New(fmt.Sprintf("CASE WHEN ? BETWEEN -%g AND %g THEN ? END", event.MaxNumber, event.MaxNumber), number, number)
	},
	digits:  func(expr sqlf.Fragment) sqlf.Fragment { return sqlf.New("CAST(? AS VARCHAR)", expr) },
	derived: true,
}

// propertyAt is the property that an expression points at. What the engine does not
// take for JSON has none: it is stricter than what older binaries let in.
func propertyAt(path sqlf.Fragment) sqlf.Fragment {
	return sqlf.New("TRY(json_extract_string({properties}, ?))", path)
}

func constProperty(name string) sqlf.Fragment {
	return propertyAt(sqlf.Raw("'" + strings.ReplaceAll(propertyPath(name), "'", "''") + "'"))
}

func dialectOf(engine string) (dialect, error) {
	if engine == "duckdb" {
		return duckDB, nil
	}
	return dialect{}, fmt.Errorf("no SQL dialect for engine %q", engine)
}

// propertyPath names a key of the properties object as a JSON Pointer (RFC
// 6901), which can name any key whatever characters it has.
func propertyPath(name string) string {
	return "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}
