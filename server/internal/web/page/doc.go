// Package page is what all pages share. The other packages below web, one for each
// group of pages, import it; it imports none of them.
//
//   - site.go: [Site], and how a page or an error is written. gate.go: [Route], the
//     entries of the side bar, and the check of who may use a route.
//   - frame.go and session.go: what a page knows of its reader; cookies, form
//     tokens, messages.
//   - layout.templ, forms.templ, tile.templ, trouble.templ: what pages are made of.
//   - view.go and point.go: what a page shows, as in its address: time
//     range, time zone, filters, the point of a chart.
//   - format.go, event.go and file.go: how figures, events and files are written.
package page
