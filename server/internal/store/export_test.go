package store

// Migrations is the version of a new file.
var Migrations = len(migrations)
