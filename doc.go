// Package hedgerow is the Go SDK of hedgerow: LLM analytics for programs that
// call models.
package hedgerow
