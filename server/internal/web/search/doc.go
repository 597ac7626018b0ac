// Package search finds pages, what a project has by name or id, and actions: a page,
// and what the command palette shows of it.
package search
