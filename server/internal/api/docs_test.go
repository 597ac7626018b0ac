package api_test

import (
	"cmp"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/api"
)

var documentedRoute = regexp.MustCompile("(?m)^\\| `((?:GET|POST|PUT|PATCH|DELETE) /api/v1/[^`]*)` \\| (.+) \\| ([\\w, ]+) \\|$")

// docs/api.md has every route, once, with what the OpenAPI document says of it and
// the scopes that it needs.
func TestDocsHaveEveryRoute(t *testing.T) {
	b, err := os.ReadFile("../../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	d := openAPI(t)
	var have []string
	for _, m := range documentedRoute.FindAllStringSubmatch(string(b), -1) {
		route, does, scopes := m[1], m[2], m[3]
		if slices.Contains(have, route) {
			t.Errorf("%s is there twice", route)
		}
		have = append(have, route)
		method, path, _ := strings.Cut(route, " ")
		op, ok := d.Paths[path][strings.ToLower(method)]
		switch {
		case !ok:
			t.Errorf("%s is no route", route)
		case op.Summary != does:
			t.Errorf("%s: the page says %q, the document %q", route, does, op.Summary)
		case scopes != cmp.Or(strings.Join(op.scopes(), ", "), "none"):
			t.Errorf("%s: the page says that it needs %s, the document %v", route, scopes, op.scopes())
		}
	}
	for _, r := range api.Routes() {
		if !slices.Contains(have, r) {
			t.Errorf("docs/api.md lacks %s", r)
		}
	}
}
