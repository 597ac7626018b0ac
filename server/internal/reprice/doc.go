// Package reprice computes the costs of recorded calls again, with the prices that the
// server has now: `hedgerow prices reprice`, its page, API and MCP tools.
//
// A run ([Request]) is about the calls of one project between two times. A dry run
// counts what would change; a run that applies writes a record ([event.Repricing]) for
// each call whose cost is another into the journal, from where the store alone takes
// it. So a store that is filled again from the journal has the new costs, too.
//
// Costs are computed by [price.Table.Reprice], which is the pricing that calls have
// when they are recorded, at the price of the call's own time. It says which costs stay.
//
// # Interruption
//
// A run that applies is recorded in a key-value bucket until it has ended. The next
// process continues it, from the beginning: calls that the run has changed already are
// recognised by its id (Cost.Repricing), and counted as it had counted them.
//
// # PostHog
//
// PostHog's table of AI events never merges duplicates: a generation that is sent
// again counts twice, and PostHog has no update. So where it is asked for, an own event
// ([Correction]) is sent for each day, provider and model, with the difference.
//
// # Load
//
// Calls are read and priced some thousand at a time, and a run pauses for as
// long as it works. Records are only appended while the store keeps up and the
// roll-ups that earlier records made stale are being renewed: recording comes
// first.
package reprice
