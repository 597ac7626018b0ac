// Package mcp offers hedgerow to language models as tools of the Model Context
// Protocol (https://modelcontextprotocol.io): to connect a PostHog project, to
// see the state of its delivery, and to query events, traces and totals.
//
// Read in this order:
//
//   - [Config] and [New]: what the tools use. [Server.HTTP] serves them to
//     anyone with an API key (hr_…) of a project; [Server.Local] serves them on
//     the data folder's own socket, where every caller is an administrator.
//   - tool.go: the steps of every call: authentication, scopes, arguments, result or error.
//   - posthog.go: the tools that connect a PostHog project.
//   - events.go, trace.go, stats.go: the tools that query.
//   - prompts.go: the tools that read and change prompts.
//   - evals.go: the tools that judge answers and run datasets.
//
// No response and no log line contains more of a PostHog key than the last four
// characters. An error in a tool is the tool's result, marked as an error, with
// a hint: a model reads it and can act on it. Protocol errors are for requests
// that are not a call of a tool.
//
// The server keeps no sessions: requests are independent, so that any replica
// can respond, and a restart loses nothing.
package mcp
