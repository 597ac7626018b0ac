package main

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// group is a part of the navigation: pages by the names of their files, in order.
type group struct {
	name  string
	pages []string
}

// groups are all pages of the site.
var groups = []group{
	{"Start", []string{"README.md", "docs/install.md", "docs/gateway.md", "docs/sdk.md", "docs/otel.md", "docs/posthog.md", "docs/comparison.md"}},
	{"Clients", []string{
		"docs/clients.md", "docs/clients/posthog-node.md", "docs/clients/posthog-ai.md", "docs/clients/vercel-ai-sdk.md", "docs/clients/langchain.md",
		"docs/clients/posthog-python.md", "docs/clients/posthog-go.md", "docs/clients/posthog-js.md", "docs/clients/mastra.md", "docs/clients/litellm.md",
		"docs/clients/openrouter.md", "docs/clients/opentelemetry.md", "docs/clients/opentelemetry-collector.md", "docs/clients/curl.md", "docs/clients/coding-agents.md",
	}},
	{"Features", []string{"docs/pages.md", "docs/prompts.md", "docs/rollouts.md", "docs/experiments.md", "docs/evals.md", "docs/datasets.md", "docs/privacy.md", "docs/prices.md", "docs/reconcile.md"}},
	{"Reference", []string{"docs/events.md", "docs/filters.md", "docs/metrics.md", "docs/api.md", "docs/mcp.md", "docs/configuration.md", "docs/conformance.md"}},
	{"Operations", []string{"docs/operations.md", "docs/upgrade.md", "docs/users.md", "SECURITY.md", "CHANGELOG.md"}},
	{"Development", []string{"docs/architecture.md", "CONTRIBUTING.md"}},
}

// unlisted returns an error for a page under docs that is in no group.
func unlisted(root fs.FS) error {
	return fs.WalkDir(root, "docs", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".md" {
			return err
		}
		if !slices.ContainsFunc(groups, func(g group) bool { return slices.Contains(g.pages, name) }) {
			return fmt.Errorf("%s is in no group of docsite/nav.go", name)
		}
		return nil
	})
}

// address is where in the site a file of the repository is: README.md is its first page,
// what is in docs is at the top.
func address(name string) string {
	if name == "README.md" {
		return "index.html"
	}
	to := strings.TrimPrefix(name, "docs/")
	if path.Ext(to) != ".md" {
		return to
	}
	return strings.ToLower(strings.TrimSuffix(to, ".md")) + ".html"
}
