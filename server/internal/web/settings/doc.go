// Package settings is the pages that change what a project and the server do:
// connections to PostHog with what was sent and withheld, keys, alerts, a project's
// settings, the projects and members of the server, its status and its audit log.
//
// pages.go has [Pages] and the routes. Every other .go file is one page, which its
// .templ file shows.
package settings
