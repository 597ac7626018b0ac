// Package querytest recounts in plain Go, over events in memory, what package
// query computes with SQL. It is the specification of its figures, for its tests
// and those of the pages.
package querytest
