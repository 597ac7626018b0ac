// Package web is what people see in a browser: server-rendered pages over the
// questions of server/internal/query and the settings of server/internal/project.
//
// Read in this order:
//
//   - web.go: [Config] and [New], which joins the pages below; the security headers.
//   - page: what all pages share: the gate, the session, the layout, what an address
//     asks, how figures are written.
//   - charts, traces, prompts, settings, search, account: a package for each group of pages.
//     Its Pages have what its handlers use; its Routes list the pages with the least
//     role that each needs. In it, one .go file, which parses and asks, and one .templ
//     file, which shows, for each page.
//   - assets.go and ui/: the style sheet, the scripts, and how answers are compressed.
//
// # To add a page
//
// Write handlers func(*http.Request, *page.Frame) (templ.Component, error) and add
// them to the Routes of their package with their role. When they run, the gate has
// checked that the person is signed in, has the role and may see the project
// (f.Session.ProjectID), and that a POST has the form's token (f.Form holds its
// fields).
//
//	{Pattern: "GET /p/{project}/connections", Need: viewer, Handle: s.connections, Entry: "Connections", Label: "Connections"},
//	{Pattern: "POST /p/{project}/connections", Need: member, Handle: s.createConnection, Again: s.connections},
//
// A GET sets f.Title and returns its body; Entry and Label put it into the
// side bar (page/nav.go), as a tab. A POST is a templ form, @page.Form(f, f.Path("/connections")) { … }, or
// @page.CSRF(f) inside a form of its own; it ends with f.Done(f.Path("/connections"),
// "Saved."), which redirects and shows the message, or returns a body where a
// secret is shown once (@page.Secret). Its *event.Error is shown on top of the page
// named by Again, whose fields take what was typed from f.Value and f.Checked.
// Links are f.URL("/events"). An id in the path that belongs to another project
// must not be found: ask the registry with f.Session.ProjectID.
//
// htmx attributes work as they are: f.Fragment is true where htmx asks, and the
// body is then sent without the side bar. @charts.ChartCard draws a table as a chart. What is
// sent to htmx as an error is a fragment too.
//
// # Forms of other sites
//
// Three things keep them out, each of which would do: [http.CrossOriginProtection]
// on every request (Sec-Fetch-Site, else Origin), a token in every form of a
// signed-in person that is a MAC under their session's token, and cookies that
// are SameSite=Lax and, over HTTPS, of this host only. Signing in and out needs
// no session, and so only the first.
//
// # Without
//
// The generated *_templ.go files are committed, so that "go build" needs no
// other tool; "make generate" regenerates them. The scripts are not: "make
// assets" bundles them. Pages work without JavaScript, in light and dark, and
// at 390 pixels. Nothing is loaded from elsewhere: the content security policy
// allows this server only, no inline script or style, no eval.
package web
