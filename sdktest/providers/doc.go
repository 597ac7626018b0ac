// Package providers has the providers' own clients read what the simulated
// providers of [github.com/hedgerow/hedgerow/internal/simulate/provider] answer.
package providers
