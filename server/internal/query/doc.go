// Package query queries stored events. Each query is a typed method whose result
// marshals to the API's JSON.
//
// Read in this order:
//
//   - [Reader] and [Store]: the interface to a store.
//   - [Reader.Snapshot]: a consistent Reader for all parts of a page.
//   - [Filter]: the events of a query. Every value becomes a bound parameter; no
//     SQL is built from input.
//   - [Reader.Events], [Reader.Event]: lists and one event.
//   - [Reader.SearchContent]: full-text search in prompts and answers.
//   - [Reader.Trace]: the tree of a trace with its totals.
//   - [Reader.Traces], [Reader.Sessions], [Reader.Users], [Reader.Errors]: lists;
//     parts.go has their sums, ids.go limits the events that they read.
//   - [Reader.Stats], [Reader.Today], [Reader.SevenDays]: totals; summing.go
//     reads them from roll-ups.
//   - [Reader.Series]: figures over time by a breakdown, for charts; measure.go
//     defines each [Measure].
//   - [Reader.Steps], [Reader.Shapes]: agents; shapes.go counts most traces
//     without their events.
//   - [Reader.PromptUse]: use of prompts and their versions.
//   - [Reader.Billed]: calls as providers bill them, for package reconcile.
//   - [Reader.FilterValues]: values for filter menus.
//   - rollup.go, [Roller]: roll-ups, which answer queries about millions of
//     events from thousands of rows; outcome.go: the same for outcomes, and their
//     calls.
//   - dialect.go: the SQL that differs between engines; package sqlf composes the
//     queries.
//
// An event whose write has returned is in all later results, rolled up or not.
//
// Unknown is never 0: a number that no event has is null in JSON, and totals
// count the calls without a value.
package query
