// Package e2e holds the end-to-end tests: the real hedgerow binary as a process,
// real client SDKs, real engines in a temporary folder. Simulated is only what
// lies outside: the providers and PostHog (internal/simulate).
package e2e
