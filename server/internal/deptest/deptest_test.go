package deptest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/hedgerow/hedgerow"

// root is the name of the module's own package, the SDK, in the table.
const root = "hedgerow"

// all means every package.
var all = []string{"*"}

// allowed is the import table of the design: what the code of a package, tests
// aside, may import of hedgerow. A package may import less, and need not exist
// yet; one that is not here must not exist.
var allowed = map[string][]string{
	root:                           {"event", "internal/enrich", "internal/flag", "internal/price", "internal/provider", "internal/privacy", "internal/template", "internal/vocabulary"},
	"otelexport":                   {root, "event"}, // the SDK's bridge from OpenTelemetry: apart, so that root stays light
	"event":                        {"internal/rawjson"},
	"internal/rawjson":             {},                                                                                                            // JSON text that is read and written without being decoded
	"server/cmd/hedgerow":          {"event", "server/internal/app", "server/internal/command", "server/internal/config", "server/internal/demo"}, // flags, subcommands, exit codes
	"internal/provider":            {"event", "internal/rawjson"},
	"internal/vocabulary":          {"event", "internal/rawjson"}, // the event schemas: pure, for the SDK too
	"server/internal/gateway":      {"event", "internal/rawjson", "server/internal/health", "internal/provider", "server/internal/project"},
	"server/internal/listen":       {},                                  // bounds of a server\'s connections
	"server/internal/atomicfile":   {},                                  // small files that are replaced whole or not at all
	"server/internal/health":       {},                                  // a component's state: one form for /readyz, pages and doctor
	"server/internal/supervise":    {"event", "server/internal/health"}, // background loops: for what starts goroutines
	"server/internal/disk":         {"server/internal/health"},
	"server/internal/httpbody":     {},                                    // bounded request bodies: what ingest and otlp share
	"server/internal/receiver":     {"event", "server/internal/httpbody"}, // the HTTP shell of ingest and otlp
	"server/internal/ingest":       {"event", "internal/rawjson", "server/internal/health", "server/internal/httpbody", "server/internal/receiver", "internal/flag", "server/internal/project"},
	"server/internal/otlp":         {"event", "internal/rawjson", "server/internal/health", "server/internal/httpbody", "server/internal/receiver", "server/internal/project"},
	"internal/price":               {"event"},
	"internal/price/generate":      {"event", "internal/price"}, // writes the built-in prices
	"internal/privacy":             {"event", "internal/rawjson"},
	"internal/enrich":              {"event", "internal/privacy"},
	"server/internal/pipeline":     {"event", "internal/enrich", "internal/privacy", "internal/rawjson", "server/internal/disk"}, // what every event passes once between receivers and the journal
	"server/internal/journal":      {"event", "server/internal/atomicfile", "server/internal/health"},
	"server/internal/project":      {"event", "server/internal/atomicfile", "server/internal/health", "server/internal/kv", "internal/provider"},                                   // provider: which request fields a setting may not name
	"server/internal/store":        {"event", "server/internal/atomicfile", "server/internal/health", "server/internal/supervise", "server/internal/disk", "server/internal/join"}, // join: what a merge makes of a row
	"server/internal/query/sqlf":   {},
	"server/internal/query/filter": {"event"}, // the grammar of filters: pure
	"server/internal/stats":        {},        // intervals and tests of experiments: pure
	"server/internal/query":        {"event", "server/internal/health", "server/internal/store", "server/internal/query/filter", "server/internal/query/sqlf", "server/internal/stats"},
	"server/internal/join":         {"event", "internal/rawjson"}, // calls that were captured twice, and what outcomes have of their calls: between the journal and its sinks
	"internal/flag":                {},                            // PostHog's flags decided locally: pure, for the SDK too
	"server/internal/posthog":      {"event", "server/internal/health", "server/internal/supervise", "internal/flag", "internal/privacy", "server/internal/project"},
	"server/internal/reprice":      {"event", "internal/price", "server/internal/project", "server/internal/query", "server/internal/supervise"}, // costs of recorded calls computed again, for the three faces
	"server/internal/erasure":      {"event", "server/internal/health", "internal/privacy", "server/internal/project"},                           // deletion of single events, for the three faces
	"server/internal/ledger":       {"event", "server/internal/health", "server/internal/kv", "internal/privacy"},
	"server/internal/kv":           {"event", "server/internal/atomicfile", "server/internal/health"},
	"internal/template":            {"event"},
	"server/internal/prompt":       {"event", "server/internal/health", "server/internal/kv", "internal/flag", "server/internal/project", "server/internal/query", "internal/template"},

	"server/internal/mail":       {"event"}, // the one sender of e-mail
	"server/internal/experiment": {"event", "server/internal/health", "server/internal/kv", "server/internal/mail", "server/internal/project", "server/internal/query", "server/internal/prompt", "server/internal/stats"},

	"server/internal/eval":    {"event", "server/internal/health", "server/internal/supervise", "server/internal/kv", "internal/privacy", "server/internal/project", "server/internal/query", "server/internal/stats"},
	"server/internal/dataset": {"event", "server/internal/health", "server/internal/supervise", "server/internal/kv", "server/internal/eval", "server/internal/project", "server/internal/prompt", "server/internal/query", "server/internal/stats"},

	"server/internal/reconcile": {"event", "internal/price", "server/internal/health", "server/internal/kv", "server/internal/project", "server/internal/query"}, // the provider's bill compared with what hedgerow recorded

	"server/internal/services": {"server/internal/dataset", "server/internal/erasure", "server/internal/eval", "server/internal/experiment", "server/internal/project", "server/internal/prompt", "server/internal/query", "server/internal/reconcile", "server/internal/store", "server/internal/reprice"}, // the list of what web, api, mcp and tests use

	// The three faces also speak event's types: its errors, and what query and
	// project answer with.
	"server/internal/web":          {"event", "server/internal/health", "server/internal/services", "server/internal/web/account", "server/internal/web/charts", "server/internal/web/page", "server/internal/web/prompts", "server/internal/web/search", "server/internal/web/settings", "server/internal/web/traces"},
	"server/internal/web/page":     {"event", "server/internal/health", "server/internal/project", "server/internal/query"}, // what all pages share; imported by each group of pages
	"server/internal/web/account":  {"event", "server/internal/project", "server/internal/web/page"},
	"server/internal/web/charts":   {"event", "server/internal/posthog", "server/internal/project", "server/internal/query", "server/internal/reconcile", "server/internal/supervise", "server/internal/web/page"},
	"server/internal/web/traces":   {"event", "server/internal/dataset", "server/internal/erasure", "server/internal/project", "server/internal/query", "server/internal/web/charts", "server/internal/web/page"},
	"server/internal/web/prompts":  {"event", "internal/template", "server/internal/dataset", "server/internal/eval", "server/internal/experiment", "server/internal/project", "server/internal/prompt", "server/internal/query", "server/internal/web/charts", "server/internal/web/page", "server/internal/web/traces"},
	"server/internal/web/search":   {"event", "server/internal/project", "server/internal/query", "server/internal/web/page"},
	"server/internal/web/settings": {"event", "server/internal/experiment", "server/internal/health", "server/internal/ledger", "server/internal/mail", "server/internal/posthog", "server/internal/project", "server/internal/services", "server/internal/store", "server/internal/web/page", "server/internal/reprice"},
	"server/internal/api":          {"event", "server/internal/reconcile", "server/internal/health", "server/internal/erasure", "internal/flag", "server/internal/query", "server/internal/project", "server/internal/prompt", "server/internal/ledger", "server/internal/posthog", "server/internal/experiment", "server/internal/eval", "server/internal/dataset", "server/internal/services", "server/internal/reprice"},
	"server/internal/mcp":          {"event", "server/internal/reconcile", "server/internal/health", "server/internal/erasure", "internal/flag", "server/internal/query", "server/internal/project", "server/internal/prompt", "server/internal/ledger", "server/internal/posthog", "server/internal/experiment", "server/internal/eval", "server/internal/dataset", "server/internal/services", "server/internal/reprice"},

	"server/internal/pricefeed":  {"event", "internal/price", "server/internal/health"},                                                                                                          // refreshes the prices
	"server/internal/config":     {"event", "internal/price", "server/internal/disk", "server/internal/mail", "server/internal/posthog", "server/internal/project", "server/internal/store"},     // settings: flags, environment, hedgerow.yaml, exit codes
	"server/internal/firstvalue": {"event"},                                                                                                                                                      // each user's first_value_reached once
	"server/internal/outbound":   {"event", "internal/privacy", "internal/vocabulary", "server/internal/journal", "server/internal/posthog", "server/internal/project", "server/internal/query"}, // what may leave for PostHog
	"server/internal/backup":     {"event", "server/internal/reconcile", "server/internal/config", "server/internal/dataset", "server/internal/eval", "server/internal/experiment", "server/internal/journal", "server/internal/ledger", "server/internal/project", "server/internal/prompt", "server/internal/store"},
	"server/internal/app":        all,                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            // builds, starts and stops a server
	"server/internal/command":    {"event", "internal/price", "server/internal/api", "server/internal/app", "server/internal/backup", "server/internal/config", "server/internal/disk", "server/internal/erasure", "server/internal/gateway", "server/internal/health", "server/internal/journal", "server/internal/kv", "server/internal/mail", "server/internal/posthog", "server/internal/pricefeed", "server/internal/project", "server/internal/reconcile", "server/internal/services", "server/internal/store", "server/internal/reprice"}, // subcommands: flags → API → output
	"server/internal/demo":       {"event", "internal/flag", "internal/simulate/posthog", "internal/simulate/provider", "server/internal/api", "server/internal/app", "server/internal/config", "server/internal/dataset", "server/internal/eval", "server/internal/experiment", "server/internal/pipeline", "server/internal/project", "server/internal/prompt", "server/internal/query", "server/internal/services", "server/internal/store"},

	// In addition to the design's table: what measures and tests the others.
	"server/internal/bench":            all,
	"server/internal/conformance":      {}, // runs the tests that docs/conformance.md names
	"server/internal/deptest":          {},
	"server/internal/release":          {}, // the modules as a tag gives them out
	"server/internal/posthog/otlptest": {"event", "internal/simulate/posthog"},
	"sdktest":                          {},
	"sdktest/providers":                {},
	"sdktest/adapter":                  {root, "event"},
	"sdktest/adapter/cmd":              {"sdktest/adapter"},
	"internal/simulate/provider":       {"event", "internal/provider"},
	"internal/simulate/posthog":        {"event", "internal/rawjson", "internal/flag"},
	"server/internal/store/storetest":  {"event", "server/internal/store"},
	"server/internal/query/querytest":  {"event", "server/internal/query", "server/internal/query/filter"},
	"server/internal/join/jointest":    {"event", "server/internal/join"},
	"server/internal/query/form":       {"event"}, // a command: it writes form.go of package query
	"server/internal/servertest":       all,
	"server/e2e":                       {},

	// What a release consists of.
	"packaging":                 {"packaging/internal/binary", "packaging/internal/image"},
	"packaging/internal/binary": {},
	"packaging/internal/image":  {"packaging/internal/binary"},

	"docsite": {}, // the documentation as a site

	// Programs of users, as users write them.
	"examples":           {},
	"examples/openai":    {root},
	"examples/anthropic": {root},
	"examples/transport": {root},
	"examples/ollama":    {root},
	"examples/agent":     {root},
	"examples/outcomes":  {root},
	"examples/otel":      {root, "otelexport"},
}

// doubles simulate external systems in tests, in the demo and in the benchmark.
// No other code may import them.
var doubles = []string{"server/internal/posthog/otlptest", "internal/simulate/provider", "internal/simulate/posthog", "server/internal/store/storetest", "server/internal/query/querytest", "server/internal/join/jointest", "server/internal/servertest"}

var mayUseDoubles = []string{"server/internal/posthog/otlptest", "server/internal/demo", "server/internal/bench"}

// pkg is what this test knows of a package.
type pkg struct {
	ImportPath     string
	Name           string
	Dir            string
	GoFiles        []string
	CgoFiles       []string
	IgnoredGoFiles []string // of other systems
	TestGoFiles    []string
	XTestGoFiles   []string
	Deps           []string // all that it imports, whatever the way
}

// short is the package's name in the table.
func (p pkg) short() string { return short(p.ImportPath) }

func short(importPath string) string {
	if importPath == module {
		return root
	}
	return strings.TrimPrefix(importPath, module+"/")
}

func ours(importPath string) bool {
	return importPath == module || strings.HasPrefix(importPath, module+"/")
}

// code are the files that are no tests, those of other systems included.
func (p pkg) code() []string {
	files := slices.Concat(p.GoFiles, p.CgoFiles, p.IgnoredGoFiles)
	return slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "_test.go") })
}

func moduleDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// modules are the patterns of all packages of all modules of the workspace.
func modules(t *testing.T) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}/...")
	cmd.Dir = moduleDir(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -m: %v", err)
	}
	return strings.Fields(string(out))
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Name,Dir,GoFiles,CgoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Deps"}, modules(t)...)...)
	cmd.Dir = moduleDir(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var list []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 10 {
		t.Fatalf("go list found %d packages only", len(list))
	}
	return list
}

// imports returns hedgerow's packages that a package's code imports, with the
// file that does.
func (p pkg) imports(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, name := range p.code() {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if ours(path) {
				found[short(path)] = filePath(p, name)
			}
		}
	}
	return found
}

func filePath(p pkg, name string) string {
	if p.short() == root {
		return name
	}
	return path.Join(p.short(), name)
}

// check returns what is wrong with the arrows of one package, one sentence each.
func check(name string, imports map[string]string) (wrong []string) {
	may, known := allowed[name]
	if !known {
		return []string{fmt.Sprintf("package %s is in no row of the design's table: give it one in the design, in docs/architecture.md and here, or make it part of another package", name)}
	}
	for _, to := range slices.Sorted(maps.Keys(imports)) {
		from := imports[to]
		switch {
		case slices.Contains(doubles, to) && !slices.Contains(mayUseDoubles, name):
			wrong = append(wrong, fmt.Sprintf("%s: %s → %s: a test double may be imported by tests, %s only", from, name, to, strings.Join(mayUseDoubles, ", ")))
		case slices.Contains(may, "*") || slices.Contains(may, to):
		case len(may) == 0:
			wrong = append(wrong, fmt.Sprintf("%s: %s → %s: the design lets %s import nothing of hedgerow", from, name, to, name))
		default:
			wrong = append(wrong, fmt.Sprintf("%s: %s → %s: the design lets %s import %s only; declare an interface there and let server/internal/app implement it", from, name, to, name, strings.Join(may, ", ")))
		}
	}
	return wrong
}

func TestArrows(t *testing.T) {
	for _, p := range packages(t) {
		for _, w := range check(p.short(), p.imports(t)) {
			t.Error(w)
		}
	}
}

// The check itself must be able to fail, and say why.
func TestCheck(t *testing.T) {
	for _, tt := range []struct{ name, to, want string }{
		{"internal/rawjson", "server/internal/store", "lets internal/rawjson import nothing"},
		{"server/internal/gateway", "server/internal/journal", "lets server/internal/gateway import event, internal/rawjson, server/internal/health, internal/provider, server/internal/project only"},
		{"server/internal/gateway", "internal/provider", ""},
		{"server/internal/gateway", "internal/simulate/provider", "a test double"},
		{"server/internal/demo", "internal/simulate/provider", ""},
		{"internal/util", "event", "in no row"},
	} {
		got := strings.Join(check(tt.name, map[string]string{tt.to: "x.go"}), "\n")
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s → %s: %q, want it to say %q", tt.name, tt.to, got, tt.want)
		}
	}
}

// What is imported on a detour is imported too.
func TestArrowsThroughOthers(t *testing.T) {
	reach := func(from string) map[string]bool {
		seen := map[string]bool{}
		for todo := slices.Clone(allowed[from]); len(todo) > 0; {
			next := todo[0]
			todo = todo[1:]
			if !seen[next] {
				seen[next] = true
				todo = append(todo, allowed[next]...)
			}
		}
		return seen
	}
	for _, p := range packages(t) {
		may := reach(p.short())
		for _, dep := range p.Deps {
			if ours(dep) && !may["*"] && !may[short(dep)] {
				t.Errorf("%s depends on %s: the design's table leads there on no way", p.short(), short(dep))
			}
		}
	}
}

// The table must have no circle: then the arrows go one way, as the design says.
func TestTableIsOneWay(t *testing.T) {
	state := map[string]int{}
	var visit func(name string, way []string)
	visit = func(name string, way []string) {
		switch state[name] {
		case 1:
			t.Errorf("circle: %s → %s", strings.Join(way, " → "), name)
			return
		case 2:
			return
		}
		state[name] = 1
		for _, to := range allowed[name] {
			if to == "*" {
				continue
			}
			if _, ok := allowed[to]; !ok {
				t.Errorf("the row of %s names %s, which has no row", name, to)
			}
			visit(to, append(way, name))
		}
		state[name] = 2
	}
	for _, name := range slices.Sorted(maps.Keys(allowed)) {
		visit(name, nil)
	}
}

// Every package begins with a comment that says what it is: in doc.go, or in its
// only file, or, in a command, in main.go.
func TestPackageComments(t *testing.T) {
	for _, p := range packages(t) {
		file := "doc.go"
		switch code := p.code(); {
		case len(code) == 1:
			file = code[0]
		case p.Name == "main" && !slices.Contains(code, "doc.go"):
			file = "main.go"
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Errorf("package %s has no %s with a package comment: %v", p.short(), file, err)
			continue
		}
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command " + path.Base(p.short()) + " "
		}
		if doc := strings.Join(strings.Fields(f.Doc.Text()), " ") + " "; !strings.HasPrefix(doc, want) {
			t.Errorf("%s: the package comment begins %.40q, want %q…", filePath(p, file), doc, want)
		}
	}
}

// TestArchitecturePage holds docs/architecture.md to name each package: what a
// newcomer reads and what the table of arrows says are the same packages.
func TestArchitecturePage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(moduleDir(t), "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages(t) {
		name := p.short()
		if strings.HasPrefix(name, "examples") || strings.HasSuffix(name, "/cmd") {
			continue
		}
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/architecture.md does not say what %s owns", name)
		}
	}
}

// TestDocNamesFiles holds package comments to name files that are there.
func TestDocNamesFiles(t *testing.T) {
	file := regexp.MustCompile(`(?:[\w-]+/)*\b[a-z]\w*\.go\b`)
	named := 0
	for _, p := range packages(t) {
		for _, name := range p.code() {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, said := range file.FindAllString(f.Doc.Text(), -1) {
				named++
				_, here := os.Stat(filepath.Join(p.Dir, said))
				if _, err := os.Stat(filepath.Join(moduleDir(t), said)); here != nil && err != nil {
					t.Errorf("%s names %s, which is not there", filePath(p, name), said)
				}
			}
		}
	}
	if named < 50 {
		t.Errorf("only %d files are named", named)
	}
}

// TestFileLengths bounds what people write: a longer file has more than one subject.
func TestFileLengths(t *testing.T) {
	const most = 800
	for _, name := range committed(t) {
		if !slices.Contains([]string{".go", ".templ", ".js", ".mjs", ".css"}, path.Ext(name)) || strings.HasSuffix(name, "_templ.go") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(moduleDir(t), filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(b, []byte{'\n'}); n > most {
			t.Errorf("%s has %d lines, more than %d", name, n, most)
		}
	}
}

// The demo runs the simulated provider and PostHog in its own process: what
// else tests use of them is in the tests.
func TestCommandHasNoTesting(t *testing.T) {
	for _, p := range packages(t) {
		if p.short() == "server/cmd/hedgerow" {
			for _, d := range p.Deps {
				if d == "testing" || strings.HasPrefix(d, "testing/") {
					t.Errorf("the command has package %s in it", d)
				}
			}
			return
		}
	}
	t.Error("there is no command")
}

func TestPackageNames(t *testing.T) {
	vague := []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "base", "lib", "types", "models"}
	for _, p := range packages(t) {
		if slices.Contains(vague, p.Name) || slices.Contains(vague, path.Base(p.ImportPath)) {
			t.Errorf("package %s: name a package after what it owns", p.short())
		}
	}
}

// The command has only the list of subcommands, errors of the command line and exit
// codes: under 600 lines.
func TestCommandIsSmall(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(moduleDir(t), "server", "cmd", "hedgerow", "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	lines := 0
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		lines += bytes.Count(b, []byte("\n"))
	}
	if lines >= 600 {
		t.Errorf("server/cmd/hedgerow has %d lines: move what does work to server/internal/app or server/internal/command", lines)
	}
}

// No init functions, and no package-level variables that code changes: two
// hedgerows fit into one process, and nothing happens on import.
func TestNoGlobalState(t *testing.T) {
	for _, p := range packages(t) {
		fset := token.NewFileSet()
		var files []*ast.File
		for _, name := range p.code() {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		for _, w := range globalState(fset, files) {
			t.Error(w)
		}
	}
}

// globalState finds init functions and writes to package-level variables: by
// assignment, to the whole, an element or a field, and by delete and clear.
// Methods with side effects escape it.
func globalState(fset *token.FileSet, files []*ast.File) (wrong []string) {
	report := func(n ast.Node, format string, args ...any) {
		at := fset.Position(n.Pos())
		wrong = append(wrong, fmt.Sprintf("%s:%d: ", at.Filename, at.Line)+fmt.Sprintf(format, args...))
	}
	vars := map[string]*ast.ValueSpec{}
	for _, f := range files {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				for _, name := range s.(*ast.ValueSpec).Names {
					if name.Name != "_" {
						vars[name.Name] = s.(*ast.ValueSpec)
					}
				}
			}
		}
	}
	changes := func(e ast.Expr) {
		n := e
		for {
			switch x := e.(type) {
			case *ast.IndexExpr:
				e = x.X
			case *ast.SelectorExpr:
				e = x.X
			case *ast.StarExpr:
				e = x.X
			case *ast.ParenExpr:
				e = x.X
			case *ast.Ident:
				spec, global := vars[x.Name]
				// The parser resolves names within a file; what it leaves open
				// is the package's or imported.
				if global && (x.Obj == nil || x.Obj.Decl == spec) {
					report(n, "%s is changed: a package-level variable is global state", x.Name)
				}
				return
			default:
				return
			}
		}
	}
	for _, f := range files {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			if fn.Recv == nil && fn.Name.Name == "init" {
				report(fn, "func init: construct in server/internal/app what must be made at start")
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				switch s := n.(type) {
				case *ast.AssignStmt:
					if s.Tok != token.DEFINE {
						for _, l := range s.Lhs {
							changes(l)
						}
					}
				case *ast.IncDecStmt:
					changes(s.X)
				case *ast.CallExpr:
					if id, ok := s.Fun.(*ast.Ident); ok && (id.Name == "delete" || id.Name == "clear") && len(s.Args) > 0 {
						changes(s.Args[0])
					}
				}
				return true
			})
		}
	}
	return wrong
}

func TestGlobalStateIsFound(t *testing.T) {
	const src = `package x
var table = map[string]int{"read": 1}
var n int
func init() {}
func bad() { table["a"] = 2; delete(table, "b"); n++; (n) = 3 }
func good() int { n := 1; n++; table := map[string]int{}; table["a"] = n; return n }
func reads() int { return table["read"] }
`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "x.go", src, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := globalState(fset, []*ast.File{f}); len(got) != 5 {
		t.Errorf("found %d, want init and the four of bad:\n%s", len(got), strings.Join(got, "\n"))
	}
}

// Third-party code is fetched by go.sum and npm's lockfile, never into the
// tree.
func TestNoThirdPartyAssets(t *testing.T) {
	for _, name := range committed(t) {
		b, err := os.ReadFile(filepath.Join(moduleDir(t), filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		if why := thirdParty(name, b); why != "" {
			t.Errorf("%s: %s", name, why)
		}
	}
}

// committed lists the files that are, or would be, committed.
func committed(t *testing.T) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "--cached", "--others", "--exclude-standard")
	cmd.Dir = moduleDir(t)
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("this is no git checkout: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func thirdParty(name string, b []byte) string {
	ext := path.Ext(name)
	for _, dir := range strings.Split(path.Dir(name), "/") {
		if slices.Contains([]string{"vendor", "node_modules", "third_party", "dist", "bower_components"}, dir) && path.Base(name) != ".gitkeep" {
			return "the folder " + dir + " is built or fetched, never committed"
		}
	}
	switch {
	case strings.Contains(name, ".min."):
		return "a minified file: let the build make it"
	case slices.Contains([]string{".woff", ".woff2", ".ttf", ".otf", ".eot", ".wasm", ".so", ".dll", ".dylib", ".a", ".exe", ".jar", ".zip", ".gz", ".tgz"}, ext):
		return "a binary asset of kind " + ext
	case len(b) > 2<<20:
		return fmt.Sprintf("%d bytes: too large for something written here", len(b))
	case slices.Contains([]string{".js", ".mjs", ".css", ".ts"}, ext):
		for _, mark := range []string{"@license", "copyright (c)", "sourcemappingurl"} {
			if bytes.Contains(bytes.ToLower(b), []byte(mark)) {
				return "bears " + mark + ", as other people's bundles do"
			}
		}
		for l := range bytes.Lines(b) {
			if len(l) > 2000 {
				return "has a line of over 2,000 bytes, as bundles do"
			}
		}
	}
	return ""
}

func TestThirdPartyIsFound(t *testing.T) {
	for name, want := range map[string]bool{
		"server/internal/web/static/htmx.min.js": true, "server/internal/web/dist/app.js": true, "server/internal/web/dist/.gitkeep": false,
		"server/internal/web/static/font.woff2": true, "server/internal/web/static/style.css": false,
	} {
		if got := thirdParty(name, []byte("a { color: red }\n")) != ""; got != want {
			t.Errorf("%s: found %t, want %t", name, got, want)
		}
	}
	if thirdParty("x.js", []byte("/*! @license MIT */")) == "" {
		t.Error("a license banner goes unnoticed")
	}
}
