package query

import (
	"fmt"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// dialect holds the SQL that differs between engines; what a question asks is
// common to them. Every ? in it is bound.
type dialect struct {
	// uuid is a bound UUID given as text.
	uuid string
	// uuids is the rows of a bound list of UUIDs given as text.
	uuids string
	// texts is the rows of a bound list of texts.
	texts string
	// place is where a row of table events is, until the engine next moves rows;
	// places is the rows of a bound list of them.
	place, places string
	// property is the text of a custom property; see propertyPath.
	property string
	// flag is the variant of a feature flag that an event names, as $feature/KEY
	// or as posthog_flag and posthog_flag_variant; bound to flagArgs.
	flag string
	// hasTag is true for rows that bear the bound tag.
	hasTag string
	// search is true for rows where one of the columns holds the bound text.
	search func(columns []string) string
	// tags is a tag of each row that has any, one row each.
	tags string
	// seconds is a bound number of seconds, or a CASE over such numbers, as
	// something to add to a timestamp.
	seconds func(expr string) string
	// quantiles is the list of the 50th, 95th and 99th percentile of an
	// expression, interpolated, or NULL where there are no values.
	quantiles func(expr, filter string) string
	// bigint makes a sum of integers fit int64: one that does not is unknown.
	bigint func(expr string) string
	// propertyAt is property where an expression has its path.
	propertyAt func(path string) string
	// names is the name of each property, one row each.
	names string
	// oneOf is true where an expression is one of some constants.
	oneOf func(expr, constants string) string
	// constProperty is property with a name known beforehand. That of AgentConfig has
	// AgentConfigID beside it.
	constProperty func(name string) string
	// float turns a number into a double; tryFloat a text, or NULL where it is none
	// or out of the range that event.MaxNumber bounds.
	float, tryFloat func(expr string) string
	// derived says that the store keeps the tables of the roll-ups.
	derived bool
	// digits turns an exact decimal into text.
	digits func(expr string) string
}

var duckDB = dialect{
	uuid:       "CAST(CAST(? AS VARCHAR) AS UUID)",
	uuids:      "SELECT CAST(unnest(CAST(? AS VARCHAR[])) AS UUID)",
	texts:      "SELECT unnest(CAST(? AS VARCHAR[]))",
	place:      "rowid",
	places:     "SELECT unnest(CAST(? AS BIGINT[]))",
	property:   propertyAt("CAST(? AS VARCHAR)"),
	propertyAt: propertyAt,
	names:      "unnest(TRY(json_keys(properties)))",
	flag: "coalesce(TRY(json_extract_string(flags, CAST(? AS VARCHAR))), CASE WHEN " + propertyAt("'/posthog_flag'") + " = CAST(? AS VARCHAR)" +
		" THEN " + propertyAt("'/posthog_flag_variant'") + " END)",
	hasTag: "list_contains(tags, CAST(? AS VARCHAR))",
	tags:   "unnest(tags)",
	search: func(columns []string) string {
		// A NUL between two columns: no text, which holds none, reaches from one into the next.
		return "contains(lower(concat_ws(chr(0), " + strings.Join(columns, ", ") + ")), lower(CAST(? AS VARCHAR)))"
	},
	seconds: func(expr string) string { return "to_seconds(CAST(" + expr + " AS BIGINT))" },
	quantiles: func(expr, filter string) string {
		return "quantile_cont(" + expr + ", [0.5, 0.95, 0.99]) FILTER (WHERE " + filter + ")"
	},
	// The engine adds up integers in 128 bits.
	bigint: func(expr string) string { return "TRY_CAST(" + expr + " AS BIGINT)" },
	// The engine compares with IN's constants one after the other.
	oneOf: func(expr, constants string) string { return "list_contains([" + constants + "], " + expr + ")" },
	constProperty: func(name string) string {
		at := func(name string) string {
			return propertyAt("'" + strings.ReplaceAll(propertyPath(name), "'", "''") + "'")
		}
		if name == AgentConfig {
			return "coalesce(" + at(AgentConfig) + ", " + at(AgentConfigID) + ")"
		}
		return at(name)
	},
	float: func(expr string) string { return "CAST(" + expr + " AS DOUBLE)" },
	tryFloat: func(expr string) string {
		number := "TRY_CAST(" + expr + " AS DOUBLE)"
		return fmt.Sprintf("CASE WHEN %s BETWEEN -%g AND %g THEN %s END", number, event.MaxNumber, event.MaxNumber, number)
	},
	derived: true,
	digits:  func(expr string) string { return "CAST(" + expr + " AS VARCHAR)" },
}

// propertyAt is the property that an expression points at. What the engine does not
// take for JSON has none: it is stricter than what older binaries let in.
func propertyAt(path string) string { return "TRY(json_extract_string(properties, " + path + "))" }

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
