// Package prompts is the pages of prompts and of what is tried with them: rollouts,
// experiments, evaluations and datasets.
//
// pages.go has [Pages]; each of prompts.go, rollouts.go, experiments.go and evals.go
// begins with its routes. datasets.go is datasets and their runs.
package prompts
