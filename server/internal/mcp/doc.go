// Package mcp offers hedgerow to language models as tools of the Model Context
// Protocol (https://modelcontextprotocol.io): to connect a PostHog project, to
// see the state of its delivery, and to query events, traces and totals.
//
// Read in this order:
//
//   - [Config] and [New]: what the tools speak for. [Server.HTTP] serves them to
//     anyone with an API key (hr_…) of a project; [Server.Local] serves them on
//     the data folder's own socket, where every caller is an administrator.
//   - tool.go: the one way through which every call goes: who asks, may they,
//     the arguments, the answer or the error.
//   - posthog.go: the tools that connect a PostHog project.
//   - events.go, trace.go, stats.go: the tools that ask.
//   - prompts.go: the tools that read and change prompts.
//   - evals.go: the tools that judge answers and run datasets.
//
// No answer and no log line holds a PostHog key, not in part but for the last
// four characters. An error in a tool is the tool's result, marked as an
// error, with a hint: a model reads it and can act on it. Protocol
// errors are for requests that are no call of a tool.
//
// The server keeps no sessions: every request stands for itself, so that any
// replica can answer it, and a restart loses nothing.
package mcp
