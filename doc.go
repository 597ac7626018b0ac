// Package hedgerow is the Go SDK of hedgerow: LLM analytics for programs that call
// models directly rather than through the gateway. It sends events to a hedgerow
// server or straight to PostHog.
//
//	client, err := hedgerow.New(hedgerow.Config{}) // the key from HEDGEROW_API_KEY or POSTHOG_API_KEY
//	…
//	defer client.Close(context.Background()) // returns within 10 s; the error counts undelivered events
//	llm := openai.NewClient(option.WithMiddleware(client.Middleware()))
//
// Read in this order:
//
//   - [New], [Config], [Client]: the one client of a process; what the
//     environment sets; [Client.Flush] and [Client.Close].
//   - [Client.Middleware] for openai-go and anthropic-sdk-go, [Client.Transport]
//     for every other client: calls to models are captured automatically.
//   - [WithUser], [WithTrace], [WithSession], [WithPrompt], [WithSurface],
//     [WithTags], [WithProperties], [WithGroups], [WithPrivacy]: attribution of
//     calls, set on the context.
//   - [NewPrompts] and [Prompts]: prompts managed in hedgerow, with a cache and a
//     fallback; calls made with them record the prompt's version.
//     [Prompts.Resolve]: the variant of a user during a rollout.
//   - [Client.Flag]: a feature flag's value for the user.
//   - [Client.StartTrace] and [Client.StartSpan]: the steps between calls.
//   - [Client.CaptureRating], [Client.CaptureOutcome], [Client.CaptureFeedback],
//     [Client.CaptureMetric]: feedback and outcomes.
//   - [Client.CaptureGeneration], [Client.CaptureEmbedding], [Client.Capture],
//     [Client.CaptureEvent]: events that no wrapper captures.
//   - [Client.Stats]: counts of sent and dropped events.
//   - Package otelexport: OpenTelemetry spans.
//
// # Two promises
//
// The caller's work comes first. Capturing never blocks, never panics and never
// returns an error; a nil or disabled [Client] does nothing. The queue of events
// is bounded in number and bytes; events that do not fit are dropped, counted and
// logged. Reading bodies, privacy, encoding and delivery happen in the
// background.
//
// Each event is stored once. A failed delivery is retried with the same bytes,
// uuid and timestamp, so that PostHog deduplicates copies. Events that the host
// rejects permanently are dropped and counted. Events that are still in the queue
// when the process is killed are lost: close the client, flush it before a
// process may be frozen, or set [Config.SpoolDir] to keep them on disk.
//
// # Privacy
//
// To a hedgerow server, prompts and responses are sent unless [Config.PrivacyMode]
// or [WithPrivacy] is used: the server stores them and decides what it sends to
// PostHog. Straight to PostHog they are sent only with [Config.SendContent]; of
// everything else only the fields on an allowlist are sent, as from the server.
// Keys, tokens, card numbers and base64 files are always replaced by
// placeholders. The provider's key is never recorded.
//
// # Straight to PostHog
//
// Without a server the client does the server's work: it prices calls from the
// same table, applies the same privacy rules, writes the events of
// [Config.Schema], and adds trace_url from [Config.UIBaseURL].
//
// # The same event as the gateway's
//
// The wrappers use the gateway's parsers. Apart from the sender, both record the
// same event for the same call, which a test checks.
package hedgerow
