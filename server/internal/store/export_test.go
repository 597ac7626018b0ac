package store

// Migrations is the version of a new file.
var Migrations = len(migrations)

// SetUpdateRows sets the number of events that each transaction of a migration
// reads.
func (c *Config) SetUpdateRows(n int64) { c.updateRows = n }
