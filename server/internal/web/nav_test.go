package web

import (
	"slices"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/web/page"
)

// TestEntries finds pages of entries that the side bar does not have.
func TestEntries(t *testing.T) {
	known := []string{"Overview", "Dashboards", "PostHog sync", "Generations", "Traces", "Users", "Errors", "Prompts", "Experiments", "Evaluations", "Datasets", "Connections", "Keys", "Project", "Server"}
	s := New(Config{})
	named := slices.DeleteFunc(slices.Clone(s.Routes), func(rt page.Route) bool { return rt.Entry == "" })
	for _, rt := range named {
		if !slices.Contains(known, rt.Entry) || rt.Label == "" {
			t.Errorf("%s has entry %q and label %q", rt.Pattern, rt.Entry, rt.Label)
		}
	}
	for _, name := range known {
		if !slices.ContainsFunc(named, func(rt page.Route) bool { return rt.Entry == name }) {
			t.Errorf("no page is of %s", name)
		}
	}
}
