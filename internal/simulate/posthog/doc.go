// Package posthog is a simulated PostHog, which runs inside a test, an end-to-end run or
// "hedgerow demo". It behaves as the real capture, flags and query services do
// towards a client: routes, encodings, statuses, error bodies, limits, clock-skew
// correction, de-duplication and quotas follow sections 1, 5.1 to 5.3, 6.1 and 7 of
// shared/reference/posthog-contract.md.
//
// Read in this order:
//
//   - [New], [Options], [Project] and [PersonalKey]: what the server knows.
//   - [Server]: an http.Handler that can also be started, stopped and started
//     again on the same loopback address; [Server.Transport] reaches it without
//     any socket, for tests in a synctest bubble.
//   - [Server.Events], [Server.WaitFor], [Server.Requests]: what has arrived.
//   - [Fault], [Server.Fail], [Server.SetDown], [Server.SetQuota],
//     [Server.Refuse], [Server.SetAIRoute]: failure on command.
//   - [Server.HandleQuery]: answers of the query API.
//
// As with PostHog itself, capture answers 200 to any well-formed project token.
// Events of a token that the server does not know are then lost; [Server.Lost]
// counts them.
//
// What it leaves out: lz-string bodies (400), the multipart route (404), what
// PostHog knows of single libraries' OpenTelemetry spans, the throttling of the
// private API.
package posthog
