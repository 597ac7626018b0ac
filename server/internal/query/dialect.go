package query

import (
	"fmt"
	"strings"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query/sqlf"
)

// dialect is the SQL in which engines differ: texts for [sqlf.New], with ? for
// their operands. All other SQL is common to all engines.
type dialect struct {
	texts     string // a bound list, of texts
	integers  string // a bound list, of integers
	unnest    string // the values of a list, one row each
	has       string // a list has a value
	json      string // the text in a JSON object at a JSON Pointer, or NULL
	keys      string // the list of the keys of a JSON object
	search    string // one of some columns contains a text, ignoring case
	interval  string // a number of seconds, to add to a timestamp
	quantiles string // of an expression, under a condition: the list of quantiles, interpolated; NULL without values
	bigint    string // a sum of integers as int64; one that does not fit is unknown
	double    string // a text as a number, or NULL
	place     string // where a row of table events is, until the engine next moves rows
}

var duckDB = dialect{
	texts:    "CAST(? AS VARCHAR[])",
	integers: "CAST(? AS BIGINT[])",
	unnest:   "unnest(?)",
	has:      "list_contains(?, ?)",
	// Text that the engine does not accept as JSON has no members: it is stricter
	// than older binaries.
	json: "TRY(json_extract_string(?, ?))",
	keys: "TRY(json_keys(?))",
	// A NUL separates columns, because text does not contain it and so cannot match
	// across columns.
	search:    "contains(lower(concat_ws(chr(0), ?)), lower(CAST(? AS VARCHAR)))",
	interval:  "to_seconds(CAST(? AS BIGINT))",
	quantiles: "quantile_cont(?, [0.5, 0.95, 0.99]) FILTER (WHERE ?)",
	bigint:    "TRY_CAST(? AS BIGINT)", // it adds up integers in 128 bits
	double:    "TRY_CAST(? AS DOUBLE)",
	place:     "rowid",
}

func dialectOf(engine string) (dialect, error) {
	if engine == "duckdb" {
		return duckDB, nil
	}
	return dialect{}, fmt.Errorf("no SQL dialect for engine %q", engine)
}

// uuid is a bound UUID given as text.
func (d *dialect) uuid(id string) sqlf.Fragment {
	return sqlf.New("CAST(CAST(? AS VARCHAR) AS UUID)", id)
}

// uuidRows is the rows of a bound list of UUIDs given as text.
func (d *dialect) uuidRows(ids []any) sqlf.Fragment {
	return sqlf.New("SELECT CAST(? AS UUID)", sqlf.New(d.unnest, sqlf.New(d.texts, ids)))
}

// textRows is the rows of a bound list of texts.
func (d *dialect) textRows(list []any) sqlf.Fragment {
	return sqlf.New("SELECT "+d.unnest, sqlf.New(d.texts, list))
}

// placeRows is the rows of a bound list of places.
func (d *dialect) placeRows(list []any) sqlf.Fragment {
	return sqlf.New("SELECT "+d.unnest, sqlf.New(d.integers, list))
}

// inTexts is true where an expression is one of a bound list of texts.
func (d *dialect) inTexts(list []any, expr sqlf.Fragment) sqlf.Fragment {
	return sqlf.New(d.has, sqlf.New(d.texts, list), expr)
}

// oneOf is true if an expression is one of some constants: an engine may compare
// with those of IN one by one.
func (d *dialect) oneOf(expr sqlf.Fragment, constants string) sqlf.Fragment {
	return sqlf.New(d.has, sqlf.Raw("["+constants+"]"), expr)
}

// hasTag is true for events that have the tag.
func (d *dialect) hasTag(tag string) sqlf.Fragment {
	return sqlf.New(d.has, sqlf.Column("tags"), sqlf.New("CAST(? AS VARCHAR)", tag))
}

// tags is a tag of each event that has any, one row each.
func (d *dialect) tags() sqlf.Fragment { return sqlf.New(d.unnest, sqlf.Column("tags")) }

// names is the name of each property, one row each.
func (d *dialect) names() sqlf.Fragment {
	return sqlf.New(d.unnest, sqlf.New(d.keys, sqlf.Column("properties")))
}

// property is the text of a custom property, whose name is a bound parameter.
func (d *dialect) property(name string) sqlf.Fragment {
	return d.propertyAt(sqlf.New("CAST(? AS VARCHAR)", propertyPath(name)))
}

// propertyAt is property where an expression has its path; see propertyPath.
func (d *dialect) propertyAt(path sqlf.Fragment) sqlf.Fragment {
	return sqlf.New(d.json, sqlf.Column("properties"), path)
}

// constProperty is property with a name known beforehand.
func (d *dialect) constProperty(name string) sqlf.Fragment {
	return d.propertyAt(sqlf.Raw("'" + strings.ReplaceAll(propertyPath(name), "'", "''") + "'"))
}

// flag is the variant of a feature flag that an event names, as $feature/KEY or as
// posthog_flag and posthog_flag_variant.
func (d *dialect) flag(key string) sqlf.Fragment {
	return sqlf.New("coalesce(?, CASE WHEN ? = CAST(? AS VARCHAR) THEN ? END)",
		sqlf.New(d.json, sqlf.Column("flags"), sqlf.New("CAST(? AS VARCHAR)", propertyPath(key))), d.constProperty("posthog_flag"), key, d.constProperty("posthog_flag_variant"))
}

// group is the key of a PostHog group of a type.
func (d *dialect) group(kind string) sqlf.Fragment {
	return sqlf.New(d.json, sqlf.Column("group_keys"), sqlf.New("CAST(? AS VARCHAR)", propertyPath(kind)))
}

// number turns a text into a double, or NULL where it is none or out of the range
// that event.MaxNumber bounds.
func (d *dialect) number(text sqlf.Fragment) sqlf.Fragment {
	n := sqlf.New(d.double, text)
	return sqlf.New(fmt.Sprintf("CASE WHEN ? BETWEEN -%g AND %g THEN ? END", event.MaxNumber, event.MaxNumber), n, n)
}

// float turns a number into a double.
func float(number sqlf.Fragment) sqlf.Fragment { return sqlf.New("CAST(? AS DOUBLE)", number) }

// digits turns an exact decimal into text.
func digits(decimal sqlf.Fragment) sqlf.Fragment { return sqlf.New("CAST(? AS VARCHAR)", decimal) }

// propertyPath names a key of the properties object as a JSON Pointer (RFC
// 6901), which can name a key with any characters.
func propertyPath(name string) string {
	return "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}
