// Package query answers questions about stored events: each question is a typed
// function, whose result marshals to the JSON that the API gives out.
//
// Read in this order:
//
//   - [Reader] and [Store]: what it needs of a store.
//   - [Reader.Snapshot]: a Reader of one moment, for all parts of a page.
//   - [Filter]: which events a question is about. Every value becomes a bound
//     parameter; no SQL is made from input.
//   - [Reader.Events], [Reader.Event]: lists and one event.
//   - [Reader.SearchContent]: events by words of their prompts and answers.
//   - [Reader.Trace]: one assembled tree, with its roll-up counted once.
//   - [Reader.Traces], [Reader.Sessions], [Reader.Users], [Reader.Errors]: lists;
//     parts.go says what they add up, ids.go how few events they need to read.
//   - [Reader.Stats], [Reader.Today], [Reader.SevenDays]: totals; summing.go
//     takes them from roll-ups.
//   - [Reader.Series]: figures over time by a breakdown, for charts; measure.go
//     says what each [Measure] is.
//   - [Reader.Steps], [Reader.Shapes]: what agents do; shapes.go counts most traces
//     without their events.
//   - [Reader.PromptUse]: how prompts and their versions were used.
//   - [Reader.FilterValues]: what a menu can offer.
//   - rollup.go, [Roller]: how questions about millions of events are answered
//     from thousands of rows; outcome.go: the same for outcomes, and which call
//     an outcome speaks of.
//   - dialect.go: the SQL that differs between engines; package sqlf composes the
//     queries.
//
// An event whose write has returned is in the next answer, rolled up or not, and in
// all that follow.
//
// Unknown is never 0: a number that no event has is null in JSON, and totals
// say how many calls they know nothing of.
package query
