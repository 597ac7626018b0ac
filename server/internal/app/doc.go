// Package app builds one hedgerow server, runs it and stops it.
//
// [Run] serves until its context ends, [Offline] opens a data folder for a
// subcommand. start.go lists the steps of the start in order, app.go the phases
// of the stop, ready.go the answer of /readyz, listen.go and limits.go the
// listeners and their routes, sinks.go the journal's readers.
//
// Packages that must not import each other are connected here: each declares the
// interface that it needs, and adapters.go, delivery.go and evals.go implement
// it. Pages, API, MCP tools and tests share one struct, services.Services, which
// the steps of the start set.
package app
