package query

import "fmt"

// dialect holds what differs between engines. All other SQL of this package is
// common to them.
type dialect struct {
	// property gives the text of a custom property. Both ? are bound: the JSON
	// path, made by propertyPath.
	property string
	// hasTag is true for rows that bear the bound tag.
	hasTag string
	// quantiles gives the list of p50, p95 and p99 of %s.
	quantiles string
	// text turns the exact decimal %s into its digits.
	text string
	// shift moves the timestamp %s by the bound number of seconds.
	shift string
}

var duckDB = dialect{}

func dialectOf(engine string) (dialect, error) {
	if engine == "duckdb" {
		return duckDB, nil
	}
	return dialect{}, fmt.Errorf("no SQL dialect for engine %q", engine)
}
