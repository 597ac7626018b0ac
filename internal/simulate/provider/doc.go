// Package provider imitates LLM providers: OpenAI, Anthropic, Gemini, OpenRouter,
// Ollama and anything that speaks OpenAI's form. It answers in their wire formats, streamed
// or not, with token counts that fit the text, and fails on command. Tests, the
// end-to-end tests, the benchmark and "hedgerow demo" use it; nothing that it
// says comes from a model.
//
// Read in this order:
//
//   - [New], [Options], [Server]: the simulated providers, an http.Handler.
//     [Server.Start] serves it on loopback. [Server.Requests] shows what it got.
//   - [Behavior] and [Parse]: what to do other than answer well, chosen by
//     [Server.Script], by the request header X-Sim, or by a model name's suffix:
//     "gpt-4.1-mini#rate_limit".
//   - generate.go: text, tool arguments and token counts, the same for the same
//     seed and request. [CountTokens] is the rule that every count follows.
//   - openai.go, responses.go, anthropic.go, gemini.go, ollama.go: the wire formats. The
//     official SDKs for Go read them in this package's tests.
//   - [Fixed]: the fastest possible upstream, for benchmarks.
//   - [Traffic]: a team's steady traffic through hedgerow, for the demo.
package provider
