// Package price computes what a call cost: a table of prices, rules that match model
// names to rows, and decimal arithmetic from token counts to dollars.
//
// Read in this order:
//
//   - [Row], [Rates] and [Tier]: one model's prices at one provider, in USD per
//     token. prices.json is the table that hedgerow carries, in USD per million
//     tokens, each row with the page it is from and the day it was read.
//   - [Table]: own prices over the newer of synced and built-in ones. A Table
//     never changes; [Table.With], [Table.WithSynced] and [Table.WithAliases]
//     return a new one.
//   - [Table.Match]: the name grammar. It is stricter than PostHog's, which looks
//     for names inside names: a model of your own never takes the price of a
//     public one because their names are alike.
//   - [Table.Price]: the cost of an event, as PostHog computes it.
//   - [Fetch], [ParseOpenRouter], [Diff] and [Overlay]: how "hedgerow prices sync"
//     learns of new prices.
//
// Arithmetic is decimal from end to end: a million costs add up to the last digit.
// The package does no I/O but for Fetch, Load and Save.
package price
