// Package web is what people see in a browser: server-rendered pages over the
// questions of internal/query. A page is one .go file, which parses and asks,
// and one .templ file, which shows; web.go has the routes and the way in.
//
// The generated *_templ.go files are committed, so that "go build" needs no
// other tool; "make generate" makes them anew.
//
// Pages work without JavaScript, in light and dark, and at 390 pixels. Nothing
// is loaded from elsewhere: the content security policy allows this server only,
// and no inline script or style.
package web
