// Package filter is the grammar of filters: one text that pages, API and MCP
// tools take. It parses a text against a table of fields into an [Expr], and
// prints an Expr in its one canonical form. What a field means in the store is
// package query's.
package filter
