package store

// Migrations is the version of a new file.
var Migrations = len(migrations)

// SetUpdateRows has each transaction of a migration look at so many events.
func (c *Config) SetUpdateRows(n int64) { c.updateRows = n }
