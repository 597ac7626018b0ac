// Package app builds one hedgerow server, runs it and stops it.
//
// [Run] serves until its context ends, [Offline] opens a data folder for a
// subcommand. start.go lists the steps of the start in order, app.go the phases of
// the stop, ready.go what /readyz answers, listen.go and limits.go the listeners and
// their routes, sinks.go what reads the journal.
//
// Packages that must not import each other meet here: each declares the interface
// that it needs, and adapters.go, delivery.go and evals.go implement it. What
// pages, API, MCP tools and tests have in common is one struct, services.Services,
// which the steps of the start fill.
package app
