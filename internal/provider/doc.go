// Package provider turns the bytes of one exchange with an LLM provider into an
// event.
package provider
