// Package deptest holds hedgerow to its own rules of structure: which package
// may import which, what a package must have, what must not be in it. It has
// tests only.
//
// The table of arrows is in deptest_test.go; docs/architecture.md shows the same
// to people.
package deptest
