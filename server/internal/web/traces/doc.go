// Package traces is the pages of recorded calls: generations, events, traces,
// sessions, users and errors.
//
//   - pages.go: [Pages] and the routes. lists.go: the lists of traces, sessions, users
//     and errors. events.go: generations and single events, with what was sent of them
//     to PostHog. find.go: addresses without a project.
//   - messages.go: prompts and answers as messages, shortened to what a page shows.
//     judgments.go: evaluations and feedback on a call.
//   - events_csv.go and download.go: files. erasure.go: the deletion of an event.
package traces
