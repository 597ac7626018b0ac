// Package api is hedgerow's JSON API, version 1: the questions of
// server/internal/query and the settings of server/internal/project, over HTTP.
//
// Read in this order:
//
//   - [Config] and [New]: what it serves and to whom. A caller presents an API
//     key (hr_…) and sees its project; a caller on the data folder's own socket
//     is an administrator and sees all.
//   - events.go: events, traces, totals.
//   - record.go: product events and outcomes on their way in. A 2xx means that
//     the journal has them.
//   - projects.go, connections.go, operations.go: the settings.
//   - openapi.json: the same as a document, served at /api/v1/openapi.json.
//     A test holds it against the routes.
//
// Every error is {"error":{"code","message","hint"}} with the status that
// [event.Error.HTTPStatus] gives; one of a filter has field, position and
// did_you_mean, too. Lists are paged by an opaque cursor.
package api
