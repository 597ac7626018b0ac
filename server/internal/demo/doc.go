// Package demo is hedgerow demo: a server with a simulated provider, a simulated
// PostHog, a made-up past of a month (history.go) with prompts, checks, experiments
// and a dataset, and steady traffic.
package demo
