// Package provider simulates LLM providers: OpenAI, Anthropic, Gemini, OpenRouter,
// Bedrock, Cohere, Ollama and any provider with OpenAI's format. It responds in their wire formats,
// streamed or not, with token counts that match the text, and simulates failures.
// Tests, the end-to-end tests, the benchmark and "hedgerow demo" use it; no model
// generates its text.
//
// Read in this order:
//
//   - [New], [Options], [Server]: the simulated providers, an http.Handler.
//     [Server.Start] serves it on loopback. [Server.Requests] returns its requests.
//   - [Behavior] and [Parse]: failures and other behavior, chosen by
//     [Server.Script], by the request header X-Sim, or by a suffix of the model:
//     "gpt-4.1-mini#rate_limit".
//   - generate.go: text, tool arguments and token counts, the same for the same
//     seed and request. [CountTokens] is the rule of every count.
//   - openai.go, responses.go, anthropic.go, gemini.go, bedrock.go, cohere.go, ollama.go: the
//     wire formats.
//     The official Go SDKs parse them in this package's tests.
//   - sockets.go and websocket.go: the formats that are spoken over a WebSocket.
//   - [Fixed]: the fastest possible upstream, for benchmarks.
//   - [Traffic]: a team's steady traffic through hedgerow, for the demo.
package provider
