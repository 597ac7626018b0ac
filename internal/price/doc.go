// Package price computes what a call cost: a table of prices, rules that match model
// names to rows, and decimal arithmetic from counts to dollars.
//
// # The data
//
// A [Row] is one model's price at one provider. It holds
//
//   - [Rates]: prices of tokens by kind (text, cache reads and writes by lifetime,
//     reasoning, sound, pictures, video) and of pieces (requests, searches, sessions,
//     hours, characters, pages, pictures). A rate that is not there is unknown, not 0;
//     0 is written only where the provider says that the model is free;
//   - [Tier]: other rates for long prompts. All tokens of the call have them;
//   - [Period]: other rates before or from a day on, or at hours of the day (UTC), of
//     all days or of weekdays;
//   - [Variant]: other rates, or a factor, for a way of calling: service_tier
//     (flex, priority, fast …), processing=batch, speed=fast, geo (the region
//     that computed the answer), size and quality of pictures, annotated pages.
//     What the provider answered counts, not what was asked for. A response
//     that names a tier without a price has no known price. A variant whose
//     price was first read on a day holds before it, too, as long as the
//     standard price was the same.
//
// A row of one place has it in its name: "us-gov-west-1/…" is of a region of
// Bedrock, "vertex/…" of Vertex. It takes precedence over the row of the name
// alone for calls there.
//
// For a call the period comes first, then the tier of the prompt's length, then
// each variant that the response matches, which replaces the rates that it
// names, then the factors, which multiply all prices of tokens.
//
// # Where prices are from
//
// In [Table] the later wins:
//
//   - genai.json, the data of genai-prices, or a newer copy of its feed that the
//     server has fetched ([ParseGenAI], [Table.WithRefreshed]);
//   - litellm.json, LiteLLM's price file, only for models, rates and variants that the
//     first lacks;
//   - corrections.json, hedgerow's own, each with the page that it is from. The model *
//     is the default for all models of the provider. A
//     correction no longer holds once the feed says something else of its model than
//     the built-in prices from it;
//   - what "hedgerow prices sync" has read from OpenRouter, where it is newer;
//   - own prices of the configuration.
//
// "make prices" regenerates the first two. They state their source, its license and its
// day. A provider's rows are read when they are first asked for.
//
// # The rest
//
//   - [Table.Match]: the name grammar. It is stricter than PostHog's, which looks
//     for names inside names: a model of your own never takes the price of a
//     public one because their names are alike. Only a deployment at Azure does, and
//     the event says so.
//   - [Table.Price]: the cost of an event, as PostHog computes it.
//   - [Fetch], [ParseOpenRouter], [Diff] and [Overlay]: how "hedgerow prices sync"
//     learns of new prices.
//
// Arithmetic is decimal from end to end: a million costs add up to the last digit.
// The package does no I/O but for Fetch, Load and Save.
package price
