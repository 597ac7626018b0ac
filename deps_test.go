package hedgerow_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A program that imports the SDK gets no server packages, and only the modules
// listed here, each with its reason.
func TestDependencies(t *testing.T) {
	allowed := []string{
		"github.com/google/uuid",        // ids
		"github.com/hedgerow/hedgerow",  //
		"github.com/klauspost/compress", // gzip
		"github.com/shopspring/decimal", // money
		"github.com/tidwall/gjson",      // JSON without decoding it, and its two dependencies
		"github.com/tidwall/match",
		"github.com/tidwall/pretty",
		"golang.org/x/text",  // Unicode normalisation, in the package that finds quotations
		"go.yaml.in/yaml/v3", // the server's price configuration, in the package that prices calls
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}} {{.ImportPath}}", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	packages := 0
	for line := range strings.Lines(string(out)) {
		packages++
		module, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		if path != "" && !slices.Contains(allowed, module) {
			t.Errorf("the SDK depends on %s of module %s", path, module)
		}
		for _, no := range []string{"hedgerow/server"} {
			if strings.Contains(line, no) {
				t.Errorf("the SDK depends on %s", line)
			}
		}
	}
	if packages < 50 {
		t.Fatalf("only %d packages", packages)
	}
}
