// Package e2e has the end-to-end tests: the real hedgerow binary as a process,
// real client SDKs, real engines in a temporary folder. Only the providers and
// PostHog are simulated (internal/simulate).
package e2e
