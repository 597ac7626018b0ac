// Package reconcile compares a provider's bill with what hedgerow recorded, by UTC
// day and model, and computes what explains the difference.
//
// Read in this order:
//
//   - [Line], [Export]: one billed or counted quantity, and what a file has of them.
//   - [Parse]: the exports of OpenAI, Anthropic, OpenRouter and AWS. Each provider has
//     a file with its formats; record.go turns JSON and CSV into the same records.
//     Pure, fuzzed.
//   - [Registry]: imports, kept in two key-value buckets of the journal. An import
//     replaces earlier lines of its source, account and day.
//   - [Fetcher]: the same exports read from the provider's API with an admin key.
//   - [Bills]: all of it together, for pages, API and tools.
//   - [Report]: the comparison; explain.go computes the causes of one day and
//     model, model.go matches names.
//
// Amounts are exact decimals in USD. What is unknown is never taken for 0.
package reconcile
