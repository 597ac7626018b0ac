// Package hedgerow is the Go SDK of hedgerow: LLM analytics for programs that call
// models directly rather than through the gateway. It sends events to a hedgerow
// server or straight to PostHog.
//
//	client, err := hedgerow.New(hedgerow.Config{}) // the key from HEDGEROW_API_KEY or POSTHOG_API_KEY
//	…
//	defer client.Close(context.Background()) // ends within 10 s, and says what it could not deliver
//	llm := openai.NewClient(option.WithMiddleware(client.Middleware()))
//
// Read in this order:
//
//   - [New], [Config], [Client]: the one client of a process; what the
//     environment sets; [Client.Flush] and [Client.Close].
//   - [Client.Middleware] for openai-go and anthropic-sdk-go, [Client.Transport]
//     for every other client: calls to models become events on their own.
//   - [WithUser], [WithTrace], [WithSession], [WithPrompt], [WithSurface],
//     [WithTags], [WithProperties], [WithGroups], [WithPrivacy]: whose call it is
//     and what it is for, said by the context.
//   - [NewPrompts] and [Prompts]: prompts that are kept in hedgerow, with a
//     cache and a fallback; calls made with them have their version.
//     [Prompts.Resolve]: what the user gets of one that is being rolled out.
//   - [Client.Flag]: a feature flag's value for the user.
//   - [Client.StartTrace] and [Client.StartSpan]: the steps between calls.
//   - [Client.CaptureRating], [Client.CaptureOutcome], [Client.CaptureFeedback],
//     [Client.CaptureMetric]: whether it helped.
//   - [Client.CaptureGeneration], [Client.CaptureEmbedding], [Client.Capture],
//     [Client.CaptureEvent]: what no wrapper sees.
//   - [Client.Stats]: what was sent and what was dropped.
//   - Package otelexport: spans of OpenTelemetry.
//
// # Two promises
//
// The caller's work comes first. Capturing never blocks, never panics and never
// returns an error; a nil or disabled [Client] does nothing. Events wait in a
// queue that is bounded by number and by bytes. What does not fit is dropped,
// counted and logged. Reading bodies, privacy, encoding and delivery happen in
// the background.
//
// What was captured arrives once. Deliveries that fail for the host's reasons are
// tried again, in the same bytes, uuid and timestamp, so that PostHog's
// de-duplication recognizes a copy. What the host will never take is dropped and
// counted. Events that are still in the queue when the process is killed are
// lost: close the client, flush it where a process may be frozen, or give it a
// folder to keep them in, [Config.SpoolDir].
//
// # Privacy
//
// To a hedgerow server, prompts and answers are sent unless [Config.PrivacyMode]
// or [WithPrivacy] says otherwise: it keeps them locally and decides for itself
// what leaves. Straight to PostHog they stay in this process unless
// [Config.SendContent] is set, and of everything else only what is on a list
// leaves, as from the server. Keys, tokens, card numbers and the like are replaced
// by marks in any case, and files in base64 too. The provider's key is never
// recorded.
//
// # Straight to PostHog
//
// Where no server stands between, the client does what it would do: it prices
// calls by the same table, applies the same privacy, writes the events of
// [Config.Schema], and adds trace_url from [Config.UIBaseURL].
//
// # The same event as the gateway's
//
// The wrappers read an exchange with the gateway's own parsers. For the same call
// the two give the same event, sender aside; a test holds them to it.
package hedgerow
