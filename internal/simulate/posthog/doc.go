// Package posthog is a simulated PostHog for tests, end-to-end tests and
// "hedgerow demo". Towards a client it behaves as the real capture, flags and query
// services: routes, encodings, status codes, error bodies, limits, clock-skew
// correction, de-duplication and quotas. "Contract section" in comments refers to
// docs/conformance.md.
//
// Read in this order:
//
//   - [New], [Options], [Project] and [PersonalKey]: the configuration.
//   - [Server]: an http.Handler that can also be started, stopped and restarted on
//     the same loopback address; [Server.Transport] calls it without a socket, for
//     tests in a synctest bubble.
//   - [Server.Events], [Server.WaitFor], [Server.Requests]: what was received.
//   - [Fault], [Server.Fail], [Server.SetDown], [Server.SetQuota],
//     [Server.Refuse], [Server.SetAIRoute]: simulated failures.
//   - [Server.HandleQuery]: results of the query API.
//
// Like PostHog itself, capture returns 200 for any well-formed project token. Events
// of an unknown token are then lost; [Server.Lost] counts them.
//
// Not simulated: lz-string bodies (400), the multipart route (404), PostHog's rules
// for OpenTelemetry spans of particular libraries, throttling of the private API.
package posthog
