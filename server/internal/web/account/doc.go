// Package account is the pages of signing in and of a person's own account.
//
// pages.go has [Pages] and the routes. signin.go signs people in and out,
// account.go is name, password and sessions. limit.go and backoff.go limit how many
// sign-ins may fail.
package account
